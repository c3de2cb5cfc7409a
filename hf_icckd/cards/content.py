"""What metrics.json holds for the card of a run, beside the metrics themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import timm
import torch
from timm.models import is_model
from torch import Tensor

from hf_icckd import metrics
from hf_icckd.cards.licences import inherited_licences
from hf_icckd.data import ImageData, ImagePipeline
from hf_icckd.data.report import published_report
from hf_icckd.data.sampling import BatchKey
from hf_icckd.evaluation.cost import cost_metrics
from hf_icckd.evaluation.split import SplitOutputs
from hf_icckd.models.classifier import ClassifierSpec, ImageClassifier
from hf_icckd.models.embedding_teacher import has_head
from hf_icckd.models.hub_names import hub_name
from hf_icckd.models.state_dicts import is_weights_file
from hf_icckd.runs.records import loss_row, method_of, read_options
from hf_icckd.utils.atomic_files import user_path

_LOSS_ROWS = 200  # of the training log that metrics.json keeps
_SHOWN_IMAGES, _SHOWN_CLASSES = 3, 5  # in the picture of soft labels
_KEPT_CLASSES = 20  # probabilities of an image in metrics.json, so that another run can draw them beside its own
_TEMPERATURE = 4.0  # usual in distillation; at 1 a trained net puts nearly everything on one class
_COLOURED_CLASSES, _COLOURED_IMAGES, _GREY_IMAGES = 10, 1000, 500  # in the map of embeddings
_NAMED_CLASSES = 12  # that the text lists


@dataclass(frozen=True)
class FinishedRun:
    """What the card says about a run apart from its outputs.

    Attributes:
        values: All options, as in all_args.yaml.
        changed: The options that differ from their defaults.
        spec: The trained model.
        log: The training log of the Trainer.
        teacher: From `describe_teacher`, for a student.
        control: From `hf_icckd.runs.records.read_control`, if there is a control.
    """

    values: dict[str, Any]
    changed: dict[str, Any]
    spec: ClassifierSpec
    log: Sequence[dict[str, float]]
    teacher: dict[str, Any] | None = None
    control: dict[str, Any] | None = None


class EmbeddingPlane(NamedTuple):
    """Embeddings projected onto their first two principal axes.

    Attributes:
        points: (N, 2).
        shares: (2,) share of the variance along each axis.
        labels: (N,) class indices.
        names: Names of the classes that get a colour, by index.
    """

    points: np.ndarray
    shares: np.ndarray
    labels: np.ndarray
    names: dict[int, str]


def card_content(
    run: FinishedRun,
    data: ImageData,
    outputs: SplitOutputs,
    teacher: SplitOutputs | None = None,
    plane: EmbeddingPlane | None = None,
    report: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """What metrics.json holds for the card.

    Args:
        run: The run.
        data: Its data set.
        outputs: Outputs of the trained model for the test split.
        teacher: Outputs of its teacher for the test split, if it has one.
        plane: Map of the teacher's embeddings, or of the model's own if it has no teacher.
        report: From `hf_icckd.data.report.data_report`.
    """
    content: dict[str, Any] = {
        "model": {
            "architecture": run.spec.architecture,
            "image_size": run.spec.image_size,
            "num_classes": len(run.spec.label_names),
            "class_names": list(run.spec.label_names[:_NAMED_CLASSES]),
            "base_models": _base_models(run),
        },
        "data": {
            "name": data.hub_id or user_path(data.name).resolve().name,
            "hub_id": data.hub_id,
            "revision": data.revision,
            "streamed": data.streamed,
            "images": {name: len(split) for name, split in data.splits().items()},
        },
        "options": run.changed,
        "licences": inherited_licences(run.values),
        "losses": _losses(run.log),
        **describe_outputs(data, outputs, teacher, plane),
    }
    if run.values.get("start_from"):
        content["start"] = {"method": method_of(read_options(run.values["start_from"])) or None}
    if run.teacher is not None:
        content["teacher"] = run.teacher
    if run.control is not None:
        content["control"] = run.control
    if report is not None:
        content["data"]["report"] = published_report(report)
    return content


def describe_outputs(
    data: ImageData, outputs: SplitOutputs, teacher: SplitOutputs | None = None, plane: EmbeddingPlane | None = None
) -> dict[str, Any]:
    """Calibration, soft labels of a few images and the size of the map; arguments as in `card_content`."""
    content: dict[str, Any] = {
        "calibration": calibration_rows(outputs),
        "soft_labels": {"temperature": _TEMPERATURE, "images": _soft_labels(data, outputs, teacher)},
    }
    if plane is not None:
        content["embedding_map"] = {
            "of": "model" if teacher is None else "teacher",
            "images": len(plane.points),
            "coloured_classes": len(plane.names),
            "variance_percent": [100 * share for share in plane.shares.tolist()],
        }
    return content


def calibration_rows(outputs: SplitOutputs) -> list[dict[str, float]]:
    """Rows of the reliability table, one for each bin of confidence."""
    table = {
        name: column.tolist() for name, column in metrics.reliability_table(outputs.logits, outputs.labels).items()
    }
    return [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]


def _base_models(run: FinishedRun) -> list[str]:
    """Hub ids of the teachers and of the model that training started from, as far as they are on the Hub."""
    teachers = [] if run.teacher is None else [run.teacher, *run.teacher.get("members", [])]
    found = [each["hub_id"] for each in teachers]
    if run.values.get("start_from"):
        found.append(hub_id(run.values["start_from"]))
    elif run.values["pretrained"]:
        found.append(hub_id(run.values["model"]))
    return [each for each in found if each is not None]


def describe_teacher(teacher: ImageClassifier, *names: str) -> dict[str, Any]:
    """Architecture, address, training and cost of a teacher.

    Args:
        teacher: The teacher, on the device on which its latency is measured.
        *names: Folder, Hub id or timm name it was loaded from; of an ensemble, those of all its members.
    """
    members = [{"hub_id": hub_id(name), "method": method_of(read_options(name)) or None} for name in names]
    known: dict[str, Any] = {"hub_id": None, "method": None, "members": members} if len(names) > 1 else members[0]
    return {
        "architecture": teacher.spec.architecture,
        **known,
        **({} if has_head(teacher) else {"by_embeddings": True}),
        "cost": cost_metrics(teacher),
    }


def hub_id(name: str) -> str | None:
    """Hub id of a model named on the command line, or None if it is not known to be on the Hub.

    Args:
        name: Folder, file of weights, Hub id or timm name.
    """
    if user_path(name).is_dir():
        options = read_options(name)
        pushed = str(options.get("hub_model_id") or "") if options.get("push_to_hub") else ""
        return pushed if "/" in pushed else None  # without a namespace nobody knows whose it is
    if is_weights_file(user_path(name)):
        return None
    if "/" not in name and is_model(name.partition(".")[0]):
        pretrained = timm.get_pretrained_cfg(name)
        return None if pretrained is None else pretrained.hf_hub_id or None
    found = hub_name(name)
    return None if found is None else found.repository


def _losses(log: Sequence[dict[str, float]]) -> list[dict[str, float]]:
    """At most `_LOSS_ROWS` rows of the training log."""
    logged = [entry for entry in log if "images_per_second" in entry]
    return [loss_row(logged[index]) for index in _spread(len(logged), _LOSS_ROWS)]


def _soft_labels(data: ImageData, outputs: SplitOutputs, teacher: SplitOutputs | None) -> list[dict[str, Any]]:
    names, labels = data.label_names, outputs.labels
    shown = {"model": outputs} | ({} if teacher is None else {"teacher": teacher})
    return [
        {"row": row, "label": names[labels[row]]}
        | {who: _most_probable(each.logits[row], names) for who, each in shown.items()}
        for row in _shown_rows(labels, data.streamed)
    ]


def _shown_rows(labels: Tensor, streamed: bool) -> list[int]:
    """The first image of each of three classes, never chosen by what a model says; the first images of a stream."""
    if streamed:
        return list(range(min(_SHOWN_IMAGES, len(labels))))
    present = labels.unique()
    return [int((labels == present[index]).nonzero()[0]) for index in _spread(len(present), _SHOWN_IMAGES)]


def _most_probable(logits: Tensor, names: Sequence[str]) -> dict[str, float]:
    values, indices = (logits.double() / _TEMPERATURE).softmax(dim=0).topk(min(_KEPT_CLASSES, len(logits)))
    return {names[index]: round(value, 5) for index, value in zip(indices.tolist(), values.tolist(), strict=True)}


def shown_images(pipeline: ImagePipeline, content: dict[str, Any]) -> np.ndarray:
    """The images whose soft labels are shown, as the models see them: (n, S, S, 3) uint8.

    Args:
        pipeline: Data of the run.
        content: From `describe_outputs`.
    """
    rows = [each["row"] for each in content["soft_labels"]["images"]]
    stored = list(pipeline.data.test.head(len(rows))) if pipeline.data.streamed else None
    batch = pipeline.dataset("test").__getitems__(BatchKey(0, torch.tensor(rows), len(rows), stored))
    return batch["pixel_values"][:, 0].permute(0, 2, 3, 1).cpu().numpy()


def soft_label_series(results: dict[str, Any]) -> dict[str, list[dict[str, float]]]:
    """Probabilities of the shown images by model, then by class: the classes that the models find most probable.

    Args:
        results: What metrics.json holds.
    """
    own, control = results["soft_labels"], results.get("control", {}).get("soft_labels")
    guided = "teacher" in own["images"][0]
    if control and (_shown_in(control) != _shown_in(own) or (guided and "teacher" not in control["images"][0])):
        control = None  # recorded by a version that shows other images, or of a teacher without classes
    sources = [("teacher", own, "teacher" if guided else "model")]
    if control:
        sources.append(("control's teacher" if guided else "control", control, "teacher" if guided else "model"))
    if guided:
        sources.append(("student", own, "model"))
    series: dict[str, list[dict[str, float]]] = {title: [] for title, _, _ in sources}
    for row in range(len(own["images"])):
        said = [(title, record["images"][row][who]) for title, record, who in sources]
        common = [name for name in said[0][1] if all(name in each for _, each in said)]
        common.sort(key=lambda name: -sum(each[name] for _, each in said))
        for title, each in said:
            series[title].append({name: each[name] for name in common[:_SHOWN_CLASSES]})
    return series


def _shown_in(soft_labels: dict[str, Any]) -> tuple[float, list[tuple[int, str]]]:
    """Temperature, and row and class of each image."""
    return soft_labels["temperature"], [(each["row"], each["label"]) for each in soft_labels["images"]]


def embedding_plane(outputs: SplitOutputs, names: Sequence[str]) -> EmbeddingPlane | None:
    """Map of unit-length embeddings, or None if there are none, or fewer than two images or dimensions.

    The most frequent classes get a colour. Of many images some are left out, evenly over their order.

    Args:
        outputs: Outputs of a model for a split.
        names: Names of all classes.
    """
    if outputs.embeddings is None:
        return None
    labels = outputs.labels.cpu()
    counts = labels.bincount(minlength=len(names))
    frequent = counts.argsort(descending=True, stable=True)[:_COLOURED_CLASSES]
    coloured = frequent[counts[frequent] > 0].sort().values.tolist()
    in_colour = np.isin(labels, coloured)
    kept = [
        np.flatnonzero(chosen)[_spread(int(chosen.sum()), limit)]
        for chosen, limit in ((in_colour, _COLOURED_IMAGES), (~in_colour, _GREY_IMAGES))
    ]
    rows = np.sort(np.concatenate(kept))
    if min(len(rows), outputs.embeddings.shape[1]) < 2:
        return None
    shown = outputs.embeddings[torch.as_tensor(rows, device=outputs.embeddings.device)]
    points, shares = principal_plane(torch.nn.functional.normalize(shown.double(), dim=1).cpu().numpy())
    return EmbeddingPlane(points, shares, labels[rows].numpy(), {label: names[label] for label in coloured})


def principal_plane(embeddings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Project onto the two directions of largest variance (PCA by a full singular value decomposition).

    Args:
        embeddings: (N, D) with N and D at least 2.

    Returns:
        points (N, 2), and the share of the variance along each direction (2,). The largest entry of a direction is
        positive, so that the same embeddings always give the same picture.
    """
    centred = embeddings.astype(np.float64) - embeddings.mean(axis=0, dtype=np.float64)
    _, scale, directions = np.linalg.svd(centred, full_matrices=False)
    directions = directions[:2]
    largest = np.take_along_axis(directions, np.abs(directions).argmax(axis=1)[:, None], axis=1)
    variance = scale**2
    return centred @ (directions * np.where(largest < 0, -1, 1)).T, variance[:2] / max(variance.sum(), 1e-300)


def _spread(count: int, limit: int) -> list[int]:
    """At most `limit` of `count` indices, evenly spaced, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, limit)).round().astype(int)).tolist()
