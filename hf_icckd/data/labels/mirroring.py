"""Whether a mirrored image still shows its class, as far as the names of the classes tell."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hf_icckd.options.augmentation import Augmentation

# The camel's humps of `leftHand` are word breaks, as are blanks, digits and signs.
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[^\W\d_]+")
_SIDES = ("left", "right", "clockwise", "counterclockwise", "anticlockwise")
_OPPOSITES = (
    ("left", "right"), ("l", "r"), ("links", "rechts"), ("gauche", "droite"), ("izquierda", "derecha"),
    ("izquierdo", "derecho"), ("sinistra", "destra"), ("sinistro", "destro"), ("esquerda", "direita"),
)  # fmt: skip
_NUMBERS = {"zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"}
MIRRORING_ASKS = "Give --horizontal_flip true to mirror training images, or false if it is right that they are not."
_NOT_A_SIDE = re.compile(r"right[\W_]*whale", re.IGNORECASE)


def mirroring_doubt(label_names: Sequence[str]) -> str:
    """Say why a mirrored image may show another class; empty if no name speaks against mirroring.

    Names that are all digits or letters do, since a mirrored 2 is no 2 and a mirrored b is a d, and names that say
    left or right.

    Example:
        >>> mirroring_doubt(["left_hand", "right_hand", "head"])
        "the class 'left_hand' says left"
        >>> mirroring_doubt(["cat", "dog"])
        ''
    """
    if all(len(name.strip()) == 1 and name.strip().isalnum() for name in label_names):
        return "all classes are single digits or letters"
    if all(name.strip().lower() in _NUMBERS for name in label_names):
        return "all classes are digits"
    for name in label_names:
        words = {word.lower() for word in _WORDS.findall(_NOT_A_SIDE.sub("", name))}
        side = next((side for side in _SIDES if side in words), None)
        if side is not None:
            return f"the class {name!r} says {side}"
    pair = _opposites(label_names)
    return "" if pair is None else f"the classes {pair[0]!r} and {pair[1]!r} are opposite sides"


def _opposites(label_names: Sequence[str]) -> tuple[str, str] | None:
    """Two names that differ in nothing but a word for a side, whether or not it is glued to others."""
    names = {name.lower(): name for name in label_names}
    for lower, name in names.items():
        for one, other in _OPPOSITES:
            # Single letters count as whole words only.
            edge = r"(?<![^\W\d_])" if len(one) == 1 else ""
            swapped = re.sub(rf"{edge}{one}{edge.replace('<!', '!')}", other, lower)
            if swapped != lower and swapped in names:
                return name, names[swapped]
    return None


def describe_mirroring(mirrored: bool, doubt: str, augmentation: Augmentation | None) -> str:
    """Say whether training images are mirrored, and why.

    Args:
        mirrored: Whether the data set allows it.
        doubt: From `mirroring_doubt`.
        augmentation: As the user chose it; None for none.
    """
    if augmentation is None:
        return "Training images are not mirrored, because there is no augmentation."
    flip = augmentation.horizontal_flip
    if flip is not None:
        return f"Training images are {'' if flip else 'not '}mirrored, because horizontal_flip is {str(flip).lower()}."
    if mirrored:
        return "Half of the training images are mirrored, because no class name speaks against it."
    return (
        f"Training images are not mirrored, because {doubt or 'a mirrored image of this data set is another class'}."
    )
