"""Formats that models are exported to. Light: nothing here imports torch or a runtime."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass


@dataclass(frozen=True)
class Format:
    """A format that models are exported to.

    Attributes:
        file: Name of its file in a model's folder.
        packages: Packages that writing and running it needs.
        extra: The extra of this package that installs them.
    """

    file: str
    packages: tuple[str, ...]
    extra: str


_ONNX = ("onnx", "onnxscript", "onnxruntime")
FORMATS = {
    "onnx": Format("model.onnx", _ONNX, "onnx"),
    "int8": Format("model_int8.onnx", _ONNX, "onnx"),
    "openvino": Format("model.xml", (*_ONNX, "openvino"), "openvino"),
}
EXPORTED_SUFFIXES = (".onnx", ".xml")


def check_installed(packages: tuple[str, ...], extra: str, purpose: str) -> None:
    """Raise ValueError if a package is missing, with the extra that installs it."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(
            f"{', '.join(missing)} not installed, but {purpose} needs it; pip install 'hf-icckd[{extra}]'"
        )
