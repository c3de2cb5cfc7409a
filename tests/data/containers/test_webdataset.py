"""WebDataset archives become columns; other archives are left to other readers."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from hf_icckd.data.containers.webdataset import read_webdataset
from tests.data.containers.test_archives import pack

pytestmark = pytest.mark.usefixtures("own_cache")


def shard(path: Path, numbers: range, folder: str = "", **texts) -> Path:
    files = {}
    for i in numbers:
        files[f"{folder}{i:06}.jpg"] = f"image {i}".encode()
        files |= {f"{folder}{i:06}.{extension}": make(i).encode() for extension, make in texts.items()}
    return pack(path, files)


@pytest.mark.parametrize("kind", ["a.tar", "a.tar.gz"])
def test_images_and_classes(tmp_path, kind):
    rows = read_webdataset([shard(tmp_path / kind, range(5), cls=lambda i: f"{i % 2}\n")])
    assert rows.column_names == ["image", "label"]
    assert rows["image"][1] == {"bytes": b"image 1", "path": f"{kind}/000001.jpg"}
    assert rows["label"][:] == [0, 1, 0, 1, 0]


def test_shards_are_joined_in_order(tmp_path):
    paths = [shard(tmp_path / f"train-{i}.tar", range(3 * i, 3 * i + 3), cls=lambda i: str(i)) for i in range(3)]
    rows = read_webdataset(paths)
    assert rows["label"][:] == list(range(9))
    assert [row["bytes"] for row in rows["image"][:]] == [f"image {i}".encode() for i in range(9)]
    pack(tmp_path / "other.tar", {"cat/1.jpg": b"1"})
    with pytest.raises(ValueError, match=r"other.tar is no WebDataset as train-0.tar is"):
        read_webdataset([*paths, tmp_path / "other.tar"])


def test_fields_of_json_become_columns(tmp_path):
    def described(i):
        return json.dumps({"label": f"0{i}", "width": 8, "score": i / 2, "boxes": [1], "ok": True, "none": None})

    rows = read_webdataset([shard(tmp_path / "a.tar", range(2), json=described, txt=lambda i: f"photo {i}")])
    assert sorted(rows.column_names) == ["image", "label", "ok", "score", "txt", "width"]
    assert rows["label"][:] == ["00", "01"]
    assert (rows["score"][:], rows["ok"][:], rows["txt"][:]) == ([0, 0.5], [True, True], ["photo 0", "photo 1"])
    rows = read_webdataset([shard(tmp_path / "b.tar", range(2), json=described, cls=str)])
    assert (rows["label"][:], rows["json.label"][:]) == ([0, 1], ["00", "01"])


def test_numbers_that_are_names_stay_text(tmp_path):
    assert read_webdataset([shard(tmp_path / "a.tar", range(2), cls="{:02}".format)])["label"][:] == ["00", "01"]


def test_a_sample_without_a_label_has_none(tmp_path):
    files = {f"{i}.jpg": b"x" for i in range(4)} | {f"{i}.cls": b"1" for i in (0, 1, 3)}
    assert read_webdataset([pack(tmp_path / "a.tar", files)])["label"][:] == [1, 1, None, 1]


def test_values_of_several_types_are_left_out(tmp_path, caplog):
    path = shard(tmp_path / "a.tar", range(2), cls=str, json=lambda i: json.dumps({"x": ["a", 1][i]}))
    with caplog.at_level(logging.WARNING):
        assert read_webdataset([path]).column_names == ["image", "label"]
    assert "field 'x' is left out: it holds values of several types" in caplog.text


def test_keys_in_folders(tmp_path):
    files = {f"{part}/1.{kind}": content for part in "ab" for kind, content in (("jpg", b"x"), ("cls", b"0"))}
    rows = read_webdataset([pack(tmp_path / "a.tar", files)])
    assert [row["path"] for row in rows["image"][:]] == ["a.tar/a/1.jpg", "a.tar/b/1.jpg"]


@pytest.mark.parametrize(
    "files",
    [
        ["cat/1.jpg", "dog/2.jpg"], ["cat/1.jpg", "cat/1.txt", "dog/2.jpg", "dog/2.txt"],
        ["images/1.jpg", "labels/1.txt"], ["1.jpg", "2.jpg", "3.jpg", "1.txt"], ["1.cls"], ["labels.csv"],
    ],
    ids=["classes", "captions", "boxes", "one text", "no image", "table"],
)  # fmt: skip
def test_other_archives(tmp_path, files):
    assert read_webdataset([pack(tmp_path / "a.tar", dict.fromkeys(files, b"x"))]) is None


def test_two_images_a_sample(tmp_path):
    files = {"1.left.jpg": b"x", "1.right.jpg": b"x", "1.cls": b"0"}
    with pytest.raises(ValueError, match=r"sample '1' of a.tar has 2 images \(left.jpg, right.jpg\), expected one"):
        read_webdataset([pack(tmp_path / "a.tar", files)])


def test_text_that_is_no_json(tmp_path):
    with pytest.raises(ValueError, match=r"000000.json in a.tar can't be read: .*correct or remove it"):
        read_webdataset([shard(tmp_path / "a.tar", range(1), json=lambda i: "{")])
