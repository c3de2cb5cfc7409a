"""Differences between two finished runs and their last checkpoints, bit for bit; times and commands are left out."""

from __future__ import annotations

import json
from pathlib import Path

import torch

TIMES = {
    "environment",
    "first_step_of_last_session",
    "images_per_second",
    "latency_ms",
    "seconds_of_last_session",
    "teacher_targets_dir",  # each run has its own
}


def without_times(value: object) -> object:
    """Metrics, without what depends on the clock or the command."""
    if isinstance(value, dict):
        return {name: without_times(item) for name, item in value.items() if name not in TIMES}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def differences(whole: Path, cut: Path) -> list[str]:
    """Names of what is not the same in two finished runs."""
    different = []
    for name in ("model.safetensors", "metrics.json"):
        one, other = (folder / name for folder in (whole, cut))
        if name.endswith(".json"):
            same = without_times(json.loads(one.read_text())) == without_times(json.loads(other.read_text()))
        else:
            same = one.read_bytes() == other.read_bytes()
        different += [] if same else [name]
    last = [folder.with_name(f"{folder.name}-last") for folder in (whole, cut)]
    for name in ("model.safetensors", "optimizer.pt", "scheduler.pt", "training_state.safetensors"):
        one, other = (
            torch.load(folder / name, weights_only=True) if name.endswith(".pt") else (folder / name).read_bytes()
            for folder in last
        )
        different += [] if str(one) == str(other) and same_tensors(one, other) else [f"checkpoint's {name}"]
    return different


def same_tensors(one: object, other: object) -> bool:
    """Whether two nested values hold the same numbers."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same_tensors(value, other[name]) for name, value in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same_tensors, one, other))
    return one == other
