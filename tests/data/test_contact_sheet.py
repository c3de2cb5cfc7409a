"""The contact sheet shows what is read: which images, with which proportions, and what can't be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from datasets import ClassLabel, Dataset, Features, Image

from hf_icckd import ImageData, load_image_data
from hf_icckd.data.contact_sheet import (
    _CELL,
    _GAP,
    _HEADING,
    _MARGIN,
    _NAMES,
    _ROW,
    _WIDTH,
    _fitted,
    draw_contact_sheet,
)
from hf_icckd.utils.plotting import GROUND, ORANGE


def rgb(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[index : index + 2], 16) for index in (1, 3, 5))


def data_of(folder: Path, images: dict[str, list]) -> ImageData:
    """A data set of pictures, or of bytes of files, by class."""
    paths, labels = [], []
    for label, pictures in enumerate(images.values()):
        for picture in pictures:
            path = folder / f"{len(paths)}.png"
            path.write_bytes(picture) if isinstance(picture, bytes) else picture.save(path)
            paths.append(str(path))
            labels.append(label)
    features = Features({"image": Image(decode=False), "label": ClassLabel(names=list(images))})
    rows = Dataset.from_dict({"image": paths, "label": labels}, features=features)
    return ImageData("zoo", list(images), rows, rows)


def sheet(path: Path, data: ImageData) -> tuple[np.ndarray, list[str]]:
    errors = draw_contact_sheet(path / "sheet.png", data)
    with PIL.Image.open(path / "sheet.png") as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")), errors


def cell(pixels: np.ndarray, row: int, column: int) -> np.ndarray:
    top, left = _HEADING + row * _ROW, _MARGIN + _NAMES + column * (_CELL + _GAP)
    return pixels[top : top + _CELL, left : left + _CELL]


def plain(red: int, size: tuple[int, int] = (16, 16)) -> PIL.Image.Image:
    return PIL.Image.new("RGB", size, (red, 10, 20))


def test_one_row_a_class_of_evenly_spaced_images(tmp_path):
    pixels, errors = sheet(tmp_path, data_of(tmp_path, {"a": [plain(red) for red in range(15)], "b": [plain(99)]}))
    assert errors == [] and pixels.shape == (_HEADING + 2 * _ROW + _MARGIN, _WIDTH, 3)
    assert [int(cell(pixels, 0, column)[_CELL // 2, _CELL // 2, 0]) for column in range(8)] == list(range(0, 15, 2))
    assert cell(pixels, 1, 0)[_CELL // 2, _CELL // 2].tolist() == [99, 10, 20]
    assert (cell(pixels, 1, 1) == rgb(GROUND)).all()
    names = pixels[_HEADING:, :_NAMES]
    assert (names != rgb(GROUND)).any(axis=(1, 2)).sum() > 20  # text stands there


def test_proportions_are_kept_and_small_pixels_stay_squares():
    assert _fitted(plain(0, (400, 100))).size == (_CELL, _CELL // 4)
    assert _fitted(plain(0, (3000, 2))).size == (_CELL, 1)
    assert _fitted(plain(0, (60, 80))).size == (_CELL * 3 // 4, _CELL)
    noise = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    shown = np.asarray(_fitted(PIL.Image.fromarray(noise)))
    assert np.array_equal(shown, noise.repeat(_CELL // 8, axis=0).repeat(_CELL // 8, axis=1))


def test_images_are_as_training_reads_them(tmp_path):
    """A transparent one on white, a rotated one upright."""
    upright = PIL.Image.new("RGB", (60, 30), (200, 0, 0))
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    upright.save(tmp_path / "rotated.jpg", exif=exif)
    data = data_of(
        tmp_path,
        {"a": [PIL.Image.new("RGBA", (16, 16), (0, 0, 0, 0))], "b": [(tmp_path / "rotated.jpg").read_bytes()]},
    )
    pixels, _ = sheet(tmp_path, data)
    assert cell(pixels, 0, 0)[_CELL // 2, _CELL // 2].tolist() == [255, 255, 255]
    assert (cell(pixels, 1, 0)[2, _CELL // 2] != rgb(GROUND)).any()  # as high as the cell
    assert (cell(pixels, 1, 0)[_CELL // 2, 4] == rgb(GROUND)).all()  # and not as wide


def test_an_unreadable_image_is_a_crossed_box(tmp_path):
    pixels, errors = sheet(tmp_path, data_of(tmp_path, {"a": [plain(1), b"no image", plain(3)], "b": [plain(4)]}))
    assert len(errors) == 1 and "train split: row 1" in errors[0] and "1.png" in errors[0]
    assert cell(pixels, 0, 1)[_CELL // 2, _CELL // 2].tolist() == list(rgb(ORANGE))
    assert cell(pixels, 0, 2)[_CELL // 2, _CELL // 2].tolist() == [3, 10, 20]


def test_of_many_classes_25_are_drawn(tmp_path):
    many = {f"class {number}": [plain(number)] for number in range(60)}
    pixels, _ = sheet(tmp_path, data_of(tmp_path, many))
    assert len(pixels) == _HEADING + 25 * _ROW + _MARGIN
    reds = [int(cell(pixels, row, 0)[_CELL // 2, _CELL // 2, 0]) for row in range(25)]
    assert (reds[0], reds[-1]) == (0, 59) and reds == sorted(set(reds))
    assert (np.diff(reds) <= 3).all()


@pytest.mark.parametrize(
    "name", ["κατηγορία", "猫と犬", "नमस्ते", "قط", "W" * 300, "犬" * 300, "$5 {x}_^", " \t\n ", "a\x07b"]
)
def test_any_name_can_be_written_and_stays_in_its_place(tmp_path, name, recwarn):
    pixels, _ = sheet(tmp_path, data_of(tmp_path, {name: [plain(1)], "other": []}))
    assert (pixels[_HEADING : _HEADING + _CELL, _MARGIN + _NAMES - _GAP : _MARGIN + _NAMES] == rgb(GROUND)).all()
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]
    assert (cell(pixels, 1, 0) == rgb(GROUND)).all()  # a class without images


def test_a_stream_shows_its_first_rows(tmp_path):
    digits = load_image_data("digits", max_train_samples=48, max_eval_samples=20)
    (tmp_path / "data").mkdir()
    for split, rows in digits.splits().items():
        rows.select_columns(["image", "label"]).to_parquet(str(tmp_path / "data" / f"{split}.parquet"))
    pixels, errors = sheet(tmp_path, load_image_data(str(tmp_path / "data"), streaming=True))
    assert errors == [] and len(pixels) == _HEADING + 10 * _ROW + _MARGIN
    assert (cell(pixels, 0, 0) != rgb(GROUND)).any()
