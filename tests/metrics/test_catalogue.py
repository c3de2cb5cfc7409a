"""The catalogue of metrics: what is measured is in it, and how names and values print."""

from __future__ import annotations

import torch

from hf_icckd import metrics
from hf_icckd.metrics.catalogue import INFORMATION, METRICS


def test_every_metric_of_a_split_is_in_the_catalogue():
    generator = torch.Generator().manual_seed(0)
    logits, teacher = torch.randn(2, 60, 5, generator=generator)
    labels = torch.arange(60) % 5
    measured = (
        metrics.classification_metrics(logits, labels)
        | metrics.agreement_metrics(logits, teacher)
        | metrics.representation_metrics(logits, logits[:, :4], labels, 5, torch.eye(5, 4))
    )
    assert measured.keys() == METRICS.keys()
    assert set(INFORMATION) < METRICS.keys()


def test_names_and_values_print_with_their_units():
    top1, nll, ece = METRICS["top1"], METRICS["nll"], METRICS["ece"]
    assert (top1.title, top1.full_title, top1.difference_unit) == ("top-1 (%)", "top-1", "points")
    assert (nll.title, nll.full_title) == ("NLL (nats)", "negative log-likelihood (nats)")
    assert (nll.difference_unit, ece.title, ece.difference_unit) == ("nats", "ECE", "")
    assert (top1.show(71.2345), nll.show(1.23456), nll.show(1.23456, 3)) == ("71.23 %", "1.2346", "1.235")
    assert [name for name, metric in METRICS.items() if not metric.higher_is_better] == ["nll", "ece", "kl_to_teacher"]
