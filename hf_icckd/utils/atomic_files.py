"""Files that appear whole or not at all, also when the machine stops in the middle."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor


def replace_file(path: str | Path, write: Callable[[Path], object]) -> None:
    """Write a file beside its place and move it there when it is whole and on the disk.

    Args:
        path: The file; what was there stays until the new one is whole.
        write: Called with the path to write to.

    Raises:
        OSError: If it can't be written; nothing is left behind.
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
    """A safetensors file that appears whole or not at all; arguments and errors as in `replace_file`."""

    def write(unfinished: Path) -> None:
        unfinished.touch()
        mode = unfinished.stat().st_mode
        try:
            save_file(tensors, unfinished, metadata=metadata)
        except SafetensorError as error:  # what it makes of a full disk
            raise OSError(f"{path} can't be written: {error}") from error
        unfinished.chmod(mode)  # safetensors makes files only their owner can read

    replace_file(path, write)


def user_path(path: str | Path) -> Path:
    """A path with `~` replaced by the home folder; one of a user that is not there stays what it is."""
    return Path(os.path.expanduser(path))


def sync(path: Path) -> None:
    """Wait until a file, or the list of files of a folder, is on the disk; of folders, where the system can."""
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
    """CPU copy in the plain memory layout: safetensors takes no channels_last tensors."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}


def write_text(path: Path, text: str) -> None:
    """A text file that appears whole or not at all."""
    replace_file(path, lambda unfinished: unfinished.write_text(text))
