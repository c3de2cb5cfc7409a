"""One stored image: opened at once, decoded when its pixels are asked for, and no finer than a crop needs."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Literal

import numpy as np
import PIL.ExifTags
import PIL.Image
import torch
import torch.nn.functional as F
import torchvision
from PIL.JpegImagePlugin import JpegImageFile

from hf_icckd.data.depth import Range
from hf_icckd.data.images import decode_image, image_errors, open_image, resampling, stored_bytes, to_rgb

Decoding = Literal["scaled", "whole"]
Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels

_SCALES = (8, 4, 2)  # by which a JPEG decoder divides both sides, doing less work
# By the EXIF orientation: what makes a stored image upright, as in PIL.ImageOps.exif_transpose; and where the left, or
# the upper, side of the upright image is found in the stored one.
_UPRIGHT = {
    2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
    3: PIL.Image.Transpose.ROTATE_180,
    4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
    5: PIL.Image.Transpose.TRANSPOSE,
    6: PIL.Image.Transpose.ROTATE_270,
    7: PIL.Image.Transpose.TRANSVERSE,
    8: PIL.Image.Transpose.ROTATE_90,
}
_FROM_RIGHT, _FROM_BOTTOM, _SWAPPED = (2, 3, 7, 8), (3, 4, 6, 7), (5, 6, 7, 8)


class StoredImage:
    """A stored image that is decoded when it is asked for pixels, once for all that are asked for at one scale.

    Crops of a JPEG are made from a decoding at 1/2, 1/4 or 1/8 of its size, by Pillow: the smallest at which each crop
    has at least the pixels it is scaled to. Their boxes are moved by up to four pixels, see `snapped_box`. A JPEG that
    needs all its pixels is decoded by torchvision, everything else by Pillow. Crops are scaled by torch.

    Args:
        stored: `{"bytes": ..., "path": ...}`; one of them is enough.
        what: Name of the image for errors.
        remedy: End of error messages: how the user can fix it.
        pixel_range: Values of black and white in deep images; None for the range of their type.
        decoding: scaled: as said; whole: all pixels, the boxes as they are, everything by Pillow.

    Attributes:
        what: Name of the image.
        content: The stored bytes.

    Raises:
        UnreadableImageError: If it can't be opened.

    Example:
        >>> import io
        >>> content = io.BytesIO()
        >>> PIL.Image.new("RGB", (800, 600), "teal").save(content, "JPEG")
        >>> image = StoredImage({"bytes": content.getvalue()}, "a picture")
        >>> image.size, image.crops([(0, 0, 400, 400)], 100, "bilinear").shape
        ((800, 600), (1, 100, 100, 3))
    """

    def __init__(
        self,
        stored: dict | None,
        what: str,
        remedy: str = "",
        pixel_range: Range | None = None,
        decoding: Decoding = "scaled",
    ):
        self.what, self._remedy, self._pixel_range, self._decoding = what, remedy, pixel_range, decoding
        with image_errors(stored, what, remedy):
            # The bytes, so that header and pixels are those of one file, should it be replaced meanwhile.
            self.content = stored_bytes(stored)
            self._stored = {"bytes": self.content, "path": (stored or {}).get("path")}
            with open_image(self._stored) as image:
                self._jpeg = isinstance(image, JpegImageFile)  # MPO, as phones write it, is one too
                # Of other formats, Pillow would decode some to find it, and says the size of some as if upright.
                self._orientation = image.getexif().get(PIL.ExifTags.Base.Orientation, 1) if self._jpeg else 1
                self._raw_size = image.size
                self._plain = image.mode in ("RGB", "L")
        self._decoded: tuple[int, np.ndarray] | None = None
        self._whole: PIL.Image.Image | None = None  # instead, where all is done by Pillow

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, upright: from the header of a JPEG, else from the pixels."""
        if self._jpeg:
            return self._raw_size[::-1] if self._orientation in _SWAPPED else self._raw_size
        if self._decoding == "whole":
            return self._kept_whole().size
        height, width, _ = self._at(1).shape
        return width, height

    def release(self) -> None:
        """Forget the pixels; whoever asks again decodes again."""
        self._decoded = self._whole = None

    def whole(self) -> PIL.Image.Image:
        """All pixels as an upright RGB image, decoded by Pillow."""
        return decode_image(self._stored, self.what, self._remedy, self._pixel_range)

    def crops(self, boxes: Sequence[Box], size: int, interpolation: str) -> np.ndarray:
        """Cut boxes out of the upright image and scale them.

        Args:
            boxes: (V,) boxes inside of the image.
            size: Side of the results.
            interpolation: Name of Pillow's filter.

        Returns:
            (V, size, size, 3) uint8.

        Raises:
            UnreadableImageError: If it can't be decoded.
        """
        if self._decoding == "whole":
            image, method = self._kept_whole(), resampling(interpolation)
            return np.stack([np.asarray(image.resize((size, size), method, box=box)) for box in boxes])
        scale = 1
        if self._jpeg:
            boxes = [snapped_box(stored_box(box, self._raw_size, self._orientation), self._raw_size) for box in boxes]
            scale = decoding_scale(boxes, self._raw_size, size)
        pixels = self._at(scale)
        crops = np.empty((len(boxes), size, size, 3), dtype=np.uint8)
        for view, (left, top, right, bottom) in enumerate(boxes):
            part = pixels[top // scale : -(-bottom // scale), left // scale : -(-right // scale)]
            crops[view] = self._upright(resized(part, size, interpolation))
        return crops

    def shrunk(self, short_side: int) -> PIL.Image.Image | None:
        """The upright image, scaled so that its short side has `short_side` pixels; None if it has no more."""
        least = min(self.size)
        if least <= short_side:
            return None
        if self._decoding == "whole":
            image = self._kept_whole()
        else:
            scale = decoding_scale([(0, 0, *self._raw_size)], self._raw_size, short_side) if self._jpeg else 1
            image = PIL.Image.fromarray(self._upright(self._at(scale)))
        width, height = (round(side * short_side / least) for side in self.size)
        return image.resize((width, height), PIL.Image.Resampling.BICUBIC)

    def _kept_whole(self) -> PIL.Image.Image:
        self._whole = self._whole or self.whole()
        return self._whole

    def _upright(self, pixels: np.ndarray) -> np.ndarray:
        """Turn pixels of a JPEG, which are decoded as they are stored; all others are upright already."""
        if not self._jpeg or self._orientation not in _UPRIGHT:
            return pixels
        return np.asarray(PIL.Image.fromarray(pixels).transpose(_UPRIGHT[self._orientation]))

    def _at(self, scale: int) -> np.ndarray:
        """(H, W, 3) pixels of the image at a scale: as stored if it is a JPEG, else upright."""
        if self._decoded is None or self._decoded[0] != scale:
            if self._jpeg:
                with image_errors(self._stored, self.what, self._remedy):
                    pixels = self._decode(scale)
            else:
                pixels = np.asarray(self.whole())
            self._decoded = scale, pixels
        return self._decoded[1]

    def _decode(self, scale: int) -> np.ndarray:
        if scale == 1 and self._plain and jpeg_decoder() == "torchvision":
            # What only Pillow can read, it reads; and what neither can, Pillow has the better words for.
            with contextlib.suppress(RuntimeError):
                content = torch.frombuffer(bytearray(self.content), dtype=torch.uint8)
                return torchvision.io.decode_jpeg(content, torchvision.io.ImageReadMode.RGB).permute(1, 2, 0).numpy()
        with open_image(self._stored) as image:
            if scale > 1:
                image.draft(None, (self._raw_size[0] // scale, self._raw_size[1] // scale))
            return np.asarray(to_rgb(image))


def resized(pixels: np.ndarray, size: int, interpolation: str) -> np.ndarray:
    """Scale (H, W, 3) pixels to (size, size, 3), by torch: Pillow's up to one grey level, in a third of the time."""
    if interpolation not in ("bilinear", "bicubic"):
        return np.asarray(PIL.Image.fromarray(pixels).resize((size, size), resampling(interpolation)))
    # Dense, with a stride for the one image: torch then works and answers with channels last, without a transposition.
    images = torch.from_numpy(pixels.copy().reshape(1, *pixels.shape)).permute(0, 3, 1, 2)
    return F.interpolate(images, size=(size, size), mode=interpolation, antialias=True)[0].permute(1, 2, 0).numpy()


def jpeg_decoder() -> str:
    """What decodes JPEGs of which all pixels are needed: torchvision, or pillow where torchvision is built without."""
    return "torchvision" if hasattr(torch.ops.image, "decode_jpeg") else "pillow"


def snapping_unit(size: tuple[int, int]) -> int:
    """Boxes start and end at multiples of 8, 4, 2 or 1 pixels: of 8 if an image has 512 pixels along each side.

    So a box has whole pixels at each scale at which the image may be decoded, and moves by less than a hundredth of
    the short side.

    Example:
        >>> snapping_unit((4000, 3000)), snapping_unit((500, 375)), snapping_unit((128, 100))
        (8, 4, 1)
    """
    return next((unit for unit in _SCALES if min(size) >= 64 * unit), 1)


def snapped_box(box: Box, size: tuple[int, int]) -> Box:
    """Move the sides of a box to multiples of the unit, or to the sides of the image.

    Args:
        box: Box in the image as it is stored.
        size: Width and height of the image.

    Example:
        >>> snapped_box((13, 100, 1000, 749), (1001, 750))
        (16, 104, 1001, 750)
    """
    unit = snapping_unit(size)

    def snapped(low: int, high: int, side: int) -> tuple[int, int]:
        first = (low + unit // 2) // unit * unit
        last = side if 2 * (side - high) < unit else (high + unit // 2) // unit * unit
        first = min(first, (side - 1) // unit * unit)
        return first, min(side, max(last, first + unit))

    left, right = snapped(box[0], box[2], size[0])
    top, bottom = snapped(box[1], box[3], size[1])
    return left, top, right, bottom


def decoding_scale(boxes: Sequence[Box], size: tuple[int, int], target: int) -> int:
    """The largest of 8, 4, 2 and 1 by which sides can be divided and no box has fewer pixels along a side than wanted.

    Args:
        boxes: Boxes from `snapped_box`.
        size: Width and height of the image.
        target: Side that the boxes are scaled to.

    Example:
        >>> decoding_scale([(0, 0, 3000, 2000), (0, 0, 904, 952)], (4000, 3000), 224)
        4
    """
    least = min(min(right - left, bottom - top) for left, top, right, bottom in boxes)
    largest = snapping_unit(size)
    return next((scale for scale in _SCALES if scale <= largest and least >= scale * target), 1)


def stored_box(box: Box, size: tuple[int, int], orientation: int) -> Box:
    """Where a box of the upright image is in the image as it is stored.

    Args:
        box: Box in the upright image.
        size: Width and height as stored.
        orientation: Value of the EXIF tag, 1 to 8; anything else counts as 1, as in Pillow.
    """
    (left, top, right, bottom), (width, height) = box, size
    if orientation in _SWAPPED:
        left, top, right, bottom = top, left, bottom, right
    if orientation in _FROM_RIGHT:
        left, right = width - right, width - left
    if orientation in _FROM_BOTTOM:
        top, bottom = height - bottom, height - top
    return left, top, right, bottom
