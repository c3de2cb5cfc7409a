"""What a classifier knows, as numbers: accuracy, calibration, geometry, soft-label information, agreement.

Pure functions of `logits` (N, C), `embeddings` (N, D) and `labels` (N,). Half precision is raised to float32, float64
stays; sums over samples run in float64, so that results don't depend on the order of the samples. Single metrics are
fractions, nats or ratios, returned as 0-d float64 tensors; the three `*_metrics` functions collect them as floats, and
`sample_figures` with `mean_figures` give the same without all logits at once.
"""

from __future__ import annotations

from hf_icckd.metrics.classification import (
    accuracy,
    agreement,
    expected_calibration_error,
    kl_divergence,
    negative_log_likelihood,
    reliability_table,
)
from hf_icckd.metrics.geometry import distance_ratio, effective_rank, inter_class_distance, intra_class_distance, nc1
from hf_icckd.metrics.soft_labels import (
    mean_entropy,
    non_target_entropy,
    soft_label_information,
    temperature_for_entropy,
)
from hf_icckd.metrics.summaries import (
    agreement_metrics,
    classification_metrics,
    mean_figures,
    representation_metrics,
    sample_figures,
)

__all__ = [
    "accuracy",
    "agreement",
    "agreement_metrics",
    "classification_metrics",
    "distance_ratio",
    "effective_rank",
    "expected_calibration_error",
    "inter_class_distance",
    "intra_class_distance",
    "kl_divergence",
    "mean_entropy",
    "mean_figures",
    "nc1",
    "negative_log_likelihood",
    "non_target_entropy",
    "reliability_table",
    "representation_metrics",
    "sample_figures",
    "soft_label_information",
    "temperature_for_entropy",
]
