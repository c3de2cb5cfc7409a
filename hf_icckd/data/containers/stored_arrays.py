"""Arrays in idx and npz files, read some rows at a time. Nothing is unpickled."""

from __future__ import annotations

import contextlib
import gzip
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import IO, Any

import numpy as np

_IDX_NAME = re.compile(r"[-._]idx\d([-._]?(u?byte|short|int|float|double))?(\.gz)?$", re.IGNORECASE)
_IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


@dataclass(frozen=True)
class StoredArray:
    """An array in a file.

    Attributes:
        file: The idx or npz file.
        key: Name of the array in an npz file; empty in an idx file, which holds one.
        shape: Its dimensions.
        dtype: Type of its values.
        in_order: Whether rows follow each other in the file.
    """

    file: Path
    key: str
    shape: tuple[int, ...]
    dtype: np.dtype
    in_order: bool = True

    def __str__(self) -> str:
        key = f", array {self.key!r}" if self.key else ""
        return f"{self.file.name}{key} (shape {self.shape}, {self.dtype})"

    def chunks(self, max_bytes: int) -> Iterator[np.ndarray]:
        """Yield the rows in order, as many at a time as fit.

        Raises:
            ValueError: If the file is damaged, or holds Python objects.
        """
        self.refuse_objects()
        row_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize
        step = max(1, max_bytes // max(1, row_bytes))
        if not self.in_order:  # columns first: the first row ends where the file does
            with _readable(self.file), np.load(self.file, allow_pickle=False) as loaded:
                array = loaded[self.key]
            yield from (array[start : start + step] for start in range(0, self.shape[0], step))
            return
        with _readable(self.file), self._stream() as stream:
            for start in range(0, self.shape[0], step):
                count = min(step, self.shape[0] - start)
                data = stream.read(count * row_bytes)
                if len(data) < count * row_bytes:
                    row = start + len(data) // row_bytes
                    raise EOFError(f"its header announces {self.shape[0]} rows, it ends in row {row}")
                yield np.frombuffer(data, dtype=self.dtype).reshape(count, *self.shape[1:])
            if stream.read(1):
                raise EOFError(f"more bytes follow the {self.shape[0]} rows that its header announces")

    def read(self) -> np.ndarray:
        """The array in memory."""
        parts = list(self.chunks(1 << 62))
        return parts[0] if parts else np.empty(self.shape, dtype=self.dtype)

    def refuse_objects(self) -> None:
        """Raise ValueError if the array holds Python objects."""
        if self.dtype.hasobject:
            raise ValueError(
                f"{self} holds Python objects, which are never loaded, because a pickle can run code; expected "
                "numbers; where you trust the file, save it once more with numpy.stack(list(array))"
            )

    @contextlib.contextmanager
    def _stream(self) -> Iterator[IO[bytes]]:
        if not self.key:
            with _open_idx(self.file) as stream:
                _read_idx_header(self.file, stream)
                yield stream
            return
        with zipfile.ZipFile(self.file) as archive, archive.open(f"{self.key}.npy") as stream:
            _read_npy_header(stream)
            yield stream


def is_array_file(path: PurePath) -> bool:
    """Whether a file is called like an idx or npz file."""
    return path.suffix.lower() == ".npz" or _IDX_NAME.search(path.name) is not None


def idx_stem(path: PurePath) -> str:
    """Name of an idx or npz file without what says that it is one."""
    return path.stem if path.suffix.lower() == ".npz" else _IDX_NAME.sub("", path.name)


def arrays_in(path: Path) -> list[StoredArray]:
    """List the arrays of an idx or npz file; only headers are read.

    Raises:
        ValueError: If the file is damaged or of another kind.
    """
    with _readable(path):
        if path.suffix.lower() != ".npz":
            with _open_idx(path) as stream:
                dtype, shape = _read_idx_header(path, stream)
            return [StoredArray(path, "", shape, dtype)]
        found = []
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith(".npy"):
                    with archive.open(name) as stream:
                        shape, fortran_order, dtype = _read_npy_header(stream)
                    in_order = not fortran_order or len(shape) < 2
                    found.append(StoredArray(path, name.removesuffix(".npy"), shape, dtype, in_order))
        return found


def _open_idx(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if packed else path.open("rb")  # type: ignore[return-value]


def _read_idx_header(path: Path, stream: IO[bytes]) -> tuple[np.dtype, tuple[int, ...]]:
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _IDX_TYPES:
        raise ValueError(
            f"{path.name} is no idx file: it begins with the bytes {magic.hex(' ') or '(none)'}, expected 00 00 and "
            "a type; download it again, or rename it if it holds something else"
        )
    sizes = stream.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise EOFError("it ends within its header")
    return np.dtype(_IDX_TYPES[magic[2]]), struct.unpack(f">{magic[3]}I", sizes)


def _read_npy_header(stream: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(stream)
    return np.lib.format.read_array_header_2_0(stream)


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise ValueError(
            f"{path.name} can't be read: {str(error) or type(error).__name__}; it is damaged or not complete: copy "
            "or download it again"
        ) from error
