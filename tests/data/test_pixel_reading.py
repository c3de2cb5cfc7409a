"""What is told about pixels before anything is trained."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import PIL.Image
import pytest

from hf_icckd import ImageData, ImagePipeline
from hf_icckd.data.images import PixelRangeError
from hf_icckd.data.pixel_reading import pixel_reading
from tests.data.test_pipeline import batch_of, data_of, encoded, noise, split_of


def deep(brightest: float, dtype: type = np.uint16, shape: tuple = (16, 16)) -> PIL.Image.Image:
    return PIL.Image.fromarray(np.linspace(0, brightest, shape[0] * shape[1]).reshape(shape).astype(dtype))


def data_from(cells: list[bytes], pixel_range=None) -> ImageData:
    split = split_of(cells)
    return ImageData("test", ["a", "b"], split, split, pixel_range=pixel_range)


def test_modes_and_sizes():
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    cells = [encoded(noise(30, 20)), encoded(noise(10, 20), "JPEG", exif=exif), encoded(noise(16, 16, channels=1)),
             encoded(noise(40, 8).convert("RGBA")), b"broken"]  # fmt: skip
    reading = pixel_reading(data_from(cells))
    assert reading.modes == {"8-bit colour": 2, "8-bit grey": 1, "8-bit colour, alpha": 1}
    assert (reading.images, reading.unreadable, reading.square, reading.deep) == (5, 1, False, [])
    assert (reading.widths, reading.heights) == ((10, 16, 40), (8, 16, 20))
    assert reading.how == ["1 are turned as their EXIF orientation says.", "1 have transparency, which is white."]
    assert reading.warning == "" and json.loads(json.dumps(asdict(reading)))["images"] == 5


def test_up_to_256_evenly_spaced_ones():
    split = data_of([noise(8, 8, seed) for seed in range(10)]).train
    data = ImageData("test", ["a", "b"], split.select([row % 10 for row in range(1000)]), split)
    assert pixel_reading(data).images == 256 and pixel_reading(data, count=5).images == 5


def test_how_deep_images_are_read():
    reading = pixel_reading(data_from([encoded(deep(65535)), encoded(deep(60000)), encoded(noise(16, 16))]))
    assert reading.modes == {"16-bit grey": 2, "8-bit colour": 1} and reading.warning == ""
    assert reading.deep == ["In images of 16-bit grey, 0 is black and 65,535 white (the range of the type)."]
    reading = pixel_reading(data_from([encoded(deep(1, np.float32), "TIFF")]))
    assert reading.deep == ["In images of grey of floating point, 0 is black and 1 white (the range of the type)."]
    reading = pixel_reading(data_from([encoded(deep(2000, np.int32), "TIFF")], (-1000, 2000)))
    assert reading.deep == ["In images of signed 32-bit grey, -1,000 is black and 2,000 white (--pixel_range)."]


def test_twelve_bits_in_a_file_of_sixteen_are_a_warning():
    data = data_from([encoded(deep(value)) for value in (4095, 3000, 1000, 4000)])
    assert pixel_reading(data).warning == (
        "The brightest value of 16-bit grey images is 4,095 of 65,535: they are nearly black. If they hold fewer bits "
        "than their files, give --pixel_range 0 4095."
    )
    data.pixel_range = (0, 4095)
    assert pixel_reading(data).warning == ""
    # One bright image shows that the type is used as it is meant.
    assert pixel_reading(data_from([encoded(deep(4095)), encoded(deep(65535))])).warning == ""


def test_a_range_without_effect_is_a_warning():
    data = data_from([encoded(noise(8, 8)) for _ in range(2)])
    assert pixel_reading(data).warning == ""
    data.pixel_range = (0, 4095)
    assert pixel_reading(data).warning.startswith("--pixel_range changes nothing: no image that was looked at")


@pytest.mark.parametrize(
    ("image", "kind", "option"),
    [
        (deep(0), "PNG", "LOW HIGH"),
        (deep(0.1, np.float32), "TIFF", "LOW HIGH"),
        (deep(1023), "PNG", "0 1023"),
    ],
)
def test_other_dark_images(image, kind, option):
    assert pixel_reading(data_from([encoded(image, kind)])).warning.endswith(f"give --pixel_range {option}.")


def test_dark_colours_of_sixteen_bits_have_no_option():
    values = np.full((8, 8, 3), 4095, ">u2")
    cell = b"P6\n8 8\n65535\n" + values.tobytes()
    told = pixel_reading(data_from([cell]))
    assert "nearly black. Convert them to 8 bits first: --pixel_range applies to grey images only." in told.warning
    assert told.modes == {"16-bit colour": 1} and told.deep == ["16-bit colours are read by their upper 8 bits."]


def test_what_training_would_refuse_is_refused_at_once():
    data = data_from([encoded(noise(16, 16)), encoded(deep(5, np.int32), "TIFF")])
    with pytest.raises(PixelRangeError, match=r"^train split: row 1: it is signed 32-bit grey .*--pixel_range LOW HI"):
        ImagePipeline(data)
    data.pixel_range = (0, 5)
    for kept in (2**30, 0):
        pixels = batch_of(ImagePipeline(data, resident_max_bytes=kept), [1], training=False)["pixel_values"]
        assert (pixels.min(), pixels.max()) == (0, 255)
