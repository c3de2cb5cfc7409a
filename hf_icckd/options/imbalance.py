"""Options for classes of very different sizes. Light: nothing here imports torch, so that help comes at once."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar, Literal

KINDS = ("balanced", "square_root")


@dataclass(frozen=True)
class Sampling:
    """How often an epoch shows the images of each class; without it, every image once.

    The draws are a function of the seed and of the epoch.

    Attributes:
        kind: `balanced`: every class as often as any other; `square_root`: as often as the root of its images.
        seed: Seed of the draws.

    Example:
        >>> Sampling("balanced", seed=3).kind
        'balanced'
    """

    kind: Literal["balanced", "square_root"] = "balanced"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(
                f"sampling is {self.kind!r}, expected {' or '.join(KINDS)}; leave it out to show every image once"
            )


@dataclass
class SamplingArguments:
    """How often an epoch shows the images of each class."""

    title: ClassVar[str] = "Imbalance"

    sampling: Literal["all", "balanced", "square_root"] = field(
        default="all",
        metadata={
            "help": "all: an epoch shows every image once; balanced: it shows as many images, equally many of each "
            "class; square_root: of each class in proportion to the root of its images."
        },
    )


@dataclass
class ClassBalanceArguments:
    """How the cross-entropy makes up for classes of different sizes."""

    title: ClassVar[str] = "Imbalance"

    class_weights: list[str] | None = field(
        default=None,
        metadata={
            "help": "Weights of the classes in the cross-entropy: balanced (one over the images of the class), "
            "square_root (one over the root of them), or a number for each class in the order of the classes."
        },
    )
    logit_adjustment: float = field(
        default=0.0,
        metadata={
            "help": "Add this times the log of each class's share of the images to its logit, in the cross-entropy of "
            "training only; 1 fits balanced accuracy."
        },
    )


def class_weight_words(given: str | Iterable[str | float] | None) -> list[str] | None:
    """Class weights as a run records them: the name of a rule, or a number for each class.

    Raises:
        ValueError: If they are neither.

    Example:
        >>> class_weight_words("balanced"), class_weight_words([1, 2.5])
        (['balanced'], ['1.0', '2.5'])
    """
    if given is None:
        return None
    words = [given] if isinstance(given, str) else [str(each) for each in given]
    if len(words) == 1 and words[0] in KINDS:
        return words
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        numbers = []
    if not numbers or not all(0 < number < math.inf for number in numbers):
        raise ValueError(
            f"class_weights is {' '.join(words)!r}, expected {', '.join(KINDS)}, or a number above 0 for each class, "
            "in the order of the classes"
        )
    return [repr(number) for number in numbers]


def check_logit_adjustment(value: float) -> None:
    """Raise ValueError if the factor is below 0 or not finite."""
    if not 0 <= value < math.inf:
        raise ValueError(
            f"logit_adjustment is {value}, expected 0, for none, or a number above 0: 1 fits balanced accuracy, and "
            "below 0 large classes would be favoured still more"
        )


def check_one_remedy(class_weights: list[str] | None, logit_adjustment: float, sampling: str = "all") -> None:
    """Raise ValueError if more than one of the options is given: each makes up for the imbalance alone."""
    given = {
        "class_weights": " ".join(class_weights or []),
        "logit_adjustment": logit_adjustment,
        "sampling": "" if sampling == "all" else sampling,
    }
    asked = [f"{name} {value}" for name, value in given.items() if value]
    if len(asked) > 1:
        raise ValueError(
            f"{' and '.join(asked)} are given, expected one of class_weights, logit_adjustment and sampling: each "
            "makes up for the imbalance alone, and two of them would favour small classes over large ones; leave out "
            "the others"
        )


def check_cross_entropy_counts(ce_weight: float, class_weights: list[str] | None, logit_adjustment: float) -> None:
    """Raise ValueError if options change a cross-entropy that has no weight in the loss."""
    if ce_weight == 0 and (class_weights or logit_adjustment):
        name = "class_weights" if class_weights else "logit_adjustment"
        raise ValueError(
            f"{name} is given but ce_weight is 0, and it changes nothing but the cross-entropy; give --ce_weight, or "
            f"leave {name} out"
        )
