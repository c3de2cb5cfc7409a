"""A net that would be read back as another one is found before it is trained."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from hf_icckd import create_classifier, from_pretrained, save_pretrained
from hf_icckd.models.reload import check_reload

NAMES = ["a", "b", "c"]


# A BatchNorm epsilon that depends on timm's pretrained switch; weights shared by layers; norm in the head; two heads.
@pytest.mark.parametrize(
    ("architecture", "size"),
    [("fbnetc_100", 32), ("coat_lite_tiny", 32), ("efficientvit_m0", 64), ("deit_tiny_distilled_patch16_224", 32)],
)
def test_nets_of_all_kinds_come_back(architecture, size):
    check_reload(create_classifier(architecture, NAMES, image_size=size))


def test_nothing_else_changes():
    model = create_classifier("cifar_resnet8", NAMES, image_size=16)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    check_reload(model)
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert model.training
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1:] == (random.getstate(), np.random.get_state()[1].tolist())


def test_a_net_that_comes_back_as_another_is_an_error():
    model = create_classifier("cifar_resnet8", NAMES, image_size=16)
    model.net.bn1.eps = 0.1
    with pytest.raises(ValueError, match=r"read by this package as another net.*; bn1\.eps is 0\.1 and becomes 1e-05"):
        check_reload(model)
    model = create_classifier("cifar_resnet8", NAMES, image_size=16)
    model.net.conv1.weight = torch.nn.Parameter(torch.zeros(5, 3, 3, 3))
    model.net.conv1.forward = lambda images: torch.zeros(1, 16, 16, 16)
    with pytest.raises(ValueError, match=r"can't be read by this package once it is saved: .*size mismatch"):
        check_reload(model)


@pytest.mark.parametrize("eps", [None, 1e-4])
def test_the_pretrained_switch_of_timm_is_pinned(tmp_path, eps):
    given = {} if eps is None else {"bn_eps": eps}
    model = create_classifier("fbnetc_100", NAMES, image_size=32, model_args=given)
    assert model.spec.model_args == {"bn_eps": eps or 1e-5} and model.net.bn1.eps == (eps or 1e-5)
    save_pretrained(tmp_path, model)
    loaded = from_pretrained(tmp_path)
    assert loaded.spec == model.spec and loaded.net.bn1.eps == model.net.bn1.eps


def test_shared_weights_are_written_under_each_name(tmp_path):
    model = create_classifier("coat_lite_tiny", NAMES, image_size=32)
    save_pretrained(tmp_path, model)
    loaded = from_pretrained(tmp_path).net
    assert loaded.cpe1.proj.weight is loaded.serial_blocks1[0].cpe.proj.weight  # still one weight
    torch.testing.assert_close(loaded.state_dict(), model.net.state_dict(), rtol=0, atol=0)
    names = [name for name, _ in model.named_parameters()]
    assert len(names) < sum("weight" in name or "bias" in name for name in model.state_dict()) + 2
