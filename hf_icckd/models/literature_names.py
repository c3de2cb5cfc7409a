"""Names of tensors in the repositories of the distillation literature, and what they are called in our `cifar_*` nets.

RepDistiller and mdistiller, and what is derived from them, share these names.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from torch import Tensor

Rule = tuple[str, str | Callable[[re.Match[str]], str]]

_SHUFFLENET: list[Rule] = [
    (r"^conv1\.", "stages.0.0."),
    (r"^bn1\.", "stages.0.1."),
    (r"^linear\.", "head.fc."),
]


def _wide_block(found: re.Match[str]) -> str:
    """Stages are counted from 0, and layers are called as in timm's pre-activation ResNets."""
    layer = {"bn": "norm", "convShortcut": "downsample.conv", "conv": "conv"}[found[3]]
    return f"stages.{int(found[1]) - 1}.blocks.{found[2]}.{layer}"


def _convolution_or_norm(found: re.Match[str]) -> str:
    """A VGG stage is a list of convolution, norm, ReLU, convolution, ..."""
    layer, kind = divmod(int(found[2]), 3)
    return f"stages.{found[1]}.{layer}.{('conv', 'bn')[kind]}."


def _left_or_right(found: re.Match[str]) -> str:
    """The first block of a ShuffleNetV2 stage counts layers 1 and 2 on the left, 3 to 5 on the right."""
    number = int(found[3])
    branch, layer = ("left", number - 1) if number < 3 else ("right", number - 3)
    return f"stages.{found[1]}.0.{branch}.{layer}.{('conv', 'bn').index(found[2])}."


def _in_branch(found: re.Match[str]) -> str:
    return f"stages.{found[1]}.{found[2]}.branch.{int(found[4]) - 1}.{('conv', 'bn').index(found[3])}."


# By how the name of the architecture begins. Of the rules of a family the first that fits renames.
_RULES: dict[str, list[Rule]] = {
    "cifar_resnet50": [(r"\.shortcut\.", ".downsample."), (r"^linear\.", "fc.")],
    "cifar_wrn_": [
        (r"^conv1\.", "stem.conv."),
        (r"^bn1\.", "norm."),
        (r"^fc\.", "head.fc."),
        (r"^block(\d)\.layer\.(\d+)\.(bn|convShortcut|conv)", _wide_block),
    ],
    "cifar_vgg": [(r"^block(\d)\.(\d+)\.", _convolution_or_norm), (r"^classifier\.", "head.fc.")],
    "cifar_mobilenetv2_half": [
        (r"^conv1\.0\.", "conv_stem."),
        (r"^conv1\.1\.", "bn1."),
        (r"^conv2\.0\.", "conv_head."),
        (r"^conv2\.1\.", "bn2."),
        (r"^classifier\.0\.", "classifier."),
        *(
            (rf"^(blocks\.\d+\.\d+)\.conv\.{place}\.", rf"\1.{name}.")
            for place, name in ((0, "conv_pw"), (1, "bn1"), (3, "conv_dw"), (4, "bn2"), (6, "conv_pwl"), (7, "bn3"))
        ),
    ],
    "cifar_shufflenetv1": [*_SHUFFLENET, (r"^layer(\d)\.", r"stages.\1.")],
    "cifar_shufflenetv2": [
        *_SHUFFLENET,
        (r"^conv2\.", "final.0."),
        (r"^bn2\.", "final.1."),
        (r"^layer(\d)\.0\.(conv|bn)(\d)\.", _left_or_right),
        (r"^layer(\d)\.(\d+)\.(conv|bn)(\d)\.", _in_branch),
    ],
}


def from_literature(architecture: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights with the names of a `cifar_*` net in place of those of the literature's repositories.

    Names that are ours already stay, and so do all of other architectures.

    Example:
        >>> list(from_literature("cifar_vgg8", {"block1.0.weight": None, "head.fc.bias": None}))
        ['stages.1.0.conv.weight', 'head.fc.bias']
    """
    rules = next((rules for start, rules in _RULES.items() if architecture.startswith(start)), [])
    return {_renamed(name, rules): tensor for name, tensor in state.items()}


def _renamed(name: str, rules: list[Rule]) -> str:
    for pattern, replacement in rules:
        renamed, count = re.subn(pattern, replacement, name)
        if count:
            return renamed
    return name
