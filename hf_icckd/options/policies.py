"""Augmentation policies as timm writes them, `rand-m9-mstd0.5-inc1` or `original`: what they say, checked."""

from __future__ import annotations

import functools
import math
import re
from typing import NamedTuple

_EXAMPLES = "rand-m9-mstd0.5-inc1, original, originalr, v0 or v0r"
_MOST_LAYERS = 10
_UNIFORM = 100  # a larger mstd stands for a uniform magnitude

_ANY_DIRECTION = ("AutoContrast", "Equalize", "Invert", "Rotate")
_MOVES = ("ShearX", "ShearY", "TranslateXRel", "TranslateYRel")
_RAND = (
    *_ANY_DIRECTION, "Posterize", "Solarize", "SolarizeAdd", "Color", "Contrast", "Brightness", "Sharpness", *_MOVES,
)  # fmt: skip
_RAND_INCREASING = (
    *_ANY_DIRECTION, "PosterizeIncreasing", "SolarizeIncreasing", "SolarizeAdd", "ColorIncreasing",
    "ContrastIncreasing", "BrightnessIncreasing", "SharpnessIncreasing", *_MOVES,
)  # fmt: skip

# Choices of two steps: operation, probability, magnitude. `Post` stands for one of timm's three kinds of Posterize.
_ORIGINAL = """
Post .4 8 Rotate .6 9|Solarize .6 5 AutoContrast .6 5|Equalize .8 8 Equalize .6 3|Post .6 7 Post .6 6
Equalize .4 7 Solarize .2 4|Equalize .4 4 Rotate .8 8|Solarize .6 3 Equalize .6 7|Post .8 5 Equalize 1 2
Rotate .2 3 Solarize .6 8|Equalize .6 8 Post .4 6|Rotate .8 8 Color .4 0|Rotate .4 9 Equalize .6 2
Equalize 0 7 Equalize .8 8|Invert .6 4 Equalize 1 8|Color .6 4 Contrast 1 8|Rotate .8 8 Color 1 2
Color .8 8 Solarize .8 7|Sharpness .4 7 Invert .6 8|ShearX .6 5 Equalize 1 9|Color .4 0 Equalize .6 3
Equalize .4 7 Solarize .2 4|Solarize .6 5 AutoContrast .6 5|Invert .6 4 Equalize 1 8|Color .6 4 Contrast 1 8
Equalize .8 8 Equalize .6 3"""
_V0 = """
Equalize .8 1 ShearY .8 4|Color .4 9 Equalize .6 3|Color .4 1 Rotate .6 8|Solarize .8 3 Equalize .4 7
Solarize .4 2 Solarize .6 2|Color .2 0 Equalize .8 8|Equalize .4 8 SolarizeAdd .8 3|ShearX .2 9 Rotate .6 8
Color .6 1 Equalize 1 2|Invert .4 9 Rotate .6 0|Equalize 1 9 ShearY .6 3|Color .4 7 Equalize .6 0
Post .4 6 AutoContrast .4 7|Solarize .6 8 Color .6 9|Solarize .2 4 Rotate .8 9|Rotate 1 7 TranslateYRel .8 9
ShearX 0 0 Solarize .8 4|ShearY .8 0 Color .6 4|Color 1 0 Rotate .6 2|Equalize .8 4 Equalize 0 8
Equalize 1 4 AutoContrast .6 2|ShearY .4 7 SolarizeAdd .6 7|Post .8 2 Solarize .6 10|Solarize .6 8 Equalize .6 1
Color .8 6 Rotate .4 5"""
_AUTO = {
    "original": (_ORIGINAL, "PosterizeOriginal"),
    "originalr": (_ORIGINAL, "PosterizeIncreasing"),
    "v0": (_V0, "Posterize"),
    "v0r": (_V0, "PosterizeIncreasing"),
}


class Step(NamedTuple):
    """One operation of a policy, by timm's name, how probable it is and its magnitude."""

    operation: str
    probability: float
    magnitude: float


class Policy(NamedTuple):
    """What an image goes through: in each layer one of the choices, at random, whose steps follow one another.

    Attributes:
        choices: Lists of steps to choose from, all of one length.
        layers: How often a choice is made.
        noise: Standard deviation of the magnitudes; infinity for uniform between 0 and the magnitude.
        largest: Bound of the magnitudes with noise.
    """

    choices: tuple[tuple[Step, ...], ...]
    layers: int = 1
    noise: float = 0.0
    largest: float = 10.0


