"""One image: from its stored bytes to an RGB image of the right size."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import PIL.Image
import PIL.ImageOps
from datasets import Dataset

from hf_icckd.data.depth import Depth, OutsideRange, Range, depth_of, eight_bits, values_of
from hf_icckd.data.formats import HEAD_BYTES, readable_formats, unreadable_format
from hf_icckd.models.classifier import CropMode

CROP_MODES: tuple[str, ...] = get_args(CropMode)
READER = 3  # increase it whenever the pixels that are read from an image change: pixels are kept between runs
REMEDY = "; repair or remove it, or leave out such images with --bad_images skip"


class UnreadableImageError(ValueError):
    """A row holds no readable image.

    A DataLoader raises the error of a worker again with the whole traceback as its text; only the last line is meant
    for the user.
    """

    def __init__(self, message: str):
        super().__init__(message.rpartition(f"{type(self).__name__}: ")[2].strip())


class PixelRangeError(UnreadableImageError):
    """An image holds values that are neither black, white nor between them: an option is wrong, not the file."""


def read_image(
    split: Dataset, row: int, name: str = "train", pixel_range: Range | None = None, remedy: str = REMEDY
) -> PIL.Image.Image:
    """Decode one image of a split as RGB.

    Args:
        split: Data set with an undecoded `image` column.
        name: Name of the split for errors.
        pixel_range: Values of black and white in deep images; None for the range of their type.
        remedy: End of the error message: how the user can fix it.

    Raises:
        UnreadableImageError: If the row holds no readable image; the message names split and row.
    """
    record = split[row]
    return decode_image(record["image"], name_of_row(record, row, name), remedy, pixel_range)


def name_of_row(record: dict[str, Any], row: int, name: str) -> str:
    """Name an image for errors: split, row, the row before a cut, and the file if it is one.

    Of an image without a label, only the file, or the row in its own data set.
    """
    file = record["image"].get("path") if isinstance(record["image"], dict) else None
    if record.get("label") == -1:  # no label; where it is read, its rows may stand behind those of the training split
        return f"unlabelled image {file or 'in row {}'.format(record.get('row', row))}"
    origin = [f"row {record['row']} before it was cut"] if record.get("row", row) != row else []
    if file:
        origin.append(file)
    where = f" ({', '.join(origin)})" if origin else ""
    return f"{name} split: row {row}{where}"


def decode_image(
    stored: dict | None, what: str, remedy: str = "", pixel_range: Range | None = None
) -> PIL.Image.Image:
    """Decode a stored image as RGB: turned as its EXIF orientation says, white where it is transparent.

    Args:
        stored: `{"bytes": ..., "path": ...}`; one of them is enough.
        what: Name of the image for errors.
        remedy: End of the error message: how the user can fix it.
        pixel_range: Values of black and white in deep images; None for the range of their type.

    Raises:
        PixelRangeError: If it holds values outside the range, or has a type without one.
        UnreadableImageError: If it can't be decoded.
    """
    with image_errors(stored, what, remedy), open_image(stored) as image:
        return upright_rgb(image, pixel_range)


@contextlib.contextmanager
def image_errors(stored: dict | None, what: str, remedy: str = "") -> Iterator[None]:
    """Context in which any error of a decoder becomes one that names the image.

    Args:
        stored: `{"bytes": ..., "path": ...}`; one of them is enough.
        what: Name of the image.
        remedy: End of the error message: how the user can fix it.

    Raises:
        PixelRangeError: If it holds values outside the range, or has a type without one.
        UnreadableImageError: If it can't be decoded.
    """
    try:
        yield
    except OutsideRange as error:
        raise PixelRangeError(f"{what}: {error}") from None
    except MemoryError:  # which says nothing about the image
        raise
    except Exception as error:  # decoders raise dozens of types for broken files
        known = unreadable_format(_head(stored))
        reason = f"{type(error).__name__}: {error}" if known is None else f"it is {known}"
        raise UnreadableImageError(f"{what} cannot be read as an image ({reason}){remedy}") from error


def open_image(stored: dict | None) -> PIL.Image.Image:
    """Open a stored image without decoding it.

    Raises:
        ValueError: If there is none, or it is the preview of a raw photo.
        Exception: Of dozens of types, if it is broken.
    """
    image = PIL.Image.open(_source(stored), formats=readable_formats())
    if image.format == "TIFF" and unreadable_format(_head(stored)) is not None:
        image.close()
        raise ValueError("only its preview could be read")
    return image


def image_size(split: Dataset, row: int) -> tuple[int, int] | None:
    """Read (width, height) from the header of an image; None if it can't be read: decoding it will say why."""
    try:
        with open_image(split[row]["image"]) as image:
            return image.size
    except Exception:  # as above
        return None


