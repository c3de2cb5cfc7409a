"""How a process on a CPU treats memory that it has freed."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch

# Parameters of mallopt(3).
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_LARGEST = (2**31 - 1, 32 * 2**20)  # they are C ints; older versions take no threshold above 32 MiB
_TOP_PAD = 64 * 2**20
_SET_BY_USER = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> bool:
    """Have the C library keep large blocks that are freed, instead of giving them back to the system.

    A training step frees activations of many megabytes and takes as much again in the next: given back and taken
    anew, every page of them is mapped and zeroed by the system each time (thousands of page faults a step, a tenth of
    the time of a small net). The peak of memory hardly changes; it stays in the process when training is over.

    Returns:
        Whether it was done: with glibc, unless environment variables of its own say otherwise. Other allocators
        (jemalloc, tcmalloc, those of other systems) keep what is freed by themselves or are left alone.
    """
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in _SET_BY_USER):
        return False
    mallopt = ctypes.CDLL(None).mallopt  # returns 1 if a value was taken
    # First the one that may fail: any of the others alone would end the automatic thresholds, and make things worse.
    if not any(mallopt(_M_MMAP_THRESHOLD, threshold) for threshold in _LARGEST):
        return False
    return bool(mallopt(_M_TRIM_THRESHOLD, _LARGEST[0]) and mallopt(_M_TOP_PAD, _TOP_PAD))


def best_device() -> torch.device:
    """The accelerator of this machine; the CPU if it has none, or MPS, which has no float64 to sum figures in."""
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return torch.device("cpu") if device is None or device.type == "mps" else device


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor_name() -> str | None:
    """What the CPU calls itself, where the system tells."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return " ".join(line.partition(":")[2].split())
    return platform.processor() or None


def median_ms(run: Callable[[], object], repeats: int = 20) -> float:
    """Median time of a call in milliseconds, over `repeats` calls after a quarter as many that are not timed."""
    times = []
    for _ in range(repeats // 4 + repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return 1000 * sorted(times[repeats // 4 :])[repeats // 2]
