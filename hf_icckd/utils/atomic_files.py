"""Atomic writes: a file is replaced completely or not at all, even if the machine stops in between."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor


def replace_file(path: str | Path, write: Callable[[Path], object]) -> None:
    """Replace a file atomically: write a temporary file beside it, sync it to disk, rename it.

    Args:
        write: Called with the path of the temporary file.

    Raises:
        OSError: If it can't be written; the old file stays and the temporary one is removed.
    """
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        write(unfinished)
        sync(unfinished)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    sync(path.parent)


def replace_tensors(path: str | Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Replace a safetensors file atomically; see `replace_file`."""

    def write(unfinished: Path) -> None:
        unfinished.touch()
        mode = unfinished.stat().st_mode
        try:
            save_file(tensors, unfinished, metadata=metadata)
        except SafetensorError as error:  # raised for a full disk
            raise OSError(f"{path} can't be written: {error}") from error
        unfinished.chmod(mode)  # safetensors creates files that only their owner can read

    replace_file(path, write)


def user_path(path: str | Path) -> Path:
    """Replace `~` by the home folder; the `~` of an unknown user stays."""
    return Path(os.path.expanduser(path))


def existing_folder(path: str | Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    path = Path(path).absolute()
    return next(each for each in (path, *path.parents) if each.is_dir())


def sync(path: Path) -> None:
    """Wait until a file is on the disk, or a folder's list of files where the system supports that."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if not path.is_dir() or error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES):
            raise


def contiguous_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors to the CPU in contiguous layout, each in its own memory: safetensors refuses anything else.

    A weight that several layers share is there under each of its names, as timm's strict loading expects.
    """
    copies, seen = {}, set()
    for name, tensor in state.items():
        copy = tensor.detach().cpu().contiguous()
        memory = copy.untyped_storage().data_ptr()
        copies[name] = copy.clone() if memory in seen else copy
        seen.add(memory)
    return copies


def write_text(path: Path, text: str) -> None:
    """Replace a text file atomically."""
    replace_file(path, lambda unfinished: unfinished.write_text(text, encoding="utf-8"))
