"""The layout of a model folder, which timm and transformers both read. Only this file knows it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import timm
import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from timm.models import is_model
from torch import Tensor

from hf_icckd.models.architectures import check_architecture, default_cfg, has_pretrained, switched_args
from hf_icckd.models.classifier import ClassifierSpec, ImageClassifier, create_classifier, unnamed
from hf_icckd.models.foreign import is_foreign
from hf_icckd.models.from_transformers import PICKLES, SAFE_FILES, has_weights, is_of_transformers, load_transformers
from hf_icckd.models.from_weights import WeightsFile, load_weights_file
from hf_icckd.models.hub_names import hub_name
from hf_icckd.models.state_dicts import is_weights_file
from hf_icckd.utils.atomic_files import contiguous_state, replace_file, replace_tensors, user_path
from hf_icckd.utils.formats import EXPORTED_SUFFIXES

if TYPE_CHECKING:
    from hf_icckd.models.architectures import TimmNet

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
_WRAPPER = "timm_model."  # transformers puts it in front of the names of a timm net's weights


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
    if is_foreign(classifier):
        raise ValueError(
            f"{classifier.spec.architecture} is not a net of timm, so it can teach but not be saved here; save it as "
            "the program that it is from does"
        )
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


def from_pretrained(
    name_or_path: str | Path, weights: WeightsFile | None = None, needs_head: bool = True
) -> ImageClassifier:
    """Load a classifier in evaluation mode: a folder, a Hub id, a pretrained timm model or a file of weights.

    Args:
        name_or_path: A folder written by `save_pretrained`, timm or transformers; a Hub id such as `me/student`,
            `me/student@revision` or `hf-hub:me/student`; a timm name such as `resnet18.a1_in1k`; or a `.pth`, `.pt`,
            `.pth.tar` or `.safetensors` file.
        weights: Architecture and normalisation of a file of weights; None for anything else.
        needs_head: Whether a net without a classification layer is refused. If not, its classifier has no classes.

    Raises:
        ValueError: If it is none of these, or config or weights are missing or don't fit together.

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
    classifier = _load(name, weights, needs_head)
    if needs_head and not classifier.spec.label_names:
        raise ValueError(
            f"model {name!r} has no classification layer, expected a classifier; it can teach by its embeddings: "
            f"hf-icckd student --teacher {name} --objectives embedding"
        )
    return classifier


def _load(name: str, weights: WeightsFile | None, needs_head: bool) -> ImageClassifier:
    path = user_path(name)
    if not path.is_dir() and path.suffix.lower() in EXPORTED_SUFFIXES:
        raise ValueError(
            f"model {name!r} is a file that a model was exported to, expected the model itself: give its folder. Only "
            "hf-icckd benchmark takes .onnx and .xml files, and hf-icckd predict .onnx"
        )
    if not path.is_dir() and is_weights_file(path):
        if not path.is_file():
            raise ValueError(f"there is no file of weights {name!r}; check the path")
        if weights is None:
            raise ValueError(
                f"model {name!r} is a file, which does not say what net its weights are of; make a folder of it with "
                f"hf-icckd import {name} --model ARCHITECTURE --output_dir FOLDER and give that (for a teacher of "
                "hf-icckd student, --teacher_model ARCHITECTURE is enough)"
            )
        return load_weights_file(path, weights)
    if weights is not None:
        raise ValueError(
            f"an architecture ({weights.architecture}) was given for {name!r}, which is no file of weights: folders, "
            "Hub ids and timm names say themselves what they are; leave it out"
        )
    if path.is_dir():
        return _load_folder(path, name)
    if "/" not in name and is_model(name.partition(".")[0]):
        return _pretrained_timm(name, needs_head)
    return _load_folder(_from_hub(name), name)


def architecture_of(name: str) -> str | None:
    """Name in timm's registry of a classifier that `from_pretrained` loads; None if it is no net of timm.

    Raises:
        ValueError: If it is neither here nor on the Hub.
    """
    path = user_path(name)
    if not path.is_dir():
        if is_weights_file(path):
            return None
        if "/" not in name and is_model(name.partition(".")[0]):
            return name
    architecture = _config_of(path if path.is_dir() else _from_hub(name)).get("architecture")
    return architecture if isinstance(architecture, str) and is_model(architecture.partition(".")[0]) else None


