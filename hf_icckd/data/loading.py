"""Load batches: workers that decode, and which signals they leave to the process that uses them."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from multiprocessing.context import SpawnContext, SpawnProcess
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from hf_icckd.data.sampling import BatchDataset, KeyedBatchSampler
from hf_icckd.utils import distributed
from hf_icckd.utils.machine import return_freed_memory
from hf_icckd.utils.text import size_text

logger = logging.getLogger(__name__)

_SHARED_MEMORY = Path("/dev/shm")
_UNKNOWN_BYTES = 40 * 2**20  # of a batch: 256 images of 224 pixels
_PREFETCHED = 2  # torch's default
_told: set[tuple[int, int]] = set()
# A closed terminal and SLURM's warning are unknown to Windows.
_IGNORED_BY_WORKERS = [getattr(signal, name) for name in ("SIGINT", "SIGHUP", "SIGUSR1") if hasattr(signal, name)]


def make_loader(
    dataset: BatchDataset,
    sampler: KeyedBatchSampler,
    num_workers: int = 0,
    prefetch_factor: int | None = None,
    multiprocessing_context: str | None = None,
    pin_memory: bool = True,
) -> DataLoader:
    """DataLoader over whole batches; images in memory need no workers.

    Args:
        prefetch_factor: Batches that each worker loads ahead; None for torch's default.
        multiprocessing_context: How workers are started: fork, forkserver or spawn; None for Python's default.
        pin_memory: Whether batches for a GPU are copied to pinned memory.
    """
    dataset.prepare()
    workers: dict[str, Any] = {}
    num_workers = 0 if dataset.resident else _as_many_as_fit(num_workers, dataset, sampler, prefetch_factor)
    if num_workers > 0:
        method = multiprocessing.get_context(multiprocessing_context).get_start_method()
        _start_helpers(method)
        workers = {
            "num_workers": num_workers,
            "persistent_workers": True,
            "prefetch_factor": prefetch_factor,
            "multiprocessing_context": _CONTEXTS[method]() if method in _CONTEXTS else method,
            "worker_init_fn": _leave_signals_to_the_parent,
        }
    return DataLoader(
        dataset,
        batch_sampler=sampler,  # type: ignore[arg-type]  # a key in place of a list of indices
        collate_fn=_identity,
        pin_memory=pin_memory and torch.cuda.is_available() and not dataset.resident,
        **workers,
    )


def _as_many_as_fit(workers: int, dataset: BatchDataset, sampler: KeyedBatchSampler, prefetch: int | None) -> int:
    """The number of workers, or fewer if the batches on their way would fill the shared memory: that ends the process.

    In a container of Docker there are 64 MiB, if nobody asked for more. Half of what is free is left for a second
    loader: that of the evaluation, or of the training, whose workers stay.
    """
    if workers == 0 or not _SHARED_MEMORY.is_dir():  # where there is none, batches take another way
        return workers
    rows = sampler.global_batch_size // sampler.world
    batch = _UNKNOWN_BYTES if dataset.image_bytes is None else rows * dataset.image_bytes
    of_worker = batch * ((prefetch or _PREFETCHED) + 1)  # those that wait, and the one that is made
    free = shutil.disk_usage(_SHARED_MEMORY).free
    fitting = free // 2 // distributed.processes_here() // max(of_worker, 1)
    if fitting < workers and (workers, of_worker) not in _told:  # every evaluation makes a loader
        _told.add((workers, of_worker))
        logger.warning(
            "%s loading workers in place of %s: %s has %s free, and each worker takes %s for its batches (in Docker "
            "--shm-size 8g makes more room)",
            *(fitting, workers, _SHARED_MEMORY, size_text(free), size_text(of_worker)),
        )
    return min(workers, fitting)


def _identity(batch: Any) -> Any:
    return batch


def _start_helpers(method: str) -> None:
    """Start the processes that Python needs to start workers by another method than fork, if they aren't running.

    They keep the signals blocked that are blocked now, so a signal to all processes of the run leaves them alive;
    workers of a fork server would end with it. What workers need is imported by the server once, not by each worker of
    each loader.
    """
    if method == "fork" or not hasattr(signal, "pthread_sigmask"):  # Windows has neither
        return
    from multiprocessing import forkserver, resource_tracker  # Windows can't import them

    helpers: list[Any] = [resource_tracker]
    if method == "forkserver":
        multiprocessing.set_forkserver_preload(["__main__", "hf_icckd.data.pipeline"])
        helpers.append(forkserver)
    for helper in helpers:
        with _signals_blocked():  # for each: when Python has started the tracker, it unblocks two of them
            helper.ensure_running()


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """Context in which this thread, and what it starts, leaves signals waiting."""
    if not hasattr(signal, "pthread_sigmask"):  # on Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, *_IGNORED_BY_WORKERS})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _SignalsWait:
    """A worker whose signals wait from the start: before it says which it ignores, it may have threads that get them.

    A spawned one imports for seconds, and NumPy starts threads meanwhile; in a forked one, OpenMP does.
    """

    def start(self) -> None:
        with _signals_blocked():
            super().start()  # type: ignore[misc]


class _SpawnedWorker(_SignalsWait, SpawnProcess):
    pass


class _SpawnContext(SpawnContext):
    Process = _SpawnedWorker


_CONTEXTS: dict[str, Any] = {"spawn": _SpawnContext}
if "fork" in multiprocessing.get_all_start_methods():
    from multiprocessing.context import ForkContext, ForkProcess

    class _ForkedWorker(_SignalsWait, ForkProcess):
        def start(self) -> None:
            return_freed_memory()
            super().start()

    class _ForkContext(ForkContext):
        Process = _ForkedWorker

    _CONTEXTS["fork"] = _ForkContext


def _leave_signals_to_the_parent(worker: int) -> None:
    """Make a worker ignore signals that are not from its parent.

    Ctrl-C in a terminal, or a signal from a batch system, reaches workers too, but the parent still needs them for the
    current step.
    """
    for number in _IGNORED_BY_WORKERS:
        signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if hasattr(signal, "sigwaitinfo") and parent is not None and parent.pid is not None:  # not on macOS
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_with_parent, args=(parent.pid,), daemon=True).start()


def _end_with_parent(parent: int) -> None:
    # Not os.getppid(): workers of a fork server are its children, and the process that uses them ends them.
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
