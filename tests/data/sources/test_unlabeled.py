"""Images without labels beside a labelled data set: what is read, what is said, what is refused."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict
from PIL import Image

from hf_icckd import Augmentation, ImagePipeline, load_image_data
from hf_icckd.data.images import UnreadableImageError
from hf_icckd.data.mixing import MixedImages
from hf_icckd.data.report import data_report
from hf_icckd.data.report_text import report_table
from hf_icckd.data.sampling import BatchKey
from hf_icckd.evaluation.leakage import check_unlabeled
from hf_icckd.options.data import StudentDataArguments


def png(seed: int, side: int = 10) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (side, side + 2, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def write(folder: Path, *names: str, first: int = 0) -> Path:
    for seed, name in enumerate(names, start=first):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png(seed))
    return folder


def digits(unlabeled: Path | str, **options):
    return load_image_data(
        "digits", unlabeled_dataset=str(unlabeled), **{"max_train_samples": 60, "max_eval_samples": 40} | options
    )


@pytest.mark.parametrize(
    "names",
    [("a.png", "b.png", "c.png"), ("train/x/a.png", "test/y/b.png", "c.png"), ("a.png", "a/b.png", "a/c/d.png")],
)
def test_every_image_counts_in_any_layout(tmp_path, names):
    data = digits(write(tmp_path / "photos", *names))
    assert [Path(row["image"]["path"]).name for row in data.unlabeled] == [
        path.name for path in sorted(map(Path, names))
    ]
    assert data.labels("unlabeled").tolist() == [-1, -1, -1]
    assert (len(data.train), len(data.trained)) == (60, 63)
    said = any("folders, whose names are ignored" in note for note in data.notes)
    assert said == (len({Path(name).parent for name in names}) > 1)
    assert "unlabelled images  3 (all images of the folder)" in report_table(data_report(data))


def test_tables_archives_and_built_in_data_are_read_too(tmp_path):
    rows = Dataset.from_dict({"img": [{"bytes": png(seed), "path": None} for seed in range(4)], "label": [0, 1, 0, 1]})
    rows.to_parquet(str(tmp_path / "photos.parquet"))
    DatasetDict({"train": rows}).save_to_disk(str(tmp_path / "saved"))
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for seed in range(4):
            archive.writestr(f"some/where/{seed}.png", png(seed))
    (tmp_path / "zipped").mkdir()
    (tmp_path / "photos.zip").rename(tmp_path / "zipped" / "photos.zip")
    for name in ("photos.parquet", "saved", "zipped", "zipped/photos.zip"):
        data = digits(tmp_path / name)
        assert len(data.unlabeled) == 4 and len(data.trained) == 64, name
        assert any("ignored: column 'label'" in note for note in data.notes) == (not name.startswith("zipped"))
    assert len(digits("synthetic", max_unlabeled_samples=7).unlabeled) == 7


def test_alone_the_training_split_is_left_out_of_training(tmp_path):
    folder = write(tmp_path / "photos", "a.png", "b.png")
    beside, alone = digits(folder), digits(folder, unlabeled_only=True)
    assert len(alone.trained) == 2 and len(alone.train) == 60
    assert alone.fingerprint() == beside.fingerprint()  # the option itself is part of what a run is
    assert beside.fingerprint() != load_image_data("digits", max_train_samples=60, max_eval_samples=40).fingerprint()


@pytest.mark.parametrize("resident", [True, False])
def test_batches_hold_both_and_measuring_only_labels(tmp_path, resident):
    folder = write(tmp_path / "photos", *(f"{number}.png" for number in range(20)))
    data = digits(folder)
    pipeline = ImagePipeline(data, None, resident_max_bytes=2**30 * resident)
    images = pipeline.dataset("train", training=True)
    assert (len(images), images.unlabeled, images.resident) == (80, 20, resident)
    rows = torch.tensor([3, 59, 60, 79])
    batch = images.__getitems__(BatchKey(0, rows, 4))
    assert batch["labels"].tolist()[2:] == [-1, -1] and min(batch["labels"].tolist()[:2]) >= 0
    assert batch["sample_ids"].tolist() == rows.tolist()
    measured = pipeline.dataset("train")
    assert (len(measured), measured.unlabeled) == (60, 0)
    again = measured.__getitems__(BatchKey(0, rows[:2], 2))
    assert torch.equal(again["pixel_values"], batch["pixel_values"][:2])
    alone = ImagePipeline(digits(folder, unlabeled_only=True), None, resident_max_bytes=2**30 * resident)
    only = alone.dataset("train", training=True)
    assert len(only) == only.unlabeled == 20
    last = only.__getitems__(BatchKey(0, torch.tensor([19]), 1))["pixel_values"]
    assert torch.equal(last[0], batch["pixel_values"][3])


def test_they_count_in_how_images_are_read_but_not_in_their_size(tmp_path):
    labelled = ImagePipeline(load_image_data("digits", max_train_samples=60, max_eval_samples=40))
    assert (labelled.crop_mode, labelled.uncommon_choices()) == ("center", {})
    folder = write(tmp_path / "photos", "wide.png")
    for number in range(70):
        Image.fromarray(np.full((120, 120), 4095, dtype=np.uint16)).save(folder / f"deep {number}.png")
    told = {}
    for pixel_range in (None, (0, 4095)):
        pipeline = ImagePipeline(digits(folder, pixel_range=pixel_range))
        assert (pipeline.image_size, pipeline.crop_mode, pipeline.reading.images) == (8, "border", 131)
        assert ("nearly black" in pipeline.reading.warning) == (pixel_range is None)
        (told[pixel_range],) = pipeline.uncommon_choices()["deep"]
    assert "65,535 white (the range of the type)" in told[None] and "4,095 white (--pixel_range)" in told[0, 4095]


@pytest.mark.parametrize("resident", [True, False])
def test_an_unreadable_one_is_named_by_its_file(tmp_path, resident):
    folder = write(tmp_path / "photos", "a.png", "c.png")
    (folder / "b.png").write_bytes(png(9)[:80])
    pipeline = ImagePipeline(digits(folder), None, resident_max_bytes=2**30 * resident)
    with pytest.raises(UnreadableImageError, match=r"^unlabelled image \S*b\.png cannot be read as an image .*skip$"):
        pipeline.dataset("train", training=True).__getitems__(BatchKey(0, torch.tensor([61]), 1))
    rows = Dataset.from_dict({"image": [{"bytes": png(0), "path": None}, {"bytes": b"none", "path": None}]})
    rows.to_parquet(str(tmp_path / "table.parquet"))
    assert ImagePipeline(digits(tmp_path / "table.parquet")).reading.unreadable_example.startswith(
        "unlabelled image in row 1 cannot be read as an image"
    )


def test_images_are_mixed_with_their_own_kind(tmp_path):
    folder = write(tmp_path / "photos", *(f"{number}.png" for number in range(21)))
    images = ImagePipeline(digits(folder), Augmentation(mixup=0.4)).dataset("train", training=True)
    assert isinstance(images, MixedImages) and images.unlabeled == 21
    partners = images.partners(0)
    assert partners.sort().values.tolist() == list(range(81))
    assert bool((partners[:60] < 60).all()) and bool((partners[60:] >= 60).all())
    for key in images.batch_sampler(16, seed=0):
        batch = images.__getitems__(key)
        assert torch.equal(batch["labels"] < 0, batch["mixed_labels"] < 0)


def test_bad_images_and_copies_are_left_out_if_asked(tmp_path):
    folder = write(tmp_path / "photos", "a.png", "b.png", "c.png")
    (folder / "bad.png").write_bytes(png(9)[:40])
    (folder / "copy.png").write_bytes(png(0))
    data = digits(folder, bad_images="skip", duplicates="drop")
    assert [Path(row["image"]["path"]).name for row in data.unlabeled] == ["a.png", "b.png", "c.png"]
    reasons = " ".join(each.reason for each in data.left_out)
    assert (
        "unreadable images of the unlabeled split" in reasons and "unlabelled images that are exact copies" in reasons
    )


def test_test_images_among_them_are_leakage(tmp_path):
    test = load_image_data("digits", max_train_samples=60, max_eval_samples=40).test
    folder = write(tmp_path / "photos", "other.png")
    (folder / "seen.png").write_bytes(test[0]["image"]["bytes"])
    data = digits(folder)
    assert "Images of the test split that the unlabeled split holds too: 1." in data.duplicates.sentences()
    with pytest.raises(
        ValueError, match=r"images without labels hold 1 of 40 images of the test split \(2.50 %\), exp"
    ):
        check_unlabeled(data, allowed=False)
    check_unlabeled(data, allowed=True)
    assert "so metrics on it may be too good" in data.notes[-1]
    check_unlabeled(digits(folder, duplicates="drop"), allowed=False)


def test_what_is_wrong_is_said(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty' holds 0 images"):
        digits(tmp_path / "empty")
    with pytest.raises(ValueError, match=r"dataset folder '.*gone' does not exist; check the path"):
        digits(tmp_path / "gone")
    with pytest.raises(ValueError, match="unlabeled_dataset is 'digits', which is the dataset itself, expected other"):
        digits("digits")
    labelled = write(tmp_path / "own", *(f"{name}/{number}.png" for name in "ab" for number in range(5)))
    for unlabeled, message in (
        (labelled, "which is the dataset itself"),
        (tmp_path, r"holds \d+ images of the train"),
    ):
        with pytest.raises(ValueError, match=message):
            load_image_data(str(labelled), unlabeled_dataset=str(unlabeled))
    with pytest.raises(ValueError, match="unlabeled_only is True but there are no images without labels; name them"):
        StudentDataArguments(unlabeled_only=True)
    with pytest.raises(ValueError, match="max_unlabeled_samples is 0, expected a number at least 1"):
        StudentDataArguments(unlabeled_dataset="x", max_unlabeled_samples=0)
    with pytest.raises(ValueError, match="unlabeled_dataset is 'x' but streaming is true"):
        StudentDataArguments(unlabeled_dataset="x", streaming=True)
