"""What of a net is its classification layer, and what freezing the rest does."""

from __future__ import annotations

import pytest
import timm.utils
import torch
from torch import nn

from hf_icckd import ClassifierOutput, ClassifierSpec, ImageClassifier, create_classifier
from hf_icckd.models.freezing import backbone_parameters, freeze, thaw

HEADS = {
    "cifar_resnet8": {"fc.weight", "fc.bias"},
    "test_vit": {"head.weight", "head.bias"},
    "test_efficientnet": {"classifier.weight", "classifier.bias"},
    "test_convnext": {"head.fc.weight", "head.fc.bias"},
    "deit_tiny_distilled_patch16_224": {"head.weight", "head.bias", "head_dist.weight", "head_dist.bias"},
    "volo_d1_224": {"head.weight", "head.bias", "aux_head.weight", "aux_head.bias"},
    "efficientvit_m0": {"head.linear.weight", "head.linear.bias"},
}


@pytest.mark.parametrize("architecture", HEADS)
def test_only_classification_layers_are_trained(architecture):
    size = None if architecture.startswith(("deit", "volo", "eff")) else 32
    model = create_classifier(architecture, ["cat", "dog"], image_size=size)
    freeze(model)
    assert {name for name, each in model.net.named_parameters() if each.requires_grad} == HEADS[architecture]
    thaw(model)
    assert all(each.requires_grad for each in model.parameters()) and model.fixed == []


@pytest.mark.parametrize(
    ("architecture", "in_head"), [("cifar_resnet8", []), ("test_efficientnet", []), ("test_convnext", ["head.norm"])]
)
def test_freezing_is_timms(architecture, in_head):
    """The same layers learn, and the same statistics stay, as with timm.utils.freeze of all but the last layer."""
    images = torch.randint(256, (4, 3, 32, 32), dtype=torch.uint8)
    ours, theirs = (create_classifier(architecture, ["cat", "dog"], image_size=32) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    freeze(ours)
    head = next(iter(HEADS[architecture])).partition(".")[0]
    timm.utils.freeze(theirs.net, [name for name, _ in theirs.net.named_children() if name != head] + in_head)
    states = []
    for model in (ours.train(), theirs.train()):
        torch.manual_seed(1)
        model(images).logits[:, 0].sum().backward()
        torch.optim.SGD([each for each in model.parameters() if each.requires_grad], 0.1).step()
        states.append(model.state_dict())
    trained = [{name for name, each in model.net.named_parameters() if each.requires_grad} for model in (ours, theirs)]
    assert trained[0] == trained[1] == HEADS[architecture]
    for name, value in states[0].items():  # timm's frozen BatchNorm does not count its batches
        assert name.endswith("num_batches_tracked") or torch.equal(value, states[1][name]), name


def test_statistics_of_the_backbone_stay_in_training_mode():
    torch.manual_seed(0)
    model = create_classifier("levit_128s", ["cat", "dog"])  # BatchNorm in its heads too
    freeze(model)
    before = {name: value.clone() for name, value in model.named_buffers()}
    model.train()
    model(torch.randint(256, (4, 3, 224, 224), dtype=torch.uint8)).logits.sum().backward()
    changed = {
        name.rpartition(".")[0] for name, value in model.named_buffers() if not torch.equal(value, before[name])
    }
    assert changed == {"net.head.bn", "net.head_dist.bn"}
    assert all(each.grad is None for each in backbone_parameters(model))
    thaw(model)
    model.train()
    assert all(layer.training for layer in model.modules())


class Whole(nn.Module):
    """A net that names no classification layer."""

    num_classes, embedding_dim = 2, None

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def classifier_outputs(self, images, feature_maps):
        return ClassifierOutput(self.layer(images.mean(dim=(2, 3))), None)


def test_a_net_that_cannot_be_frozen_is_refused():
    model = ImageClassifier(Whole(), ClassifierSpec("whole", ("cat", "dog"), (0.5,) * 3, (0.5,) * 3, 8))
    with pytest.raises(ValueError, match="whole can't be frozen: timm names no classification layer that is apart"):
        freeze(model)
    assert all(each.requires_grad for each in model.parameters())
