"""Shrunk copies: right pixels, made once, whatever happens while they are made."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections import namedtuple

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from hf_icckd import ImagePipeline, create_classifier, load_image_data
from hf_icckd.data import image_cache
from hf_icckd.data.image_cache import ShrunkImages
from hf_icckd.data.images import UnreadableImageError, read_image
from hf_icckd.data.loading import make_loader
from hf_icckd.data.sampling import BatchKey
from hf_icckd.data.stored_image import StoredImage
from hf_icckd.options.augmentation import Augmentation
from hf_icckd.options.data import TrainingDataArguments
from tests.data.test_stored_image import photo


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(image_cache, "_PIECE", 4)


@pytest.fixture
def folder(tmp_path):
    """Twenty photographs of two classes: JPEGs upright and turned, a PNG, and one that is small already."""
    path = tmp_path / "photos"
    for number in range(20):
        file = (
            path
            / ("train" if number < 16 else "test")
            / "ab"[number % 2]
            / f"{number:02d}.{'png' if number == 3 else 'jpg'}"
        )
        file.parent.mkdir(parents=True, exist_ok=True)
        exif = Image.Exif()
        exif[0x0112] = 6 if number % 3 == 1 else 1
        size = (100, 80) if number == 5 else (400 + number, 300)
        photo(*size).rotate(number, fillcolor="gray").save(file, exif=exif, quality=90)
    return path


@pytest.fixture
def rows(folder):
    return load_image_data(str(folder)).train


def copies_of(rows, side: int = 96) -> ShrunkImages:
    copies = ShrunkImages(rows, side, "train")
    copies.prepare()
    return copies


def made_by(monkeypatch) -> list[str]:
    """Names of the images that are shrunk from now on."""
    made: list[str] = []
    shrink = StoredImage.shrunk
    monkeypatch.setattr(StoredImage, "shrunk", lambda self, side: made.append(self.what) or shrink(self, side))
    monkeypatch.setattr(image_cache, "_PROBED", 1)
    return made


def test_copies_show_the_images(rows):
    copies = copies_of(rows)
    assert len(copies) == len(rows)
    for row in range(len(rows)):
        whole, copy = read_image(rows, row), read_image(copies, row)
        assert min(copy.size) == min(96, min(whole.size))
        assert abs(copy.size[0] / copy.size[1] - whole.size[0] / whole.size[1]) < 0.01
        expected = whole.resize(copy.size, Image.Resampling.BICUBIC)
        assert np.abs(np.asarray(copy).astype(int) - np.asarray(expected).astype(int)).mean() < 2.5


def test_a_small_image_is_kept_as_it_is_stored(rows):
    copies = copies_of(rows)
    small = [row for row in range(len(rows)) if min(read_image(rows, row).size) <= 96]
    for row in small:
        assert np.array_equal(np.asarray(read_image(copies, row)), np.asarray(read_image(rows, row)))


def test_they_are_made_once_and_shared_by_runs_at_once(rows, monkeypatch):
    made, results = made_by(monkeypatch), []
    runs = [threading.Thread(target=lambda: results.append(copies_of(rows))) for _ in range(3)]
    for each in runs:
        each.start()
    for each in runs:
        each.join()
    assert len(made) == len(rows) + 1 and len(results) == 3
    for row in range(len(rows)):
        assert results[0][row] == results[1][row] == results[2][row]


def test_other_data_sets_share_them(rows, monkeypatch):
    """Part of the rows in another order, with a copy of an image, and one that is new."""
    copies = copies_of(rows)
    made = made_by(monkeypatch)
    part = rows.select([7, 2, 2, 11])
    of_part = copies_of(part)
    assert not made and [of_part[row]["image"] for row in range(4)] == [copies[row]["image"] for row in (7, 2, 2, 11)]
    assert [of_part[row]["label"] for row in range(4)] == part["label"][:]
    copies_of(rows.select([0, 1]))
    assert not made
    assert len({record["image"]["bytes"] for record in (copies[row] for row in range(len(rows)))}) == len(rows)


def test_before_they_are_made_images_are_shrunk_as_they_are_read(rows):
    early, copies = ShrunkImages(rows, 96, "train"), copies_of(rows)
    assert [early[row] for row in range(len(rows))] == [copies[row] for row in range(len(rows))]


def test_a_stopped_process_leaves_what_it_has_made(rows, monkeypatch):
    written = []
    write = image_cache._write

    def stop_at_the_third(columns, path):
        write(columns, path)
        written.append(path)
        if len(written) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(image_cache, "_write", stop_at_the_third)
        with pytest.raises(KeyboardInterrupt):
            copies_of(rows)
    made = made_by(monkeypatch)
    copies_of(rows)
    assert len(made) == len(rows) - 2 * 4 + 1


def test_a_changed_image_gets_a_new_copy(folder, rows, monkeypatch):
    copies_of(rows)
    made = made_by(monkeypatch)
    victim = folder / "train" / "a" / "00.jpg"
    Image.new("RGB", (300, 200), "red").save(victim)
    again = load_image_data(str(folder)).train
    place = [row["image"]["path"] for row in again].index(str(victim))
    assert read_image(copies_of(again), place).getpixel((5, 5))[0] > 240
    assert len(made) == 2 and len(set(made)) == 1  # once to estimate the room


def test_too_little_room_is_said_before_anything_is_made(rows, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: namedtuple("Usage", "total used free")(10, 9, 1000))
    with pytest.raises(ValueError, match=r"image_cache is 96, but 16 copies .* take about .* 1.0 kB are free; make r"):
        copies_of(rows)
    assert not list((tmp_path / "cache").rglob("*.arrow"))


def test_a_disk_that_fills_up_leaves_whole_files(rows, tmp_path, monkeypatch):
    write, written = image_cache._write, []

    def fill(columns, path):
        if written:
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device", str(path))
        written.append(path)
        write(columns, path)

    monkeypatch.setattr(image_cache, "_write", fill)
    with pytest.raises(ValueError, match=r"the cache folder .* can't be used \(No space left on device\)"):
        copies_of(rows)
    left = [file for file in (tmp_path / "cache").rglob("images-*/*") if file.name != "lock"]
    assert [file.suffix for file in left] == [".arrow"]
    monkeypatch.setattr(image_cache, "_write", write)
    assert len(copies_of(rows)) == len(rows)


def test_a_full_disk_is_named_though_its_error_names_no_file(rows, monkeypatch):
    def full(self, columns):
        raise OSError(28, "Error writing bytes to file")  # as pyarrow has it

    monkeypatch.setattr(image_cache.ArrowWriter, "write_batch", full)
    with pytest.raises(
        ValueError, match=r"the cache folder .* can't be used \(No space left on device\); set HF_HOME"
    ):
        copies_of(rows)


def test_an_image_that_changes_before_its_copy_is_made_is_an_error(folder, tmp_path):
    """Its copy would be found by the content that it had."""
    data = load_image_data(str(folder), validation_fraction=0.25)  # so the images are hashed while they are loaded
    victim = folder / "train" / "a" / "00.jpg"
    before = victim.read_bytes()
    Image.new("RGB", (400, 300), "red").save(victim)
    rows = datasets.concatenate_datasets([data.train, data.validation])
    with pytest.raises(UnreadableImageError, match=r"00\.jpg.* was changed while copies of the images were made"):
        copies_of(rows)
    victim.write_bytes(before)
    copies = copies_of(rows)
    place = [row["image"]["path"] for row in rows].index(str(victim))
    assert read_image(copies, place).getpixel((5, 5)) != (254, 0, 0)


def test_what_a_killed_process_left_goes(rows, tmp_path):
    copies_of(rows.select([0, 1]))
    (made,) = (tmp_path / "cache").rglob("images-*")
    (made / ".half.arrow.unfinished").write_bytes(b"half")
    assert len(copies_of(rows)) == len(rows)
    assert not list(made.glob(".*.unfinished"))


def test_processes_share_copies_at_once_and_one_that_is_killed_is_no_harm(folder, forks, tmp_path):
    words = f"""
