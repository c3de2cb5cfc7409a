"""The one catalogue of metrics: what each is called, its unit, how it prints and which way is better.

Tables, model cards, study reports and the progress line read it. The keys are the names in `metrics.json`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """Name, unit and look of a metric.

    Attributes:
        name: Short name.
        unit: "%", "nats" or nothing.
        decimals: Decimals that matter where runs are compared.
        in_full: Name for readers who don't know the short one; empty if it is the same.
        higher_is_better: Which way is better.

    Example:
        >>> METRICS["nll"].title, METRICS["top1"].show(71.2345)
        ('NLL (nats)', '71.23 %')
    """

    name: str
    unit: str = ""
    decimals: int = 3
    in_full: str = ""
    higher_is_better: bool = True

    @property
    def title(self) -> str:
        """Short name with the unit, for the head of a column."""
        return f"{self.name} ({self.unit})" if self.unit else self.name

    @property
    def full_title(self) -> str:
        """Name in full, with the unit if values are shown without it."""
        in_full = self.in_full or self.name
        return f"{in_full} ({self.unit})" if self.unit not in ("", "%") else in_full

    @property
    def difference_unit(self) -> str:
        """Unit of a difference between two values."""
        return "points" if self.unit == "%" else self.unit

    def show(self, value: float, decimals: int = 4) -> str:
        """Return a value as text, percentages with two decimals."""
        return f"{value:.2f} %" if self.unit == "%" else f"{value:.{decimals}f}"


METRICS = {
    "top1": Metric("top-1", "%", 2),
    "top5": Metric("top-5", "%", 2),
    "balanced_accuracy": Metric("balanced accuracy", "%", 2, "balanced accuracy, mean recall of the classes"),
    "macro_f1": Metric("macro F1", "%", 2, "macro F1, mean F1 of the classes"),
    "lowest_recall": Metric("lowest recall", "%", 2, "lowest recall of a class"),
    "nll": Metric("NLL", "nats", 4, "negative log-likelihood", higher_is_better=False),
    "ece": Metric("ECE", "", 4, "expected calibration error, 15 bins", higher_is_better=False),
    "agreement": Metric("agreement with the teacher", "%", 2, "top-1 agreement with the teacher"),
    "kl_to_teacher": Metric(
        "KL from the teacher", "nats", 4, "KL divergence from the teacher", higher_is_better=False
    ),
    "intra_class_distance": Metric("intra-class distance"),
    "inter_class_distance": Metric("inter-class distance"),
    "distance_ratio": Metric("distance ratio", in_full="intra-class / inter-class distance"),
    "nc1": Metric("NC1", in_full="neural collapse NC1"),
    "effective_rank": Metric("effective rank", decimals=1),
    "unread_variance": Metric("unread variance", in_full="variance within classes that the last layer does not read"),
    "unread_variance_graded": Metric(
        "unread variance, graded", in_full="the same, what is read weighted by how strongly"
    ),
    "soft_label_information": Metric("information, T = 1", "nats", 3, "soft-label information at T = 1"),
    "soft_label_information_t4": Metric("information, T = 4", "nats", 3, "soft-label information at T = 4"),
    "soft_label_information_matched": Metric(
        "information, matched", "nats", 3, "soft-label information at half of the largest entropy"
    ),
    "matched_temperature": Metric("matched temperature", decimals=2),
    "mean_entropy": Metric("mean entropy", "nats"),
    "non_target_entropy": Metric("non-target entropy", "nats"),
}
# Of linear probes on test images, fitted on training images, for classes finer than those that were learned.
PROBES = {
    "fine_probe.embeddings": Metric("fine class from embeddings", "%", 2),
    "fine_probe.soft_labels": Metric("fine class from soft labels", "%", 2),
}
# What an evaluation while training measures: of any classifier, and of a student beside its teacher.
WHILE_TRAINING = ("top1", "top5", "balanced_accuracy", "macro_f1", "lowest_recall", "nll", "ece")
BESIDE_TEACHER = ("agreement", "kl_to_teacher")
INFORMATION = ("soft_label_information", "soft_label_information_t4", "soft_label_information_matched")
