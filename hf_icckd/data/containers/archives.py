"""Zip and tar archives, read where they lie."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

import pyarrow as pa
from datasets import Dataset, Features, Image

from hf_icckd.data.cache import cache_key, file_state
from hf_icckd.data.containers.archive import Archive, undamaged
from hf_icckd.data.containers.arrow_cache import BATCH_BYTES, cached_rows, with_columns
from hf_icckd.data.containers.tar_archive import TarArchive, packing
from hf_icckd.data.containers.zip_archive import ZipArchive
from hf_icckd.utils.progress_bars import progress_bar

_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tbz", ".tar.xz", ".txz", ".tar.zst", ".tzst")
_OTHER_KINDS = {
    b"\x28\xb5\x2f\xfd": "a Zstandard archive; unpack it with `tar --zstd -xf`",
    b"Rar!": "a RAR archive; unpack it, for example with `unrar x`",
    b"7z\xbc\xaf": "a 7z archive; unpack it, for example with `7z x`",
}
_VERSION = 1  # increase it whenever other rows are made of an archive


def is_archive(path: PurePath) -> bool:
    """Whether a file is called like a zip or tar archive."""
    return path.name.lower().endswith(_SUFFIXES)


def open_archive(path: Path) -> Archive:
    """List the files of a zip or tar archive; the kind is told by its content.

    Raises:
        ValueError: If it is damaged, encrypted or of another kind, or a file would leave the folder it is unpacked in.

    Example:
        >>> import tempfile, zipfile
        >>> file = Path(tempfile.mkdtemp()) / "pets.zip"
        >>> with zipfile.ZipFile(file, "w") as archive:
        ...     archive.writestr("cat/1.png", b"image")
        >>> [str(member) for member in open_archive(file).files]
        ['cat/1.png']
    """
    with undamaged(path), path.open("rb") as file:
        head = file.read(512)
    for magic, kind in _OTHER_KINDS.items():
        if head.startswith(magic):
            raise ValueError(f"{path.name} is {kind} and give the folder")
    if head.startswith(b"PK"):
        return ZipArchive(path)
    if head[257:262] == b"ustar" or packing(head) is not None or path.suffix.lower() == ".tar":
        return TarArchive(path)
    start = f"begins with {head[:20]!r}" if head else "is empty"
    raise ValueError(
        f"{path.name} is no zip or tar archive: it {start}; it may be an error page or a part of a download: "
        "download it again"
    )


def archive_rows(
    archive: Archive, members: Sequence[PurePosixPath], columns: Mapping[str, Sequence[Any]] | None = None
) -> Dataset:
    """Make a data set of files in an archive, in the order that they are named.

    The images are written to the cache of `datasets` once; a packed tar archive is read once for it, from its start to
    its end.

    Args:
        members: Names of the images.
        columns: Further columns, with a value for each image.

    Returns:
        Columns `image`, whose path is the name of the archive and of the file in it, and the further ones.
    """
    features = Features({"image": Image(decode=False)})
    names = [str(member) for member in members]
    rows = cached_rows(
        cache_key("archive", _VERSION, file_state(archive.path), names),
        features,
        lambda: _image_batches(archive, members),
        archive.path.name,
    )
    return with_columns(rows, pa.table({name: pa.array(values) for name, values in (columns or {}).items()}))


def _image_batches(archive: Archive, members: Sequence[PurePosixPath]) -> Iterator[pa.Table]:
    batch: list[dict[str, Any]] = []
    size = 0
    contents = progress_bar(f"reading {archive.path.name}", archive.read_all(members), total=len(members), unit="img")
    for member, content in zip(members, contents, strict=True):
        if batch and size + len(content) > BATCH_BYTES:
            yield pa.table({"image": pa.array(batch, Image.pa_type)})
            batch, size = [], 0
        batch.append({"bytes": content, "path": f"{archive.path.name}/{member}"})
        size += len(content)
    if batch:
        yield pa.table({"image": pa.array(batch, Image.pa_type)})
