"""The layout of a model folder, which timm and transformers both read. Only this file knows it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import timm
import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError
from timm.models import is_model
from torch import Tensor

from hf_icckd.models.architectures import check_architecture, default_cfg
from hf_icckd.models.classifier import ClassifierSpec, ImageClassifier, create_classifier, unnamed
from hf_icckd.utils.atomic_files import contiguous_state, replace_file, replace_tensors, user_path

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"


def save_pretrained(folder: str | Path, classifier: ImageClassifier, state: dict[str, Tensor] | None = None) -> None:
    """Write config.json and model.safetensors.

    Stock `timm.create_model("local-dir:FOLDER", pretrained=True)` and transformers'
    `AutoModelForImageClassification.from_pretrained(FOLDER)` read the folder, `cifar_*` architectures after
    `import hf_icckd`. It contains no pickle and nothing that only training needs.

    Args:
        folder: Created if it does not exist.
        state: Weights and buffers of the net; None to take them from `classifier`. For sharded nets.

    Example:
        >>> import tempfile
        >>> from hf_icckd import create_classifier
        >>> model = create_classifier("cifar_resnet8", ["cat", "dog"], image_size=32)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_pretrained(folder, model)
        ...     sorted(file.name for file in Path(folder).iterdir())
        ['config.json', 'model.safetensors']
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = contiguous_state(classifier.net.state_dict() if state is None else state)
    replace_tensors(folder / WEIGHTS_FILE, state, {"format": "pt"})
    config = json.dumps(_config(classifier), indent=2) + "\n"
    replace_file(folder / CONFIG_FILE, lambda path: path.write_text(config, encoding="utf-8"))


def fingerprint(classifier: ImageClassifier) -> str:
    """Hash of a classifier's weights and buffers."""
    digest = hashlib.sha256()
    for name, tensor in sorted(contiguous_state(classifier.net.state_dict()).items()):
        digest.update(name.encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def from_pretrained(name_or_path: str | Path) -> ImageClassifier:
    """Load a classifier in evaluation mode from a folder, from the Hub, or by the name of a pretrained timm model.

    Args:
        name_or_path: A folder written by `save_pretrained` (or by timm), a Hub id such as `me/student`, or a timm name
            such as `resnet18.a1_in1k`.

    Raises:
        ValueError: If it is none of these, or config or safetensors weights are missing or don't fit together.

    Example:
        >>> import tempfile
        >>> from hf_icckd import create_classifier
        >>> model = create_classifier("cifar_resnet8", ["cat", "dog"], image_size=32)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_pretrained(folder, model)
        ...     from_pretrained(folder).spec == model.spec
        True
    """
    name = str(name_or_path)
    folder = user_path(name)
    if not folder.is_dir():
        if "/" not in name and is_model(name.partition(".")[0]):
            return _pretrained_timm(name)
        if not _looks_like_hub_id(name):
            raise ValueError(
                f"model {name!r} is not a folder here, a timm architecture or a Hub id; check the path, or train one "
                "first (recipes/teacher.py writes runs/teacher)"
            )
        try:
            folder = Path(snapshot_download(name, allow_patterns=[CONFIG_FILE, WEIGHTS_FILE]))
        except Exception as error:  # the Hub client raises many types
            raise ValueError(
                f"model {name!r} is not a folder here and could not be fetched from the Hub: {type(error).__name__}: "
                f"{next(iter(str(error).splitlines()), '')}; check the name, or train it first (recipes/teacher.py, "
                "recipes/student.py)"
            ) from error
    check_complete(folder, name)
    return _load_folder(folder, name)


def check_complete(folder: Path, name: str) -> None:
    """Raise ValueError unless a folder holds config and weights."""
    for file in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / file).is_file():
            raise ValueError(
                f"model {name!r} has no {file}; expected a finished run with config and safetensors weights"
            )


def _looks_like_hub_id(name: str) -> bool:
    return name.count("/") == 1 and not name.startswith((".", "/", "~"))


def _load_folder(folder: Path, name: str) -> ImageClassifier:
    try:
        raw = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        cfg = raw["pretrained_cfg"]
        num_classes = raw.get("num_classes", cfg.get("num_classes"))
        net = timm.create_model(f"local-dir:{folder}", pretrained=True)
        spec = ClassifierSpec(
            architecture=raw["architecture"],
            label_names=tuple(raw.get("label_names") or unnamed(num_classes)),
            mean=tuple(cfg["mean"]),
            std=tuple(cfg["std"]),
            image_size=cfg["input_size"][-1],
            crop_pct=cfg.get("crop_pct") or 1.0,
            interpolation=cfg.get("interpolation") or "bilinear",
            crop_mode=cfg.get("crop_mode") or "center",
            # timm also writes the number of classes there, which the spec has already.
            model_args={key: value for key, value in (raw.get("model_args") or {}).items() if key != "num_classes"},
        )
    except (
        AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError, SafetensorError,
    ) as error:  # fmt: skip
        text = " ".join(str(error).split())
        raise ValueError(
            f"model {name!r} can't be loaded: {type(error).__name__}: {text[:300]}{'...' if len(text) > 300 else ''}; "
            "expected config and weights of one classifier; write or fetch the folder again"
        ) from error
    return ImageClassifier(net, spec).eval()


def _pretrained_timm(name: str) -> ImageClassifier:
    check_architecture(name)
    cfg = default_cfg(name)
    if not (cfg.has_weights if hasattr(cfg, "has_weights") else cfg.url or cfg.hf_hub_id):
        raise ValueError(
            f"timm has no pretrained weights for {name!r}; give a folder or a Hub id with trained weights"
        )
    return create_classifier(name, unnamed(cfg.num_classes), pretrained=True).eval()


def _config(classifier: ImageClassifier) -> dict:
    """Return the config that timm and transformers read.

    transformers builds the net from `architecture` and `model_args` alone and passes the number of classes itself, so
    `model_args` must not contain it. Only the structural keys of timm's default config are kept: the origin of timm's
    own weights says nothing about these.
    """
    spec, net_cfg = classifier.spec, classifier.net.pretrained_cfg
    num_classes = len(spec.label_names)
    return {
        "architecture": spec.architecture,
        "num_classes": num_classes,
        "num_features": classifier.embedding_dim,
        "label_names": list(spec.label_names),
        **({"model_args": spec.model_args} if spec.model_args else {}),
        "pretrained_cfg": {
            "num_classes": num_classes,
            "input_size": [3, spec.image_size, spec.image_size],
            "fixed_input_size": net_cfg.get("fixed_input_size", False),
            "interpolation": spec.interpolation,
            "crop_pct": spec.crop_pct,
            "crop_mode": spec.crop_mode,
            "mean": list(spec.mean),
            "std": list(spec.std),
            "pool_size": net_cfg.get("pool_size"),
            "first_conv": net_cfg.get("first_conv"),
            "classifier": net_cfg.get("classifier"),
        },
    }
