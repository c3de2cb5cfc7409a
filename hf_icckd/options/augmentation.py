"""Augmentation of training images: each choice once, with its default, its range and its help text."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, ClassVar, Literal

from hf_icckd.options.checks import check_range
from hf_icckd.options.policies import parse_policy


@dataclass(frozen=True)
class Augmentation:
    """Random changes to training images: a crop, mirroring, colours, erasing, mixing with another image.

    None for the padding or for mirroring means a choice that suits the images; `for_images` makes it. The command line
    has the same options, see `AugmentationArguments`.

    Example:
        >>> chosen = Augmentation(trivial_augment=True).for_images(32, small=True, mirrored=False)
        >>> chosen.crop_padding, chosen.horizontal_flip
        (4, False)
    """

    crop_padding: int | None = field(
        default=None,
        metadata={"help": "Padding of the random crop of images up to 96 pixels; default: an eighth of the side."},
    )
    min_crop_scale: float | None = field(
        default=0.35, metadata={"help": "Smallest share of the area that the random crop of larger images keeps."}
    )
    horizontal_flip: bool | None = field(
        default=None,
        metadata={
            "help": "Mirror half of the training images; default: yes, unless the data set or its class names "
            "(digits, letters, left and right) speak against it."
        },
    )
    seed: int = field(default=0, metadata={"help": "Seed of all random changes to pixels."})
    color_jitter: float = field(
        default=0.0,
        metadata={"help": "Change brightness, contrast and saturation by factors between 1 - this and 1 + this."},
    )
    trivial_augment: bool = field(
        default=False, metadata={"help": "One random operation of TrivialAugment (Wide) per training image."}
    )
    random_erasing: float = field(
        default=0.0, metadata={"help": "Share of the training images in which a random box is painted over."}
    )
    aa: str | None = field(
        default=None,
        metadata={
            "help": "Policy of RandAugment or AutoAugment, as timm writes it: rand-m9-mstd0.5-inc1, original, "
            "originalr, v0 or v0r.",
            "metavar": "POLICY",
        },
    )
    mixup: float = field(
        default=0.0,
        metadata={"help": "mixup: blend pairs of images and labels by Beta(this, this), such as 0.2; 0 for no mixup."},
    )
    cutmix: float = field(
        default=0.0,
        metadata={"help": "CutMix: exchange boxes of pairs, their area by Beta(this, this), such as 1; 0 for none."},
    )
    mixup_prob: float = field(default=1.0, metadata={"help": "Probability that a pair of images is mixed at all."})
    mixup_switch_prob: float = field(
        default=0.5, metadata={"help": "Probability of CutMix where both mixup and CutMix are asked for."}
    )

    def __post_init__(self) -> None:
        check_range(self, "crop_padding", 0, math.inf)
        check_range(self, "min_crop_scale", 0, 1, exclude_low=True)
        check_range(self, "color_jitter", 0, 1)
        check_range(self, "random_erasing", 0, 1)
        if self.aa is not None:
            parse_policy(self.aa)
            if self.trivial_augment:
                raise ValueError(
                    f"aa is {self.aa!r} but trivial_augment is true, expected one of them: each is a policy of "
                    "operations; leave the other out"
                )
        self._check_mixing()

    def _check_mixing(self) -> None:
        for name in ("mixup", "cutmix"):
            value = getattr(self, name)
            if value != 0 and not 0.01 <= value <= 10:
                raise ValueError(f"{name} is {value}, expected 0, for none, or a parameter of Beta from 0.01 to 10")
        check_range(self, "mixup_prob", 0, 1, exclude_low=True)
        check_range(self, "mixup_switch_prob", 0, 1)
        if self.mixup_prob != _default("mixup_prob") and not self.mixes:
            raise ValueError(
                f"mixup_prob is {self.mixup_prob} but nothing is mixed, expected --mixup or --cutmix with it; add one "
                "of them, or leave mixup_prob out"
            )
        if self.mixup_switch_prob != _default("mixup_switch_prob") and not (self.mixup and self.cutmix):
            raise ValueError(
                f"mixup_switch_prob is {self.mixup_switch_prob}, which chooses between mixup and CutMix, but mixup is "
                f"{self.mixup} and cutmix {self.cutmix}; give both, or leave mixup_switch_prob out"
            )

    @property
    def mixes(self) -> bool:
        """Whether training images are mixed in pairs."""
        return self.mixup > 0 or self.cutmix > 0

    def recorded(self) -> dict[str, Any]:
        """All choices by name, as records keep them; options that an earlier version lacked only where they are used.

        So what was recorded before there were such options stays valid.
        """
        return {name: value for name, value in asdict(self).items() if name not in _LATER or value != _default(name)}

    def for_images(self, size: int, *, small: bool, mirrored: bool) -> Augmentation:
        """Return the augmentation with every choice made: small images get a padded crop, large ones a resized crop.

        Args:
            size: Side of the batches in pixels.
            small: Whether the stored images are small.
            mirrored: Whether a mirrored image still shows its class.
        """
        padding = size // 8 if self.crop_padding is None else self.crop_padding
        return replace(
            self,
            crop_padding=padding if small else None,
            min_crop_scale=None if small else self.min_crop_scale,
            horizontal_flip=mirrored if self.horizontal_flip is None else self.horizontal_flip,
        )


_LATER = ("aa", "mixup", "cutmix", "mixup_prob", "mixup_switch_prob")
_FIELDS = {each.name: each for each in fields(Augmentation)}
_CHOICES = tuple(name for name in _FIELDS if name != "seed")
_OFF_BY_DEFAULT = tuple(name for name in _CHOICES if not _FIELDS[name].default)


def _default(name: str) -> Any:
    return _FIELDS[name].default


def _option_of(name: str) -> Any:
    """A command-line option with default and help text of a field of `Augmentation`."""
    return field(default=_FIELDS[name].default, metadata=dict(_FIELDS[name].metadata))


@dataclass
class AugmentationArguments:
    """How training images are augmented: the options of the command line."""

    title: ClassVar[str] = "Augmentation"

    augmentation: Literal["standard", "none"] = field(
        default="standard",
        metadata={"help": "standard: random crop and mirroring; none: training images as in evaluation."},
    )
    crop_padding: int | None = _option_of("crop_padding")
    min_crop_scale: float = _option_of("min_crop_scale")
    horizontal_flip: bool | None = _option_of("horizontal_flip")
    color_jitter: float = _option_of("color_jitter")
    trivial_augment: bool = _option_of("trivial_augment")
    random_erasing: float = _option_of("random_erasing")
    aa: str | None = _option_of("aa")
    mixup: float = _option_of("mixup")
    cutmix: float = _option_of("cutmix")
    mixup_prob: float = _option_of("mixup_prob")
    mixup_switch_prob: float = _option_of("mixup_switch_prob")
    augmentation_seed: int | None = field(
        default=None,
        metadata={
            "help": "Seed of the augmentation; default: seed. If it is the same, students of other seeds can replay "
            "recorded teacher targets."
        },
    )

    def __post_init__(self) -> None:
        self.chosen_augmentation(0)  # checks the ranges
        given = [name for name in _OFF_BY_DEFAULT if getattr(self, name)]
        if self.augmentation == "none" and given:
            raise ValueError(
                f"augmentation is 'none' but {given[0]} is {getattr(self, given[0])}: nothing would be augmented; "
                "leave one of them out"
            )

    @property
    def mixes(self) -> bool:
        """Whether training images are mixed in pairs."""
        return self.mixup > 0 or self.cutmix > 0

    def chosen_augmentation(self, seed: int) -> Augmentation | None:
        """Return the augmentation asked for, None for none; `seed` is that of the run.

        Raises:
            ValueError: If an option is out of range.
        """
        choices = Augmentation(
            seed=seed if self.augmentation_seed is None else self.augmentation_seed,
            **{name: getattr(self, name) for name in _CHOICES},
        )
        return choices if self.augmentation == "standard" else None
