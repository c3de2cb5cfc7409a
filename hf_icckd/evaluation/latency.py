"""Latency of several deployed models, measured in turn so that a slow minute of the machine hits all of them."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from hf_icckd.models.runtimes import Run
from hf_icckd.utils.machine import cores
from hf_icckd.utils.progress_bars import progress_bar

BATCH_SIZES = (1, 64)
_TURN_SECONDS, _TURN_CALLS = 0.1, 20
_LONG_SECONDS = 0.5  # a call of which warming up is a small part
_REST_SECONDS = 0.02  # threads spin for a few milliseconds before they sleep, and would take a core from the next one


@dataclass(frozen=True)
class Timed:
    """A model to be timed.

    Attributes:
        open: Takes a number of threads and returns what runs the model with them.
        image_size: Height and width of its input in pixels.
    """

    open: Callable[[int | None], Run]
    image_size: int


def default_threads() -> list[int]:
    """One thread, and as many as there are cores for this process."""
    return sorted({1, cores()})


def measure_latencies(
    models: Sequence[Timed],
    batch_sizes: Sequence[int] = BATCH_SIZES,
    threads: Sequence[int] | None = None,
    rounds: int = 3,
    description: str | None = None,
) -> list[list[dict[str, Any]]]:
    """Time models on the CPU, for every batch size and number of threads.

    Each model has a turn in every round, each round in another order. A turn is one call to warm up and as many as fit
    into a tenth of a second; a call of more than half a second is a turn by itself.

    Args:
        models: What to time.
        batch_sizes: Images per call.
        threads: Numbers of threads; None for one and all cores.
        rounds: Turns of each model.
        description: Text in front of the progress bar; None for no bar.

    Returns:
        For each model a list of `batch_size`, `threads` and `ms`: the median over the rounds of the median time of a
        call in milliseconds.
    """
    threads = default_threads() if threads is None else threads
    before = torch.get_num_threads()
    settings = [(batch_size, number) for batch_size in batch_sizes for number in threads]
    found: list[list[dict[str, Any]]] = [[] for _ in models]
    try:
        runs = {number: [model.open(number) for model in models] for number in threads}
        with progress_bar(description, total=len(settings) * rounds, hidden=description is None) as bar:
            for batch_size, number in settings:
                images = [_noise(batch_size, model.image_size) for model in models]
                times: list[list[float]] = [[] for _ in models]
                for turn in range(rounds):
                    for index in random.Random(turn).sample(range(len(models)), len(models)):
                        time.sleep(_REST_SECONDS)
                        times[index].append(_turn_ms(runs[number][index], images[index]))
                    bar.update()
                for measured, own in zip(found, times, strict=True):
                    measured.append({"batch_size": batch_size, "threads": number, "ms": statistics.median(own)})
    finally:
        torch.set_num_threads(before)
    return found


def _noise(batch_size: int, size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (batch_size, 3, size, size), dtype=np.uint8)


def _turn_ms(run: Run, images: np.ndarray) -> float:
    def seconds() -> float:
        start = time.perf_counter()
        run(images)
        return time.perf_counter() - start

    first = seconds()
    if first > _LONG_SECONDS:
        return 1000 * first
    times = [seconds()]
    while sum(times) < _TURN_SECONDS and len(times) < _TURN_CALLS:
        times.append(seconds())
    return 1000 * statistics.median(times)
