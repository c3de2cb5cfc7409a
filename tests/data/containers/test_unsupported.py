"""What can't be read is said in a sentence, and the way round that it shows works."""

from __future__ import annotations

import csv
import pickle
import re
from pathlib import Path, PurePosixPath

import numpy as np
import pytest

from hf_icckd.data.containers.arrays import read_arrays
from hf_icckd.data.containers.unsupported import boxes_refusal, refusal

PICKLES = [f"cifar-10-batches-py/{name}" for name in ("batches.meta", "data_batch_1", "readme.html", "test_batch")]


def paths(*names: str) -> list[PurePosixPath]:
    return [PurePosixPath(name) for name in names]


def code_in(text: str) -> str:
    return re.search("`(.*?)`", text)[1]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (PICKLES, ["data_batch_1 is a Python pickle", "never opened", "--dataset uoft-cs/cifar10,"]),
        (["cifar/train", "cifar/test", "cifar/meta"], ["pickle of CIFAR-100", "--dataset uoft-cs/cifar100"]),
        (["data_batch_1.bin"], ["binary", "--dataset uoft-cs/cifar10"]), (["a/x.pkl"], ["a/x.pkl is a Python pi"]),
        (["MNIST/processed/training.pt"], ["pickle"]), (["jpg/image_00001.jpg", "imagelabels.mat"], ["--labels"]),
        (["cars_train/1.jpg", "devkit/cars_train_annos.mat"], ["devkit/cars_train_annos.mat", "--labels"]),
        (["train_32x32.mat"], ["ufldl-stanford/svhn"]), (["x.h5"], ["h5py"]), (["x.npy"], ["numpy.savez"]),
        (["x.tfrecord-00000-of-00002"], ["TFRecord"]), (["x.dcm"], ["16-bit PNG"]), (["x.nii.gz"], ["16-bit PNG"]),
        (["v/clip.mp4"], ["ffmpeg", "--group_column"]), (["x.rar"], ["unpack"]), (["x.7z"], ["unpack"]),
        (["x.tar.zst"], ["--zstd"]), (["data.mdb"], ["database"]), (["cars.py"], ["never run"]),
        (["train/1.jpg", "train/1.xml"], ["Pascal VOC"]),
    ],
    ids=lambda value: value[0] if "/" in value[0] or "." in value[0] else "",
)  # fmt: skip
def test_what_cant_be_read(files, words):
    text = refusal(paths(*files))
    assert all(word in text for word in words), text
    assert "\n" not in text
    assert len(text) < 600
    assert boxes_refusal(paths(*files)) is None


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        (["train2017/1.jpg", "annotations/instances_train2017.json"], "COCO"),
        (["train/1.jpg", "train/_annotations.coco.json"], "COCO"),
        (["images/1.jpg", "labels/1.txt", "data.yaml"], "YOLO"),
        (["images/train/1.jpg", "labels/train/1.txt"], "YOLO"),
        (["train/images/1.jpg", "train/labels/1.txt"], "YOLO"),
        (["VOC2012/JPEGImages/1.jpg", "VOC2012/Annotations/1.xml"], "Pascal VOC"),
    ],
)  # fmt: skip
def test_boxes(files, kind):
    assert boxes_refusal(paths(*files)) == refusal(paths(*files))
    assert f"({kind}), several an image" in refusal(paths(*files))


@pytest.mark.parametrize(
    "files",
    [
        ["images/Abyssinian_1.jpg", "annotations/xmls/Abyssinian_1.xml", "annotations/list.txt"],
        ["Data/CLS-LOC/train/n01/1.JPEG", "Annotations/CLS-LOC/train/n01/1.xml"],
        ["images/pizza/1.jpg", "meta/labels.txt", "meta/train.txt"], ["cat/1.jpg", "cat/model.pkl", "dog/2.jpg"],
        ["train/1.jpg", "test/2.jpg", "meta"], ["a.csv"], [], ["labels/1.txt"], ["notes/labels/1.txt", "images/2.jpg"],
    ],
    ids=["pets", "imagenet", "food", "stray pickle", "splits", "table", "nothing", "texts", "other texts"],
)  # fmt: skip
def test_what_is_left_to_others(files):
    assert refusal(paths(*files)) is None


# The way round


def run(code: str) -> None:
    exec(compile(code, "way round", "exec"), {})


@pytest.mark.usefixtures("own_cache")
def test_cifar_can_be_converted_as_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (4, 3 * 32 * 32), dtype=np.uint8)
    for files, name, key in (
        (PICKLES, "data_batch_1", b"labels"),
        (["train", "test", "meta"], "train", b"fine_labels"),
    ):
        Path(name).write_bytes(pickle.dumps({b"data": images, key: [3, 1, 2, 0]}))
        run(code_in(refusal(paths(*files))))
        rows = read_arrays([tmp_path / "train.npz"])["train"]
        assert rows["label"][:] == [3, 1, 2, 0]
        body = images[1].reshape(3, 32, 32).transpose(1, 2, 0).tobytes()
        assert rows["image"][1]["bytes"] == b"P6\n32 32\n255\n" + body


@pytest.mark.usefixtures("own_cache")
def test_svhn_can_be_converted_as_shown(tmp_path, monkeypatch):
    matlab = pytest.importorskip("scipy.io")
    monkeypatch.chdir(tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 5), dtype=np.uint8)
    matlab.savemat("test_32x32.mat", {"X": images, "y": np.array([[1], [10], [2], [3], [4]])})
    run(re.search("`(from .*)`", refusal(paths("test_32x32.mat")))[1])
    rows = read_arrays([tmp_path / "test.npz"])["test"]
    assert rows["label"][:] == [1, 0, 2, 3, 4]
    assert rows["image"][2]["bytes"].endswith(images[..., 2].tobytes())


def test_labels_of_flowers_can_be_written_as_shown(tmp_path, monkeypatch):
    matlab = pytest.importorskip("scipy.io")
    monkeypatch.chdir(tmp_path)
    matlab.savemat("imagelabels.mat", {"labels": np.array([[77, 5, 9, 1]], dtype=np.uint8)})
    matlab.savemat("setid.mat", {"trnid": [[2, 4]], "valid": [[1]], "tstid": [[3]]})
    run(code_in(refusal(paths("jpg/image_00001.jpg", "imagelabels.mat", "setid.mat"))))
    assert list(csv.reader((tmp_path / "labels.csv").open())) == [
        ["file_name", "label", "split"], ["jpg/image_00002.jpg", "5", "train"], ["jpg/image_00004.jpg", "1", "train"],
        ["jpg/image_00001.jpg", "77", "validation"], ["jpg/image_00003.jpg", "9", "test"],
    ]  # fmt: skip
