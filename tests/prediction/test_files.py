"""Which files are images: folders, patterns, natural order, and what is passed over."""

from __future__ import annotations

import os

import numpy as np
import pytest
from PIL import Image

from hf_icckd.prediction.files import ImageFiles, natural_order


def save(path, kind: str = "png"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), "red").save(path, kind)


@pytest.fixture
def folder(tmp_path):
    for name in ("b/img10.PNG", "b/img9.png", "a10/x.jPg", "a9/x.JPEG", "IMG2.png", "img11.png"):
        save(tmp_path / name, "jpeg" if "x" in name else "png")
    save(tmp_path / "without_suffix")
    (tmp_path / "notes.txt").write_text("nothing")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnot")
    (tmp_path / "photo.dng").write_bytes(b"FUJIFILMCCD-RAW " + bytes(100))
    save(tmp_path / ".hidden.png")
    save(tmp_path / "run" / "soft_labels.png")
    (tmp_path / "run" / "all_args.yaml").write_text("model: x")
    return tmp_path


def names(files, root) -> list[str]:
    return [os.path.relpath(path, root) for path in files]


EXPECTED = [
    "broken.png", "IMG2.png", "img11.png", "photo.dng", "without_suffix", "a9/x.JPEG", "a10/x.jPg", "b/img9.png",
    "b/img10.PNG",
]  # fmt: skip


def test_a_folder_is_searched_in_natural_order(folder):
    files = ImageFiles([folder])
    assert names(files, folder) == EXPECTED and len(files) == len(EXPECTED)
    assert names(files, folder) == EXPECTED  # again


def test_files_and_patterns(folder, monkeypatch):
    assert names(ImageFiles([folder / "b" / "img10.PNG", folder / "IMG2.png"]), folder) == ["b/img10.PNG", "IMG2.png"]
    assert names(ImageFiles([f"{folder}/b/*.PNG", f"{folder}/b/*"]), folder) == ["b/img10.PNG", *EXPECTED[-2:]]
    assert names(ImageFiles([f"{folder}/**/x*"]), folder) == ["a9/x.JPEG", "a10/x.jPg"]
    assert names(ImageFiles([f"{folder}/a*"]), folder) == ["a9/x.JPEG", "a10/x.jPg"]
    save(folder / "odd[1].png")
    assert names(ImageFiles([folder / "odd[1].png"]), folder) == ["odd[1].png"]
    monkeypatch.setenv("HOME", str(folder))
    assert len(ImageFiles(["~/b"])) == 2
    # A file that is named comes whatever it holds, beside one that is an image.
    assert names(ImageFiles([folder / "notes.txt", folder / "IMG2.png"]), folder) == ["notes.txt", "IMG2.png"]


def test_links_are_followed_once(tmp_path):
    save(tmp_path / "there" / "1.png")
    for name in ("first", "second"):
        (tmp_path / "here").mkdir(exist_ok=True)
        (tmp_path / "here" / name).symlink_to(tmp_path / "there")
    (tmp_path / "there" / "loop").symlink_to(tmp_path / "here")
    assert names(ImageFiles([tmp_path / "here"]), tmp_path) == ["here/first/1.png"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nowhere", "nowhere' is neither a file nor a folder here; check the path"),
        ("empty", "empty' holds no images; expected files such as .jpg, .png"),
        ("*.gif", "gif' finds no images"),
        ("notes.txt", "notes.txt' is a text file; expected images"),
        ("clip.MP4", "clip.MP4' is a film: export its frames as JPEG or PNG; expected images"),
        ("page", "page' is a web page instead of an image"),
        ("some.bin", "some.bin' is no image of a format that is read"),
    ],
)
def test_what_holds_no_images_is_one_error(tmp_path, path, message):
    (tmp_path / "empty" / "deep").mkdir(parents=True)
    (tmp_path / "empty" / "deep" / "notes.txt").write_text("nothing")
    (tmp_path / "notes.txt").write_text("nothing")
    (tmp_path / "clip.MP4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(20))
    (tmp_path / "page").write_text("<!doctype html><html>")
    (tmp_path / "some.bin").write_bytes(bytes(range(100)))
    with pytest.raises(ValueError, match=message):
        ImageFiles([tmp_path / path])


def test_no_paths_at_all():
    with pytest.raises(ValueError, match="no images are given, expected files, folders or patterns"):
        ImageFiles([])


def test_numbers_of_any_length_are_compared_as_numbers():
    rng = np.random.default_rng(0)
    numbers = [int("".join(map(str, rng.integers(10, size=length)))) for length in rng.integers(1, 60, size=200)]
    found = sorted((f"x{number}.png" for number in numbers), key=natural_order)
    assert found == [f"x{number}.png" for number in sorted(numbers)]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_cannot_be_read(folder):
    (folder / "b").chmod(0)
    try:
        with pytest.raises(ValueError, match="can't be read: Permission denied"):
            ImageFiles([folder])
    finally:
        (folder / "b").chmod(0o700)
