"""A picture of some training images of each class."""

from __future__ import annotations

import math
import warnings
from bisect import bisect_right
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageDraw
from datasets import Dataset
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, fontManager, get_font

from hf_icckd.data.depth import Range
from hf_icckd.data.images import UnreadableImageError, read_image
from hf_icckd.data.labels.columns import labels_of
from hf_icckd.data.sources.image_data import ImageData
from hf_icckd.data.sources.stream import StreamedSplit
from hf_icckd.utils.atomic_files import replace_file
from hf_icckd.utils.plotting import DPI, GREY, GROUND, INK, ORANGE, STYLE, png, styled
from hf_icckd.utils.text import shorten

_CLASSES, _IMAGES = 25, 8
_STREAMED_ROWS = 512  # of a stream, that are looked at
_CELL, _GAP, _MARGIN = 112, 8, 24  # pixels
_NAMES, _HEADING, _ROW = 300, 76, _CELL + _GAP
_WIDTH = 2 * _MARGIN + _NAMES + _IMAGES * (_CELL + _GAP)
_LONGEST = 120  # columns of a line of text
# For names that the default font can't show; those that are installed are used.
_OTHER_FONTS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK KR", "Source Han Sans SC", "WenQuanYi Zen Hei",
    "WenQuanYi Micro Hei", "Droid Sans Fallback", "Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "PingFang SC",
    "Hiragino Sans", "Apple SD Gothic Neo", "Arial Unicode MS", "Noto Sans Devanagari", "Noto Sans Thai",
    "Noto Sans Bengali", "Noto Sans Tamil", "Nirmala UI", "Leelawadee UI", "Unifont",
)  # fmt: skip


def draw_contact_sheet(path: str | Path, data: ImageData) -> list[str]:
    """Draw some training images of each class: one row a class, as they are read and before any augmentation.

    Of many classes 25 are drawn, evenly spaced in their order; of each class 8 images, evenly spaced in theirs. An
    image that can't be read becomes a crossed box.

    Args:
        path: PNG file to write.
        data: The data set. Of a stream, the first 512 rows are looked at.

    Returns:
        What is wrong with the images that can't be read.

    Example:
        >>> from hf_icckd import load_image_data
        >>> draw_contact_sheet("digits.png", load_image_data("digits"))
        []
    """
    streamed = isinstance(data.train, StreamedSplit)
    table = data.train.head(_STREAMED_ROWS) if isinstance(data.train, StreamedSplit) else data.train
    labels = labels_of(table)
    shown = _spread(len(data.label_names), _CLASSES).tolist()
    rows = [np.flatnonzero(labels == label) for label in shown]
    canvas = PIL.Image.new("RGB", (_WIDTH, _HEADING + len(shown) * _ROW + _MARGIN), GROUND)
    errors = [
        error for place, of in enumerate(rows) for error in _draw_row(canvas, place, table, of, data.pixel_range)
    ]
    texts = [
        (data.label_names[label], f"class {label}, {_count(len(of), streamed)}")
        for label, of in zip(shown, rows, strict=True)
    ]
    content = _with_text(canvas, _heading(data, len(shown)), texts)
    replace_file(path, lambda unfinished: unfinished.write_bytes(content))
    return errors


def _heading(data: ImageData, shown: int) -> tuple[str, str]:
    total = len(data.label_names)
    classes = f"{total:,} classes" if shown == total else f"{shown} of {total:,} classes, evenly spaced"
    name = data.hub_id or Path(data.name).expanduser().resolve().name
    return f"{name}: {classes}", f"up to {_IMAGES} training images of each, as they are read, before any augmentation"


def _count(images: int, streamed: bool) -> str:
    if streamed:
        return f"{images:,} of the first {_STREAMED_ROWS} rows"
    return f"{images:,} training image{'' if images == 1 else 's'}"


