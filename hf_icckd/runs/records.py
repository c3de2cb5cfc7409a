"""Read the two records of a run, all_args.yaml and metrics.json."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import yaml
from huggingface_hub import hf_hub_download

from hf_icckd.models.hub_names import hub_name
from hf_icckd.options.checks import default_of
from hf_icckd.options.data import ImageDataArguments
from hf_icckd.options.renamed import with_terms
from hf_icckd.runs.layout import ARGS_FILE, METRICS_FILE
from hf_icckd.utils.atomic_files import user_path

DataOptions = TypeVar("DataOptions", bound=ImageDataArguments)
# Options that say how a run was trained; `hf_icckd.cards.method.how_trained` puts them into words.
_METHOD = (
    "recipe", "model", "pretrained", "start_from", "seed", "label_smoothing", "num_views", "terms", "objectives",
    "ce_weight", "freeze_backbone", "class_weights", "logit_adjustment", "sampling", "unlabeled_only",
)  # fmt: skip
# Those that are at their default in most runs: kept where they are not.
_METHOD_IF_SET = {
    "model_ema": ("model_ema_decay", "model_ema_warmup"),
    "load_best_model_at_end": ("metric_for_best_model", "early_stopping_patience"),
}
_MACHINE = ("device", "processor", "threads", "torch")
_ALWAYS_THERE = {ARGS_FILE: ("recipe", "model"), METRICS_FILE: ("test", "cost", "environment")}
_FROM_CONTROL = ("test", "teacher_test", "cost", "soft_labels")


def read_records(folder: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what all_args.yaml and metrics.json of a finished run hold.

    Raises:
        ValueError: If one is missing or damaged.
    """
    records = []
    for name, parse in ((ARGS_FILE, yaml.safe_load), (METRICS_FILE, json.loads)):
        path = user_path(folder) / name
        if not path.is_file():
            raise ValueError(
                f"{str(folder)!r} is not a finished run: it has no {name}; give the folder of one that is"
            )
        try:
            content = parse(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, ValueError):  # JSON and UTF-8 raise ValueErrors
            content = None
        if not isinstance(content, dict) or any(key not in content for key in _ALWAYS_THERE[name]):
            raise ValueError(f"{path} is damaged, expected the record of a finished run; give another folder")
        records.append(with_terms(content))
    return records[0], records[1]


class RecordedAccuracy(NamedTuple):
    """What a finished run says of its model: top-1 in percent on its test images, and their number."""

    top1: float
    images: int


def recorded_metrics(name: str) -> dict[str, Any]:
    """What metrics.json of a model's folder or repository holds; empty without one, as for a model made elsewhere.

    Args:
        name: Folder, Hub id or another name that the model is loaded by.
    """
    folder, hub = user_path(name), hub_name(name)
    try:
        file = folder / METRICS_FILE
        if hub is not None and not folder.exists():
            file = Path(hf_hub_download(hub.repository, METRICS_FILE, revision=hub.revision))
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def recorded_accuracy(name: str) -> RecordedAccuracy | None:
    """Accuracy that a model's folder or repository records; None without a record, as for one that was made elsewhere.

    Args:
        name: Folder, Hub id or another name that the model is loaded by.
    """
    try:
        test = recorded_metrics(name)["test"]
        return RecordedAccuracy(float(test["top1"]), int(test["images"]))
    except (ValueError, LookupError, TypeError):
        return None


def teachers_of(options: Mapping[str, Any]) -> dict[str, str]:
    """Folder or name of each teacher of a run by its role: `teacher`, `teacher 2`, ...

    Args:
        options: Options of the run.

    Example:
        >>> teachers_of({"teacher": "runs/a", "ensemble_with": ["runs/b"]}), teachers_of({"model": "resnet18"})
        ({'teacher': 'runs/a', 'teacher 2': 'runs/b'}, {})
    """
    names = [options.get("teacher"), *(options.get("ensemble_with") or options.get("cross_fitted_with") or [])]
    roles = ["teacher", *(f"teacher {number}" for number in range(2, len(names) + 1))]
    return {role: name for role, name in zip(roles, names, strict=True) if name}


