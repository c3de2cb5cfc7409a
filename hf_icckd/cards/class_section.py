"""What a model card says about single classes: the lowest recalls, the most frequent mistakes, imbalance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hf_icckd.metrics.class_tables import worst_classes, worst_confusions
from hf_icckd.utils.text import escape_markdown

_SPLIT = "test"
_SHOWN_CLASSES = _SHOWN_CONFUSIONS = 10


@dataclass(frozen=True)
class ClassSection:
    """Everything that the template shows in its section on classes. Names are escaped.

    Attributes:
        per_class: Of metrics.json.
    """

    per_class: dict[str, Any]

    @property
    def measured(self) -> int:
        """Number of classes with test images."""
        return self.per_class[_SPLIT]["classes"]

    @property
    def zero_recall(self) -> int:
        """Number of classes of which no test image is recognised."""
        return self.per_class[_SPLIT]["zero_recall"]

    @property
    def training(self) -> dict[str, Any] | None:
        """Largest and smallest class of the training split; None if its images were not counted."""
        return self.per_class.get("train")

    @property
    def worst(self) -> list[list[str]]:
        """Table rows of the lowest recalls: class, training images if they were counted, test images, recall."""
        return [
            [
                escape_markdown(row.name),
                *([] if row.train_images is None else [f"{row.train_images:,}"]),
                f"{row.images:,}",
                f"{row.recall:.2f}",
            ]
            for row in worst_classes(self.per_class, _SPLIT, _SHOWN_CLASSES)
        ]

    @property
    def confusions(self) -> list[list[str]]:
        """Table rows of the most frequent mistakes: class, what it is taken for, how often."""
        return [
            [escape_markdown(row.name), escape_markdown(row.predicted), f"{row.images:,} of {row.of:,}"]
            for row in worst_confusions(self.per_class, _SPLIT, _SHOWN_CONFUSIONS)
        ]
