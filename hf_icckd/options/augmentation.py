"""Augmentation of training images: each choice once, with its default, its range and its help text."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Literal

from hf_icckd.options.checks import check_range


@dataclass(frozen=True)
class Augmentation:
    """Random changes to training images: a crop, mirroring, colours, erasing.

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

    def __post_init__(self) -> None:
        check_range(self, "crop_padding", 0, math.inf)
        check_range(self, "min_crop_scale", 0, 1, exclude_low=True)
        check_range(self, "color_jitter", 0, 1)
        check_range(self, "random_erasing", 0, 1)

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


_FIELDS = {each.name: each for each in fields(Augmentation)}
_CHOICES = tuple(name for name in _FIELDS if name != "seed")
_OFF_BY_DEFAULT = tuple(name for name in _CHOICES if not _FIELDS[name].default)


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
