"""Whether a teacher knows the classes of a run: its accuracy beside its own record and beside chance."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from hf_icckd.metrics.per_class import balanced_accuracy, class_counts
from hf_icckd.runs.records import RecordedAccuracy

_ERRORS = 2  # standard errors that luck with few images may explain
_DROP = 10.0  # points below the record that other images may explain
# Of the way from chance to no mistake: what a teacher must have gone, and what suffices however few images there are.
_LEAST_SHARE, _ENOUGH_SHARE = 0.05, 0.5
_PAIR_IMAGES = 5  # of a class that an output answers: fewer may do so by chance


@dataclass(frozen=True)
class TeacherCheck:
    """What a teacher knows of a run's evaluation images.

    Attributes:
        images: Number of images.
        top1: Percent of them that the teacher gets right.
        balanced_accuracy: Mean recall of the classes in percent. Unlike top-1 it is at chance for a constant answer,
            however unequal the classes are.
        chance: Balanced accuracy of a constant answer in percent.
        luck: Largest balanced accuracy in percent that counts as chance.
        record: Accuracy that the teacher's own folder records.
        order: For each output of the teacher, the class of the data that matches it best.
        matched: Percent of the images that it gets right with the outputs in that order.
        reordered: Whether classes that change their place in that order are recognised there, and not where they are.
    """

    images: int
    top1: float
    balanced_accuracy: float
    chance: float
    luck: float
    record: RecordedAccuracy | None
    order: tuple[int, ...]
    matched: float
    reordered: bool

    @property
    def line(self) -> str:
        """One line for the log."""
        record = "no record of its own was found"
        if self.record is not None:
            record = f"its own record: top-1 {self.record.top1:.2f} % of {self.record.images:,} images"
        return (
            f"the teacher: top-1 {self.top1:.2f} %, balanced accuracy {self.balanced_accuracy:.2f} % on "
            f"{self.images:,} evaluation images (chance {self.chance:.2f} %; {record})"
        )

    @property
    def near_chance(self) -> bool:
        """Whether a constant answer is hardly worse."""
        return self.balanced_accuracy <= self.luck

    @property
    def below_record(self) -> bool:
        """Whether the teacher is far worse here than where its record was measured."""
        if self.record is None:
            return False
        share = (self.top1 * self.images + self.record.top1 * self.record.images) / (
            100 * (self.images + self.record.images)
        )
        error = 100 * math.sqrt(share * (1 - share) * (1 / self.images + 1 / self.record.images))
        return self.record.top1 - self.top1 > max(_DROP, _ERRORS * error)

    @property
    def note(self) -> str:
        """A sentence for readers of the metrics of a student that learned from it all the same."""
        return f"The teacher was accepted although {self._found}: {self.line}."

    @property
    def _found(self) -> str | None:
        if self.near_chance:
            return "that is near chance"
        if self.below_record:
            return "that is far below its record"
        return "some of its classes are in another order" if self.reordered else None

    def problem(self, names: Sequence[str]) -> str | None:
        """Why this teacher should not teach; None if nothing speaks against it.

        Args:
            names: Names of the data set's classes.
        """
        if self._found is None:
            return None
        return (
            f"{self.line}: {self._found}. {self._likely_cause(names)}; or add --accept_teacher true to learn from it "
            "all the same"
        )

    def _likely_cause(self, names: Sequence[str]) -> str:
        # Near chance a few images fall into some other order anyway.
        if self._matched_well or (self.reordered and not self.near_chance):
            ordered = shlex.join(names[index] for index in self.order)  # all: an option that is cut off has no use
            return (
                f"With its outputs in another order it gets {self.matched:.2f} % right, so its classes are in that "
                f"order; number the data set's classes likewise with --classes {ordered}"
            )
        return (
            "Compare the classes, the image size and the kind of images with those it was trained on, or take another "
            "teacher"
        )

    @property
    def _matched_well(self) -> bool:
        """Whether the order explains the labels much better than that of the data, however weak the teacher is."""
        return self.matched > max(2 * self.top1, self.chance + (100 - self.chance) / 3)


def check_teacher(logits: Tensor, labels: Tensor, record: RecordedAccuracy | None = None) -> TeacherCheck:
    """Compare a teacher's outputs with the labels.

    Args:
        logits: (N, C) of the teacher.
        labels: (N,) class indices.
        record: What the teacher's own folder says.

    Example:
        >>> import torch
        >>> logits, labels = torch.eye(3).repeat(20, 1), torch.arange(60) % 3
        >>> check_teacher(logits, labels).problem(["ant", "bee", "cat"]) is None
        True
        >>> check_teacher(logits.roll(1, dims=1), labels).order
        (2, 0, 1)
    """
    counts = class_counts(logits, labels)
    present = counts.images[counts.images > 0].double()
    chance = 1 / (len(present) if len(present) > 1 else logits.shape[1])
    # Standard error of the mean recall of a random answer.
    error = math.sqrt(float((chance * (1 - chance) / present).sum())) / len(present)
    luck = chance + min(max(_ERRORS * error, _LEAST_SHARE * (1 - chance)), _ENOUGH_SHARE * (1 - chance))
    answers = _answers(logits, labels)
    order = matching_order(answers, logits.shape[1])
    matched = sum(answers.get((output, label), 0) for output, label in enumerate(order)) / len(labels)
    return TeacherCheck(
        len(labels),
        100 * int(counts.correct.sum()) / len(labels),
        100 * balanced_accuracy(counts).item(),
        100 * chance,
        100 * luck,
        record,
        order,
        100 * matched,
        _reordered(answers, order, counts.images.tolist()),
    )


def _answers(logits: Tensor, labels: Tensor) -> dict[tuple[int, int], int]:
    """How many images of a class each output answers, by output and class."""
    classes = logits.shape[1]
    pairs, images = (logits.argmax(dim=1) * classes + labels).cpu().unique(return_counts=True)
    return {divmod(pair, classes): count for pair, count in zip(pairs.tolist(), images.tolist(), strict=True)}


def _reordered(answers: dict[tuple[int, int], int], order: tuple[int, ...], images: list[int]) -> bool:
    moved = [
        (output, label)
        for output, label in enumerate(order)
        if output != label and answers.get((output, label), 0) >= _PAIR_IMAGES
    ]
    there = sum(answers[pair] for pair in moved)
    here = sum(answers.get((label, label), 0) for _, label in moved)
    return bool(moved) and there >= sum(images[label] for _, label in moved) / 2 and there > 2 * here


def matching_order(answers: dict[tuple[int, int], int], classes: int) -> tuple[int, ...]:
    """For each output the class whose images it answers: one to one, the most frequent pairs first.

    Of equally frequent ones an output's own number comes first. Outputs and classes that never meet keep their own
    number where it is free.

    Args:
        answers: Number of images by output and class.
        classes: Number of classes.
    """
    order: dict[int, int] = {}
    taken: set[int] = set()
    for output, label in sorted(answers, key=lambda pair: (-answers[pair], pair[0] != pair[1], pair)):
        if output not in order and label not in taken:
            order[output] = label
            taken.add(label)
    unmatched = [output for output in range(classes) if output not in order]
    own = {output: output for output in unmatched if output not in taken}
    left = [label for label in range(classes) if label not in taken and label not in own]
    order |= own | dict(zip((output for output in unmatched if output not in own), left, strict=True))
    return tuple(order[output] for output in range(classes))
