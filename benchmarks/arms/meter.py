"""How a trainer's speed is measured: its own loop calls `Meter.step` after every optimiser step.

An arm is a process with one way to train. It says over its standard output when it is warm, then waits for its turns:

    arm:    {"ready": true, ...}
    driver: go
    arm:    {"seconds": 1.25, "images": 1280, "peak_memory_bytes": 612368384, "loss": 4.61, ...}
    driver: go
    ...
    driver: stop

See `benchmarks/rounds.py` for the other end.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import sys
import time
from pathlib import Path
from typing import Any


class Stopped(Exception):
    """The driver wants no more of this arm; raised out of `Meter.step`, through the library's loop."""


class Meter:
    """Counts steps, keeps the clock and talks to the driver.

    Every turn begins with `lead_steps` outside the clock. While an arm waits, its loading workers go on until their
    queues are full: without a lead these batches, which nobody timed, would be counted as loaded in no time. It must
    be longer than such a queue (torch: two batches a worker). Caches that other arms emptied fill up meanwhile too.

    Args:
        warmup_steps: Steps before the arm is ready; compilation and allocation end up here.
        segment_steps: Steps of a turn that are timed.
        lead_steps: Steps of a turn before those.
        facts: What the arm says of itself when it is ready.
    """

    def __init__(
        self, warmup_steps: int, segment_steps: int, lead_steps: int = 0, facts: dict[str, Any] | None = None
    ):
        # Libraries print what they like; the driver must read nothing but our lines. So the real standard output gets
        # a descriptor of its own, and everything else that is printed ends up in the log of errors.
        self._driver = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)
        self.segment_steps, self.lead_steps, self.facts = segment_steps, lead_steps, facts or {}
        self._phase, self._steps_left = "warm-up", max(warmup_steps, 1)
        self._images, self._start = 0, 0.0

    def step(self, num_images: int, loss: Any = None) -> None:
        """Count an optimiser step; waits for the driver where a phase ends.

        Args:
            num_images: Images in this step; views of the same image count once.
            loss: Its loss, a number or a tensor. It is read outside the clock only, for reading waits for the device.

        Raises:
            Stopped: If the driver says so, or is gone.
        """
        if self._phase == "segment":
            self._images += num_images
        self._steps_left -= 1
        if self._steps_left > 0:
            return
        if self._phase == "warm-up":
            _forget_peak_memory()
            self._say({"ready": True, **self.facts})
            self._wait_for_turn()
        elif self._phase == "lead":
            self._start_clock()
        else:
            _wait_for_device()
            seconds = time.perf_counter() - self._start
            self._say(
                {
                    "seconds": seconds,
                    "images": self._images,
                    "loss": None if loss is None else float(loss),
                    "peak_memory_bytes": _peak_memory(),
                    "peak_device_memory_bytes": _peak_device_memory(),
                }
            )
            self._wait_for_turn()

    def _wait_for_turn(self) -> None:
        if sys.stdin.readline().strip() != "go":
            raise Stopped
        if self.lead_steps:
            self._phase, self._steps_left = "lead", self.lead_steps
        else:
            self._start_clock()

    def _start_clock(self) -> None:
        _wait_for_device()
        self._phase, self._steps_left, self._images = "segment", self.segment_steps, 0
        self._start = time.perf_counter()

    def _say(self, message: dict[str, Any]) -> None:
        self._driver.write(json.dumps(message) + "\n")
        self._driver.flush()


def _cuda():
    """torch.cuda where it is in use. An arm that never imported torch need not do so for this."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_available() else None


def _wait_for_device() -> None:
    if _cuda():
        _cuda().synchronize()


def _peak_device_memory() -> int | None:
    return _cuda().max_memory_allocated() if _cuda() else None


def _forget_peak_memory() -> None:
    """Count from here: reading the images, or recording a teacher, is no part of a training step."""
    with contextlib.suppress(OSError):  # not Linux
        Path("/proc/self/clear_refs").write_text("5")
    if _cuda():
        _cuda().reset_peak_memory_stats()


def _peak_memory() -> int | None:
    """Peak resident memory of this process, plus what its loading workers have for themselves now; None if unknown.

    Of workers only private pages count: the rest they share with this process, where it is counted already.
    """
    workers = [child.pid for child in multiprocessing.active_children()]
    try:
        own = _kibibytes(Path("/proc/self/status"), "VmHWM:")
        return 1024 * (own + sum(_kibibytes(Path(f"/proc/{pid}/smaps_rollup"), "Private_") for pid in workers))
    except OSError:  # not Linux
        return None


def _kibibytes(file: Path, prefix: str) -> int:
    return sum(int(line.split()[1]) for line in file.read_text().splitlines() if line.startswith(prefix))
