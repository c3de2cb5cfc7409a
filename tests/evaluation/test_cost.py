"""What a net costs, also where its FLOPs can't be counted."""

from __future__ import annotations

import pytest
import torch

from hf_icckd import create_classifier
from hf_icckd.evaluation.cost import cost_metrics


@pytest.mark.parametrize("architecture", ["pit_ti_224", "cait_xxs24_224"])
def test_nets_whose_layers_take_parameters_are_counted(architecture):
    cost = cost_metrics(create_classifier(architecture, ["a", "b"], image_size=32), repeats=1)
    assert cost["flops"] > 2e7 and cost.keys() == {"parameters", "flops", "latency_ms"}


def test_flops_that_cannot_be_counted_are_left_out(monkeypatch, caplog):
    model = create_classifier("cifar_resnet8", ["a", "b"], image_size=32).train()

    class Broken:
        def __init__(self, display):
            raise AssertionError("Expected gradient function to be set")

    monkeypatch.setattr("hf_icckd.evaluation.cost.FlopCounterMode", Broken)
    assert cost_metrics(model, repeats=1).keys() == {"parameters", "latency_ms"}
    assert "cifar_resnet8 can't be counted and are left out: Expected gradient function" in caplog.text
    assert model.training and torch.is_grad_enabled()
