"""Deep images: black and white follow from the type of the values or from an option, never from the image."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import PIL.Image
import pytest

from hf_icckd.data.depth import depth_of
from hf_icckd.data.images import PixelRangeError, UnreadableImageError, decode_image

RAMP = np.linspace(0, 65535, 64).round().astype(np.uint16).reshape(8, 8)


def saved(values: np.ndarray, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.fromarray(values).save(buffer, kind, **options)
    return buffer.getvalue()


def tiff(values: np.ndarray, order: str = "<", kind: int = 1, photometric: int = 1, bits: int = 0) -> bytes:
    """An uncompressed TIFF of (H, W) or (H, W, 3) values; `kind` is 1 for unsigned, 2 for signed, 3 for floats."""
    height, width, *channels = values.shape
    samples = (channels or [1])[0]
    bits = bits or 8 * values.dtype.itemsize
    pixels = values.astype(values.dtype.newbyteorder(order)).tobytes()
    tags = [
        (256, [width]), (257, [height]), (258, [bits] * samples), (259, [1]), (262, [photometric]), (273, None),
        (277, [samples]), (278, [height]), (279, [len(pixels)]), (339, [kind] * samples),
    ]  # fmt: skip
    more = b""
    end = 8 + 2 + 12 * len(tags) + 4
    size = sum(2 * len(value) for _, value in tags if value is not None and len(value) > 2)
    entries = b""
    for tag, value in tags:
        if value is None:
            entries += struct.pack(f"{order}HHII", tag, 4, 1, end + size)
        elif len(value) > 2:
            entries += struct.pack(f"{order}HHII", tag, 3, len(value), end + len(more))
            more += struct.pack(f"{order}{len(value)}H", *value)
        else:
            entries += struct.pack(f"{order}HHIHH", tag, 3, len(value), *value, *[0] * (2 - len(value)))
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(tags))
    return head + entries + struct.pack(f"{order}I", 0) + more + pixels


def deep_png(values: np.ndarray, kind: int, transparent: bytes | None = None) -> bytes:
    """A PNG of 16 bits; `kind` is 0 for grey, 2 for RGB, 6 for RGBA."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width = values.shape[:2]
    rows = b"".join(b"\0" + values[y].astype(">u2").tobytes() for y in range(height))
    head = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    see_through = b"" if transparent is None else chunk(b"tRNS", transparent)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + see_through
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def decoded(data: bytes, pixel_range=None) -> np.ndarray:
    """First channel of an image, after all channels were found equal."""
    pixels = np.asarray(decode_image({"bytes": data, "path": None}, "x", pixel_range=pixel_range))
    assert (pixels == pixels[..., :1]).all()
    return pixels[..., 0]


def scaled(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.round((values.astype(np.float64) - low) / (high - low) * 255)


PGM = b"P5\n8 8\n65535\n" + RAMP.astype(">u2").tobytes()
SIXTEEN_BITS = {
    "PNG": deep_png(RAMP, 0),
    "TIFF": tiff(RAMP),
    "TIFF, big endian": tiff(RAMP, ">"),
    "PGM": PGM,
    "JPEG 2000": saved(RAMP, "JPEG2000", irreversible=False),
}


@pytest.mark.parametrize("kind", SIXTEEN_BITS)
def test_sixteen_bits_are_read_by_the_range_of_their_type(kind):
    assert np.array_equal(decoded(SIXTEEN_BITS[kind]), scaled(RAMP, 0, 65535))


@pytest.mark.parametrize("brightest", [65535, 6553, 255])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_exposure_is_kept(brightest, kind):
    """An image that is ten times as dark stays ten times as dark, and one hot pixel changes nothing else."""
    ramp = np.linspace(0, brightest, 64).astype(np.uint16).reshape(8, 8)
    assert np.array_equal(decoded(saved(ramp, kind)), scaled(ramp, 0, 65535))
    hot = ramp.copy()
    hot[0, 0] = 65535
    assert np.array_equal(decoded(saved(hot, kind)).flat[1:], decoded(saved(ramp, kind)).flat[1:])


def test_eight_bits_are_not_changed_whatever_the_range():
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    for data in (saved(grey), tiff(grey), tiff(grey, ">")):
        assert np.array_equal(decoded(data, (0, 4095)), grey)


@pytest.mark.parametrize("order", "<>")
def test_floats_are_read_from_0_to_1(order):
    values = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    assert np.array_equal(decoded(tiff(values, order, 3)), scaled(values, 0, 1))


def test_a_range_that_is_given_replaces_that_of_the_type():
    twelve = (RAMP >> 4).astype(np.uint16)
    assert np.array_equal(decoded(saved(twelve), (0, 4095)), scaled(twelve, 0, 4095))
    floats = np.linspace(-3, 5, 64, dtype=np.float32).reshape(8, 8)
    assert np.array_equal(decoded(tiff(floats, "<", 3), (-3, 5)), scaled(floats, -3, 5))


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (np.arange(-32, 32, dtype=np.int8), 2),
        (np.arange(-3200, 3200, 100, dtype=np.int16), 2),
        (np.arange(-1000, 1048, 32, dtype=np.int32), 2),
        (np.arange(0, 64 * 60_000_000, 60_000_000, dtype=np.uint32), 1),
    ],
    ids=lambda each: getattr(each, "dtype", each),
)
def test_other_integers_need_a_range(values, kind):
    data = tiff(values.reshape(8, 8), "<", kind)
    low, high = float(values.min()), float(values.max())
    with pytest.raises(
        PixelRangeError, match=rf"^x: it is (un)?signed \d+-bit grey with values from {low:,g} to .*LOW HIGH"
    ):
        decoded(data)
    assert np.array_equal(decoded(data, (low, high)), scaled(values.reshape(8, 8), low, high))


