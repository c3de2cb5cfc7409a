"""Test images that a model has seen in training: the teacher of a run, what it started from, its control."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hf_icckd.data import ImageData
from hf_icckd.data.sources.image_data import UNLABELED
from hf_icckd.runs.images import read_images
from hf_icckd.runs.records import teachers_of
from hf_icckd.utils.text import percent

logger = logging.getLogger(__name__)

_ALLOWED_SHARE = 0.01


@dataclass(frozen=True)
class Leakage:
    """How many test images a model was trained on.

    Attributes:
        role: What the model is to the run, as in `teacher`.
        name: Folder or name it was loaded from.
        split: The split that was compared.
        images: Number of its images.
        seen: How many of them the model, or one it comes from, was trained on; None if that is not known.
        own: How many of those are in the run's own training split too.
        complete: Whether the images of all models that it comes from are known.
        streamed: Whether the split is read as a stream, whose images are not hashed.
        planned: Whether the model is not trained yet.
    """

    role: str
    name: str
    split: str
    images: int
    seen: int | None = None
    own: int = 0
    complete: bool = True
    streamed: bool = False
    planned: bool = False

    @property
    def record(self) -> dict[str, Any]:
        """What metrics.json holds."""
        if self.seen is None:
            return {"comparable": False}
        return {
            "comparable": True,
            "split": self.split,
            "images": self.images,
            "trained_on": self.seen,
            "also_in_own_training_split": self.own,
            "earlier_models_comparable": self.complete,
        }

    @property
    def note(self) -> str | None:
        """A sentence for readers of the metrics, without the name of a folder; None if all is well."""
        if self.streamed:
            return (
                f"The {self.split} split is read as a stream and not compared with the images that the {self.role} "
                "was trained on, so whether it was trained on some of these is not known."
            )
        if self.seen is None:
            return (
                f"The {self.role} has no record of its training images here, so whether it was trained on images of "
                f"the {self.split} split is not known."
            )
        if self.seen:
            return (
                f"The {self.role} was trained on {self.seen:,} of {self.images:,} images of the {self.split} split "
                f"({percent(self.seen / self.images)}), so metrics on it may be too good.{self._own}"
            )
        if not self.complete:
            return (
                f"The {self.role} was trained on no image of the {self.split} split; a model that it comes from has "
                "no record of its training images here, so for that one it is not known."
            )
        return None

    @property
    def _own(self) -> str:
        if not self.own:
            return ""
        return f" {self.own:,} of them are in this run's own training split too: --duplicates drop leaves those out."


def find_leakage(
    models: Mapping[str, str],
    split: str,
    images: int,
    hashes: Callable[[], np.ndarray | None],
    own_training: Callable[[], np.ndarray | None] | None = None,
) -> list[Leakage]:
    """Compare the images of a split with those that models were trained on.

    Args:
        models: Folder or name of each model, by its role. A role may stand for weights whose images nobody recorded.
        split: Name of the split.
        images: Number of its images.
        hashes: Returns their hashes, or None for a stream; called only if a model has a record.
        own_training: Returns the hashes of the run's own training split.
    """
    found = []
    for role, name in models.items():
        recorded = read_images(name)
        if recorded is None:
            found.append(Leakage(role, name, split, images))
            continue
        compared = hashes()
        if compared is None:
            found.append(Leakage(role, name, split, images, streamed=True))
            continue
        seen = np.isin(compared, recorded.trained)
        trained = None if own_training is None else own_training()
        own = 0 if trained is None else int(np.isin(compared[seen], trained).sum())
        found.append(Leakage(role, name, split, images, int(seen.sum()), own, recorded.complete))
    return found


def compare_with_models(data: ImageData, values: Mapping[str, Any]) -> list[Leakage]:
    """Compare the test images of a run with those of its teacher, its start checkpoint and its control.

    Args:
        data: Data set of the run.
        values: All options of the run.

    Raises:
        ValueError: If one was trained on more than 1 % of the test images, unless `allow_leakage` is set.
    """
    models = origins_of(values)
    if values.get("control"):
        models["control"] = values["control"]

    def hashes(split: str) -> np.ndarray | None:
        found = data.hashes()
        return None if found is None else found[split]

    check_unlabeled(data, bool(values.get("allow_leakage")))
    found = find_leakage(models, "test", len(data.test), lambda: hashes("test"), lambda: hashes("train"))
    for each in found:
        if each.note:
            logger.warning("%s", each.note)
    check_leakage(found, bool(values.get("allow_leakage")))
    return found


def check_planned(data: ImageData, role: str, name: str, its_data: ImageData, allowed: bool) -> None:
    """Compare the test images of a run with the training images of a model that is going to be trained before it.

    Args:
        data: Data set of the run.
        role: What the model will be to the run.
        name: Folder of the model.
        its_data: Data set that the model will be trained on.

    Raises:
        ValueError: If more than 1 % of the test images are among them, unless that is allowed.
    """
    hashes, theirs = data.hashes(), its_data.hashes()
    if hashes is None or theirs is None:
        return
    seen = np.isin(hashes["test"], theirs["train"])
    own = int(np.isin(hashes["test"][seen], hashes["train"]).sum())
    check_leakage([Leakage(role, name, "test", len(seen), int(seen.sum()), own, planned=True)], allowed)


def check_unlabeled(data: ImageData, allowed: bool) -> None:
    """Compare images without labels with the test images; a few that are both are noted.

    Raises:
        ValueError: If more than 1 % of the test images are among them, unless that is allowed.
    """
    hashes = data.hashes()
    if data.unlabeled is None or hashes is None:
        return
    total = len(data.test)
    seen = int(np.isin(hashes["test"], hashes[UNLABELED]).sum())
    if seen == 0:
        return
    found = f"{seen:,} of {total:,} images of the test split ({percent(seen / total)})"
    if seen > _ALLOWED_SHARE * total and not allowed:
        raise ValueError(
            f"the images without labels hold {found}, expected at most 1 %: metrics would be too good; leave them out "
            "with --duplicates drop, or add --allow_leakage true"
        )
    note = (
        f"The images without labels hold {found}, so metrics on it may be too good: --duplicates drop leaves them out."
    )
    logger.warning("%s", note)
    data.notes.append(note)


def origins_of(values: Mapping[str, Any]) -> dict[str, str]:
    """Folder or name of the models that a run learns or starts from, by role.

    Args:
        values: All options of the run.
    """
    models = {**teachers_of(values), "start checkpoint": values.get("start_from")}
    if values.get("pretrained"):
        models["pretrained start"] = values["model"]
    return {role: name for role, name in models.items() if name}


def check_leakage(found: list[Leakage], allowed: bool) -> None:
    """Raise ValueError if a model was trained on more than 1 % of the compared images, unless that is allowed."""
    for each in found:
        if not allowed and each.seen is not None and each.seen > _ALLOWED_SHARE * each.images:
            trained = f"{'would be' if each.planned else 'was'} trained on {each.seen:,} of {each.images:,} images"
            raise ValueError(
                f"the {each.role} {each.name!r} {trained} of the {each.split} split "
                f"({percent(each.seen / each.images)}), expected at most 1 %: metrics would be too good; give both "
                f"the same data options, or add --allow_leakage true.{each._own}"
            )


def earlier_images(models: Mapping[str, str], own_training: np.ndarray) -> tuple[np.ndarray, bool]:
    """Images that the models of a run were trained on beside the run's own, and whether all of them are known.

    Args:
        models: Folder or name of each model that the run learns or starts from.
        own_training: Hashes of the run's own training split.
    """
    records = [read_images(name) for name in models.values()]
    known = [each for each in records if each is not None]
    seen = np.unique(np.concatenate([np.empty(0, dtype=np.uint64), *(each.trained for each in known)]))
    return np.setdiff1d(seen, own_training), len(known) == len(records) and all(each.complete for each in known)
