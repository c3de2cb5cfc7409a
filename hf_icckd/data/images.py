"""One image: from what a data set stores to an RGB picture."""

from __future__ import annotations

import io
import warnings

import numpy as np
import PIL.Image
import PIL.ImageOps
from datasets import Dataset


def read_image(split: Dataset, row: int) -> PIL.Image.Image:
    """Decode one image of a split as RGB.

    Args:
        split: Data set with an undecoded `image` column.
        row: Its row.

    Raises:
        ValueError: If the row holds no readable image; the message names the row.
    """
    value = split[row]["image"]
    try:
        with PIL.Image.open(_source(value)) as image:
            return to_rgb(PIL.ImageOps.exif_transpose(image))
    except Exception as error:  # decoders raise dozens of types for broken files; every one means the same here
        origin = f" ({value['path']})" if isinstance(value, dict) and value.get("path") else ""
        raise ValueError(
            f"row {row}{origin} cannot be read as an image ({type(error).__name__}: {error}); repair the file or remove "
            "the row"
        ) from error


def image_size(split: Dataset, row: int) -> tuple[int, int] | None:
    """(width, height) from the header of an image, None where it can't be read (reading the pixels will say why)."""
    try:
        with PIL.Image.open(_source(split[row]["image"])) as image:
            return image.size
    except Exception:  # as above
        return None


def to_rgb(image: PIL.Image.Image) -> PIL.Image.Image:
    """Convert any mode to RGB; deep grey images keep their contrast, transparent ones get a white ground."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        # Pillow would clip at 255. Sixteen bits are scaled to eight.
        pixels = np.asarray(image, dtype=np.float64)
        image = PIL.Image.fromarray((pixels / (257.0 if pixels.max() > 255 else 1.0)).clip(0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or (image.mode == "P" and "transparency" in image.info):
        image = image.convert("RGBA")
        ground = PIL.Image.new("RGBA", image.size, "white")
        return PIL.Image.alpha_composite(ground, image).convert("RGB")
    return image.convert("RGB")


def resize_and_crop(image: PIL.Image.Image, size: int, crop_pct: float) -> PIL.Image.Image:
    """Scale the short side to `size / crop_pct` and cut the central square of `size` pixels."""
    if image.size == (size, size) and crop_pct == 1:
        return image
    short = max(size, round(size / crop_pct))
    scale = short / min(image.size)
    width, height = (max(short, round(side * scale)) for side in image.size)
    left, top = (width - size) // 2, (height - size) // 2
    image = image.resize((width, height), PIL.Image.Resampling.BILINEAR)
    return image.crop((left, top, left + size, top + size))


def _source(value) -> io.BytesIO | str:
    if value is None:
        raise ValueError("the cell is empty")
    if value.get("bytes") is not None:
        return io.BytesIO(value["bytes"])
    return value["path"]


# A warning per image for a harmless broken EXIF block would drown everything else.
warnings.filterwarnings("ignore", message=".*EXIF.*", module="PIL")