def _draw_row(
    canvas: PIL.Image.Image, place: int, table: Dataset, rows: np.ndarray, pixel_range: Range | None
) -> list[str]:
    """Draw the images of a class, and return what is wrong with those that can't be read."""
    errors = []
    for column, index in enumerate(_spread(len(rows), _IMAGES)):
        try:
            picture = _fitted(read_image(table, int(rows[index]), pixel_range=pixel_range))
        except UnreadableImageError as error:
            errors.append(str(error))
            picture = _crossed_box()
        left = _MARGIN + _NAMES + column * (_CELL + _GAP) + (_CELL - picture.width) // 2
        canvas.paste(picture, (left, _HEADING + place * _ROW + (_CELL - picture.height) // 2))
    return errors


def _fitted(image: PIL.Image.Image) -> PIL.Image.Image:
    """Scale to fit a cell with the proportions kept; pixels of tiny images stay squares."""
    longest = max(image.size)
    if 2 * longest <= _CELL:
        factor = _CELL // longest
        return image.resize((image.width * factor, image.height * factor), PIL.Image.Resampling.NEAREST)
    width, height = (max(1, round(side * _CELL / longest)) for side in image.size)
    return image.resize((width, height), PIL.Image.Resampling.LANCZOS)


def _crossed_box() -> PIL.Image.Image:
    box = PIL.Image.new("RGB", (_CELL, _CELL), GROUND)
    draw = PIL.ImageDraw.Draw(box)
    end = _CELL - 2
    draw.rectangle((1, 1, end, end), outline=ORANGE, width=3)
    draw.line((1, 1, end, end), fill=ORANGE, width=3)
    draw.line((1, end, end, 1), fill=ORANGE, width=3)
    return box


@styled
def _with_text(canvas: PIL.Image.Image, heading: tuple[str, str], rows: list[tuple[str, str]]) -> bytes:
    """Write heading, names and counts beside the pictures, and return the PNG file."""
    # Half a pixel more, because the size in pixels is rounded down.
    figure = Figure(figsize=((canvas.width + 0.5) / DPI, (canvas.height + 0.5) / DPI), dpi=DPI)
    FigureCanvasAgg(figure)  # measures text
    figure.figimage(np.asarray(canvas), origin="upper")
    fonts = _fonts("".join(name for name, _ in rows) + heading[0])

    def write(left: int, top: int, text: str, width: int, **look: Any) -> None:
        """Write as much of a text as fits."""
        label = figure.text(left / canvas.width, 1 - top / canvas.height, "", va="top", family=fonts, **look)

        def width_of(columns: int) -> int:
            label.set_text(shorten(text, columns))
            return math.ceil(label.get_window_extent().width)

        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph")  # shown as boxes
            if width_of(_LONGEST) > width:
                width_of(max(1, bisect_right(range(1, _LONGEST), width, key=width_of)))

    write(_MARGIN, 16, heading[0], canvas.width - 2 * _MARGIN, size=11, color=INK)
    write(_MARGIN, 42, heading[1], canvas.width - 2 * _MARGIN, size=8, color=GREY)
    for place, (name, count) in enumerate(rows):
        top = _HEADING + place * _ROW + _CELL // 2 - 22
        write(_MARGIN, top, name, _NAMES - 2 * _GAP, size=9.5, color=INK)
        write(_MARGIN, top + 24, count, _NAMES - 2 * _GAP, size=8, color=GREY)
    return png(figure, colours=None)


@cache
def _installed() -> frozenset[str]:
    return frozenset(font.name for font in fontManager.ttflist)


def _fonts(text: str) -> list[str]:
    """The default font, and others for characters that it lacks."""
    default = str(STYLE["font.family"])
    glyphs = get_font(findfont(default))
    if all(glyphs.get_char_index(ord(character)) for character in text if character.isprintable()):
        return [default]
    return [default, *(name for name in _OTHER_FONTS if name in _installed())]


def _spread(count: int, limit: int) -> np.ndarray:
    """At most `limit` of `count` indices, evenly spaced, the first and the last among them."""
    if count == 0:
        return np.zeros(0, dtype=np.int64)
    return np.unique(np.linspace(0, count - 1, min(count, limit)).round().astype(np.int64))