@functools.cache
def parse_policy(text: str) -> Policy:
    """Read a policy as timm's `--aa` takes it.

    RandAugment is `rand` with `m` (magnitude, 10), `n` (layers, 2), `p` (probability of each layer, 0.5), `mstd`
    (noise of the magnitude, 0), `mmax` (its bound, 10) and `inc1` (operations grow stronger with the magnitude).
    AutoAugment is `original`, `originalr`, `v0` or `v0r`, with `mstd`.

    Raises:
        ValueError: If the text is not such a policy.

    Reference:
        Cubuk et al.: AutoAugment. arXiv 1805.09501. Cubuk et al.: RandAugment. arXiv 1909.13719. The magnitude's
        noise is timm's own.

    Example:
        >>> parse_policy("rand-m9-mstd0.5-inc1").choices[3]
        (Step(operation='Rotate', probability=0.5, magnitude=9.0),)
        >>> len(parse_policy("original").choices)
        25
    """
    name, *sections = text.split("-")
    if name == "rand":
        return _rand_augment(_numbers(text, sections, ("m", "n", "p", "mstd", "mmax", "inc")), text)
    if name in _AUTO:
        noise = _numbers(text, sections, ("mstd",)).get("mstd", 0.0)
        return Policy(_auto_augment(*_AUTO[name]), noise=_noise(noise))
    if name in ("augmix", "3a"):
        raise _wrong(text, f"{name} blurs or mixes copies of an image, which this package does not do")
    raise _wrong(text, "there is no such policy")


def _rand_augment(given: dict[str, float], text: str) -> Policy:
    largest, layers, probability = given.get("mmax", 10), given.get("n", 2), given.get("p", 0.5)
    magnitude, increasing = given.get("m", 10), given.get("inc", 0)
    for name in ("m", "n", "mmax", "inc"):
        if given.get(name, 0) % 1:
            raise _wrong(text, f"{name} is {given[name]:g}, expected a whole number")
    if largest == 0 or magnitude > largest:
        raise _wrong(text, f"m is {magnitude:g}, expected at most {largest:g}; mmax, above 0, sets another bound")
    if not 1 <= layers <= _MOST_LAYERS:
        raise _wrong(text, f"n is {layers:g}, expected 1 to {_MOST_LAYERS} operations for an image")
    if probability > 1:
        raise _wrong(text, f"p is {probability:g}, expected a probability")
    if increasing not in (0, 1):
        raise _wrong(text, f"inc is {increasing:g}, expected 0 or 1")
    names = _RAND_INCREASING if increasing else _RAND
    choices = tuple((Step(name, probability, magnitude),) for name in names)
    return Policy(choices, int(layers), _noise(given.get("mstd", 0.0)), largest)


def _auto_augment(table: str, posterize: str) -> tuple[tuple[Step, ...], ...]:
    choices = re.split(r"[|\n]", table.strip().replace("Post ", f"{posterize} "))
    return tuple(_steps(choice.split()) for choice in choices)


def _steps(words: list[str]) -> tuple[Step, ...]:
    return tuple(Step(words[at], float(words[at + 1]), float(words[at + 2])) for at in range(0, len(words), 3))


def _noise(mstd: float) -> float:
    return math.inf if mstd > _UNIFORM else mstd


def _numbers(text: str, sections: list[str], known: tuple[str, ...]) -> dict[str, float]:
    """Sections such as `mstd0.5` as numbers by name."""
    found: dict[str, float] = {}
    for section in sections:
        match = re.fullmatch(r"([a-z]+)(\d+(?:\.\d+)?)", section)
        if match is None or match[1] not in known:
            raise _wrong(text, f"its section {section!r} is not one of {', '.join(known)} with a number")
        if match[1] in found:
            raise _wrong(text, f"it gives {match[1]} twice")
        found[match[1]] = float(match[2])
    return found


def _wrong(text: str, reason: str) -> ValueError:
    return ValueError(f"aa is {text!r}: {reason}; expected a policy of timm such as {_EXAMPLES}")