def upright_rgb(image: PIL.Image.Image, pixel_range: Range | None = None) -> PIL.Image.Image:
    """Turn an opened image as its EXIF orientation says and convert it with `to_rgb`."""
    depth = depth_of(image)  # before it is turned: a copy has lost the tags of its file
    return to_rgb(PIL.ImageOps.exif_transpose(image), pixel_range, depth)


def to_rgb(image: PIL.Image.Image, pixel_range: Range | None = None, depth: Depth | None = None) -> PIL.Image.Image:
    """Convert any mode to RGB; deep images are scaled by the range of their type, transparent ones get a white ground.

    Args:
        image: An image of any mode.
        pixel_range: Values of black and white in deep images; None for the range of their type.
        depth: How the file stores its values, if `image` is a copy that no longer knows it.

    Raises:
        OutsideRange: If a value is outside the range, or there is none.
    """
    depth = depth or depth_of(image)
    if depth is not None and depth.colour and pixel_range is not None:
        raise OutsideRange(
            "it has 16-bit colours, of which only the upper 8 bits can be read, so --pixel_range can't be applied; "
            "convert the images to 8-bit colours or to 16-bit grey"
        )
    if depth is not None and not depth.colour:
        values = values_of(image, depth)
        pixels = eight_bits(values, depth, pixel_range)
        if isinstance(image.info.get("transparency"), int):
            pixels[values == image.info["transparency"]] = 255
        return PIL.Image.fromarray(pixels).convert("RGB")
    if image.mode in ("La", "RGBa"):  # colours that are multiplied by alpha, which Pillow converts in two steps
        image = image.convert(image.mode.upper())
    if image.has_transparency_data:
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
    image: PIL.Image.Image,
    size: int,
    crop_pct: float,
    interpolation: str = "bilinear",
    mode: CropMode = "center",
    fill: tuple[int, int, int] = (0, 0, 0),
) -> PIL.Image.Image:
    """Bring an image to a square of `size` pixels, to the pixel as timm does for its `crop_mode`.

    Args:
        crop_pct: Share of the scaled image that is kept along each side.
        mode: center: the short side is scaled and the central square kept; border: the long side is scaled, and the
            image gets borders; squash: both sides are scaled alike.
        fill: Colour of the borders.
    """
    if image.size == (size, size) and crop_pct == 1:
        return image
    scaled = max(size, int(size / crop_pct))
    if mode == "border":
        image = _with_borders(scale_to_longest(image, scaled, interpolation), size, fill)
    elif mode == "squash":
        image = image.resize((scaled, scaled), resampling(interpolation))
    else:
        width, height = (int(scaled * side / min(image.size)) for side in image.size)
        image = image.resize((width, height), resampling(interpolation))
    left, top = (round((side - size) / 2) for side in image.size)
    return image.crop((left, top, left + size, top + size))


def scale_to_longest(image: PIL.Image.Image, size: int, interpolation: str = "bilinear") -> PIL.Image.Image:
    """Scale an image, its proportions kept, so that its longer side has `size` pixels."""
    ratio = max(image.size) / size
    width, height = (max(1, round(side / ratio)) for side in image.size)
    return image.resize((width, height), resampling(interpolation))


def _with_borders(image: PIL.Image.Image, size: int, fill: tuple[int, int, int]) -> PIL.Image.Image:
    """Centre an image on a ground of at least `size` pixels along each side."""
    width, height = (max(side, size) for side in image.size)
    ground = PIL.Image.new("RGB", (width, height), fill)
    ground.paste(image, ((width - image.size[0]) // 2, (height - image.size[1]) // 2))
    return ground


def stored_bytes(stored: dict | None) -> bytes:
    """The bytes of a stored image. Raises ValueError if there is none, and OSError if its file can't be read."""
    source = _source(stored)
    return Path(source).read_bytes() if isinstance(source, str) else source.getvalue()


def _source(value: dict[str, Any] | None) -> io.BytesIO | str:
    value = value or {}
    if value.get("bytes") is not None:
        return io.BytesIO(value["bytes"])
    if not value.get("path"):
        raise ValueError("the cell is empty")
    return value["path"]


def _head(stored: dict[str, Any] | None) -> bytes:
    """First bytes of a stored image; empty if there is none."""
    stored = stored or {}
    if stored.get("bytes") is not None:
        return stored["bytes"][:HEAD_BYTES]
    try:
        with open(stored.get("path") or "", "rb") as file:
            return file.read(HEAD_BYTES)
    except OSError:
        return b""


# Broken EXIF blocks are harmless, and a warning for each image would hide everything else.
warnings.filterwarnings("ignore", message=".*EXIF.*", module="PIL")
