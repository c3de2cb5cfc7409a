"""Images of more than 8 bits: which of their values are black and white."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import PIL.Image
import PIL.TiffImagePlugin

_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339  # tags of TIFF
_UNSIGNED, _SIGNED = 1, 2  # sample formats
_WHITE_IS_ZERO = 0
_DEEP_SUFFIX = ";16"  # in Pillow's names of raw modes
_DARK = 1 / 4

Range = tuple[float, float]


class OutsideRange(ValueError):
    """A pixel is darker than black or brighter than white, or nothing says which values these are."""


class Depth(NamedTuple):
    """How the values of an image of more than 8 bits are stored.

    Attributes:
        kind: In words, such as `16-bit grey`.
        range: Values of black and white; None if the type doesn't say.
        dtype: Type of the values, where Pillow's is another one of the same length.
        inverted: Whether small values are bright.
        colour: Whether it has colours, of which Pillow keeps the upper 8 bits.
    """

    kind: str
    range: Range | None
    dtype: str | None = None
    inverted: bool = False
    colour: bool = False


def depth_of(image: PIL.Image.Image) -> Depth | None:
    """How the values of an image are stored, from its header; None for 8 bits.

    Args:
        image: As it was opened: a copy has lost the tags of its file.
    """
    tags = image.tag_v2 if isinstance(image, PIL.TiffImagePlugin.TiffImageFile) else {}
    bits = tags.get(_BITS, (0,))[0]
    signed = tags.get(_SAMPLE_FORMAT, (_UNSIGNED,))[0] == _SIGNED
    inverted = tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
    if image.mode.startswith("I;16"):
        bits = bits or 16
        return Depth(f"{bits}-bit grey", (0, 2**bits - 1), inverted=inverted)
    if image.mode == "I":
        if image.format in ("PPM", "PNG"):
            return Depth("16-bit grey", (0, 2**16 - 1))  # Pillow scales a PGM's own maximum to this one
        if tags and bits == 32 and not signed:
            return Depth("unsigned 32-bit grey", None, dtype="uint32")
        return Depth(f"signed {bits or 32}-bit grey", None)
    if image.mode == "F":
        return Depth("grey of floating point", (0, 1), inverted=inverted)
    if image.mode == "L" and bits == 8 and signed:
        return Depth("signed 8-bit grey", None, dtype="int8")
    return Depth("16-bit colour", None, colour=True) if _has_deep_colours(image) else None


def _has_deep_colours(image: PIL.Image.Image) -> bool:
    if image.mode in ("L", "P", "1"):
        return False
    arguments = [tile[3] for tile in getattr(image, "tile", [])]
    if image.format == "PPM":
        return any(isinstance(each, tuple) and each[-1] > 255 for each in arguments)
    names = [each[0] if isinstance(each, tuple) else each for each in arguments]
    return any(isinstance(name, str) and _DEEP_SUFFIX in name for name in names)


def values_of(image: PIL.Image.Image, depth: Depth) -> np.ndarray:
    """(H, W) float64 values of a deep grey image as they are stored.

    Raises:
        ValueError: If some are not finite.
    """
    values = np.asarray(image)
    if depth.dtype is not None:
        values = values.view(depth.dtype)
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("it holds values that are not finite")
    return values


def eight_bits(values: np.ndarray, depth: Depth, pixel_range: Range | None = None) -> np.ndarray:
    """Scale values to uint8: black becomes 0, white 255.

    Args:
        values: (H, W) from `values_of`.
        depth: How they are stored.
        pixel_range: Values of black and white, in place of those of the type.

    Raises:
        OutsideRange: If a value is outside the range, or there is none.
    """
    lowest, highest = values.min(), values.max()
    chosen = depth.range if pixel_range is None else pixel_range
    if chosen is None:
        raise OutsideRange(
            f"it is {depth.kind} with values from {lowest:,g} to {highest:,g}, and nothing says which are black and "
            "white; give --pixel_range LOW HIGH, the same for all images"
        )
    low, high = chosen
    if lowest < low or highest > high:
        wrong = lowest if lowest < low else highest
        origin = f"the range of {depth.kind}" if pixel_range is None else f"--pixel_range {low:.10g} {high:.10g}"
        raise OutsideRange(
            f"it holds the value {wrong:,g}, expected {low:,g} to {high:,g}, {origin}; give --pixel_range LOW HIGH, "
            "with the values of black and white in all images"
        )
    pixels = ((values - low) * (255 / (high - low))).round().astype(np.uint8)
    return 255 - pixels if depth.inverted else pixels


def too_dark(highest: float, limits: Range) -> bool:
    """Whether the brightest value of many images is so dark that their type is wider than what it holds."""
    low, high = limits
    return highest <= low + _DARK * (high - low)
