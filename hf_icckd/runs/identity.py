"""What a run is: the options that decide what it computes, and the content of what others only say the place of."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

from transformers import TrainingArguments

from hf_icckd.options.recipes import defaults
from hf_icckd.utils.atomic_files import user_path

DATA = "data_fingerprint"
LENGTH = ("max_steps", "num_train_epochs")
# Options that don't change what a run computes: a resume may change them.
_FREE_OPTIONS = {
    "accept_teacher",
    "allow_leakage",
    "bad_images",  # the images are compared instead
    "chosen_options",  # their values are compared
    "control",
    "disable_tqdm",
    "license",
    "local_rank",
    "num_threads",
    "output_dir",
    "pair",  # the nets are compared
    "per_device_eval_batch_size",
    "per_device_train_batch_size",  # the global batch size is compared instead
    "project",
    "push_to_hub",
    "rehearsal",
    "report_to",
    "resident_max_bytes",
    "resume",
    "resume_from_checkpoint",
    "run_name",
    "teacher_targets",  # whether they were recorded is compared instead
    "teacher_targets_dir",
    "use_cpu",
}
_FREE_PREFIXES = ("accelerator_", "dataloader_", "ddp_", "eval_", "hub_", "log_", "logging_", "save_", "trackio_")
# What is free otherwise, but says which evaluations there are to choose from.
_DECIDES_BEST = {"eval_strategy", "eval_steps", "eval_delay"}
# Options that say where something is and how it is found there; the fingerprint of what was found is compared instead.
# That of the data covers images, labels, class names, splits and order, but not how pixels are decoded.
_FOUND_BY: dict[str, tuple[str, ...]] = {
    DATA: (
        "dataset", "dataset_config_name", "splits", "train_split", "test_split", "validation_split", "image_column",
        "label_column", "group_column", "labels", "label_pattern", "missing_labels", "duplicates", "classes",
        "label_groups", "test_fraction", "validation_fraction", "fold", "max_train_samples", "max_eval_samples",
        "unlabeled_dataset", "max_unlabeled_samples",
    ),
    "teacher_fingerprint": ("teacher", "ensemble_with", "cross_fitted_with"),
    "start_fingerprint": ("start_from",),
}  # fmt: skip
# What runs did before there was an option, where that is not its default.
EARLIER = {"decoding": "whole"}
FORMER_DEFAULTS = ("terms",)  # options that had another default in earlier versions
PLACES = {
    "dataset",
    "unlabeled_dataset",
    "labels",
    "label_groups",
    "teacher",
    "start_from",
}  # that may be spelled in another way


class Change(NamedTuple):
    """An option of a run, then and now."""

    name: str
    was: Any
    now: Any

    def __str__(self) -> str:
        return f"{self.name} {self.was!r} -> {self.now!r}"


class Comparison(NamedTuple):
    """How the options of a run then and now differ.

    Attributes:
        differing: What makes another run.
        moved: Places, and ways to find things there, that have changed while the content has not. The data set counts
            as unchanged until its fingerprint is known.
        length: Options of the run's length that have changed.
    """

    differing: list[Change]
    moved: list[Change]
    length: list[Change]


def matters(name: str) -> bool:
    """Whether an option is part of what a run is."""
    return name not in _FREE_OPTIONS and not name.startswith(_FREE_PREFIXES)


def compare(before: dict[str, Any], now: dict[str, Any], any_data: bool = False) -> Comparison:
    """Compare the recorded options of a run with those of now.

    Args:
        any_data: Whether the run may have other data than before: it starts over.
    """
    # Another version of transformers may have other options: those are no difference.
    theirs = {each.name for each in dataclasses.fields(TrainingArguments)}
    names = sorted(filter(matters, (before.keys() & now.keys()) | (now.keys() - theirs)))
    if now.get("load_best_model_at_end"):
        names = sorted({*names, *(_DECIDES_BEST & before.keys() & now.keys())})
    # An option that an earlier version did not have was at its default, or as nothing else was possible.
    known = {name: value for name, value in defaults(now["recipe"]).items() if name not in theirs} | EARLIER | before
    changes = [
        Change(name, known.get(name), now.get(name))
        for name in names
        if known.get(name) != now.get(name) and not (any_data and name == DATA)
    ]
    found = {
        option
        for fingerprint, options in _FOUND_BY.items()
        if _same_content(fingerprint, before, now) or (any_data and fingerprint == DATA)
        for option in options
    }
    respelled = {each.name for each in changes if each.name in PLACES and _same_place(each.was, each.now)}
    return Comparison(
        [each for each in changes if each.name not in found | respelled | set(LENGTH)],
        [each for each in changes if each.name in found - respelled],
        [each for each in changes if each.name in LENGTH],
    )


def moved_data(comparison: Comparison) -> list[Change]:
    """Changes of where the data set is, or of how it is read."""
    return [each for each in comparison.moved if each.name in _FOUND_BY[DATA]]


def _same_content(fingerprint: str, before: dict[str, Any], now: dict[str, Any]) -> bool:
    if fingerprint == DATA and DATA in before and DATA not in now:  # not loaded yet
        return True
    return before.get(fingerprint) is not None and before.get(fingerprint) == now.get(fingerprint)


def _same_place(first: Any, second: Any) -> bool:
    """Whether two paths name one file or folder, as a relative and an absolute one may."""
    if not isinstance(first, str) or not isinstance(second, str):
        return False
    one, other = user_path(first), user_path(second)
    return one.exists() and other.exists() and one.samefile(other)
