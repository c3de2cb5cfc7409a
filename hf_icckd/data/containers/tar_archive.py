"""Tar archives, packed or not."""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple

import pyarrow as pa
from datasets import Features, Value

from hf_icckd.data.cache import cache_folder, cache_key, file_state
from hf_icckd.data.containers.archive import Archive, links_left_out, safe_name, undamaged
from hf_icckd.data.containers.arrow_cache import cached_rows

_VERSION = 1  # increase it whenever other files of an archive are listed


class _Place(NamedTuple):
    start: int
    size: int


class TarArchive(Archive):
    """Places count in the archive without its packing."""

    def __init__(self, path: Path):
        listing = cached_rows(
            cache_key("tar", _VERSION, file_state(path)),
            Features({"name": Value("string"), "start": Value("int64"), "size": Value("int64")}),
            lambda: _list_tar(path),
            path.name,
        ).to_dict()
        self._places: dict[PurePosixPath, _Place] = {}
        links = []
        for name, start, size in zip(listing["name"], listing["start"], listing["size"], strict=True):
            if start < 0:
                links.append(name)
            else:  # of two files of one name the last counts, as for tar
                self._places[PurePosixPath(name)] = _Place(start, size)
        super().__init__(path, list(self._places), links_left_out(links))

    def read_all(self, members: Sequence[PurePosixPath]) -> Iterator[bytes]:
        places = [self._places[member] for member in members]
        with undamaged(self.path), _unpacked(self.path) as stream:
            if places == sorted(places) or not _packing_of(self.path):
                yield from _contents(stream, places)
                return
            # Going back in a packed file would unpack it from the start each time: one pass, into a temporary file.
            with tempfile.TemporaryFile(dir=cache_folder()) as copy:
                moved = {}
                in_order = sorted(set(places))
                for place, content in zip(in_order, _contents(stream, in_order), strict=True):
                    moved[place] = _Place(copy.tell(), place.size)
                    copy.write(content)
                yield from _contents(copy, [moved[place] for place in places])


def _contents(stream: IO[bytes], places: Sequence[_Place]) -> Iterator[bytes]:
    for place in places:
        stream.seek(place.start)
        content = stream.read(place.size)
        if len(content) < place.size:
            raise EOFError("it ends within a file")
        yield content


def packing(head: bytes) -> Any:
    """Function that opens what a file is packed with; None if it is not packed."""
    for magic, opener in ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ", lzma.open)):
        if head.startswith(magic):
            return opener
    return None


def _packing_of(path: Path) -> Any:
    with path.open("rb") as file:
        return packing(file.read(6))


def _unpacked(path: Path) -> IO[bytes]:
    return (_packing_of(path) or open)(path, "rb")


class _LastBlock:
    """Passes reading on and remembers the last block: `tarfile` takes a damaged header for the end of the archive."""

    def __init__(self, stream: IO[bytes]):
        self.stream, self.block = stream, b""
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, size: int) -> bytes:
        self.block = self.stream.read(size)
        return self.block


def _list_tar(path: Path) -> Iterator[pa.Table]:
    """Names, places and sizes of all files that are not hidden; the place of links is -1."""
    rows: dict[str, list[Any]] = {"name": [], "start": [], "size": []}
    with undamaged(path), _unpacked(path) as stream:
        watched: Any = _LastBlock(stream)
        archive: Any
        with tarfile.open(fileobj=watched, mode="r:", errors="surrogateescape") as archive:
            while (info := archive.next()) is not None:
                archive.members.clear()  # it keeps them all: a gigabyte for a million files
                member = None if info.isdir() else safe_name(path, info.name)
                if member is not None:
                    rows["name"].append(str(member))
                    rows["start"].append(info.offset_data if info.isreg() and not info.issparse() else -1)
                    rows["size"].append(info.size)
            if watched.block != bytes(tarfile.BLOCKSIZE):
                raise EOFError("a header is damaged or the mark of its end is missing")
        while stream.read(1 << 20):  # the checksum of what it is packed with stands at the end
            pass
    yield pa.table(rows)