def _from_hub(name: str) -> Path:
    """Folder with the files of a model on the Hub; pickles only if it has no other weights."""
    found = hub_name(name)
    if found is None:
        raise ValueError(
            f"model {name!r} is not a folder here, a timm architecture or a Hub id; check the path, or train one "
            "first (hf-icckd teacher writes runs/teacher)"
        )
    try:
        folder = Path(snapshot_download(found.repository, revision=found.revision, allow_patterns=SAFE_FILES))
        if not has_weights(folder) and is_of_transformers(_config_of(folder)):
            patterns = [*SAFE_FILES, *PICKLES]
            folder = Path(snapshot_download(found.repository, revision=found.revision, allow_patterns=patterns))
    except Exception as error:  # the Hub client raises many types
        raise ValueError(
            f"model {name!r} is not a folder here and could not be fetched from the Hub: {type(error).__name__}: "
            f"{next(iter(str(error).splitlines()), '')}; check the name, or train it first (hf-icckd teacher, "
            "hf-icckd student)"
        ) from error
    return folder


def _config_of(folder: Path) -> dict[str, Any]:
    """Content of config.json; empty if it can't be read."""
    try:
        content = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def check_complete(folder: Path, name: str) -> None:
    """Raise ValueError unless a folder holds config and weights."""
    for file in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / file).is_file():
            raise ValueError(
                f"model {name!r} has no {file}; expected a finished run with config and safetensors weights"
            )


def _load_folder(folder: Path, name: str) -> ImageClassifier:
    if is_of_transformers(_config_of(folder)) and has_weights(folder):
        return load_transformers(folder, name)
    check_complete(folder, name)
    try:
        raw = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        cfg = raw["pretrained_cfg"]
        num_classes = raw.get("num_classes", cfg.get("num_classes"))
        # timm also writes the number of classes there, which the spec has already.
        given = {key: value for key, value in (raw.get("model_args") or {}).items() if key != "num_classes"}
        wrapped = _is_wrapped(folder, raw)
        if wrapped:
            net = _wrapped_net(folder, raw["architecture"], num_classes, given)
        else:
            net = cast("TimmNet", timm.create_model(f"local-dir:{folder}", pretrained=True))
        spec = ClassifierSpec(
            architecture=raw["architecture"],
            label_names=tuple(raw.get("label_names") or unnamed(num_classes)),
            mean=tuple(cfg["mean"]),
            std=tuple(cfg["std"]),
            image_size=cfg["input_size"][-1],
            crop_pct=cfg.get("crop_pct") or 1.0,
            interpolation=cfg.get("interpolation") or "bilinear",
            crop_mode=cfg.get("crop_mode") or "center",
            model_args={**switched_args(raw["architecture"], pretrained=not wrapped), **given},
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


def _is_wrapped(folder: Path, config: dict[str, Any]) -> bool:
    """Whether transformers wrote the folder of a timm net."""
    if config.get("model_args", {}) is None:
        return True
    with safe_open(folder / WEIGHTS_FILE, "pt") as file:
        return all(name.startswith(_WRAPPER) for name in file.keys())  # noqa: SIM118  it is no dictionary


def _wrapped_net(folder: Path, architecture: str, num_classes: int, model_args: dict[str, Any]) -> TimmNet:
    """The net, where timm reads neither the names of its weights nor the config beside them."""
    net = cast("TimmNet", timm.create_model(architecture, num_classes=num_classes, **model_args))
    state = load_file(folder / WEIGHTS_FILE)
    net.load_state_dict({name.removeprefix(_WRAPPER): tensor for name, tensor in state.items()})
    return net


def _pretrained_timm(name: str, needs_head: bool) -> ImageClassifier:
    check_architecture(name)
    cfg = default_cfg(name)
    if not has_pretrained(name):
        raise ValueError(
            f"timm has no pretrained weights for {name!r}; give a folder or a Hub id with trained weights"
        )
    if needs_head and not cfg.num_classes > 0:
        raise ValueError(
            f"timm's weights of {name!r} have no classification layer, expected a classifier; train one on them, "
            f"hf-icckd teacher --model {name} --pretrained true, or let them teach by their embeddings, "
            f"hf-icckd student --teacher {name} --objectives embedding"
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
