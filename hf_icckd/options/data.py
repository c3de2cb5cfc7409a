"""Options: which images, and what is done to them. Each is documented and checked once, here."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from hf_icckd.options.checks import check_range


@dataclass
class DataArguments:
    """Which images."""

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
    image_column: str | None = field(default=None, metadata={"help": "Column of the images; found by its type."})
    label_column: str | None = field(default=None, metadata={"help": "Column of the labels; found by its type."})
    classes: list[str] | None = field(default=None, metadata={"help": "Names of the classes to use; default: all."})
    label_groups: str | None = field(
        default=None,
        metadata={
            "help": "YAML file of lines `group: [class, class]`: groups are learned in place of classes, and a probe "
            "says how well the classes can still be told apart."
        },
    )
    test_fraction: float = field(
        default=0.2, metadata={"help": "Share of every class to cut off as test split where there is none."}
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
        metadata={"help": "Read rows one after the other instead of fetching the data set to the disk first."},
    )
    image_size: int | None = field(
        default=None,
        metadata={"help": "Pixels of a batch's side; default: the images' own up to 96 pixels, else the model's."},
    )
    resident_max_bytes: int = field(
        default=2 * 1024**3, metadata={"help": "Small images stay in memory up to this size of a split."}
    )

    def __post_init__(self):
        check_range(self, "validation_fraction", 0, 1, exclude_high=True)
        check_range(self, "test_fraction", 0, 1, exclude_low=True, exclude_high=True)
        for name in ("max_train_samples", "max_eval_samples", "image_size"):
            check_range(self, name, 1, math.inf)


@dataclass
class TrainingDataArguments(DataArguments):
    """Which images to train on, and how they are augmented."""

    augmentation: Literal["standard", "none"] = field(
        default="standard",
        metadata={"help": "standard: random crop and mirroring; none: training images as in evaluation."},
    )
    crop_padding: int | None = field(
        default=None,
        metadata={"help": "Padding of the random crop of images up to 96 pixels; default: an eighth of the side."},
    )
    min_crop_scale: float = field(
        default=0.35, metadata={"help": "Smallest share of the area that the random crop of larger images keeps."}
    )
    horizontal_flip: bool | None = field(
        default=None, metadata={"help": "Mirror half of the training images; default: yes, but not digits."}
    )
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
    augmentation_seed: int | None = field(
        default=None,
        metadata={
            "help": "Seed of all that is done to pixels; default: seed. Students of other seeds can replay recorded "
            "teacher targets if it stays the same."
        },
    )

    def __post_init__(self):
        super().__post_init__()
        check_range(self, "min_crop_scale", 0, 1, exclude_low=True)
        check_range(self, "crop_padding", 0, math.inf)
        check_range(self, "color_jitter", 0, 1)
        check_range(self, "random_erasing", 0, 1)
        asked_for = ("crop_padding", "horizontal_flip", "color_jitter", "trivial_augment", "random_erasing")
        more = [name for name in asked_for if getattr(self, name)]
        if self.augmentation == "none" and more:
            raise ValueError(
                f"augmentation is 'none' but {more[0]} is {getattr(self, more[0])}: nothing would be augmented; leave "
                "one of them out"
            )
