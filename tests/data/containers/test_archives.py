"""Zip and tar archives are read where they lie; what is damaged, encrypted or unsafe is one clear error."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

import numpy as np
import pytest

from hf_icckd.data.cache import cache_folder
from hf_icckd.data.containers.archives import archive_rows, is_archive, open_archive

pytestmark = pytest.mark.usefixtures("own_cache")
FILES = {"dog/1.png": b"dog one", "cat/2.png": b"cat two" * 300, "cat/1.png": b"", "labels.csv": b"a,b\n"}
KINDS = ["a.zip", "a.tar", "a.tar.gz", "a.tgz", "a.tar.bz2", "a.tar.xz"]


def pack(path: Path, files: dict[str, bytes] | None = None) -> Path:
    """Write an archive of the kind that its name says; its files in the order given."""
    files = FILES if files is None else files
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return path
    mode = {".tar": "w", ".gz": "w:gz", ".tgz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}[path.suffix]
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def names(archive) -> list[str]:
    return [str(member) for member in archive.files]


# What is in it


@pytest.mark.parametrize("kind", KINDS)
def test_files_are_listed_and_read(tmp_path, kind):
    archive = open_archive(pack(tmp_path / kind))
    assert names(archive) == sorted(FILES)
    assert {str(member): archive.read(member) for member in archive.files} == FILES
    assert list(archive.read_all(archive.files[::-1])) == [FILES[name] for name in sorted(FILES, reverse=True)]
    assert archive.left_out == []
    copy = archive.extracted(PurePosixPath("labels.csv"))
    assert (copy.name, copy.read_bytes()) == ("labels.csv", b"a,b\n")


@pytest.mark.parametrize("kind", ["a.zip", "a.tar"])
def test_hidden_names_and_those_of_systems_stay_out(tmp_path, kind):
    hidden = [
        ".DS_Store",
        "cat/.hidden.png",
        "__MACOSX/cat/._1.png",
        "cat/@eaDir/1.png",
        "$RECYCLE.BIN/x.png",
        "cat/Thumbs.db",
    ]
    archive = open_archive(pack(tmp_path / kind, {"./cat/1.png": b"1", **dict.fromkeys(hidden, b"x")}))
    assert names(archive) == ["cat/1.png"]
    assert archive.read(PurePosixPath("cat/1.png")) == b"1"


def test_links_stay_out_and_are_counted(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, kind in (("a/1.png", tarfile.REGTYPE), ("a/2.png", tarfile.SYMTYPE), ("a/3.png", tarfile.LNKTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "a/1.png"
            archive.addfile(info, io.BytesIO())
    link = zipfile.ZipInfo("a/2.png")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a/1.png", b"1")
        archive.writestr(link, "a/1.png")
    for name, count in (("a.tar", 2), ("a.zip", 1)):
        opened = open_archive(tmp_path / name)
        assert names(opened) == ["a/1.png"]
        assert [(each.count, each.example) for each in opened.left_out] == [(count, "a/2.png")]


@pytest.mark.parametrize("kind", ["a.zip", "a.tar"])
@pytest.mark.parametrize("name", ["../1.png", "cat/../../1.png", "/etc/1.png", "C:/1.png"])
def test_paths_that_lead_out_are_refused(tmp_path, kind, name):
    with pytest.raises(ValueError, match=rf"archive {kind} holds {name!r}, a path that leads out of it"):
        open_archive(pack(tmp_path / kind, {"cat/1.png": b"1", name: b"2"}))


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", ["a.zip", "a.tar"])
def test_the_last_of_two_files_of_a_name_counts(tmp_path, kind):
    pack(tmp_path / kind, {"1.png": b"old"})
    if kind == "a.zip":
        with zipfile.ZipFile(tmp_path / kind, "a") as archive:
            archive.writestr("1.png", b"new")
    else:
        with tarfile.open(tmp_path / kind, "a") as archive:
            info = tarfile.TarInfo("1.png")
            info.size = 3
            archive.addfile(info, io.BytesIO(b"new"))
    archive = open_archive(tmp_path / kind)
    assert names(archive) == ["1.png"]
    assert archive.read(archive.files[0]) == b"new"


def test_names_in_utf8_whether_the_zip_says_so_or_not(tmp_path):
    for flag, name in ((True, "said.zip"), (False, "unsaid.zip")):
        content = pack(tmp_path / name, {"Bär/1.png": b"1"}).read_bytes()
        if not flag:  # what macOS writes
            content = content.replace(b"PK\x03\x04\x14\0\0\x08", b"PK\x03\x04\x14\0\0\0")
            content = content.replace(b"PK\x01\x02\x14\x03\x14\0\0\x08", b"PK\x01\x02\x14\x03\x14\0\0\0")
        (tmp_path / name).write_bytes(content)
        with zipfile.ZipFile(tmp_path / name) as archive:
            assert (archive.namelist() == ["Bär/1.png"]) is flag
        archive = open_archive(tmp_path / name)
        assert names(archive) == ["Bär/1.png"]
        assert archive.read(archive.files[0]) == b"1"
    (tmp_path / "latin.zip").write_bytes(content.replace("Bär".encode(), b"B\xe4rr"))
    with pytest.raises(ValueError, match=r"latin.zip holds names in an encoding that it does not tell; unpack it"):
        open_archive(tmp_path / "latin.zip")


def test_tar_with_a_name_that_is_not_utf8(tmp_path):
    pack(tmp_path / "a.tar", {"B\udce4r/1.png": b"1"})
    with pytest.raises(ValueError, match="a name that is not UTF-8; unpack it"):
        open_archive(tmp_path / "a.tar")


def test_backslashes_of_windows(tmp_path):
    info = zipfile.ZipInfo("cat\\1.png")
    info.create_system = 0
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(info, b"1")
    assert names(open_archive(tmp_path / "a.zip")) == ["cat/1.png"]


# What can't be read


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.zip", b"PK", "can't be read: .*damaged or not complete"), ("a.zip", b"", "it is empty"),
        ("a.zip", b"<!DOCTYPE html>", "begins with b'<!DOCTYPE html>'.*download it again"),
        ("a.tar", b"text", "can't be read: .*damaged"), ("a.tar.gz", b"\x1f\x8bxx", "can't be read: .*damaged"),
        ("a.tgz", gzip.compress(b"no tar" * 99), "can't be read: .*damaged"),
        ("a.tar.zst", b"\x28\xb5\x2f\xfd", "a Zstandard archive; unpack it with `tar --zstd -xf` and give the folder"),
        ("a.zip", b"Rar!\x1a", "a RAR archive; unpack it"), ("a.zip", b"7z\xbc\xaf\x27", "a 7z archive; unpack it"),
    ],
    ids=["PK", "empty", "a page", "text", "gzip", "no tar", "zstd", "rar", "7z"],
)  # fmt: skip
def test_what_is_no_archive(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"(?s){name}.*{message}"):
        open_archive(tmp_path / name)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_an_archive_that_ends_too_early(tmp_path, kind, share):
    rng = np.random.default_rng(0)
    path = pack(tmp_path / kind, {f"{i}.png": rng.bytes(1000) for i in range(20)})
    content = path.read_bytes()
    # A tar is padded to 10 KiB; its last blocks say nothing.
    used = content.rstrip(b"\0") if kind == "a.tar" else content
    path.write_bytes(content[: int(len(used) * share)])
    with pytest.raises(ValueError, match=rf"{kind} can't be read: .*download it again"):
        open_archive(path)


def test_a_damaged_header_is_not_the_end_of_a_tar(tmp_path):
    path = pack(tmp_path / "a.tar", {f"{i}.png": b"x" * 100 for i in range(4)})
    content = bytearray(path.read_bytes())
    content[2 * 1024] ^= 1  # the name in the third header
    path.write_bytes(content)
    with tarfile.open(path) as archive:
        assert len(archive.getnames()) == 2  # what Python makes of it
    with pytest.raises(ValueError, match="a header is damaged or the mark of its end is missing"):
        open_archive(path)


@pytest.mark.parametrize("kind", ["a.tar.gz", "a.tar.bz2", "a.tar.xz", "a.zip"])
def test_damaged_contents_are_seen(tmp_path, kind):
    path = pack(tmp_path / kind, {"1.png": np.random.default_rng(0).bytes(5000)})
    content = bytearray(path.read_bytes())
    content[2500] ^= 255
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{kind} can't be read"):
        open_archive(path).read(PurePosixPath("1.png"))


def test_encrypted(tmp_path):
    content = bytearray(pack(tmp_path / "a.zip", {"cat/1.png": b"1"}).read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(ValueError, match=r"a.zip is encrypted, 'cat/1.png' for one; unpack it with its password"):
        open_archive(tmp_path / "a.zip")


def test_unknown_packing_of_a_zip(tmp_path):
    content = bytearray(pack(tmp_path / "a.zip", {"cat/1.png": b"1"}).read_bytes())
    content[content.index(b"PK\x01\x02") + 10] = 9
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(ValueError, match=r"packs 'cat/1.png' by method 9, which Python does not know; unpack it"):
        open_archive(tmp_path / "a.zip")


@pytest.mark.parametrize(
    ("name", "expected"), [*((kind, True) for kind in KINDS), ("a.csv.gz", False), ("zip", False)]
)
def test_names_of_archives(name, expected):
    assert is_archive(Path(name)) is expected


# Rows


@pytest.mark.parametrize("kind", KINDS)
def test_rows_in_the_order_asked_for(tmp_path, kind):
    archive = open_archive(pack(tmp_path / kind))
    members = [PurePosixPath(name) for name in ("cat/2.png", "dog/1.png", "cat/1.png")]
    rows = archive_rows(archive, members, {"label": ["cat", "dog", "cat"], "site": [1, 2, None]})
    assert rows["image"][:] == [{"bytes": FILES[str(m)], "path": f"{kind}/{m}"} for m in members]
    assert (rows["label"][:], rows["site"][:]) == (["cat", "dog", "cat"], [1, 2, None])
    assert [path for path in cache_folder().iterdir() if path.suffix not in (".arrow", ".lock")] == []


def test_many_batches_are_one_data_set(tmp_path, monkeypatch):
    monkeypatch.setattr("hf_icckd.data.containers.archives.BATCH_BYTES", 5000)
    files = {f"{i:03}.png": bytes([i]) * 1000 for i in range(50)}
    archive = open_archive(pack(tmp_path / "a.tar.gz", files))
    rows = archive_rows(archive, archive.files)
    assert [row["bytes"] for row in rows["image"][:]] == list(files.values())
    assert len(rows.data["image"].chunks) == 10


def test_no_rows(tmp_path):
    assert len(archive_rows(open_archive(pack(tmp_path / "a.zip")), [])) == 0


@pytest.mark.parametrize("kind", ["a.zip", "a.tar.gz"])
def test_the_cache_is_used_and_sees_changes(tmp_path, monkeypatch, kind):
    path = pack(tmp_path / kind)
    archive = open_archive(path)
    kept = archive_rows(archive, archive.files)
    # Nothing is read again, with other columns beside it neither.
    monkeypatch.setattr(type(archive), "read_all", None)
    again = open_archive(path)
    assert archive_rows(again, again.files, {"label": [0] * 4}).cache_files[0] == kept.cache_files[0]
    monkeypatch.undo()
    status = path.stat()
    pack(path, FILES | {"dog/1.png": b"DOG ONE"})
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    archive = open_archive(path)
    assert archive_rows(archive, archive.files)["image"][2]["bytes"] == b"DOG ONE"
