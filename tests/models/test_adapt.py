"""A trained net for more training: other classes, another image size, other dropout."""

from __future__ import annotations

import pytest
import torch
from timm.layers import DropPath, resample_abs_pos_embed

from hf_icckd import create_classifier
from hf_icckd.models.adapt import adapt_classifier
from hf_icckd.models.reload import check_reload

NAMES = ("cat", "dog", "fish")


def make(architecture: str, size: int):
    torch.manual_seed(0)
    return create_classifier(architecture, NAMES, image_size=size, mean=(0.5, 0.4, 0.3))


def test_a_convolutional_net_is_used_as_it_is():
    start = make("cifar_resnet8", 16)
    model = adapt_classifier(start, NAMES, image_size=24)
    assert model.net is start.net
    assert model.spec.image_size == 24 and model.spec.mean == (0.5, 0.4, 0.3) and model.spec.model_args == {}


@pytest.mark.parametrize("size", [32, 96])
def test_position_embeddings_are_fitted_as_timm_does(size):
    start = make("test_vit", 64)
    model = adapt_classifier(start, NAMES, image_size=size)
    before, now = start.net.state_dict(), model.net.state_dict()
    expected = resample_abs_pos_embed(before["pos_embed"], new_size=[size // 16] * 2, num_prefix_tokens=1)
    torch.testing.assert_close(now["pos_embed"], expected, rtol=1e-6, atol=1e-6)
    assert [name for name, value in now.items() if name != "pos_embed" and not torch.equal(value, before[name])] == []
    assert model.spec.image_size == model.spec.model_args["img_size"] == size
    assert start.spec.model_args["img_size"] == 64 and "state_dict" not in model.net.pretrained_cfg
    check_reload(model)  # by this package, timm and transformers


def test_the_head_is_kept_or_replaced_at_another_size():
    start = make("test_vit", 64)
    assert torch.equal(adapt_classifier(start, NAMES, image_size=32).net.head.weight, start.net.head.weight)
    other = adapt_classifier(start, ["a", "b"], image_size=32)
    assert other.net.head.weight.shape[0] == 2 and other.spec.label_names == ("a", "b")


def test_a_size_that_timm_cannot_fit_is_refused():
    with pytest.raises(ValueError, match="image_size is 256 but timm can't fit the weights of this visformer_tiny"):
        adapt_classifier(make("visformer_tiny", 224), NAMES, image_size=256)


@pytest.mark.parametrize("architecture", ["cifar_resnet8", "test_vit"])
def test_dropout_acts_in_training_and_is_not_saved(architecture):
    start = make(architecture, 32)
    for model in (
        adapt_classifier(start, NAMES, drop_args={"drop_path_rate": 0.5, "drop_rate": 0.25}),
        create_classifier(architecture, NAMES, image_size=32, drop_args={"drop_path_rate": 0.5, "drop_rate": 0.25}),
    ):
        assert model.spec.model_args == start.spec.model_args
        rates = [layer.drop_prob for layer in model.net.modules() if isinstance(layer, DropPath)]
        assert max(rates) == pytest.approx(0.5)
        assert getattr(model.net, "drop_rate", None) == 0.25 or model.net.head_drop.p == 0.25
        images = torch.randint(256, (4, 3, 32, 32), dtype=torch.uint8)
        assert not torch.equal(model.train()(images).logits, model(images).logits)
        assert torch.equal(model.eval()(images).logits, model(images).logits)
    model = adapt_classifier(start, NAMES, drop_args={"drop_rate": 0.25}).eval()
    assert torch.equal(model(images).logits, start.eval()(images).logits)


def test_a_net_without_stochastic_depth_is_refused():
    with pytest.raises(ValueError, match=r"drop_path is 0\.1 but densenet121 has no drop_path_rate in timm"):
        create_classifier("densenet121", NAMES, drop_args={"drop_path_rate": 0.1})
