"""Pixels of arrays and tables as the bytes of image files: PGM for grey images, PPM for colours, without a loss."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

DARK = 64  # 8-bit images none of which is brighter are likely to have another white


def netpbm(pixels: np.ndarray) -> pa.StructArray:
    """Bytes of one PGM or PPM file an image, as `datasets` stores images.

    Args:
        pixels: (N, H, W) or (N, H, W, 3), uint8 or uint16.
    """
    count, height, width = pixels.shape[:3]
    white = np.iinfo(pixels.dtype).max
    header = f"{'P6' if pixels.ndim == 4 else 'P5'}\n{width} {height}\n{white}\n".encode()
    body = np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder(">")).reshape(count, -1).view(np.uint8)
    heads = np.broadcast_to(np.frombuffer(header, dtype=np.uint8), (count, len(header)))
    stored = np.concatenate([heads, body], axis=1)
    offsets = (np.arange(count + 1) * stored.shape[1]).astype(np.int32)
    contents = pa.Array.from_buffers(
        pa.binary(), count, [None, pa.py_buffer(offsets), pa.py_buffer(stored.reshape(-1))]
    )
    return pa.StructArray.from_arrays([contents, pa.nulls(count, pa.string())], names=["bytes", "path"])


def to_8_bits(values: np.ndarray, black: float, white: float, what: str, first: int = 0) -> np.ndarray:
    """Scale values to 0..255 and round them.

    Args:
        values: (N, ...) numbers.
        black: Value that becomes 0.
        white: Value that becomes 255.
        what: Name of the images for errors.
        first: Number of the first image for errors.

    Raises:
        ValueError: If a value is outside the range or not finite.
    """
    values = values.astype(np.float64)
    wrong = ~((values >= black) & (values <= white)).reshape(len(values), -1)
    if wrong.any():
        image = int(np.flatnonzero(wrong.any(axis=1))[0])
        value = values[image].reshape(-1)[wrong[image]][0]
        raise ValueError(
            f"image {first + image} of {what} holds the value {value:g}, expected {black:g} to {white:g}; give the "
            "values of black and white, for example --pixel_range 0 4095, or correct the value"
        )
    return np.rint((values - black) * (255 / (white - black))).astype(np.uint8)


def check_brightness(brightest: int, what: str) -> None:
    """Raise ValueError if 8-bit images are nearly black all of them, so that white may be another value than 255."""
    if brightest < DARK:
        raise ValueError(
            f"the largest pixel value of {what} is {brightest}, expected values up to 255; if {max(brightest, 1)} is "
            f"white, give --pixel_range 0 {max(brightest, 1)}; if the images are meant to be this dark, "
            "--pixel_range 0 255"
        )
