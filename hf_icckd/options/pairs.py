"""Pairs of teacher and student that the distillation literature compares. Light: nothing here imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hf_icckd.utils.text import suggest

PAIRS = {
    # CIFAR, teacher and student of one kind
    "wrn_40_2-wrn_16_2": ("cifar_wrn_40_2", "cifar_wrn_16_2"),
    "wrn_40_2-wrn_40_1": ("cifar_wrn_40_2", "cifar_wrn_40_1"),
    "wrn_40_1-wrn_16_1": ("cifar_wrn_40_1", "cifar_wrn_16_1"),
    "resnet56-resnet20": ("cifar_resnet56", "cifar_resnet20"),
    "resnet110-resnet20": ("cifar_resnet110", "cifar_resnet20"),
    "resnet110-resnet32": ("cifar_resnet110", "cifar_resnet32"),
    "resnet32x4-resnet8x4": ("cifar_resnet32x4", "cifar_resnet8x4"),
    "vgg13-vgg8": ("cifar_vgg13", "cifar_vgg8"),
    # CIFAR, of two kinds
    "vgg13-mobilenetv2": ("cifar_vgg13", "cifar_mobilenetv2_half"),
    "resnet50-mobilenetv2": ("cifar_resnet50", "cifar_mobilenetv2_half"),
    "resnet50-vgg8": ("cifar_resnet50", "cifar_vgg8"),
    "resnet32x4-shufflenetv1": ("cifar_resnet32x4", "cifar_shufflenetv1"),
    "resnet32x4-shufflenetv2": ("cifar_resnet32x4", "cifar_shufflenetv2"),
    "wrn_40_2-shufflenetv1": ("cifar_wrn_40_2", "cifar_shufflenetv1"),
    # ImageNet
    "resnet34-resnet18": ("resnet34", "resnet18"),
    "resnet50-mobilenet": ("resnet50", "mobilenetv1_100"),
}
HELP = "Teacher and student of the literature, such as resnet32x4-resnet8x4, in place of {}."


def nets_of(pair: str) -> tuple[str, str]:
    """Architectures of teacher and student.

    Raises:
        ValueError: If the pair is unknown.

    Example:
        >>> nets_of("vgg13-mobilenetv2")
        ('cifar_vgg13', 'cifar_mobilenetv2_half')
    """
    if pair not in PAIRS:
        hint = suggest(pair, PAIRS) or f", expected one of: {', '.join(PAIRS)}"
        raise ValueError(f"unknown pair {pair!r}{hint}; other nets can be given by their names in timm")
    return PAIRS[pair]


def check_pair(options: Any) -> None:
    """Raise ValueError if options name a pair and other nets than its.

    Args:
        options: A dataclass with `pair`, and `of_pair`: which of its options are which net of the pair.
    """
    if options.pair is None:
        return
    nets = nets_of(options.pair)
    for option, number in options.of_pair.items():
        if (given := getattr(options, option)) != nets[number]:
            raise ValueError(
                f"{option} is {given!r} but pair {options.pair!r}, whose {('teacher', 'student')[number]} is "
                f"{nets[number]!r}; leave one of the two out"
            )


def with_nets(words: Sequence[str], types: Sequence[Any]) -> list[str]:
    """Words of a command line, with the nets of a pair behind it, where they replace those of a YAML file.

    Args:
        words: The words.
        types: Dataclasses of options; one with `of_pair` takes pairs.

    Raises:
        ValueError: If the pair is unknown, or missing.

    Example:
        >>> from hf_icckd.options.nets import StudentModelArguments
        >>> with_nets(["--pair", "vgg13-vgg8", "--seed", "1"], [StudentModelArguments])
        ['--pair', 'vgg13-vgg8', '--model', 'cifar_vgg8', '--seed', '1']
    """
    of_pair = next((each.of_pair for each in types if hasattr(each, "of_pair")), None)
    if of_pair is None:
        return list(words)
    found, rest = [], list(words)
    while rest:
        word = rest.pop(0)
        found.append(word)
        name, equals, value = word.partition("=")
        if name != "--pair":
            continue
        if not equals:
            if not rest:
                raise ValueError(f"--pair has no value, expected one of: {', '.join(PAIRS)}")
            found.append(value := rest.pop(0))
        nets = nets_of(value)
        for option, number in of_pair.items():
            found += [f"--{option}", nets[number]]
    return found
