"""Metrics of a classifier: accuracy, classes, calibration, geometry, soft-label information, agreement with a teacher.

Pure functions of `logits` (N, C), `embeddings` (N, D) and `labels` (N,). Half precision is raised to float32, float64
stays; sums over samples run in float64, so that results don't depend on the order of the samples. Single metrics are
fractions, nats or ratios, returned as 0-d float64 tensors; the `*_metrics` functions collect them as floats, and
`sample_metrics` with `mean_metrics` give the same without all logits at once.
"""

from __future__ import annotations

from hf_icckd.metrics.class_tables import class_table
from hf_icckd.metrics.classification import (
    agreement,
    kl_divergence,
    reliability_table,
)
from hf_icckd.metrics.geometry import (
    distance_ratio,
    effective_rank,
    inter_class_distance,
    intra_class_distance,
    nc1,
    unread_variance,
    unread_variance_graded,
)
from hf_icckd.metrics.per_class import (
    ClassCounts,
    balanced_accuracy,
    class_counts,
    confusions,
    f1,
    lowest_recall,
    macro_f1,
    precision,
    recall,
    worst_mistakes,
)
from hf_icckd.metrics.soft_labels import (
    mean_entropy,
    non_target_entropy,
    soft_label_information,
    temperature_for_entropy,
)
from hf_icckd.metrics.summaries import (
    agreement_metrics,
    classification_metrics,
    mean_metrics,
    representation_metrics,
    sample_metrics,
)

__all__ = [
    "ClassCounts",
    "agreement",
    "agreement_metrics",
    "balanced_accuracy",
    "class_counts",
    "class_table",
    "classification_metrics",
    "confusions",
    "distance_ratio",
    "effective_rank",
    "f1",
    "inter_class_distance",
    "intra_class_distance",
    "kl_divergence",
    "lowest_recall",
    "macro_f1",
    "mean_entropy",
    "mean_metrics",
    "nc1",
    "non_target_entropy",
    "precision",
    "recall",
    "reliability_table",
    "representation_metrics",
    "sample_metrics",
    "soft_label_information",
    "temperature_for_entropy",
    "unread_variance",
    "unread_variance_graded",
    "worst_mistakes",
]
