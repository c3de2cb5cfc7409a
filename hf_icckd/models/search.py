"""Architectures that timm and this package have: parameters, image size, pretrained weights and their licences."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import NamedTuple

import timm
import torch
from huggingface_hub.constants import HF_HOME
from timm.models import get_pretrained_cfg
from torch.overrides import TorchFunctionMode

import hf_icckd.models  # noqa: F401  registers the cifar_* architectures
from hf_icckd._version import __version__
from hf_icckd.models.architectures import default_cfg
from hf_icckd.utils.atomic_files import write_text
from hf_icckd.utils.progress_bars import progress_bar

logger = logging.getLogger(__name__)

_SAVED_EVERY = 100  # counted architectures
NOT_STATED = "not stated"


class Architecture(NamedTuple):
    """What is known of an architecture without its weights.

    Attributes:
        name: Name in timm's registry.
        parameters: Number of parameters, with the classification layer that it has by default.
        image_size: Height and width of its images.
        licences: Licence of each of its pretrained weights by their tag, the default one first.
    """

    name: str
    parameters: int
    image_size: tuple[int, int]
    licences: dict[str, str]


def find_architectures(
    pattern: str = "*", low: float = 0, high: float = float("inf"), pretrained_only: bool = False
) -> list[Architecture]:
    """Architectures whose names fit a pattern, largest first.

    Parameters are counted without memory for them, a tenth of a second each, and kept for the version of timm.

    Args:
        pattern: Shell pattern, as `timm.list_models` takes.
        low: Fewest parameters.
        high: Most parameters.
        pretrained_only: Whether to leave out those without pretrained weights.

    Raises:
        ValueError: If no name fits the pattern.

    Example:
        >>> [(each.name, each.parameters) for each in find_architectures("cifar_wrn_*_2")]
        [('cifar_wrn_40_2', 2255156), ('cifar_wrn_16_2', 703284)]
    """
    names = timm.list_models(pattern)
    if not names:
        raise ValueError(
            f"pattern is {pattern!r}, which no architecture fits; give part of a name, such as '*resnet*'"
        )
    licences = {name: _licences(name) for name in names}
    names = [name for name in names if licences[name] or not pretrained_only]
    counts = _parameters(names)
    fitting = [name for name in names if low <= counts[name] <= high]
    fitting.sort(key=lambda name: (-counts[name], name))
    return [Architecture(name, counts[name], _image_size(name), licences[name]) for name in fitting]


def _licences(name: str) -> dict[str, str]:
    """Licence of each of the pretrained weights; the default ones are first in timm's list of names."""
    tags = [each.partition(".")[2] for each in timm.list_models(f"{name}.*", pretrained=True)]
    default = default_cfg(name).tag
    tags.sort(key=lambda tag: tag != default)
    found = {}
    for tag in tags:
        cfg = get_pretrained_cfg(f"{name}.{tag}")
        found[tag] = (cfg.license if cfg is not None else None) or NOT_STATED
    return found


def _image_size(name: str) -> tuple[int, int]:
    height, width = default_cfg(name).input_size[-2:]
    return height, width


def _parameters(names: list[str]) -> dict[str, int]:
    """Number of parameters of each architecture, from the cache if they are in it."""
    file = Path(HF_HOME) / "hf_icckd" / f"parameters-timm-{timm.__version__}-{__version__}.json"
    try:
        counts = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        counts = {}
    missing = [name for name in names if name not in counts]
    for number, name in enumerate(progress_bar("counting parameters", missing, unit="net"), start=1):
        counts[name] = _count(name)
        if number % _SAVED_EVERY == 0 or number == len(missing):
            _save(file, counts)
    return counts


def _save(file: Path, counts: dict[str, int]) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, json.dumps(counts, indent=0, sort_keys=True))
    except OSError as error:
        logger.warning("the numbers of parameters can't be kept and will be counted again: %s", error)


class _Uninitialised(TorchFunctionMode):
    """Leaves out operations in place, such as those that draw initial weights: here only shapes count."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name = getattr(func, "__name__", "")
        if name.endswith("_") and not name.startswith("_") and name != "requires_grad_" and args:
            return args[0]
        return func(*args, **(kwargs or {}))


def _count(name: str) -> int:
    try:
        with torch.device("meta"), _Uninitialised():
            net = timm.create_model(name)
    except (NotImplementedError, RuntimeError):  # an older torch can't compute everything without values
        net = timm.create_model(name)
    return sum(parameter.numel() for parameter in net.parameters())
