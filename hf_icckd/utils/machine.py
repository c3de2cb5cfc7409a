"""The machine: its accelerator, cores and processor, timing, and how freed memory is kept."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import shlex
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import torch

from hf_icckd.utils import distributed

_CGROUP = Path("/sys/fs/cgroup")
# Parameters of mallopt(3).
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_LARGEST = (2**31 - 1, 32 * 2**20)  # they are C ints; older versions take no threshold above 32 MiB
_TOP_PAD = 64 * 2**20
_SET_BY_USER = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> bool:
    """Make the C library keep large freed blocks instead of returning them to the system.

    Each training step frees many megabytes of activations and allocates as much again in the next. If they go back to
    the system in between, every page is mapped and zeroed again: thousands of page faults per step, a tenth of the
    time of a small net. Peak memory hardly changes, but the process holds it after training.

    Returns:
        Whether it was done: only with glibc, and not if its own environment variables are set. Other allocators, such
        as jemalloc and tcmalloc, are left alone.
    """
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in _SET_BY_USER):
        return False
    mallopt = ctypes.CDLL(None).mallopt  # returns 1 if a value was taken
    # First the one that may fail: either of the others alone turns off automatic thresholds, which is worse.
    if not any(mallopt(_M_MMAP_THRESHOLD, threshold) for threshold in _LARGEST):
        return False
    return bool(mallopt(_M_TRIM_THRESHOLD, _LARGEST[0]) and mallopt(_M_TOP_PAD, _TOP_PAD))


def return_freed_memory() -> None:
    """Give freed blocks that the C library has kept back to the system; nothing where it isn't glibc.

    For the moment before a fork: of pages that the parent writes to afterwards the child keeps the old ones, even if
    they had been freed. After a training step these are activations, gigabytes with a large net on a CPU.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def best_device() -> torch.device:
    """Return the accelerator, or the CPU if there is none."""
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return torch.device("cpu") if device is None else device


def missing_compiler(device_type: str) -> str:
    """Names of the compilers that torch.compile looks for on a device, if none of them is there; else empty.

    On a CPU it is a C++ compiler, for Triton on a GPU one for C.
    """
    variable, usual = ("CXX", ["g++"]) if device_type == "cpu" else ("CC", ["gcc", "clang"])
    if device_type == "cpu" and sys.platform != "linux":
        usual = ["clang++" if sys.platform == "darwin" else "cl"]
    named = shlex.split(os.environ.get(variable, ""))[:1] or usual
    return "" if any(map(shutil.which, named)) else " or ".join(named)


def cores() -> int:
    """Number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_memory() -> int:
    """Bytes that this process may still take: its share of the machine's memory, or of its container's."""
    free = psutil.virtual_memory().available
    with contextlib.suppress(OSError, ValueError, KeyError):  # no such limit
        limit, used = (int((_CGROUP / name).read_text()) for name in ("memory.max", "memory.current"))
        parts = dict(line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())
        free = min(free, limit - used + int(parts["inactive_file"]))
    return max(free, 0) // distributed.processes_here()


def processor_name() -> str | None:
    """Name of the CPU, if the system tells."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return " ".join(line.partition(":")[2].split())
    return platform.processor() or None


def median_ms(run: Callable[[], object], repeats: int = 20) -> float:
    """Median time of `repeats` calls in milliseconds, after a quarter as many to warm up."""
    times = []
    for _ in range(repeats // 4 + repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return 1000 * sorted(times[repeats // 4 :])[repeats // 2]
