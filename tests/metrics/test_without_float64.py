"""Apple's GPUs have no float64: metrics of tensors there are those of the CPU. Made-up tensors stand in for them."""

from __future__ import annotations

import pytest
import torch
from torch.utils._pytree import tree_flatten

from hf_icckd import metrics
from hf_icckd.metrics.checks import where_float64_is
from hf_icckd.metrics.class_tables import class_table
from hf_icckd.training.loss_averages import LossAverages


class OnApple(torch.Tensor):
    """A tensor that says it is on an Apple GPU, meets no tensor of the CPU, and refuses float64."""

    @property
    def device(self):
        return torch.device("mps")

    def cpu(self):
        return self.as_subclass(torch.Tensor)

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        result = super().__torch_function__(func, types, args, kwargs or {})
        if func is not torch.Tensor.as_subclass:
            with torch._C.DisableTorchFunctionSubclass():
                cls._check(func, args, result)
        return result

    @staticmethod
    def _check(func, args, result):
        given = [each for each in tree_flatten(args)[0] if isinstance(each, torch.Tensor) and each.ndim]
        if func is not torch.Tensor.to and len({isinstance(each, OnApple) for each in given}) == 2:
            raise RuntimeError(f"{func}: expected all tensors to be on the same device, but found mps and cpu")
        if any(isinstance(each, OnApple) and each.dtype == torch.float64 for each in tree_flatten(result)[0]):
            raise TypeError(f"{func}: the MPS framework doesn't support float64")


def apple(tensor):
    return tensor.as_subclass(OnApple)


@pytest.fixture
def outputs():
    """Logits, logits of a teacher, embeddings, labels and weights of the classification layer."""
    generator = torch.Generator().manual_seed(0)
    logits, teacher = (torch.randn(40, 4, generator=generator) for _ in range(2))
    embeddings, weight = torch.randn(40, 6, generator=generator), torch.randn(4, 6, generator=generator)
    return logits, teacher, embeddings, torch.arange(40) % 4, weight


def test_the_stand_in_refuses_what_the_device_would():
    values = apple(torch.ones(3))
    assert where_float64_is(values).device.type == "cpu" and type(values * 2) is OnApple
    with pytest.raises(TypeError, match="float64"):
        values.double()
    with pytest.raises(TypeError, match="float64"):
        values.mean(dtype=torch.float64)
    with pytest.raises(RuntimeError, match="same device"):
        values + torch.ones(3)


def test_metrics_are_summed_on_the_cpu(outputs):
    there = [apple(each) for each in outputs]
    measured = [
        (metrics.classification_metrics, (0, 3)),
        (metrics.agreement_metrics, (0, 1)),
        (lambda *values: metrics.representation_metrics(*values[:3], 4, values[3]), (0, 2, 3, 4)),
        (lambda *values: class_table(*values, list("abcd")), (0, 3)),
        (lambda *values: metrics.mean_metrics(metrics.sample_metrics(*values)), (0, 3, 1)),
    ]
    for metric, which in measured:
        assert metric(*(there[index] for index in which)) == metric(*(outputs[index] for index in which))


def test_losses_are_averaged_in_float32_there():
    averages = LossAverages()
    for value in (1.0, 2.0):
        averages.add({"ce": apple(torch.tensor(value))}, step=1)
    assert averages.sums.dtype == torch.float32 and averages.drain() == {"ce": 1.5}
    restored = LossAverages()
    restored.load_state_dict({"sums": torch.tensor([[3.0]], dtype=torch.float64), "count": torch.tensor(2)})
    restored.add({"ce": apple(torch.tensor(0.0))}, step=1)
    assert restored.drain() == {"ce": 1.0}
