"""CIFAR networks of the distillation literature, registered in timm when this package is imported."""

from hf_icckd.models.cifar_mobilenet import CifarMobileNetV2
from hf_icckd.models.cifar_resnet import CifarResNet
from hf_icckd.models.cifar_shufflenet import CifarShuffleNetV1, CifarShuffleNetV2
from hf_icckd.models.cifar_vgg import CifarVgg
from hf_icckd.models.cifar_wrn import CifarWideResNet

__all__ = [
    "CifarMobileNetV2", "CifarResNet", "CifarShuffleNetV1", "CifarShuffleNetV2", "CifarVgg", "CifarWideResNet"
]  # fmt: skip
