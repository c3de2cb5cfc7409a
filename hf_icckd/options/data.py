"""Options of the data: which images, how large, and how they are augmented."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from hf_icckd.options.augmentation import CHOICES, OFF_BY_DEFAULT, Augmentation, option_of
from hf_icckd.options.checks import check_range

RESIDENT_MAX_BYTES = 2 * 1024**3


@dataclass
class ImageDataArguments:
    """Which images to load: all that `load_image_data` needs."""

    dataset: str = field(
        default="digits",
        metadata={
            "help": "digits (embedded), synthetic (generated), a folder (images in a folder per class, parquet or "
            "arrow files, or what `datasets` saved) or a Hub id such as uoft-cs/cifar100."
        },
    )
    dataset_config_name: str | None = field(
        default=None, metadata={"help": "Configuration of a Hub data set that has several."}
    )
    image_column: str | None = field(
        default=None, metadata={"help": "Column of the images; default: found by its type."}
    )
    label_column: str | None = field(
        default=None, metadata={"help": "Column of the labels; default: found by its type."}
    )
    classes: list[str] | None = field(default=None, metadata={"help": "Names of the classes to use; default: all."})
    label_groups: str | None = field(
        default=None,
        metadata={
            "help": "YAML file of lines `group: [class, class]`: train on groups instead of classes; a probe measures "
            "how well the classes can still be told apart."
        },
    )
    test_fraction: float = field(
        default=0.2, metadata={"help": "Share of every class to cut off as test split if there is none."}
    )
    validation_fraction: float = field(
        default=0.0, metadata={"help": "Share of every class of the training split to set aside for validation."}
    )
    max_train_samples: int | None = field(
        default=None, metadata={"help": "Use at most this many training images, evenly over the classes."}
    )
    max_eval_samples: int | None = field(
        default=None, metadata={"help": "Use at most this many images of every other split, evenly over the classes."}
    )
    streaming: bool = field(
        default=False,
        metadata={"help": "Read rows one by one instead of downloading the data set first."},
    )

    def __post_init__(self) -> None:
        check_range(self, "validation_fraction", 0, 1, exclude_high=True)
        check_range(self, "test_fraction", 0, 1, exclude_low=True, exclude_high=True)
        check_range(self, "max_train_samples", 1, math.inf)
        check_range(self, "max_eval_samples", 1, math.inf)


@dataclass
class DataArguments(ImageDataArguments):
    """Which images to load, and how large to make them."""

    image_size: int | None = field(
        default=None,
        metadata={"help": "Side of the batches in pixels; default: the images' own up to 96, else the model's."},
    )
    resident_max_bytes: int = field(
        default=RESIDENT_MAX_BYTES,
        metadata={"help": "Largest split of small images that is kept in memory."},
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, "image_size", 1, math.inf)


@dataclass
class TrainingDataArguments(DataArguments):
    """Which images to train on, and how they are augmented."""

    augmentation: Literal["standard", "none"] = field(
        default="standard",
        metadata={"help": "standard: random crop and mirroring; none: training images as in evaluation."},
    )
    crop_padding: int | None = option_of("crop_padding")
    min_crop_scale: float = option_of("min_crop_scale")
    horizontal_flip: bool | None = option_of("horizontal_flip")
    color_jitter: float = option_of("color_jitter")
    trivial_augment: bool = option_of("trivial_augment")
    random_erasing: float = option_of("random_erasing")
    augmentation_seed: int | None = field(
        default=None,
        metadata={
            "help": "Seed of the augmentation; default: seed. If it is the same, students of other seeds can replay "
            "recorded teacher targets."
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.chosen_augmentation(0)  # checks the ranges
        given = [name for name in OFF_BY_DEFAULT if getattr(self, name)]
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
            **{name: getattr(self, name) for name in CHOICES},
        )
        return choices if self.augmentation == "standard" else None
