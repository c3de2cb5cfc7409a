"""Weights from files that other programs wrote: safetensors, and pickles read without running their code."""

from __future__ import annotations

import argparse
import pathlib
import pickle
import re
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

SUFFIXES = (".pth", ".pt", ".pth.tar", ".pt.tar", ".bin", ".ckpt", ".safetensors")
# What wrappers put in front of the name of every tensor.
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "timm_model.")
_SHOWN = 5


def _plain_dict(*factory: object) -> dict[Any, Any]:
    return {}


# What old checkpoints hold beside tensors; building one of these runs no code of the file.
_HARMLESS: list[Any] = [
    argparse.Namespace,
    types.SimpleNamespace,
    (_plain_dict, "collections.defaultdict"),  # torch fills plain ones only
    *(bool, int, float, complex, str, bytes, list, tuple, dict, set, frozenset),
    *((pathlib.PurePosixPath, f"{module}.PosixPath") for module in ("pathlib", "pathlib._local")),
    *((pathlib.PureWindowsPath, f"{module}.WindowsPath") for module in ("pathlib", "pathlib._local")),
    np.ndarray,
    np.dtype,
    *{type(np.dtype(code)) for code in "?bhilqBHILQefdgSU"},
    *(
        (function, f"numpy.{core}.multiarray.{name}")
        for core in ("core", "_core")
        for name, function in (
            ("scalar", np._core.multiarray.scalar),  # type: ignore[attr-defined]
            ("_reconstruct", np._core.multiarray._reconstruct),  # type: ignore[attr-defined]
        )
    ),
]


def is_weights_file(path: Path) -> bool:
    """Whether a path is a file, or has the suffix of a file of weights."""
    return path.is_file() or path.name.endswith(SUFFIXES)


def read_state_dict(path: str | Path, key: str | None = None) -> dict[str, Tensor]:
    """Read the weights and buffers of a net from a `.pth`, `.pt`, `.pth.tar` or `.safetensors` file.

    Code in a pickle is never run. Prefixes that all names have from a wrapper (`module.`, `_orig_mod.`, `model.`) are
    left out. The tensors are on the CPU.

    Args:
        key: Entry of the file that holds the weights, for example `state_dict_ema`; None if only one entry does.

    Raises:
        ValueError: If there is no such file, it can't be read without running code, or it does not hold the weights of
            one net.

    Example:
        >>> import tempfile
        >>> import torch
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.save({"epoch": 3, "state_dict": {"module.fc.weight": torch.eye(2)}}, f"{folder}/net.pth.tar")
        ...     list(read_state_dict(f"{folder}/net.pth.tar"))
        ['fc.weight']
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"there is no file of weights {str(path)!r}; check the path")
    content = _safetensors(path) if path.suffix == ".safetensors" else _unpickled(path)
    return _without_prefixes(_find_weights(content, key, str(path)))


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{str(path)!r} is no readable safetensors file: {error}; fetch it again") from error


def _unpickled(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals(_HARMLESS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        refused = re.search(r"GLOBAL (\S+)", str(error))
        if refused is None:
            raise _damaged(path, error) from error
        raise ValueError(
            f"{str(path)!r} holds {refused[1]}, whose loading would run code; expected tensors only. Where you "
            "trust the file, write its weights alone: torch.save(net.state_dict(), 'weights.pth')"
        ) from error
    # A file may hold anything, so torch raises many types.
    except Exception as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> ValueError:
    text = " ".join(str(error).rpartition("WeightsUnpickler error:")[2].split())  # torch's advice left out
    return ValueError(
        f"{str(path)!r} can't be read as weights of torch ({type(error).__name__}: {text[:200]}), expected what "
        "torch.save(net.state_dict(), ...) or safetensors writes; fetch the file again, or give another"
    )


def _find_weights(content: Any, key: str | None, name: str) -> dict[str, Tensor]:
    """The one entry of a checkpoint that holds weights, or the checkpoint itself."""
    if not isinstance(content, Mapping):
        raise ValueError(f"{name!r} holds a {type(content).__name__}, expected a dictionary of tensors by name")
    entries = {each: value for each, value in content.items() if _is_weights(value)}
    if key is not None:
        if key not in entries:
            held = ", ".join(map(repr, entries)) or "none"
            raise ValueError(f"{name!r} has no entry {key!r} with weights, expected one of: {held}")
        return dict(entries[key])
    if _is_weights(content):
        return dict(content)
    if len(entries) == 1:
        return dict(next(iter(entries.values())))
    if entries:
        raise ValueError(
            f"{name!r} holds the weights of {len(entries)} nets: {', '.join(map(repr, entries))}; name one of them "
            "(--teacher_weights of hf-icckd student, --key of hf-icckd import, `key` in Python)"
        )
    shown = ", ".join(repr(each) for each in list(content)[:_SHOWN]) or "nothing"
    raise ValueError(
        f"{name!r} holds no weights of a net, only {shown}; expected tensors by name, or an entry of them"
    )


def _is_weights(value: Any) -> bool:
    # Names of layers have dots, or at least one tensor has a shape; a dictionary of averages has neither.
    return (
        isinstance(value, Mapping)
        and len(value) > 0
        and all(isinstance(name, str) and isinstance(each, Tensor) for name, each in value.items())
        and any(each.ndim > 0 for each in value.values())
    )


def _without_prefixes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    if "n_averaged" in state:  # torch's AveragedModel counts there
        state = {name: tensor for name, tensor in state.items() if name != "n_averaged"}
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in state):
            return _without_prefixes({name.removeprefix(prefix): tensor for name, tensor in state.items()})
    return state
