"""What some training images look like, and how their pixels are read: facts to show before anything is trained."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import PIL.ExifTags
import PIL.Image
import PIL.ImageOps
import torch
from datasets import Dataset

from hf_icckd.data.depth import Depth, Range, depth_of, too_dark, values_of
from hf_icckd.data.framing import StoredSizes
from hf_icckd.data.images import UnreadableImageError, name_of_row, open_image, read_image
from hf_icckd.data.sources.image_data import ImageData
from hf_icckd.data.sources.stream import StreamedSplit

_PROBED_IMAGES = 256
_MODES = {
    "1": "black and white", "L": "8-bit grey", "P": "8-bit palette", "RGB": "8-bit colour", "LA": "8-bit grey, alpha",
    "RGBA": "8-bit colour, alpha", "PA": "8-bit palette, alpha", "CMYK": "8-bit CMYK", "YCbCr": "8-bit YCbCr",
}  # fmt: skip


@dataclass
class PixelReading:
    """What was found in up to 256 evenly spaced training images, and in as many of those without labels.

    Attributes:
        images: How many were looked at.
        modes: Kind of pixels to the number of images, the most frequent first.
        how: How they are read, one sentence each.
        deep: Those of the sentences that are about values of more than 8 bits.
        widths: Smallest, median and largest width in pixels, as stored.
        heights: The same of the heights.
        longest: Median of the longer sides; only of images with labels, which are like those that are measured.
        square: Whether all of them are.
        unreadable: How many have no header that can be read.
        unreadable_example: What is wrong with the first of them, with its name.
        warning: What looks wrong, and which option decides; empty if nothing does.
    """

    images: int
    modes: dict[str, int] = field(default_factory=dict)
    how: list[str] = field(default_factory=list)
    deep: list[str] = field(default_factory=list)
    widths: tuple[int, int, int] = (0, 0, 0)
    heights: tuple[int, int, int] = (0, 0, 0)
    longest: int | None = None
    square: bool = True
    unreadable: int = 0
    unreadable_example: str = ""
    warning: str = ""

    def stored_sizes(self, longest: int) -> StoredSizes:
        """What the sizes of small images decide; `longest` is their longer side."""
        return StoredSizes(longest, self.square, alike=len({*self.widths, *self.heights}) == 1)


def pixel_reading(data: ImageData, count: int = _PROBED_IMAGES) -> PixelReading:
    """Look at up to `count` evenly spaced training images, or the first ones of a stream, with and without labels.

    Only headers are read, except of deep images, whose values are needed.

    Raises:
        PixelRangeError: If a deep image has values outside the range, or a type without one.

    Example:
        >>> from hf_icckd import load_image_data
        >>> reading = pixel_reading(load_image_data("digits"))
        >>> reading.modes, reading.widths, reading.warning
        ({'8-bit grey': 256}, (8, 8, 8), '')
    """
    seen = _Seen(data.pixel_range)
    images = seen.add_some(data.train, count)
    longest = [max(size) for size in seen.sizes]
    if data.unlabeled is not None:
        images += seen.add_some(data.unlabeled, count)
    deep, how = seen.deep_ways(), seen.other_ways()
    reading = PixelReading(images, dict(seen.modes.most_common()), deep + how, deep, unreadable=seen.unreadable)
    if longest:
        reading.longest = int(np.median(longest))
    if seen.sizes:
        sizes = np.array(seen.sizes)
        low, middle, high = np.quantile(sizes, (0, 0.5, 1), axis=0, method="inverted_cdf").astype(int).tolist()
        reading.widths, reading.heights = zip(low, middle, high, strict=True)
        reading.square = bool((sizes[:, 0] == sizes[:, 1]).all())
    reading.warning, reading.unreadable_example = seen.warning(), seen.first_error
    return reading


class _Seen:
    """Counts over the images that were looked at."""

    def __init__(self, pixel_range: Range | None):
        self.pixel_range = pixel_range
        self.modes: Counter[str] = Counter()
        self.sizes: list[tuple[int, int]] = []
        self.brightest: dict[Depth, float] = {}
        self.first_error = ""
        self.converted = False  # by a container, which applied the range
        self.unreadable = self.turned = self.transparent = 0

    def add_some(self, split: Dataset | StreamedSplit, count: int) -> int:
        """Look at up to `count` images of a split, and return how many there were."""
        table, rows = some_rows(split, count)
        for row in rows.tolist():
            self.add(table, row)
        return len(rows)

    def add(self, split: Dataset, row: int) -> None:
        """Look at one image."""
        record = split[row]
        try:
            with open_image(record["image"]) as image:
                depth, mode, size = depth_of(image), image.mode, image.size
                self.converted |= image.format == "PPM"
                self.turned += image.getexif().get(PIL.ExifTags.Base.Orientation, 1) not in (0, 1)
                self.transparent += image.has_transparency_data
                highest = None if depth is None else _brightest(image, depth)
        except Exception as error:  # decoders raise dozens of types
            self.unreadable += 1
            self.first_error = self.first_error or _what_is_wrong(split, row, error)
            return
        self.sizes.append(size)
        self.modes[_MODES.get(mode, f"mode {mode}") if depth is None else depth.kind] += 1
        if depth is not None and highest is not None:
            read_image(split, row, "train", self.pixel_range)  # raises what it raises in training
            self.brightest[depth] = max(highest, self.brightest.get(depth, highest))

    def deep_ways(self) -> list[str]:
        """How values of more than 8 bits are read."""
        told = []
        for depth in self.brightest:
            if depth.colour:
                told.append("16-bit colours are read by their upper 8 bits.")
                continue
            low, high = self.pixel_range or depth.range or (0, 0)  # without a range it would have been refused
            origin = "the range of the type" if self.pixel_range is None else "--pixel_range"
            black, white = (high, low) if depth.inverted else (low, high)
            told.append(f"In images of {depth.kind}, {black:,g} is black and {white:,g} white ({origin}).")
        return told

    def other_ways(self) -> list[str]:
        """What else is done to images before they are framed."""
        told = []
        if self.turned:
            told.append(f"{self.turned:,} are turned as their EXIF orientation says.")
        if self.transparent:
            told.append(f"{self.transparent:,} have transparency, which is white.")
        return told

    def warning(self) -> str:
        """What looks wrong with the depth of the images."""
        if self.pixel_range is not None and self.sizes and not self.brightest and not self.converted:
            return "--pixel_range changes nothing: no image that was looked at has more than 8 bits. Leave it out."
        for depth, highest in self.brightest.items():
            if depth.colour and highest <= 255 / 4:
                return (
                    f"The brightest value of {depth.kind} images is {highest:g} of 255 after they are read: they are "
                    "nearly black. Convert them to 8 bits first: --pixel_range applies to grey images only."
                )
            if depth.range is not None and self.pixel_range is None and too_dark(highest, depth.range):
                bits = f" 0 {2 ** int(highest).bit_length() - 1}" if highest >= 1 else " LOW HIGH"
                return (
                    f"The brightest value of {depth.kind} images is {highest:,g} of {depth.range[1]:,g}: they are "
                    f"nearly black. If they hold fewer bits than their files, give --pixel_range{bits}."
                )
        return ""


def _what_is_wrong(split: Dataset, row: int, error: Exception) -> str:
    """The message that training would end with."""
    try:
        read_image(split, row)
    except UnreadableImageError as known:
        return str(known)
    return f"{name_of_row(split[row], row, 'train')} has no readable header ({error})"


def _brightest(image: PIL.Image.Image, depth: Depth) -> float:
    if depth.colour:
        return float(np.asarray(image.convert("RGB")).max())
    values = values_of(image, depth)
    return float(depth.range[1] - values.min() if depth.inverted and depth.range else values.max())


def some_rows(split: Dataset | StreamedSplit, count: int) -> tuple[Dataset, torch.Tensor]:
    """Return a table and up to `count` evenly spaced rows in it; for a stream, its first rows."""
    table = split.head(count) if isinstance(split, StreamedSplit) else split
    return table, torch.from_numpy(np.unique(np.linspace(0, len(table) - 1, min(len(table), count)).astype(np.int64)))