import datasets, os, sys
datasets.config.HF_DATASETS_CACHE = {str(tmp_path / "cache")!r}
from hf_icckd import load_image_data
from hf_icckd.data import image_cache
image_cache._PIECE = 4
write, written = image_cache._write, []

def stop(columns, path):
    write(columns, path)
    written.append(path)
    if sys.argv[1] == "killed" and len(written) == 2:
        os.kill(os.getpid(), 9)

image_cache._write = stop
rows = load_image_data({str(folder)!r}).train
copies = image_cache.ShrunkImages(rows, 96, "train")
copies.prepare()
print(image_cache.cache_key(*(copies[row]["image"]["bytes"] for row in range(len(rows)))), len(rows))
"""
    assert forks.run(["-c", words, "killed"]).returncode == -9
    programs = [forks.start(["-c", words, "whole"], stdout=subprocess.PIPE) for _ in range(2)]
    said = [program.stdout.read() for program in programs]
    assert [program.wait(60) for program in programs] == [0, 0] and said[0] == said[1] and b"16" in said[0]
    assert len(image_cache._copies_in(next((tmp_path / "cache").rglob("images-*")))) == 16


def test_a_copy_too_long_for_a_jpeg_is_left_out(tmp_path):
    for name in ("train/a/0.png", "train/b/1.png", "test/a/2.png", "test/b/3.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (66_500, 100), "teal" if "a" in name else "gray").save(tmp_path / name)
    rows = load_image_data(str(tmp_path)).train
    copies = copies_of(rows, 99)
    assert read_image(copies, 0).size == (66_500, 100)


KINDS = {
    "progressive": lambda file: photo().save(file, "JPEG", progressive=True, quality=90),
    "CMYK": lambda file: photo().convert("CMYK").save(file, "JPEG", quality=90),
    "16 bits": lambda file: Image.fromarray(np.asarray(photo().convert("L")).astype(np.uint16) * 257).save(
        file, "PNG"
    ),
    "palette": lambda file: photo().quantize(64).save(file, "PNG"),
    "palette with transparency": lambda file: photo().quantize(64).save(file, "PNG", transparency=3),
    "alpha": lambda file: _translucent().save(file, "PNG"),
    "grey and alpha": lambda file: _translucent().convert("LA").save(file, "PNG"),
    "animated GIF": lambda file: photo().save(
        file, "GIF", save_all=True, append_images=[Image.new("RGB", (640, 480))]
    ),
    "animated PNG": lambda file: photo().save(
        file, "PNG", save_all=True, append_images=[Image.new("RGB", (640, 480))]
    ),
    "turned CMYK": lambda file: photo().convert("CMYK").save(file, "JPEG", quality=90, exif=_turned()),
}

ENDINGS = dict.fromkeys(("progressive", "CMYK", "turned CMYK"), "jpg") | {"animated GIF": "gif"}


def _translucent() -> Image.Image:
    image = photo().convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


@pytest.mark.parametrize("kind", KINDS)
def test_copies_of_every_kind_of_image_show_it(tmp_path, kind):
    for name in ("train/a/0", "train/b/1", "test/a/2", "test/b/3"):
        file = tmp_path / f"{name}.{ENDINGS.get(kind, 'png')}"
        file.parent.mkdir(parents=True, exist_ok=True)
        KINDS[kind](file)
    rows = load_image_data(str(tmp_path)).train
    whole, copy = read_image(rows, 0), read_image(copies_of(rows), 0)
    assert min(copy.size) == 96 and (copy.size[0] > copy.size[1]) == (whole.size[0] > whole.size[1])
    expected = whole.resize(copy.size, Image.Resampling.BICUBIC)
    assert (
        np.abs(np.asarray(copy).astype(int) - np.asarray(expected).astype(int)).mean() < 6
    )  # JPEG blurs strong colours and dithering
    crop = StoredImage(rows[0]["image"], "it").crops([(0, 0, *whole.size)], 96, "bilinear")[0]
    plain = np.asarray(whole.resize((96, 96), Image.Resampling.BILINEAR))
    assert np.abs(crop.astype(int) - plain.astype(int)).mean() < 3


def test_an_unreadable_image_is_named(folder):
    broken = folder / "train" / "a" / "00.jpg"
    broken.write_bytes(broken.read_bytes()[:3000])
    rows = load_image_data(str(folder)).train
    with pytest.raises(UnreadableImageError, match=r"00\.jpg.* cannot be read as an image"):
        copies_of(rows)


def test_workers_and_the_first_batch_see_the_same_copies(folder, tmp_path):
    data = load_image_data(str(folder))
    images = ImagePipeline(data, Augmentation(), default_size=64, image_cache=96).dataset("train", training=True)
    early = images.__getitems__(next(iter(images.batch_sampler(4, seed=0))))
    assert not list((tmp_path / "cache").rglob("*.arrow"))  # a trial makes none
    (batch, *_) = make_loader(images, images.batch_sampler(4, seed=0), num_workers=1)
    assert torch.equal(batch["pixel_values"], early["pixel_values"])
    assert list((tmp_path / "cache").rglob("images-*/*.arrow"))


def test_training_images_come_from_copies_and_evaluation_from_the_images(folder, monkeypatch):
    data = load_image_data(str(folder))
    plain = ImagePipeline(data, Augmentation(), default_size=64)
    cached = ImagePipeline(data, Augmentation(), default_size=64, image_cache=128)
    key = BatchKey(0, torch.arange(8), 8)
    one, other = (each.dataset("train", training=True).__getitems__(key)["pixel_values"] for each in (plain, cached))
    assert one.shape == other.shape
    assert 0 < (one.float() - other.float()).abs().mean() < 8
    for split in ("train", "test"):
        one, other = (each.dataset(split).__getitems__(BatchKey(0, torch.arange(3), 3)) for each in (plain, cached))
        assert torch.equal(one["pixel_values"], other["pixel_values"])
    assert cached.uncommon_choices()["image_cache"] == 128 and "image_cache" not in plain.uncommon_choices()


def test_options_that_do_nothing_are_refused(folder):
    data = load_image_data(str(folder))
    with pytest.raises(ValueError, match=r"image_cache is 32, expected at least the side of the batches, 64"):
        ImagePipeline(data, default_size=64, image_cache=32)
    teacher = create_classifier("cifar_resnet8", ["a", "b"], image_size=200).spec
    with pytest.raises(ValueError, match=r"image_cache is 128, expected at least the side of the batches, 200"):
        ImagePipeline(data, default_size=64, image_cache=128, teacher=teacher)
    with pytest.raises(ValueError, match=r"decoding is 'half', expected scaled or whole"):
        ImagePipeline(data, decoding="half")
    with pytest.raises(ValueError, match=r"image_cache is 128, but no box is cut out of small images, and none"):
        ImagePipeline(data, None, default_size=64, image_cache=128)
    with pytest.raises(ValueError, match=r"image_cache is 128, but no box is cut out of small images, and none"):
        ImagePipeline(load_image_data("digits"), image_cache=128)
    with pytest.raises(ValueError, match=r"image_cache is 0, expected"):
        TrainingDataArguments(image_cache=0)
    with pytest.raises(ValueError, match=r"image_cache is 512 but streaming is true"):
        TrainingDataArguments(image_cache=512, streaming=True)
