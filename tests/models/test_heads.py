"""Heads of all kinds: logits are those of the net, embeddings are the input of its last layer."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from hf_icckd import ClassifierOutput, ClassifierSpec, ImageClassifier, create_classifier
from hf_icckd.models.adapt import adapt_classifier
from hf_icckd.models.moved import moved_copy

NAMES = ["a", "b", "c"]
# BatchNorm in the head, that of two heads, two heads on two tokens, branches of two widths.
WHOLE = {"efficientvit_m0": 192, "levit_128s": 384, "deit_tiny_distilled_patch16_224": 192, "crossvit_tiny_240": 288}
FIXED = {"levit_128s": 224, "crossvit_tiny_240": 240}


def images(rows: int, size: int) -> torch.Tensor:
    return torch.randint(256, (rows, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def make(architecture: str) -> ImageClassifier:
    return moved_copy(create_classifier(architecture, NAMES, image_size=FIXED.get(architecture, 64))).eval()


@pytest.mark.parametrize(("architecture", "dim"), WHOLE.items())
def test_logits_are_those_of_the_whole_head(architecture, dim):
    model = make(architecture)
    batch = images(2, model.spec.image_size)
    output, plain = model(batch), model.net(model.preprocess(batch))
    assert plain.shape == (2, 3) and torch.equal(output.logits, plain)
    assert output.embeddings.shape == (2, dim) and model.embedding_dim == dim
    if not hasattr(model.net, "forward_intermediates"):  # CrossVit of timm 1.0.29 has none
        return
    with_maps = model(batch, feature_maps=True)
    torch.testing.assert_close(with_maps.logits, plain)


def test_the_norm_in_a_head_is_trained():
    model = make("efficientvit_m0").train()
    seen = int(model.net.head.bn.num_batches_tracked)
    model(images(4, 64)).logits.square().sum().backward()
    assert int(model.net.head.bn.num_batches_tracked) == seen + 1  # one pass, not two
    assert all(parameter.grad is not None for parameter in model.net.head.parameters())


def test_embeddings_are_what_the_last_layer_reads():
    model = make("efficientvit_m0")
    output = model(images(2, 64))
    torch.testing.assert_close(model.net.head.linear(output.embeddings), output.logits)
    two = make("deit_tiny_distilled_patch16_224")
    batch = images(2, 64)
    tokens = two.net.forward_features(two.preprocess(batch))
    torch.testing.assert_close(two(batch).embeddings, tokens[:, :2].mean(dim=1))


@torch.no_grad()
def test_copies_threads_and_compiled_nets():
    model = make("efficientvit_m0")
    batch = images(2, 64)
    expected = model(batch)
    torch.testing.assert_close(copy.deepcopy(model)(batch), expected)
    with ThreadPoolExecutor(4) as pool:
        for output in pool.map(model, [batch] * 8):
            torch.testing.assert_close(output, expected)
        for logits in pool.map(model.net, [model.preprocess(batch)] * 8):
            torch.testing.assert_close(logits, expected.logits)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(batch), expected)
    with torch.autocast("cpu", torch.bfloat16):
        assert model(batch).embeddings.shape == (2, 192)


def test_usual_nets_have_one_layer():
    model = create_classifier("cifar_resnet8", NAMES, image_size=16)
    assert model.head == (64, True)


@pytest.mark.parametrize("architecture", [*WHOLE, "test_vit", "mobilenetv3_small_050"])
def test_other_classes_for_any_head(architecture):
    model = make(architecture)
    other = adapt_classifier(model, ["d", "e"])
    output = other(images(2, model.spec.image_size))
    assert output.logits.shape == (2, 2) and output.embeddings.shape == (2, model.embedding_dim)


class OwnNet(nn.Module):
    """A net that is not timm's."""

    num_classes, embedding_dim = 3, None

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def classifier_outputs(self, images, feature_maps):
        return ClassifierOutput(self.layer(images.mean(dim=(2, 3))), None, (images,) if feature_maps else None)


def test_a_net_that_is_not_of_timm():
    model = ImageClassifier(OwnNet(), ClassifierSpec("own", tuple(NAMES), (0.5,) * 3, (0.5,) * 3, 16))
    output = model(images(2, 16), feature_maps=True)
    assert output.logits.shape == (2, 3) and output.embeddings is None and model.embedding_dim is None
    assert output.clone().feature_maps[0].shape == (2, 3, 16, 16)
