"""CIFAR networks of the distillation literature, registered in timm when this package is imported."""

from hf_icckd.models.cifar_resnet import CifarResNet
from hf_icckd.models.cifar_wrn import CifarWideResNet

__all__ = ["CifarResNet", "CifarWideResNet"]
