"""What an image processor of transformers does to pictures, measured by having it process a few."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import PIL.Image

if TYPE_CHECKING:
    from hf_icckd.models.classifier import CropMode

_WIDTH, _HEIGHT = 256, 192  # of the test pictures: every column and row has a value of its own
_INTERPOLATIONS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}  # Pillow's numbers


class Preprocessing(NamedTuple):
    """The part of a `ClassifierSpec` that says what becomes of a picture."""

    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop_pct: float
    interpolation: str
    crop_mode: CropMode


def measured_preprocessing(processor: Any) -> Preprocessing:
    """Measure size, crop and normalisation of an image processor.

    Its options are not read, because classes give them different meanings; only the filter is.

    Raises:
        ValueError: If it does something else than scaling to a square, perhaps with a crop, and normalising channels.
    """
    name = type(processor).__name__
    resample = getattr(processor, "resample", None)
    if resample is None or int(resample) not in _INTERPOLATIONS:
        raise ValueError(
            f"{name} scales images with {resample}, expected one of: {', '.join(_INTERPOLATIONS.values())}"
        )
    black, white, red = (_constant(processor, colour) for colour in ((0, 0, 0), (255, 255, 255), (255, 0, 0)))
    scale = white - black  # 1 / std
    if not np.isfinite(scale).all() or scale.min() <= 0 or np.abs(red - [white[0], black[1], black[2]]).max() > 1e-3:
        raise ValueError(
            f"{name} does not normalise red, green and blue one by one (black becomes {black}, white {white}, red "
            f"{red}); such models can't be teachers here"
        )
    std = 1 / scale
    ramps = (_processed(processor, _ramps()) * std[:, None, None] - (black * std)[:, None, None]) * 255
    size = ramps.shape[-1]
    mode, kept = _crop(ramps, name)
    scaled = round(size / kept)
    mean_values, std_values = (tuple(round(float(value), 6) + 0.0 for value in each) for each in (-black * std, std))
    return Preprocessing(
        size,
        cast("tuple[float, float, float]", mean_values),
        cast("tuple[float, float, float]", std_values),
        _share(size, scaled),
        _INTERPOLATIONS[int(resample)],
        mode,
    )


def _processed(processor: Any, picture: np.ndarray) -> np.ndarray:
    """(3, S, S) float64, as the model gets it."""
    pixels = processor(PIL.Image.fromarray(picture), return_tensors="np")["pixel_values"]
    pixels = np.asarray(pixels[0], dtype=np.float64)
    if pixels.ndim != 3 or pixels.shape[0] != 3 or pixels.shape[1] != pixels.shape[2]:
        raise ValueError(
            f"{type(processor).__name__} turns a picture of {_WIDTH} x {_HEIGHT} pixels into {pixels.shape}, expected "
            "a square (3, S, S) for any picture; give it a size with height and width, or a centre crop"
        )
    return pixels


def _constant(processor: Any, colour: tuple[int, int, int]) -> np.ndarray:
    pixels = _processed(processor, np.full((_HEIGHT, _WIDTH, 3), colour, dtype=np.uint8))
    if np.ptp(pixels, axis=(1, 2)).max() > 1e-3:
        raise ValueError(
            f"{type(processor).__name__} does not keep a picture of one colour as it is, perhaps for borders; such "
            "models can't be teachers here"
        )
    return pixels[:, 0, 0]


def _ramps() -> np.ndarray:
    """Red counts the columns, green the rows."""
    rows, columns = np.mgrid[:_HEIGHT, :_WIDTH]
    return np.stack([columns, rows, np.zeros_like(rows)], axis=-1).astype(np.uint8)


def _crop(ramps: np.ndarray, name: str) -> tuple[CropMode, float]:
    """Crop mode and the share that is kept, from how many columns and rows of the test picture are in the result."""
    size, edge = ramps.shape[-1], ramps.shape[-1] // 8  # filters bend the ramps at the edges of a picture
    inner, places = slice(edge, size - edge), np.arange(edge, size - edge)
    lines = ramps[0].mean(axis=0)[inner], ramps[1].mean(axis=1)[inner]
    (columns, first_column), (rows, first_row) = (np.polyfit(places, line, 1) for line in lines)
    middle = (size - 1) / 2
    off = max(
        abs(first_column + columns * middle - (_WIDTH - 1) / 2), abs(first_row + rows * middle - (_HEIGHT - 1) / 2)
    )
    across, down = columns * size, rows * size
    tolerance = 0.02 * _HEIGHT
    if off < max(tolerance, 2 * columns):
        if abs(across - down) < tolerance and down < _HEIGHT + tolerance:
            return "center", min(down / _HEIGHT, 1.0)
        if abs(across / _WIDTH - down / _HEIGHT) < 0.02 and down < _HEIGHT + tolerance:
            return "squash", min(down / _HEIGHT, 1.0)
    raise ValueError(
        f"{name} takes {across:.0f} columns and {down:.0f} rows of a picture of {_WIDTH} x {_HEIGHT} pixels, expected "
        "a central square or the whole picture; such models can't be teachers here"
    )


def _share(size: int, scaled: int) -> float:
    """Share of a scaled image that is kept, such that dividing by it and rounding down gives the scaled size again."""
    share = size / scaled
    return share if int(size / share) == scaled else math.nextafter(share, 0)
