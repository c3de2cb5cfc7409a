"""The one catalogue of metrics: what they are called and how they print."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """How a figure is shown.

    Attributes:
        title: What it is called, with its unit.
        decimals: How many are worth showing.
        unit: Unit of a difference.
        higher_is_better: Which way is up.
    """

    title: str
    decimals: int = 3
    unit: str = ""
    higher_is_better: bool = True


METRICS = {
    "top1": Metric("top-1 (%)", 2, "points"),
    "top5": Metric("top-5 (%)", 2, "points"),
    "nll": Metric("NLL (nats)", 4, "nats", higher_is_better=False),
    "ece": Metric("ECE", 4, higher_is_better=False),
    "agreement": Metric("agreement with the teacher (%)", 2, "points"),
    "kl_to_teacher": Metric("KL from the teacher (nats)", 4, "nats", higher_is_better=False),
    "intra_class_distance": Metric("intra-class distance"),
    "inter_class_distance": Metric("inter-class distance"),
    "distance_ratio": Metric("distance ratio"),
    "nc1": Metric("NC1"),
    "effective_rank": Metric("effective rank", 1),
    "soft_label_information": Metric("information, T = 1 (nats)", 3, "nats"),
    "soft_label_information_t4": Metric("information, T = 4 (nats)", 3, "nats"),
    "soft_label_information_matched": Metric("information, matched (nats)", 3, "nats"),
    "matched_temperature": Metric("matched temperature", 2),
    "mean_entropy": Metric("mean entropy (nats)", 3, "nats"),
    "non_target_entropy": Metric("non-target entropy (nats)", 3, "nats"),
}
INFORMATION = ("soft_label_information", "soft_label_information_t4", "soft_label_information_matched")
