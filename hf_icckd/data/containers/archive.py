"""What every kind of archive has in common."""

from __future__ import annotations

import contextlib
import errno
import lzma
import re
import struct
import tarfile
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from hf_icckd.data.cache import cache_key, file_state
from hf_icckd.data.containers.arrow_cache import cached_file
from hf_icckd.data.sources.image_data import LeftOut

_OF_SYSTEMS = {
    "__MACOSX",
    "lost+found",
    "@eaDir",
    "$RECYCLE.BIN",
    "System Volume Information",
    "Thumbs.db",
    "desktop.ini",
}
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
_DAMAGES = (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError, struct.error)


class Archive(ABC):
    """The files of an archive. Folders, links and what systems put there are not among them.

    Attributes:
        path: The archive.
        files: Its files, sorted, as paths within it.
        left_out: Links and special files that it holds.
    """

    def __init__(self, path: Path, files: Sequence[PurePosixPath], left_out: list[LeftOut]):
        self.path, self.files, self.left_out = path, sorted(files), left_out

    @abstractmethod
    def read_all(self, members: Sequence[PurePosixPath]) -> Iterator[bytes]:
        """Yield the contents of files in the order that they are named.

        Raises:
            ValueError: If the archive is damaged.
        """

    def read(self, member: PurePosixPath) -> bytes:
        """Contents of one file. In a packed tar archive this reads all that lies before it."""
        return next(iter(self.read_all([member])))

    def extracted(self, member: PurePosixPath) -> Path:
        """Path of a copy of one file in the cache of `datasets`, for readers of files, such as those of tables."""
        key = cache_key("member", file_state(self.path), str(member))
        return cached_file(key, member.name, lambda: self.read(member), f"{self.path.name}/{member}")


@contextlib.contextmanager
def undamaged(path: Path) -> Iterator[None]:
    try:
        yield
    except _DAMAGES as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:  # nothing is wrong with the archive
            raise
        if isinstance(error, OSError) and error.errno is not None:
            raise ValueError(f"archive {path.name} can't be read: {error}; change that, or move it") from error
        raise ValueError(
            f"archive {path.name} can't be read: {str(error) or type(error).__name__}; it is damaged or not "
            "complete: copy or download it again"
        ) from error
    except RuntimeError as error:  # zipfile has no type of its own for it
        raise ValueError(f"archive {path.name} can't be read: {error}; unpack it and give the folder") from error


def safe_name(path: Path, name: str) -> PurePosixPath | None:
    """A member's path; None if it is hidden or a system put it there."""
    member = PurePosixPath(name)
    if member.is_absolute() or ".." in member.parts or _DRIVE.match(name):
        raise ValueError(
            f"archive {path.name} holds {name!r}, a path that leads out of it; expected paths within it; pack the "
            "images once more, from within their folder"
        )
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"archive {path.name} holds {name!r}, a name that is not UTF-8; unpack it, rename the file or its folder, "
            "and give the folder"
        ) from None
    hidden = any(part.startswith(".") or part in _OF_SYSTEMS for part in member.parts)
    return None if hidden or not member.parts else member


def links_left_out(names: Sequence[str]) -> list[LeftOut]:
    return [LeftOut(len(names), "links or special files in an archive", names[0])] if names else []