def read_options(folder: str | Path) -> dict[str, Any]:
    """Return what all_args.yaml of a folder holds; empty if there is none, as for a model that was made elsewhere."""
    try:
        options = yaml.safe_load((user_path(folder) / ARGS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return with_terms(options) if isinstance(options, dict) else {}


def with_recorded_data(arguments: DataOptions, folder: Path, role: str) -> DataOptions:
    """Options of the data set that a run was trained on, overridden by those that the user gave.

    Args:
        arguments: Options of the data, as the user gave them.
        folder: Folder of the run.
        role: What the run's model is called in messages, such as teacher.

    Raises:
        ValueError: If the folder names no data set.
    """
    file = folder / ARGS_FILE
    if not folder.is_dir():
        raise ValueError(f"the {role} is not a local folder with {ARGS_FILE}, which would name its data set")
    if not file.is_file():
        raise ValueError(f"the {role}'s folder has no {ARGS_FILE}, which would name its data set")
    values = read_options(folder)
    if "dataset" not in values:
        raise ValueError(f"{file} is damaged")
    options = {option.name: default_of(option) for option in dataclasses.fields(arguments) if option.init}
    recorded = {name: values[name] for name in options if name in values}
    given = {name: getattr(arguments, name) for name in options if getattr(arguments, name) != options[name]}
    return type(arguments)(**recorded | given)


def read_control(folder: str, recipe: str, data_fingerprint: str, test_images: int) -> dict[str, Any]:
    """Return what the card of a run shows of its control.

    Args:
        folder: Folder of the control.
        recipe: Recipe of the run that is compared with it, `teacher` or `student`.
        data_fingerprint: Fingerprint of the run's data set.
        test_images: Number of the run's test images.

    Returns:
        `name`, `method`, `machine`, `test`, `cost`; `teacher` and `teacher_test` if it had a teacher; `soft_labels` if
        it recorded them.

    Raises:
        ValueError: If the control is not finished, of another recipe, or of other images.
    """
    try:
        arguments, results = read_records(folder)
    except ValueError as error:
        raise ValueError(f"control {error}") from error
    if arguments["recipe"] != recipe:
        raise ValueError(
            f"control {folder!r} is a run of the recipe {arguments['recipe']!r}, expected {recipe!r}; name a control "
            f"that is a {recipe} too"
        )
    images = results["test"]["images"]
    if (arguments.get("data_fingerprint"), images) != (data_fingerprint, test_images):
        raise ValueError(
            f"control {folder!r} was trained and measured on other images (fingerprint "
            f"{arguments.get('data_fingerprint')}, {images} test images), expected those of this run "
            f"({data_fingerprint}, {test_images}); give both runs the same data options"
        )
    teacher = results.get("teacher")
    return {
        "name": user_path(folder).resolve().name,
        "method": method_of(arguments),
        "machine": machine_of(results["environment"]),
        **({"teacher": {name: teacher[name] for name in ("architecture", "method", "cost")}} if teacher else {}),
        **{name: results[name] for name in _FROM_CONTROL if name in results},
    }


def method_of(arguments: dict[str, Any]) -> dict[str, Any]:
    """Keep the options that say how a run was trained; of images without labels, whether there were any."""
    names = [*_METHOD, *(name for key, more in _METHOD_IF_SET.items() if arguments.get(key) for name in (key, *more))]
    without_labels = {"unlabeled_dataset": True} if arguments.get("unlabeled_dataset") else {}
    return {name: arguments[name] for name in names if name in arguments} | without_labels


def machine_of(environment: dict[str, Any]) -> dict[str, Any]:
    """Keep what must be equal for latencies to be comparable."""
    return {name: environment.get(name) for name in _MACHINE}


def loss_row(entry: dict[str, float]) -> dict[str, float]:
    """Epoch, step and losses of an entry of the training log, rounded to six digits."""
    terms = {name.removeprefix("loss/"): value for name, value in entry.items() if name.startswith("loss/")}
    kept = {name: entry[name] for name in ("epoch", "step", "loss", "gated_fraction") if name in entry}
    return {name: float(f"{value:.6g}") for name, value in (kept | terms).items()}
