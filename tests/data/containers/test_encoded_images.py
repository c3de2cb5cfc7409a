"""Columns of base64 and of web addresses are recognised for certain, and base64 comes out as the bytes of images."""

from __future__ import annotations

import base64
import io

import PIL.Image
import pytest
from datasets import Dataset

from hf_icckd.data.containers.encoded_images import decode_base64_column, holds_base64, looks_like_urls

pytestmark = pytest.mark.usefixtures("own_cache")


def encoded(kind: str = "PNG", value: int = 0) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.new("RGB", (8, 8), (value, 0, 0)).save(buffer, kind)
    return buffer.getvalue()


def text(content: bytes) -> str:
    return base64.b64encode(content).decode()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM"])
def test_every_common_kind_is_recognised(kind):
    assert holds_base64([text(encoded(kind)), None, base64.urlsafe_b64encode(encoded(kind)).decode()])


def test_line_breaks_and_data_urls():
    assert holds_base64([base64.encodebytes(encoded()).decode(), f"data:image/png;base64,{text(encoded())}"])


@pytest.mark.parametrize(
    "values",
    [["cat"], ["images/1.png"], [], [None], [3], [b"\x89PNG"], [text(b"no image, only text" * 3)], ["/9j/"]],
    ids=repr,
)
def test_what_is_no_base64(values):
    assert not holds_base64(values)
    assert not holds_base64([text(encoded()), *values] if values and values != [None] else values)


def test_a_column_is_decoded():
    images = [encoded(value=i) for i in range(5)]
    texts = [text(images[0]), f"data:image/png;base64,{text(images[1])}", text(images[2]).rstrip("="), None]
    rows = Dataset.from_dict({"image": [*texts, base64.encodebytes(images[4]).decode()], "label": list("abcde")})
    decoded = decode_base64_column(rows, "image")
    assert [row and row["bytes"] for row in decoded["image"][:]] == [*images[:3], None, images[4]]
    assert decoded["label"][:] == list("abcde")


def test_a_broken_row_is_named():
    rows = Dataset.from_dict({"img": [text(encoded()), "###"]})
    with pytest.raises(ValueError, match=r"column 'img', row 1: no base64 .*correct or remove the row"):
        decode_base64_column(rows, "img")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["https://a.b/c.jpg", None], True), (["S3://bucket/x.png"], True), (["gs://bucket/x"], True),
        (["images/c.jpg"], False), (["https://a.b/c.jpg", "c.jpg"], False), ([], False), ([None], False), ([1], False),
    ],
)  # fmt: skip
def test_web_addresses(values, expected):
    assert looks_like_urls(values) is expected
