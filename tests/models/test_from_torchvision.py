"""Checkpoints of torchvision's nets in timm's."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

from hf_icckd import WeightsFile, from_pretrained
from hf_icckd.models import from_weights


def saved(path, name, classes=4):
    """Write the weights of a net with statistics of its own, and return the net."""
    torch.manual_seed(0)
    net = torchvision.models.get_model(name, num_classes=classes).eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.normal_(module.running_mean, std=0.1)
    torch.save(net.state_dict(), path)
    return net


@torch.inference_mode()
@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("mobilenet_v2", "mobilenetv2_100"),
        ("mobilenet_v3_small", "mobilenetv3_small_100"),
        ("densenet121", "densenet121"),
        ("resnet18", "resnet18"),
        ("efficientnet_b0", "efficientnet_b0"),
        ("mnasnet0_5", "mnasnet_050"),
        ("convnext_tiny", "convnext_tiny"),
    ],
)
def test_nets_compute_the_same_with_imagenets_normalisation(theirs, ours, tmp_path):
    net = saved(tmp_path / "net.pth", theirs)
    size = 64
    classifier = from_pretrained(tmp_path / "net.pth", weights=WeightsFile(ours, image_size=size))
    assert classifier.spec.mean == (0.485, 0.456, 0.406) and classifier.spec.std == (0.229, 0.224, 0.225)
    images = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8)
    mean, std = torch.tensor(classifier.spec.mean).view(3, 1, 1), torch.tensor(classifier.spec.std).view(3, 1, 1)
    torch.testing.assert_close(classifier(images).logits, net((images / 255 - mean) / std), rtol=1e-4, atol=1e-5)


def test_the_folder_remembers_torchvisions_epsilon(tmp_path):
    saved(tmp_path / "net.pth", "mobilenet_v3_small")
    weights = WeightsFile("mobilenetv3_small_100", image_size=64)
    assert from_pretrained(tmp_path / "net.pth", weights=weights).spec.model_args["bn_eps"] == 1e-3


def test_a_net_that_computes_something_else_is_refused(tmp_path, monkeypatch):
    saved(tmp_path / "net.pth", "mobilenet_v2")
    weights = WeightsFile("mobilenetv2_100", image_size=64)
    right = from_weights.rename_by_shape
    monkeypatch.setattr(
        from_weights, "rename_by_shape", lambda *args: {name: 2 * value for name, value in right(*args).items()}
    )
    with pytest.raises(ValueError, match=r"torchvision's MobileNetV2, but timm's mobilenetv2_100 computes something"):
        from_pretrained(tmp_path / "net.pth", weights=weights)


def test_a_net_with_other_tensors_is_refused(tmp_path):
    saved(tmp_path / "net.pth", "squeezenet1_1")
    with pytest.raises(ValueError, match="no classification layer"):
        from_pretrained(tmp_path / "net.pth", weights=WeightsFile("mobilenetv2_100"))
