"""What a card shows beyond the figures of a run: gathered while it trains and from its last outputs, then drawn."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import timm
import torch
from timm.models import is_model
from torch import Tensor
from transformers.trainer_callback import TrainerCallback

from hf_icckd import metrics
from hf_icckd.cards.card import CURVES, EMBEDDING_MAP, RELIABILITY, SOFT_LABELS
from hf_icckd.data import ImagePipeline
from hf_icckd.data.sampling import BatchKey
from hf_icckd.evaluation.cost import cost_metrics
from hf_icckd.evaluation.split import SplitOutputs
from hf_icckd.models.classifier import ClassifierSpec, ImageClassifier
from hf_icckd.runs.folder import RunFolder
from hf_icckd.runs.records import loss_row, method_of, read_options
from hf_icckd.utils.atomic_files import user_path

_LOSS_ROWS = 200  # of the training log that metrics.json keeps
_SHOWN_IMAGES, _SHOWN_CLASSES = 3, 5  # of the picture of soft labels
_KEPT_CLASSES = 20  # probabilities of an image in metrics.json, so that another run can draw them beside its own
_TEMPERATURE = 4.0  # that of soft labels in distillation; at 1 a trained net says little but its class
_COLOURED_CLASSES, _COLOURED_IMAGES, _GREY_IMAGES = 10, 1000, 500  # of the map
_NAMED_CLASSES = 12  # that the text lists


class CardCallback(TrainerCallback):
    """Gathers what the card of a run needs, and draws its pictures.

    Args:
        folder: Folder of the run, with its options.
        pipeline: Its data.
        teacher: Teacher of a student.
        control: What `hf_icckd.runs.records.read_control` says, if there is a control.

    Attributes:
        seconds: Wall time of training in this session.
        first_step: Optimiser steps that were done when this session began.
    """

    def __init__(
        self,
        folder: RunFolder,
        pipeline: ImagePipeline,
        teacher: ImageClassifier | None = None,
        control: dict[str, Any] | None = None,
    ):
        self.folder, self.pipeline, self.teacher, self.comparison = folder, pipeline, teacher, control
        self.first_step, self.seconds, self._start = 0, 0.0, time.perf_counter()
        self._seen: dict[str, Any] = {"losses": []}
        self._map: dict[str, Any] | None = None

    def on_train_begin(self, args, state, control, **kwargs):
        """Start the clock."""
        self.first_step, self._start = state.global_step, time.perf_counter()

    def on_train_end(self, args, state, control, **kwargs):
        """Stop the clock; keep the curves, thinned."""
        self.seconds = time.perf_counter() - self._start
        logged = [entry for entry in state.log_history if "images_per_second" in entry]
        self._seen["losses"] = [loss_row(logged[index]) for index in _spread(len(logged), _LOSS_ROWS)]

    def look(self, outputs: SplitOutputs, teacher: SplitOutputs | None = None) -> None:
        """Take from the outputs for the test split what the card shows of them.

        Args:
            outputs: Those of the trained model.
            teacher: Those of its teacher, if it has one.
        """
        table = metrics.reliability_table(outputs.logits, outputs.labels)
        columns = [column.tolist() for column in table.values()]
        self._seen["calibration"] = [dict(zip(table, row, strict=True)) for row in zip(*columns, strict=True)]
        self._seen["soft_labels"] = {"temperature": _TEMPERATURE, "images": self._soft_labels(outputs, teacher)}
        self._map = self._embedding_map(outputs if teacher is None else teacher)
        if self._map is not None:
            self._seen["embedding_map"] = {
                "of": "model" if teacher is None else "teacher",
                "images": len(self._map["points"]),
                "coloured_classes": len(self._map["names"]),
                "variance_percent": [100 * share for share in self._map.pop("shares").tolist()],
            }

    def _soft_labels(self, outputs: SplitOutputs, teacher: SplitOutputs | None) -> list[dict[str, Any]]:
        names, labels = self.pipeline.data.label_names, outputs.labels
        shown = {"model": outputs} | ({} if teacher is None else {"teacher": teacher})
        return [
            {"row": row, "label": names[labels[row]]}
            | {who: _most_probable(each.logits[row], names) for who, each in shown.items()}
            for row in self._shown_rows(labels)
        ]

    def _shown_rows(self, labels: Tensor) -> list[int]:
        """The first image of each of three classes, whatever models say about them; of a stream the first images."""
        if self.pipeline.data.streamed:
            return list(range(min(_SHOWN_IMAGES, len(labels))))
        present = labels.unique()
        return [int((labels == present[index]).nonzero()[0]) for index in _spread(len(present), _SHOWN_IMAGES)]

    def _embedding_map(self, outputs: SplitOutputs) -> dict[str, Any] | None:
        from hf_icckd.cards.pictures import principal_plane

        labels = outputs.labels.cpu()
        counts = labels.bincount(minlength=len(self.pipeline.data.label_names))
        frequent = counts.argsort(descending=True, stable=True)[:_COLOURED_CLASSES]
        frequent = frequent[counts[frequent] > 0].sort().values.tolist()
        coloured = np.isin(labels, frequent)
        rows = [
            np.flatnonzero(chosen)[_spread(int(chosen.sum()), limit)]
            for chosen, limit in ((coloured, _COLOURED_IMAGES), (~coloured, _GREY_IMAGES))
        ]
        rows = np.sort(np.concatenate(rows))
        if min(len(rows), outputs.embeddings.shape[1]) < 2:
            return None
        shown = outputs.embeddings[torch.as_tensor(rows, device=outputs.embeddings.device)]
        embeddings = torch.nn.functional.normalize(shown.double(), dim=1).cpu().numpy()
        points, shares = principal_plane(embeddings)
        names = {label: self.pipeline.data.label_names[label] for label in frequent}
        return {"points": points, "shares": shares, "labels": labels[rows].numpy(), "names": names}

    def facts(self, spec: ClassifierSpec) -> dict[str, Any]:
        """What metrics.json holds for the card.

        Args:
            spec: The trained model.
        """
        data, values = self.pipeline.data, self.folder.values
        teacher_id = None if self.teacher is None else hub_id(values["teacher"])
        start = values.get("start_from") or (values["model"] if values["pretrained"] else None)
        start_id = None if start is None else hub_id(start)
        facts = {
            "model": {
                "architecture": spec.architecture,
                "image_size": spec.image_size,
                "num_classes": len(spec.label_names),
                "class_names": list(spec.label_names[:_NAMED_CLASSES]),
                "base_models": [each for each in (teacher_id, start_id) if each is not None],
            },
            "data": {
                "name": data.hub_id or user_path(data.name).resolve().name,
                "hub_id": data.hub_id,
                "revision": data.revision,
                "streamed": data.streamed,
                "images": {name: len(split) for name, split in data.splits().items()},
            },
            "options": self.folder.changed,
            **self._seen,
        }
        if values.get("start_from"):
            facts["start"] = {"method": method_of(read_options(start)) or None}
        if self.teacher is not None:
            facts["teacher"] = {
                "architecture": self.teacher.spec.architecture,
                "hub_id": teacher_id,
                "method": method_of(read_options(values["teacher"])) or None,
                "cost": cost_metrics(self.teacher),
            }
        return facts | ({} if self.comparison is None else {"control": self.comparison})

    def draw(self, results: dict[str, Any]) -> None:
        """Write the pictures into the folder of the run.

        Args:
            results: What metrics.json will hold.
        """
        # Only one process draws, and only at the end: none should wait for matplotlib at the start.
        from hf_icckd.cards import pictures

        path = self.folder.path
        if results["losses"] or results["history"]:
            pictures.draw_training_curves(
                path / CURVES, results["losses"], results["history"], self.pipeline.evaluation_split
            )
        pictures.draw_reliability(path / RELIABILITY, results["calibration"])
        if self._map is not None:
            pictures.draw_embedding_map(path / EMBEDDING_MAP, **self._map)
        shown = results["soft_labels"]["images"]
        pictures.draw_soft_labels(
            path / SOFT_LABELS, self._pixels(shown), [each["label"] for each in shown], soft_label_series(results)
        )

    def _pixels(self, shown: list[dict[str, Any]]) -> np.ndarray:
        """(n, S, S, 3) uint8, as the models see them."""
        rows = [each["row"] for each in shown]
        stored = list(self.pipeline.data.test.head(len(rows))) if self.pipeline.data.streamed else None
        key = BatchKey(0, torch.tensor(rows), len(rows), stored)
        batch = self.pipeline.dataset("test").__getitems__(key)
        return batch["pixel_values"][:, 0].permute(0, 2, 3, 1).cpu().numpy()


def soft_label_series(results: dict[str, Any]) -> dict[str, list[dict[str, float]]]:
    """Probabilities of the shown images by model, then by class: the classes that the models find most probable.

    Args:
        results: What metrics.json holds.
    """
    own, control = results["soft_labels"], results.get("control", {}).get("soft_labels")

    def same(key: str) -> bool:
        return [each[key] for each in own["images"]] == [each[key] for each in control["images"]]

    if control and not (same("row") and same("label") and own["temperature"] == control["temperature"]):
        control = None  # of a version that shows other images
    guided = "teacher" in own["images"][0]
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


def hub_id(name: str) -> str | None:
    """Where on the Hub a model is that was named on the command line; None if it is not known to be there.

    Args:
        name: A folder, a Hub id or a timm name, as for `hf_icckd.from_pretrained`.
    """
    if user_path(name).is_dir():
        options = read_options(name)
        pushed = str(options.get("hub_model_id") or "") if options.get("push_to_hub") else ""
        return pushed if "/" in pushed else None  # without a namespace it is not known whose
    if "/" not in name and is_model(name.partition(".")[0]):
        return timm.get_pretrained_cfg(name).hf_hub_id or None
    return name


def _most_probable(logits: Tensor, names: list[str]) -> dict[str, float]:
    values, indices = (logits.double() / _TEMPERATURE).softmax(dim=0).topk(min(_KEPT_CLASSES, len(logits)))
    return {names[index]: round(value, 5) for index, value in zip(indices.tolist(), values.tolist(), strict=True)}


def _spread(count: int, limit: int) -> list[int]:
    """At most `limit` of `count` places, evenly spaced, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, limit)).round().astype(int)).tolist()
