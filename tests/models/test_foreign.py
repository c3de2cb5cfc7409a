"""Modules that are not timm's as teachers."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from hf_icckd import as_teacher, create_classifier, save_pretrained
from hf_icckd.models.foreign import ForeignNet, available_outputs, classification_layer, is_foreign
from hf_icckd.models.pretrained import fingerprint

NAMES = ["cat", "dog", "fish"]
OF_IMAGES = {"image_size": 8, "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4)}


class Own(nn.Module):
    """What people write: no timm, no transformers."""

    def __init__(self, output=None):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.fc = nn.Linear(5, 3)
        self.output = output

    def forward(self, images):
        logits = self.fc(self.features(images))
        return logits if self.output is None else self.output(logits)


def test_logits_and_the_embeddings_of_a_named_layer():
    module = Own()
    teacher = as_teacher(module, NAMES, **OF_IMAGES, embeddings="fc")
    images = torch.randint(256, (4, 3, 12, 12), dtype=torch.uint8)
    pixels = teacher.preprocess(images)
    output = teacher(images)
    torch.testing.assert_close(output.logits, module(pixels), rtol=0, atol=0)
    torch.testing.assert_close(output.embeddings, module.features(pixels), rtol=0, atol=0)
    assert (teacher.embedding_dim, teacher.training, teacher.spec.architecture) == (5, False, "Own")
    assert available_outputs(teacher) == {"logits", "embeddings"} and is_foreign(teacher)
    assert classification_layer(module, 3, 8) == "fc"


def test_a_copy_keeps_its_embeddings_to_itself():
    teacher = as_teacher(Own(), NAMES, **OF_IMAGES, embeddings="fc")
    other = copy.deepcopy(teacher)
    images = torch.randint(256, (2, 3, 8, 8), dtype=torch.uint8)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    assert other(images).embeddings.abs().sum() == 0 and teacher(images).embeddings.abs().sum() > 0
    assert fingerprint(other) != fingerprint(teacher)


class Pair(nn.Module):
    """A classifier that runs another one, whose inputs are read too, after or before its own layers."""

    def __init__(self, inner_first):
        super().__init__()
        self.own, self.inner_first = Own(), inner_first
        self.inner = as_teacher(Own(), NAMES, **OF_IMAGES, embeddings="fc")

    def forward(self, images):
        parts = [lambda: self.own(images), lambda: self.inner.net.classifier_outputs(images).logits]
        return sum(part() for part in (reversed(parts) if self.inner_first else parts))


@pytest.mark.parametrize("inner_first", [True, False])
@pytest.mark.parametrize("layer", ["own.fc", "inner.net.module.fc"])
def test_embeddings_are_those_of_the_named_layer_whatever_else_runs(inner_first, layer):
    module = Pair(inner_first)
    teacher = as_teacher(module, NAMES, **OF_IMAGES, embeddings=layer)
    images = torch.randint(256, (2, 3, 8, 8), dtype=torch.uint8)
    named = module.own if layer == "own.fc" else module.inner.net.module
    torch.testing.assert_close(teacher(images).embeddings, named.features(teacher.preprocess(images)))


def test_a_compiled_teacher_gives_embeddings_in_every_step():
    teacher = as_teacher(Own(), NAMES, **OF_IMAGES, embeddings="fc")
    compiled = torch.compile(teacher, backend="eager")
    for _ in range(2):
        images = torch.randint(256, (4, 3, 8, 8), dtype=torch.uint8)
        torch.testing.assert_close(compiled(images).embeddings, teacher(images).embeddings)


def test_half_precision_stays():
    teacher = as_teacher(Own().bfloat16(), NAMES, **OF_IMAGES)
    logits = teacher(torch.randint(256, (2, 3, 8, 8), dtype=torch.uint8)).logits
    assert logits.dtype == torch.bfloat16 and logits.isfinite().all()


def test_without_a_named_layer_there_are_logits_only():
    teacher = as_teacher(Own(), NAMES, **OF_IMAGES)
    output = teacher(torch.zeros(2, 3, 8, 8, dtype=torch.uint8))
    assert output.embeddings is None and teacher.embedding_dim is None
    assert available_outputs(teacher) == {"logits"}
    with pytest.raises(ValueError, match="Own has no feature maps; choose an objective without them"):
        teacher(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), feature_maps=True)


@pytest.mark.parametrize(
    ("module", "names", "layer", "message"),
    [
        (Own(), NAMES, "head", "Own has no layer 'head'; its last ones are .*fc"),
        (Own(), NAMES, "features.1", r"layer 'features.1' of Own takes in \(2, 5, 6, 6\) for 2 images, expected one"),
        (
            Own(),
            ["a", "b"],
            None,
            r"Own returns logits \(2, 3\) for 2 images, expected \(2, 2\); give",
        ),
        (Own(lambda logits: [logits]), NAMES, None, "the net returns a list, expected"),
        (nn.Linear(5, 3), NAMES, None, "Linear can't classify images of 8 x 8 pixels: "),
    ],
)
def test_modules_that_cannot_be_used(module, names, layer, message):
    with pytest.raises(ValueError, match=message):
        as_teacher(module, names, **OF_IMAGES, embeddings=layer)


def test_only_teaching_is_possible(tmp_path):
    teacher = as_teacher(Own(), NAMES, **OF_IMAGES)
    with pytest.raises(ValueError, match="Own is not a net of timm, so it can teach but not be saved here"):
        save_pretrained(tmp_path / "own", teacher)
    assert not (tmp_path / "own").exists()
    assert not is_foreign(create_classifier("cifar_resnet8", NAMES, image_size=8))


def test_two_layers_that_could_be_the_last_are_none():
    module = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 3), nn.Identity(), nn.Linear(3, 3, bias=False))
    with torch.no_grad():
        module[3].weight.copy_(torch.eye(3))
    assert classification_layer(module, 3, 8) is None
    assert isinstance(as_teacher(module, NAMES, **OF_IMAGES).net, ForeignNet)
