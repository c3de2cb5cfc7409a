"""Zip archives."""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from hf_icckd.data.containers.archive import Archive, links_left_out, safe_name, undamaged

_UNPACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)


class ZipArchive(Archive):
    def __init__(self, path: Path):
        self._infos: dict[PurePosixPath, zipfile.ZipInfo] = {}
        links = []
        with undamaged(path):
            infos = self._list(path)
        for info in infos:
            name = info.filename
            if info.create_system == 0 and "\\" in name and "/" not in name:  # packed by an old tool of Windows
                name = name.replace("\\", "/")
            if info.is_dir() or name.endswith("/"):
                continue
            member = safe_name(path, name)
            if member is None:
                continue
            if stat.S_ISLNK(info.external_attr >> 16):
                links.append(name)
                continue
            if info.flag_bits & 1:
                raise ValueError(
                    f"archive {path.name} is encrypted, {name!r} for one; unpack it with its password and give the "
                    "folder"
                )
            if info.compress_type not in _UNPACKED:
                raise ValueError(
                    f"archive {path.name} packs {name!r} by method {info.compress_type}, which Python does not know; "
                    "unpack it and give the folder"
                )
            self._infos[member] = info
        super().__init__(path, list(self._infos), links_left_out(links))

    @staticmethod
    def _list(path: Path) -> list[zipfile.ZipInfo]:
        try:  # macOS writes UTF-8 without saying so
            with zipfile.ZipFile(path, metadata_encoding="utf-8") as archive:
                return archive.infolist()
        except UnicodeDecodeError:
            raise ValueError(
                f"archive {path.name} holds names in an encoding that it does not tell; unpack it, check the names "
                "of the classes, and give the folder"
            ) from None

    def read_all(self, members: Sequence[PurePosixPath]) -> Iterator[bytes]:
        with undamaged(self.path), zipfile.ZipFile(self.path, metadata_encoding="utf-8") as archive:
            for member in members:
                yield archive.read(self._infos[member])
