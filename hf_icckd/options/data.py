"""Options of the data: which images, how large, and how they are augmented."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from hf_icckd.options.augmentation import AugmentationArguments
from hf_icckd.options.checks import check_pixel_range, check_range
from hf_icckd.options.imbalance import Sampling, SamplingArguments

RESIDENT_MAX_BYTES = 2 * 1024**3
ALLOW_LEAKAGE = "Accept a teacher or other model that was trained on more than one in a hundred test images."


@dataclass
class ImageDataArguments:
    """Which images to load: all that `load_image_data` needs."""

    title: ClassVar[str] = "Images"

    dataset: str = field(
        default="digits",
        metadata={
            "help": "Folder or file of images (class folders, tables, archives, ...), a Hub id such as "
            "uoft-cs/cifar100, digits (embedded) or synthetic (generated)."
        },
    )
    dataset_config_name: str | None = field(
        default=None, metadata={"help": "Configuration of a Hub data set that has several."}
    )
    splits: Literal["auto", "none"] = field(
        default="auto", metadata={"help": "none: no folder or file is a split, whatever it is called."}
    )
    train_split: list[str] | None = field(
        default=None, metadata={"help": "Folders, files or split names to train on; default: found by their names."}
    )
    test_split: list[str] | None = field(
        default=None, metadata={"help": "Folders, files or split names to test on; default: found by their names."}
    )
    validation_split: list[str] | None = field(
        default=None, metadata={"help": "Folders, files or split names for validation; default: found by their names."}
    )
    image_column: str | None = field(
        default=None, metadata={"help": "Column of the images; default: found by its type."}
    )
    label_column: str | None = field(
        default=None, metadata={"help": "Column of the labels; default: found by its name, then by its type."}
    )
    group_column: str | None = field(
        default=None,
        metadata={"help": "Column of a patient, site or video whose images must not be cut into two splits."},
    )
    labels: str | None = field(
        default=None,
        metadata={"help": "Table (CSV, TSV or JSON lines) of file names and labels.", "metavar": "FILE"},
    )
    label_pattern: str | None = field(
        default=None,
        metadata={"help": "Regular expression whose first group is the label, searched in the path of each image."},
    )
    missing_labels: Literal["error", "skip"] = field(
        default="error", metadata={"help": "Rows without a label: an error, or leave them out."}
    )
    bad_images: Literal["error", "skip"] = field(
        default="error", metadata={"help": "Images that can't be read: an error, or leave them out."}
    )
    duplicates: Literal["keep", "drop"] = field(
        default="keep", metadata={"help": "Exact copies of an image: keep them, or keep one."}
    )
    pixel_range: list[float] | None = field(
        default=None,
        metadata={"help": "Values of black and white in deep images: LOW HIGH; default: the range of their type."},
    )
    classes: list[str] | None = field(default=None, metadata={"help": "Names of the classes to use; default: all."})
    label_groups: str | None = field(
        default=None,
        metadata={
            "help": "YAML file of lines `group: [class, class]`: train on groups instead of classes; a probe measures "
            "how well the classes can still be told apart.",
            "metavar": "FILE",
        },
    )
    test_fraction: float = field(
        default=0.2, metadata={"help": "Share of the images to cut off as test split if there is none."}
    )
    validation_fraction: float = field(
        default=0.0, metadata={"help": "Share of the training images to set aside for validation."}
    )
    fold: str | None = field(
        default=None,
        metadata={
            "help": "K/N, such as 0/5: leave part K (from 0) of N of the training images out, chosen by content; for "
            "teachers from scratch that teach what they have not seen (cross_fitted_with).",
            "metavar": "K/N",
        },
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
        check_pixel_range(self.pixel_range)
        self.fold_numbers()
        if self.label_pattern is not None:
            _check_pattern(self.label_pattern)

    def fold_numbers(self) -> tuple[int, int] | None:
        """Which part is left out, and of how many; None for none.

        Example:
            >>> ImageDataArguments(fold="0/5").fold_numbers()
            (0, 5)
        """
        if self.fold is None:
            return None
        found = re.fullmatch(r"(\d+)/(\d+)", self.fold)
        if found is None or not (int(found[1]) < int(found[2]) and int(found[2]) >= 2):
            raise ValueError(f"fold is {self.fold!r}, expected K/N with K from 0 to N - 1, for example 0/5")
        return int(found[1]), int(found[2])

    def pixel_limits(self) -> tuple[float, float] | None:
        """Values of black and white in deep images; None for the range of their type."""
        return None if self.pixel_range is None else (self.pixel_range[0], self.pixel_range[1])


@dataclass
class UnlabeledDataArguments(ImageDataArguments):
    """Which images to load, some of them without labels."""

    title: ClassVar[str] = "Images without labels"

    unlabeled_dataset: str | None = field(
        default=None,
        metadata={
            "help": "Images without labels to learn from too: a folder or a file of images, or a Hub id, as for "
            "dataset; labels in it are ignored."
        },
    )
    unlabeled_only: bool = field(
        default=False,
        metadata={
            "help": "Train on the images without labels alone; labelled ones only fit a head that nothing trained."
        },
    )
    max_unlabeled_samples: int | None = field(
        default=None, metadata={"help": "Use at most this many images without labels."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, "max_unlabeled_samples", 1, math.inf)
        if self.unlabeled_dataset is None:
            for name in ("unlabeled_only", "max_unlabeled_samples"):
                if getattr(self, name):
                    raise ValueError(
                        f"{name} is {getattr(self, name)} but there are no images without labels; name them with "
                        "--unlabeled_dataset, or leave it out"
                    )
        elif self.streaming:
            raise ValueError(
                f"unlabeled_dataset is {self.unlabeled_dataset!r} but streaming is true: images of a stream have no "
                "row numbers for others to follow; leave one of them out"
            )


def _check_pattern(pattern: str) -> None:
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"label_pattern is {pattern!r}, which is no regular expression: {error}") from None
    if groups == 0:
        raise ValueError(
            f"label_pattern is {pattern!r}, expected round brackets around the label, as in '(.+)_[0-9]+'"
        )


@dataclass
class DataArguments(ImageDataArguments):
    """Which images to load, and how large to make them."""

    title: ClassVar[str] = "Images"

    image_size: int | None = field(
        default=None,
        metadata={"help": "Side of the net's images in pixels; default: their own up to 96, else the model's."},
    )
    resident_max_bytes: int = field(
        default=RESIDENT_MAX_BYTES,
        metadata={
            "help": "Largest split of small images that is kept in memory, with a teacher's pixels; of large ones, "
            "the split that is evaluated while training."
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, "image_size", 1, math.inf)


@dataclass
class TrainingDataArguments(AugmentationArguments, SamplingArguments, DataArguments):
    """Which images to train on, and how they are augmented."""

    title: ClassVar[str] = "Images"

    decoding: Literal["scaled", "whole"] = field(
        default="scaled",
        metadata={
            "help": "scaled: large JPEGs are decoded at 1/2, 1/4 or 1/8 for random crops that need no more; whole: "
            "all their pixels, as in evaluation."
        },
    )
    image_cache: int | None = field(
        default=None,
        metadata={
            "help": "Make copies of large training images once, with this short side in pixels, in the cache folder "
            "of datasets, and train on them; default: no copies.",
            "metavar": "SIDE",
        },
    )
    allow_leakage: bool = field(default=False, metadata={"help": ALLOW_LEAKAGE})

    def __post_init__(self) -> None:
        DataArguments.__post_init__(self)
        check_range(self, "image_cache", 1, math.inf)
        if self.image_cache is not None and self.streaming:
            raise ValueError(
                f"image_cache is {self.image_cache} but streaming is true: a stream is read because it doesn't fit on "
                "the disk; leave one of them out"
            )
        AugmentationArguments.__post_init__(self)
        self.chosen_sampling(0)  # for its error

    def chosen_sampling(self, seed: int) -> Sampling | None:
        """Return the sampling asked for, None for every image once; `seed` is that of the run.

        The draws have the seed of the augmentation, so that students of other seeds can replay recorded targets.
        """
        if self.sampling == "all":
            return None
        return Sampling(self.sampling, seed if self.augmentation_seed is None else self.augmentation_seed)


@dataclass
class StudentDataArguments(UnlabeledDataArguments, TrainingDataArguments):
    """Which images a student learns from, and how they are augmented."""

    title: ClassVar[str] = "Images"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.unlabeled_dataset is not None and self.sampling != "all":
            raise ValueError(
                f"sampling is {self.sampling!r} but unlabeled_dataset is {self.unlabeled_dataset!r}: images without "
                "labels have no class to be shown by; leave one of them out"
            )
