"""What predictions need of a model, be it run by torch or by ONNX Runtime."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from hf_icckd.data.framing import Framing, border_colour, evaluation_framing
from hf_icckd.data.images import CropMode
from hf_icckd.models.classifier import ImageClassifier
from hf_icckd.models.pretrained import from_pretrained
from hf_icckd.models.runtimes import open_onnx
from hf_icckd.runs.records import read_options
from hf_icckd.utils.atomic_files import user_path
from hf_icckd.utils.machine import best_device

_METADATA = ("label_names", "image_size", "crop_pct", "interpolation", "crop_mode")


class Classifier(Protocol):
    """A model that classifies framed images.

    Attributes:
        label_names: Name of each class.
        framing: How a picture becomes an image of the model's size.
    """

    label_names: tuple[str, ...]
    framing: Framing

    def logits(self, images: Tensor) -> Tensor:
        """Classify images: (B, 3, S, S) uint8 on the CPU in, (B, C) float32 on the CPU out."""


class TorchClassifier:
    """A classifier of this package, on the device where it is.

    Args:
        model: Its training mode is restored after each batch.
    """

    def __init__(self, model: ImageClassifier):
        self._model = model
        self.label_names, self.framing = model.spec.label_names, evaluation_framing(model.spec)

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """See `Classifier`."""
        training = self._model.training
        if training:
            self._model.eval()
        logits = self._model(images.to(self._model.scale.device)).logits.float().cpu()
        if training:
            self._model.train()
        return logits


class OnnxClassifier:
    """A file that `export_onnx` wrote, run by ONNX Runtime on the CPU.

    Args:
        path: The file.

    Raises:
        ValueError: If ONNX Runtime is missing or can't read the file, or its metadata don't name classes and framing.
    """

    def __init__(self, path: Path):
        self._session = open_onnx(path)
        said = self._session.metadata
        missing = [name for name in _METADATA if name not in said]
        if missing:
            raise ValueError(
                f"model {str(path)!r} has no {missing[0]} in its metadata, expected a file that hf-icckd export "
                "wrote; export the model with it"
            )
        self.label_names, self.framing = tuple(json.loads(said["label_names"])), _framing(said, path)

    def logits(self, images: Tensor) -> Tensor:
        """See `Classifier`."""
        return torch.from_numpy(self._session(images.contiguous().numpy()))


def load_classifier(model: ImageClassifier | str | Path) -> Classifier:
    """Load what predictions need of a model.

    Args:
        model: A classifier, which stays on its device; anything that `from_pretrained` loads, which is moved to the
            best device; or an ONNX file of `export_onnx`.

    Raises:
        ValueError: If it can't be loaded.
    """
    if isinstance(model, ImageClassifier):
        return TorchClassifier(model)
    path = user_path(model)
    if path.suffix.lower() != ".onnx":
        return TorchClassifier(from_pretrained(model).to(best_device()))
    if not path.is_file():
        raise ValueError(f"model {str(model)!r} is not a file here; check the path, or export it first")
    return OnnxClassifier(path)


def recorded_pixel_range(model: ImageClassifier | str | Path) -> tuple[float, float] | None:
    """Values of black and white that the run of a model was trained with, from its folder; None if it records none."""
    if isinstance(model, ImageClassifier):
        return None
    path = user_path(model)
    recorded = read_options(path if path.is_dir() else path.parent).get("pixel_range") if path.exists() else None
    return None if recorded is None else (recorded[0], recorded[1])


def _framing(said: dict[str, Any], path: Path) -> Framing:
    """The framing that the metadata of an ONNX file describe."""
    mode = cast("CropMode", said["crop_mode"])
    if mode == "border" and "mean" not in said:
        raise ValueError(
            f"model {str(path)!r} does not say which colour its borders have, because an older version wrote it; "
            "export the model again"
        )
    fill = border_colour(json.loads(said["mean"])) if mode == "border" else (0, 0, 0)
    return Framing(int(said["image_size"]), float(said["crop_pct"]), said["interpolation"], mode, fill)
