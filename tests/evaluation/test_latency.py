"""Latencies are measured in turn, and the table shows them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from hf_icckd.evaluation import latency
from hf_icckd.evaluation.deployed_table import deployed_table
from hf_icckd.evaluation.latency import Timed, measure_latencies


@pytest.fixture
def clock(monkeypatch):
    """A clock that only the timed models move."""
    now = [0.0]
    monkeypatch.setattr(latency.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(latency.time, "sleep", lambda seconds: None)
    return now


def test_medians_of_turns_that_alternate(clock):
    turns: list[tuple[str, int]] = []

    def model(name: str, seconds: float) -> Timed:
        def open_with(threads):
            def run(images: np.ndarray) -> np.ndarray:
                assert images.dtype == np.uint8 and images.shape[1:] == (3, 4, 4)
                turns.append((name, len(images)))
                clock[0] += seconds * len(images) / threads
                return images

            return run

        return Timed(open_with, 4)

    before = torch.get_num_threads()
    models = [model("fast", 0.02), model("slow", 0.25), model("slowest", 2)]
    fast, slow, slowest = measure_latencies(models, [1, 2], [1, 4], rounds=3)
    assert torch.get_num_threads() == before
    assert [(each["batch_size"], each["threads"]) for each in fast] == [(1, 1), (1, 4), (2, 1), (2, 4)]
    assert [each["ms"] for each in fast] == pytest.approx([20, 5, 40, 10])
    assert [each["ms"] for each in slow] == pytest.approx([250, 62.5, 500, 125])
    assert [each["ms"] for each in slowest] == pytest.approx([2000, 500, 4000, 1000])
    calls = Counter(turns)
    # In each of three rounds one call to warm up, and what fits into a tenth of a second.
    assert calls["slow", 1] == 3 * (2 + 3) and calls["slow", 2] == 3 * (2 + 2)
    assert calls["slowest", 1] == 3 * (1 + 2) and calls["slowest", 2] == 3 * (1 + 1)  # above half a second: once
    order = [name for (name, _), (last, _) in zip(turns, [("", 0), *turns], strict=False) if name != last]
    assert min(Counter(order).values()) > 6  # they alternate


def test_the_table_fits_a_terminal():
    latencies = [{"batch_size": b, "threads": t, "ms": 1234.567} for b in (1, 64) for t in (1, 16)]
    rows = [
        {"model": "runs/a-very-long-name-of-a-students-folder", "format": "torch", "bytes": 21_500_000, "top1": 71.2},
        {"model": "b", "format": "openvino", "bytes": 812},
    ]
    text = deployed_table([row | {"latencies": latencies} for row in rows], "milliseconds", left=2)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100 and lines[0] == "milliseconds"
    assert lines[2].split() == ["1", "image", "1", "image", "64", "images", "64", "images"]
    assert lines[3].split()[:4] == ["model", "format", "size", "top-1"] and lines[4].split()[-1] == "1234.57"
    assert "71.20" in lines[4] and lines[5].split()[:4] == ["b", "openvino", "0.8", "kB"]
    one = [{"format": "torch", "bytes": 1, "top1": 50.0}, {"format": "int8", "bytes": 1, "top1": 49.0, "top1_drop": 1}]
    shown = deployed_table([row | {"latencies": latencies[:1]} for row in one], "title").splitlines()
    assert shown[3].split() == ["format", "size", "top-1", "%", "drop", "1", "thread"]
    assert shown[4].split() == ["torch", "0.0", "kB", "50.00", "1234.57"]
