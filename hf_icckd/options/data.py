"""Options of the data: which images, how large, and how they are augmented."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from hf_icckd.options.augmentation import AugmentationArguments
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
class TrainingDataArguments(AugmentationArguments, DataArguments):
    """Which images to train on, and how they are augmented."""

    def __post_init__(self) -> None:
        DataArguments.__post_init__(self)
        AugmentationArguments.__post_init__(self)
