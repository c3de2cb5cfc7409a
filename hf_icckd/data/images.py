"""One image: from its stored bytes to an RGB picture of the right size."""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageOps
from datasets import Dataset


class UnreadableImageError(ValueError):
    """A row holds no readable image.

    A DataLoader raises the error of a worker again with the whole traceback as its text; only the last line is meant
    for the user.
    """

    def __init__(self, message: str):
        super().__init__(message.rpartition(f"{type(self).__name__}: ")[2].strip())


def read_image(split: Dataset, row: int, name: str = "train") -> PIL.Image.Image:
    """Decode one image of a split as RGB.

    Args:
        split: Data set with an undecoded `image` column.
        name: Name of the split for errors.

    Raises:
        UnreadableImageError: If the row holds no readable image; the message names split and row.
    """
    record = split[row]
    origin = [f"row {record['row']} before it was cut"] if record.get("row", row) != row else []
    if isinstance(record["image"], dict) and record["image"].get("path"):
        origin.append(record["image"]["path"])
    where = f" ({', '.join(origin)})" if origin else ""
    return decode_image(record["image"], f"{name} split: row {row}{where}", "; repair the file or remove the row")


def decode_image(stored: dict | None, what: str, remedy: str = "") -> PIL.Image.Image:
    """Decode a stored image as RGB.

    Args:
        stored: `{"bytes": ..., "path": ...}`; one of them is enough.
        what: Name of the image for errors.
        remedy: End of the error message: how the user can fix it.

    Raises:
        UnreadableImageError: If it can't be decoded.
    """
    try:
        with PIL.Image.open(_source(stored)) as image:
            return to_rgb(PIL.ImageOps.exif_transpose(image))
    except Exception as error:  # decoders raise dozens of types for broken files
        raise UnreadableImageError(
            f"{what} cannot be read as an image ({type(error).__name__}: {error}){remedy}"
        ) from error


def image_size(split: Dataset, row: int) -> tuple[int, int] | None:
    """Read (width, height) from the header of an image; None if it can't be read: decoding it will say why."""
    try:
        with PIL.Image.open(_source(split[row]["image"])) as image:
            return image.size
    except Exception:  # as above
        return None


def to_rgb(image: PIL.Image.Image) -> PIL.Image.Image:
    """Convert any mode to RGB; deep grey images keep their contrast, transparent ones get a white background."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        # Pillow would clip at 255. The value of white is not recorded, and a guess per image would make similar images
        # differ by a power of two, so the brightest pixel of each image becomes white.
        pixels = np.asarray(image, dtype=np.float64)
        if not np.isfinite(pixels).all():
            raise ValueError("it holds values that are not finite")
        white = pixels.max() if pixels.max() > 0 else 1
        image = PIL.Image.fromarray((pixels * (255 / white)).round().clip(0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        ground = PIL.Image.new("RGBA", image.size, "white")
        return PIL.Image.alpha_composite(ground, image).convert("RGB")
    return image.convert("RGB")


def resampling(interpolation: str) -> PIL.Image.Resampling:
    """Return Pillow's filter for a name from timm's configurations."""
    try:
        return PIL.Image.Resampling[interpolation.upper()]
    except KeyError:
        names = ", ".join(each.name.lower() for each in PIL.Image.Resampling)
        raise ValueError(f"interpolation is {interpolation!r}, expected one of: {names}") from None


def resize_and_crop(
    image: PIL.Image.Image, size: int, crop_pct: float, interpolation: str = "bilinear"
) -> PIL.Image.Image:
    """Scale the short side to `size / crop_pct` and crop the central square of `size` pixels, rounded as in timm."""
    if image.size == (size, size) and crop_pct == 1:
        return image
    short = max(size, int(size / crop_pct))
    width, height = (int(short * side / min(image.size)) for side in image.size)
    left, top = round((width - size) / 2), round((height - size) / 2)
    image = image.resize((width, height), resampling(interpolation))
    return image.crop((left, top, left + size, top + size))


def _source(value: dict[str, Any] | None) -> io.BytesIO | str:
    value = value or {}
    if value.get("bytes") is not None:
        return io.BytesIO(value["bytes"])
    if not value.get("path"):
        raise ValueError("the cell is empty")
    return value["path"]


# Broken EXIF blocks are harmless, and a warning for each image would hide everything else.
warnings.filterwarnings("ignore", message=".*EXIF.*", module="PIL")
