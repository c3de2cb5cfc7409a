"""Columns of text that stand for images: base64, data URLs, and web addresses, which are never fetched."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from typing import Any

from datasets import Dataset, Features, Image

_DATA_URL = re.compile(r"data:image/[\w.+-]+(;[\w=.-]+)*;base64,", re.IGNORECASE)
_WEB_ADDRESS = re.compile(r"(https?|ftp|s3|gs|hf|az|abfss?)://", re.IGNORECASE)
_MAGIC = (
    b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"RIFF", b"II*\0", b"MM\0*", b"P5", b"P6",
    b"\0\0\0\x0cjP", b"\xff\x4f\xff\x51",
)  # fmt: skip
_HEAD = 64  # characters that are decoded to recognise an image


def holds_base64(values: Iterable[Any]) -> bool:
    """Whether values are images as base64 or as data URLs; missing ones don't count.

    Args:
        values: Some values of a column.

    Example:
        >>> holds_base64(["iVBORw0KGgoAAAANSUhEUgAAAAgAAAAI", None])
        True
        >>> holds_base64(["cat", "dog"])
        False
    """
    present = [value for value in values if value is not None and value != ""]
    return bool(present) and all(isinstance(value, str) and _is_encoded_image(value) for value in present)


def decode_base64_column(rows: Dataset, column: str) -> Dataset:
    """Replace a column of base64 or data URLs by the images; the result is kept in the cache of `datasets`.

    Raises:
        ValueError: If a value is no base64; the message names row and column.
    """
    features = Features({**rows.features, column: Image(decode=False)})

    def decode(batch: dict[str, list[Any]], numbers: list[int]) -> dict[str, list[Any]]:
        values = zip(batch[column], numbers, strict=True)
        return {column: [_decode(value, f"column {column!r}, row {number}") for value, number in values]}

    return rows.map(decode, batched=True, batch_size=100, with_indices=True, features=features, desc="decoding base64")


def looks_like_urls(values: Iterable[Any]) -> bool:
    """Whether values are addresses on the web or in a bucket; missing ones don't count.

    Example:
        >>> looks_like_urls(["https://example.org/1.jpg", "s3://bucket/2.jpg"]), looks_like_urls(["images/1.jpg"])
        (True, False)
    """
    present = [value for value in values if value is not None and value != ""]
    return bool(present) and all(isinstance(value, str) and _WEB_ADDRESS.match(value.strip()) for value in present)


def _is_encoded_image(value: str) -> bool:
    prefix = _DATA_URL.match(value.lstrip())
    if prefix:
        return True
    head = "".join(value[: 2 * _HEAD].split())[:_HEAD].replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(head[: len(head) // 4 * 4], validate=True).startswith(_MAGIC) and len(value) >= 32
    except binascii.Error:
        return False


def _decode(value: str | None, where: str) -> dict[str, Any] | None:
    if value is None or value == "":
        return None
    text = "".join(value.split())
    text = text[match.end() :] if (match := _DATA_URL.match(text)) else text
    text = text.replace("-", "+").replace("_", "/").rstrip("=")  # also as in addresses, and without padding
    try:
        return {"bytes": base64.b64decode(text + "=" * (-len(text) % 4), validate=True), "path": None}
    except binascii.Error as error:
        raise ValueError(
            f"{where}: no base64 ({error}), expected an image as base64; correct or remove the row"
        ) from None
