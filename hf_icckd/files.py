"""Files that appear whole or not at all, also when the machine stops in the middle."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor


class _Loader(yaml.SafeLoader):
    """As YAML 1.2 has it, and everybody means it: 1e-3 is a number, and no, yes, on and off are words."""

    yaml_implicit_resolvers = {  # noqa: RUF012 (PyYAML's own is one)
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile("(true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


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


def read_yaml(path: str | Path, what: str, as_text: bool = False) -> Any:
    """What a YAML file holds.

    Args:
        path: The file.
        what: What it is called in errors.
        as_text: Whether all values are what is written there: `no`, `1e3` and `007` may be names.

    Raises:
        ValueError: If there is no such file or it is no YAML; the message is one line.
    """
    path = user_path(path)
    if not path.is_file():
        raise ValueError(f"{what} {str(path)!r} does not exist; check the path")
    try:
        return yaml.load(path.read_text(encoding="utf-8"), yaml.BaseLoader if as_text else _Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{what} {str(path)!r} is no valid YAML: {' '.join(str(error).split())}") from error


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
