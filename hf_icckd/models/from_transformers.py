"""Classifiers from folders of transformers: its weights, its class names, its preprocessing."""

from __future__ import annotations

import json
import logging
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageClassification

from hf_icckd.models.classifier import ClassifierSpec, ImageClassifier
from hf_icckd.models.foreign import ForeignNet, classification_layer
from hf_icckd.models.preprocessing import measured_preprocessing

CONFIG_FILE, PROCESSOR_FILE = "config.json", "preprocessor_config.json"
SAFE_FILES = [CONFIG_FILE, PROCESSOR_FILE, "model.safetensors", "model.safetensors.index.json", "model-*.safetensors"]
PICKLES = ["pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model-*.bin"]
# Of a config: not what the net computes, or in the specification already.
_NOT_THE_NET = {
    "transformers_version",
    "architectures",
    "id2label",
    "label2id",
    "dtype",
    "torch_dtype",
    "_name_or_path",
}

logger = logging.getLogger(__name__)


def is_of_transformers(config: dict[str, Any]) -> bool:
    """Whether a config.json is that of a model of transformers itself, and not of a timm net."""
    return "model_type" in config and "pretrained_cfg" not in config


def has_weights(folder: Path) -> bool:
    """Whether a folder holds weights that transformers reads."""
    return any(next(folder.glob(pattern), None) is not None for pattern in (*SAFE_FILES[2:], *PICKLES))


def load_transformers(folder: Path, name: str) -> ImageClassifier:
    """Load an image classification model of transformers, in evaluation mode and float32. Its code is never remote.

    Embeddings are what its classification layer takes in, where it has a single linear one.

    Args:
        folder: Folder with config, weights and perhaps `preprocessor_config.json`.
        name: What the user called it.

    Raises:
        ValueError: If it is no image classification model, weights are missing, or its preprocessing is another than
            scaling, cropping and normalising.
    """
    try:
        module, config = _load_model(folder)
        seen = measured_preprocessing(_load_processor(folder, config, name))
        names = tuple(str(config.id2label[index]) for index in range(config.num_labels))
        layer = classification_layer(module, len(names), seen.image_size)
        net = ForeignNet(module, len(names), seen.image_size, layer)
    # transformers raises many types for what it can't load.
    except Exception as error:
        text = " ".join(str(error).split())
        hint = ""
        if not (folder / PROCESSOR_FILE).is_file():
            hint = f"; it has no {PROCESSOR_FILE}, so its images may have another size: save its image processor there"
        raise ValueError(
            f"model {name!r} can't be loaded by transformers: {text[:400]}{'...' if len(text) > 400 else ''}{hint}"
        ) from error
    if layer is None:
        logger.info("%s has no single linear classification layer, so it has logits but no embeddings", name)
    spec = ClassifierSpec(
        architecture=type(module).__name__,
        label_names=names,
        mean=seen.mean,
        std=seen.std,
        image_size=seen.image_size,
        crop_pct=seen.crop_pct,
        interpolation=seen.interpolation,
        model_args={key: value for key, value in config.to_diff_dict().items() if key not in _NOT_THE_NET},
        crop_mode=seen.crop_mode,
    )
    return ImageClassifier(net, spec).eval()


def _load_model(folder: Path) -> tuple[torch.nn.Module, Any]:
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    config = AutoConfig.from_pretrained(folder, **options)
    if config.problem_type not in (None, "single_label_classification"):
        raise ValueError(f"its problem_type is {config.problem_type!r}, expected a classifier of one class an image")
    module, found = AutoModelForImageClassification.from_pretrained(
        folder, config=config, dtype=torch.float32, output_loading_info=True, weights_only=True, **options
    )
    # transformers only warns, and takes new weights in their place.
    lacking = sorted({*map(str, found["missing_keys"]), *(str(each[0]) for each in found["mismatched_keys"])})
    if lacking:
        raise ValueError(
            f"it holds no weights for {', '.join(lacking[:3])}{', ...' if len(lacking) > 3 else ''}, so it is no "
            f"trained {type(module).__name__}; give a model that was trained to classify images"
        )
    return module.eval(), config


def _load_processor(folder: Path, config: Any, name: str) -> Any:
    if (folder / PROCESSOR_FILE).is_file():
        return AutoImageProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    # transformers has a default for each type of model, but reads it only beside a file.
    with tempfile.TemporaryDirectory() as place:
        config.save_pretrained(place)
        Path(place, PROCESSOR_FILE).write_text(json.dumps({}), encoding="utf-8")
        processor = AutoImageProcessor.from_pretrained(place, local_files_only=True, trust_remote_code=False)
    text = "%s has no %s: images are prepared as transformers does by default for a %s"
    logger.warning(text, name, PROCESSOR_FILE, config.model_type)
    return processor
