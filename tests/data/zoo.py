"""Data sets as users have them, each with the reading that is expected: small files in a temporary folder."""

from __future__ import annotations

import io
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from hf_icckd.data import ImageData

SUFFIXES = (".png", ".jpg", ".jpeg")


def picture(name: str, size: int = 4) -> bytes:
    """An image of its own for each name."""
    pixels = np.random.default_rng(zlib.crc32(name.encode())).integers(0, 255, (size, size, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write(root: Path, tree: Mapping[str, Any]) -> Path:
    """Write a data set: `folder/: n` are n images, `folder/name.png: 1` is one, and text is the content of a file."""
    for name, content in tree.items():
        if isinstance(content, int):
            folder, _, file = name.rpartition("/")
            names = [name] if file else [f"{folder}/{Path(folder).name}-{number:02}.png" for number in range(content)]
            for each in names:
                put(root / each.lstrip("/"), picture(each))
        else:
            put(root / name, content.encode() if isinstance(content, str) else content)
    return root


def put(path: Path, content: bytes) -> None:
    """Write a file and its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def reading(data: ImageData, *, cut: bool = False) -> dict[str, dict[str, int]]:
    """Images of each class by split; of a data set whose test split was cut, all together as `all`."""
    counts = {
        name: dict(zip(data.label_names, np.bincount(data.labels(name), minlength=len(data.label_names)), strict=True))
        for name in data.splits()
    }
    if cut:
        counts = {"all": {name: sum(own[name] for own in counts.values()) for name in data.label_names}}
    return {split: {name: int(count) for name, count in own.items() if count} for split, own in counts.items()}