@pytest.mark.parametrize(
    ("data", "pixel_range", "message"),
    [
        (tiff(np.full((2, 2), 1.5, np.float32), "<", 3), None, "value 1.5, expected 0 to 1, the range of grey of fl"),
        (tiff(np.full((2, 2), -0.5, np.float32), "<", 3), None, "value -0.5, expected 0 to 1"),
        (saved(np.full((2, 2), 4096, np.uint16)), (0, 4095), "4,096, expected 0 to 4,095, --pixel_range 0 4095"),
        (saved(np.full((2, 2), 9, np.uint16)), (10, 4095), "value 9, expected 10 to 4,095"),
    ],
)  # fmt: skip
def test_a_value_outside_the_range_is_an_error(data, pixel_range, message):
    with pytest.raises(PixelRangeError, match=rf"^x: it holds the .*{message}.*; give --pixel_range LOW HIGH"):
        decoded(data, pixel_range)


@pytest.mark.parametrize("data", [deep_png(np.dstack([RAMP] * 3), 2), tiff(np.dstack([RAMP] * 3), photometric=2),
                                  b"P6\n8 8\n65535\n" + np.dstack([RAMP] * 3).astype(">u2").tobytes()],
                         ids=["PNG", "TIFF", "PPM"])  # fmt: skip
def test_colours_of_sixteen_bits(data):
    """Pillow keeps 8 of their bits: fine by the range of the type, and another range can't be applied."""
    assert np.abs(decoded(data) - scaled(RAMP, 0, 65535)).max() <= 1
    with pytest.raises(PixelRangeError, match=r"16-bit colours.*--pixel_range can't be applied; convert"):
        decoded(data, (0, 4095))


def test_twelve_bits_that_say_so_have_a_range_of_their_own():
    """Two values in three bytes."""
    packed = np.tile(np.array([0xFF, 0xF0, 0x00], dtype=np.uint8), 4)
    data = tiff(packed.reshape(1, 12), bits=12).replace(struct.pack("<HHIHH", 256, 3, 1, 12, 0),
                                                         struct.pack("<HHIHH", 256, 3, 1, 8, 0))  # fmt: skip
    assert decoded(data).tolist() == [[255, 0] * 4]


def test_white_may_be_zero():
    assert np.array_equal(decoded(tiff(RAMP, photometric=0)), 255 - scaled(RAMP, 0, 65535))
    floats = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    assert np.array_equal(decoded(tiff(floats, "<", 3, photometric=0)), 255 - scaled(floats, 0, 1))


def test_one_transparent_value_of_a_deep_png_becomes_white():
    assert decoded(deep_png(RAMP, 0, transparent=struct.pack(">H", 0)))[0, 0] == 255
    assert decoded(deep_png(RAMP, 0))[0, 0] == 0


@pytest.mark.parametrize("order", "<>")
def test_deep_images_are_turned_too(order):
    data = tiff(RAMP[:2, :4].copy(), order)
    turned = data.replace(struct.pack(f"{order}HHIHH", 278, 3, 1, 2, 0), struct.pack(f"{order}HHIHH", 274, 3, 1, 6, 0))
    assert np.array_equal(decoded(turned), np.rot90(decoded(data), -1))


def test_values_that_are_not_finite_are_no_matter_of_the_range():
    data = tiff(np.array([[np.nan, 1]], dtype=np.float32), "<", 3)
    with pytest.raises(UnreadableImageError, match="not finite") as caught:
        decoded(data, (0, 1))
    assert not isinstance(caught.value, PixelRangeError)


def test_images_of_eight_bits_have_no_depth():
    for mode in ("1", "L", "P", "RGB", "RGBA", "LA", "CMYK"):
        assert depth_of(PIL.Image.new(mode, (2, 2))) is None
