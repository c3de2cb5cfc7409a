"""From stored images to batches: every kind of picture, both ways to hold them, keyed augmentation, statistics."""

from __future__ import annotations

import io
import os

import datasets
import numpy as np
import PIL.Image
import pytest
import timm
import torch
from datasets import ClassLabel, Dataset, Features, Image

from hf_icckd.data import Augmentation, ImageData, ImagePipeline, cache, resident
from hf_icckd.data.augment import augment, resized_crop_boxes
from hf_icckd.data.framing import Framing
from hf_icckd.data.images import UnreadableImageError, image_size, read_image, resize_and_crop, to_rgb
from hf_icckd.data.loading import make_loader
from hf_icckd.data.sampling import BatchKey, KeyedBatchSampler
from hf_icckd.options.data import TrainingDataArguments

FEATURES = Features({"image": Image(decode=False), "label": ClassLabel(names=["a", "b"])})


def encoded(image: PIL.Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(width: int, height: int, seed: int = 0, channels: int = 3) -> PIL.Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return PIL.Image.fromarray(pixels.squeeze())


def split_of(cells: list, paths: list[str] | None = None) -> Dataset:
    paths = paths or [None] * len(cells)
    images = [
        {"bytes": cell, "path": path} if (cell, path) != (None, None) else None
        for cell, path in zip(cells, paths, strict=True)
    ]
    return Dataset.from_dict({"image": images, "label": [i % 2 for i in range(len(cells))]}, features=FEATURES)


def data_of(images: list[PIL.Image.Image]) -> ImageData:
    split = split_of([encoded(image) for image in images])
    return ImageData("test", ["a", "b"], split, split.select(range(4)))


def batch_of(pipeline: ImagePipeline, rows: list[int], epoch: int = 0, views: int = 1, training: bool = True) -> dict:
    dataset = pipeline.dataset("train", training=training, num_views=views)
    return dataset.__getitems__(BatchKey(epoch, torch.tensor(rows, dtype=torch.int64), len(rows)))


@pytest.fixture(scope="module")
def small() -> ImageData:
    """Twelve images of 16 x 16."""
    return data_of([noise(16, 16, seed) for seed in range(12)])


@pytest.fixture(scope="module")
def large() -> ImageData:
    """Eight images above the bound of small ones, of several sizes."""
    return data_of([noise(100 + 9 * seed, 120 - 3 * seed, seed) for seed in range(8)])


def both_ways(data: ImageData, **options) -> list[ImagePipeline]:
    return [ImagePipeline(data, **options), ImagePipeline(data, resident_max_bytes=0, **options)]


# Pixels kept for the next start


def test_pixels_are_kept_for_the_next_start(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(resident, "_CACHED_IMAGES", 4)
    for row in range(5):
        (tmp_path / f"{row}.png").write_bytes(encoded(noise(16, 16, row)))
    split = split_of([None] * 5, [f"{tmp_path}/{row}.png" for row in range(5)])
    first = resident.load_split(split, Framing(16), "train")
    read = resident.read_image
    monkeypatch.setattr(resident, "read_image", None)  # no image is read again
    assert torch.equal(resident.load_split(split, Framing(16), "train"), first)
    assert len(list((tmp_path / "cache").rglob("*.npy"))) == 1
    monkeypatch.setattr(resident, "read_image", read)
    assert resident.load_split(split, Framing(12), "train").shape[-1] == 12
    changed = tmp_path / "3.png"
    changed.write_bytes(encoded(noise(16, 16, 77)))
    second = resident.load_split(split, Framing(16), "train")
    assert [bool((one == two).all()) for one, two in zip(first, second, strict=True)] == [
        True,
        True,
        True,
        False,
        True,
    ]
    for size in (600, 0):
        for file in (tmp_path / "cache").rglob("*.npy"):
            os.truncate(file, size)
        assert torch.equal(resident.load_split(split, Framing(16), "train"), second)
    # What is kept is not written to, whatever is done to the tensor.
    again = resident.load_split(split, Framing(16), "train")
    again.zero_()
    assert torch.equal(resident.load_split(split, Framing(16), "train"), second)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "0.png")
    with caplog.at_level("INFO", "hf_icckd"):
        assert torch.equal(resident.load_split(split, Framing(16), "train"), second)
    assert "not kept for the next start" in caplog.text


def test_a_full_disk_does_not_have_the_images_read_twice(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    monkeypatch.setattr(resident, "_CACHED_IMAGES", 2)
    read, rows = resident.read_image, []
    monkeypatch.setattr(resident, "read_image", lambda *of: rows.append(of[1]) or read(*of))

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache, "replace_file", full)
    with caplog.at_level("INFO", "hf_icckd"):
        pixels = resident.load_split(split_of([encoded(noise(8, 8, row)) for row in range(3)]), Framing(8), "train")
    assert (len(pixels), rows) == (3, [0, 1, 2])
    assert "not kept for the next start: [Errno 28] No space left" in caplog.text


# One image


def test_every_mode_becomes_rgb():
    red = PIL.Image.new("RGB", (6, 4), (255, 0, 0))
    assert to_rgb(red).getpixel((0, 0)) == (255, 0, 0)
    assert to_rgb(PIL.Image.new("L", (6, 4), 77)).getpixel((0, 0)) == (77, 77, 77)
    assert to_rgb(PIL.Image.new("1", (6, 4), 1)).getpixel((0, 0)) == (255, 255, 255)
    assert to_rgb(red.convert("P")).getpixel((0, 0)) == (255, 0, 0)
    assert to_rgb(PIL.Image.new("CMYK", (6, 4), (0, 255, 255, 0))).getpixel((0, 0)) == (255, 0, 0)
    # What is transparent shows a white ground, whatever colour hides behind.
    assert to_rgb(PIL.Image.new("RGBA", (6, 4), (255, 0, 0, 0))).getpixel((0, 0)) == (255, 255, 255)
    assert to_rgb(PIL.Image.new("RGBA", (6, 4), (255, 0, 0, 255))).getpixel((0, 0)) == (255, 0, 0)
    assert to_rgb(PIL.Image.new("LA", (6, 4), (0, 0))).getpixel((0, 0)) == (255, 255, 255)
    assert to_rgb(PIL.Image.new("LA", (6, 4), (9, 255))).getpixel((0, 0)) == (9, 9, 9)


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_one_transparent_colour_of_a_png_becomes_white(mode):
    image = PIL.Image.new(mode, (6, 4), 0)
    if mode == "P":
        image.putpalette([10, 20, 30])
    data = encoded(image, transparency=(0, 0, 0) if mode == "RGB" else 0)
    assert read_image(split_of([data]), 0).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_a_pixel_that_is_not_finite_makes_an_image_unreadable(value):
    image = PIL.Image.fromarray(np.array([[value, 1], [0.5, 2]], dtype=np.float32))
    with pytest.raises(UnreadableImageError, match=r"train split: row 0 .*holds values that are not finite"):
        read_image(split_of([encoded(image, "TIFF")]), 0)


def test_exif_orientation_is_applied():
    image = PIL.Image.new("RGB", (4, 2))
    image.putpixel((0, 0), (255, 255, 255))
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    turned = read_image(split_of([encoded(image, exif=exif)]), 0)
    assert turned.size == (2, 4)
    assert turned.getpixel((1, 0)) == (255, 255, 255)


@pytest.mark.parametrize("broken", ["empty", "missing", "text", "truncated", "no file"])
@pytest.mark.parametrize("resident_max_bytes", [0, 2**30])
def test_a_broken_image_names_its_row(broken, resident_max_bytes):
    whole = encoded(noise(16, 16))
    cell = {"empty": b"", "text": b"hello", "truncated": whole[: len(whole) // 2]}.get(broken)
    path = "no/such.png" if broken == "no file" else None
    split = split_of([whole, whole, cell, whole], [None, None, path, None])
    pipeline = ImagePipeline(ImageData("test", ["a", "b"], split, split), resident_max_bytes=resident_max_bytes)
    with pytest.raises(
        ValueError, match=r"^train split: row 2 .*cannot be read as an image .*; repair or remove it"
    ) as caught:
        batch_of(pipeline, [0, 2])
    assert "\n" not in str(caught.value)
    assert (path or "") in str(caught.value)
    if broken == "missing":
        assert "the cell is empty" in str(caught.value)


def test_a_broken_image_names_its_row_before_a_cut_too():
    split = split_of([b"x"] * 5).add_column("row", list(range(5))).select([1, 4])
    with pytest.raises(UnreadableImageError, match=r"row 1 \(row 4 before it was cut\)"):
        read_image(split, 1, "test")


def test_a_broken_image_in_a_worker_is_one_line_too():
    split = split_of([b"x"] * 4)
    pipeline = ImagePipeline(ImageData("test", ["a", "b"], split, split), resident_max_bytes=0)
    with pytest.raises(ValueError, match=r"^train split: row 0 cannot be read as an image") as caught:
        list(make_loader(pipeline.dataset("train"), KeyedBatchSampler(4, 2), num_workers=1))
    assert "\n" not in str(caught.value)


def test_size_of_an_image():
    split = split_of([encoded(noise(7, 5)), b"x"])
    assert (image_size(split, 0), image_size(split, 1)) == ((7, 5), None)


@pytest.mark.parametrize(("width", "height"), [(28, 31), (31, 28), (1, 40), (16, 16), (5, 5)])
def test_the_central_square(width, height):
    for crop_pct in (1.0, 0.875):
        assert resize_and_crop(noise(width, height), 16, crop_pct).size == (16, 16)
    picture = PIL.Image.new("RGB", (48, 16))
    picture.paste((255, 255, 255), (16, 0, 32, 16))
    assert (np.asarray(resize_and_crop(picture, 16, 1.0)) == 255).all()


@pytest.mark.parametrize("shape", [(500, 375), (375, 500), (251, 333), (40, 30)])
@pytest.mark.parametrize(("size", "crop_pct"), [(224, 0.875), (224, 0.9), (224, 0.95), (33, 0.96), (224, 1.0)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_evaluation_cuts_to_the_pixel_as_timm_does(shape, size, crop_pct, interpolation):
    image = noise(*shape)
    theirs = timm.data.create_transform(size, crop_pct=crop_pct, interpolation=interpolation, normalize=False)
    assert np.array_equal(resize_and_crop(image, size, crop_pct, interpolation), theirs(image).permute(1, 2, 0))


# Where pixels live, and how large they are


def test_where_images_are_kept(small, large):
    assert [pipeline.resident for pipeline in both_ways(small)] == [True, False]
    assert ImagePipeline(small, resident_max_bytes=12 * 3 * 16 * 16).resident
    assert not ImagePipeline(small, resident_max_bytes=12 * 3 * 16 * 16 - 1).resident
    assert not ImagePipeline(large).resident


def test_sizes(small, large):
    assert (ImagePipeline(small).image_size, ImagePipeline(small).crop_pct) == (16, 1.0)
    assert ImagePipeline(small, image_size=20).image_size == 20
    assert ImagePipeline(small, max_size=12).image_size == 12
    assert ImagePipeline(small, max_size=32).image_size == 16
    assert (ImagePipeline(large).image_size, ImagePipeline(large).crop_pct) == (224, 0.875)
    assert ImagePipeline(large, default_size=64, max_size=48).image_size == 64
    assert ImagePipeline(data_of([noise(28, 31, seed) for seed in range(4)])).image_size == 31


@pytest.mark.parametrize("more", [{}, {"trivial_augment": True, "color_jitter": 0.3, "random_erasing": 0.5}])
@pytest.mark.parametrize("size", [16, 11, 24])
def test_both_ways_give_the_same_pixels(size, more):
    data = data_of([noise(16 + seed % 3, 16, seed, channels=1 + 2 * (seed % 2)) for seed in range(8)])
    kept, decoded = both_ways(data, augmentation=Augmentation(**more), image_size=size)
    for training in (False, True):
        first, second = (batch_of(each, [5, 0, 3], views=2, training=training) for each in (kept, decoded))
        assert first.keys() == second.keys()
        assert torch.equal(first["pixel_values"], second["pixel_values"])
        assert torch.equal(first["labels"], second["labels"])
        assert torch.equal(first["sample_ids"], second["sample_ids"])
        assert first["global_rows"] == second["global_rows"] == 3


def test_evaluation_shows_the_images_as_they_are(small):
    for pipeline in both_ways(small):
        batch = batch_of(pipeline, [7, 2], training=False)
        expected = np.stack([np.asarray(noise(16, 16, seed)) for seed in (7, 2)])
        assert torch.equal(batch["pixel_values"][:, 0], torch.from_numpy(expected).permute(0, 3, 1, 2))
        assert (batch["labels"].tolist(), batch["sample_ids"].tolist()) == ([1, 0], [7, 2])


def test_grey_digits_get_three_channels(digits):
    pixels = batch_of(ImagePipeline(digits), [0, 1, 2], training=False)["pixel_values"]
    assert (pixels.shape, pixels.dtype) == ((3, 1, 3, 8, 8), torch.uint8)
    assert (pixels[:, :, :1] == pixels).all()
    assert pixels.amax() > 200


@pytest.mark.parametrize("kind", ["resident", "decoded", "large"])
def test_views_lie_in_memory_as_nets_want_them(small, large, kind):
    options = {"default_size": 24} | ({"resident_max_bytes": 0} if kind == "decoded" else {})
    pipeline = ImagePipeline(large if kind == "large" else small, **options)
    size = pipeline.image_size
    for rows in ([1, 5, 2], []):
        pixels = batch_of(pipeline, rows, views=2)["pixel_values"]
        assert pixels.shape == (len(rows), 2, 3, size, size)
        if rows:
            assert pixels.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
            assert pixels.flatten(0, 1).data_ptr() == pixels.data_ptr()
            assert torch.equal(pixels.flatten(0, 1)[3], pixels[1, 1])


# Augmentation


@pytest.mark.parametrize("kind", ["resident", "decoded", "large"])
def test_augmentation_depends_on_its_key_alone(small, large, kind):
    def pipeline(seed: int = 0) -> ImagePipeline:
        options = {"resident_max_bytes": 0} if kind == "decoded" else {}
        return ImagePipeline(large if kind == "large" else small, Augmentation(seed=seed), default_size=24, **options)

    rows = [6, 1, 4, 0, 3]
    pixels = batch_of(pipeline(), rows, epoch=2, views=2)["pixel_values"]
    for position, row in enumerate(rows):
        assert torch.equal(batch_of(pipeline(), [row], epoch=2, views=2)["pixel_values"][0], pixels[position])
    assert torch.equal(batch_of(pipeline(), rows, epoch=2, views=1)["pixel_values"][:, 0], pixels[:, 0])
    others = {
        "view": pixels[:, 1],
        "epoch": batch_of(pipeline(), rows, epoch=3)["pixel_values"][:, 0],
        "seed": batch_of(pipeline(1), rows, epoch=2)["pixel_values"][:, 0],
    }
    for name, other in others.items():
        assert not torch.equal(other, pixels[:, 0]), name


@pytest.mark.parametrize("more", [{}, {"trivial_augment": True, "color_jitter": 0.3, "random_erasing": 0.5}])
def test_workers_do_not_matter(large, more):
    pipeline = ImagePipeline(large, Augmentation(**more), default_size=24)
    dataset = pipeline.dataset("train", training=True, num_views=2)
    epochs = []
    for workers in (0, 2):
        sampler = KeyedBatchSampler(len(dataset), 3, seed=1)
        loader = make_loader(dataset, sampler, workers)
        for epoch in (0, 1):
            sampler.set_epoch(epoch)
            epochs.append(list(loader))
    for first, second in ((epochs[0], epochs[2]), (epochs[1], epochs[3])):
        for batch, other in zip(first, second, strict=True):
            assert torch.equal(batch["pixel_values"], other["pixel_values"])
            assert torch.equal(batch["sample_ids"], other["sample_ids"])
            assert batch["global_rows"] == other["global_rows"]
    assert not torch.equal(epochs[0][0]["sample_ids"], epochs[1][0]["sample_ids"])


def test_without_padding_and_mirroring_nothing_changes(small):
    for augmentation in (Augmentation(crop_padding=0, horizontal_flip=False), None):
        for pipeline in both_ways(small, augmentation=augmentation):
            training = batch_of(pipeline, [3, 1], views=2)["pixel_values"]
            evaluation = batch_of(pipeline, [3, 1], training=False)["pixel_values"]
            assert torch.equal(training, evaluation.expand_as(training))


def test_crops_and_mirrors_are_what_they_say():
    """Each result is found among all that can be made by plain slicing, and all of these come up."""
    image = torch.tensor(np.asarray(noise(6, 5))).permute(2, 0, 1)
    padded = torch.nn.functional.pad(image, [1] * 4)
    possible = {}
    for mirrored in (False, True):
        for top in range(3):
            for left in range(3):
                crop = padded[:, top : top + 5, left : left + 6]
                # The image is mirrored after the crop.
                possible[(crop.flip(2) if mirrored else crop).numpy().tobytes()] = (mirrored, top, left)
    augmentation = Augmentation(crop_padding=1, min_crop_scale=None, horizontal_flip=True, seed=0)
    many = augment(image.expand(1800, -1, -1, -1), augmentation, 0, torch.arange(1800), 0)
    found = [possible[result.contiguous().numpy().tobytes()] for result in many]
    counts = np.array([found.count(choice) for choice in possible.values()])
    assert ((counts - 100) ** 2 / 100).sum() < 45  # 17 degrees of freedom: above once in 4,000


@pytest.mark.parametrize("count", [0, 40])
def test_mirrored_are_whole_images_where_nothing_is_cropped(count):
    images = torch.randint(256, (40, 3, 5, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))[:count]
    augmentation = Augmentation(crop_padding=None, min_crop_scale=0.2, horizontal_flip=True, seed=0)
    changed = augment(images, augmentation, 0, torch.arange(count), 0)
    mirrored = [bool(torch.equal(after, before.flip(2))) for before, after in zip(images, changed, strict=True)]
    assert all(is_so or torch.equal(*both) for is_so, *both in zip(mirrored, images, changed, strict=True))
    assert changed.shape == images.shape and sum(mirrored) in range(count // 4, count - count // 4 + 1)
    assert changed.is_contiguous(memory_format=torch.channels_last)


def test_mirroring_follows_the_data_set(small, digits):
    assert ImagePipeline(small).augmentation.horizontal_flip
    assert not ImagePipeline(digits).augmentation.horizontal_flip
    assert ImagePipeline(digits, Augmentation(horizontal_flip=True)).augmentation.horizontal_flip


def test_boxes_of_random_crops():
    augmentation = Augmentation(crop_padding=None, min_crop_scale=0.35, horizontal_flip=True, seed=0)
    sizes = torch.tensor([[100, 100], [300, 90], [1, 1]]).repeat(500, 1)
    boxes = torch.tensor(resized_crop_boxes(sizes, augmentation, 0, torch.arange(1500), 0))
    left, top, right, bottom = boxes.T
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] <= sizes).all()
    assert (right > left).all()
    assert (bottom > top).all()
    square = boxes[::3]
    shares = ((square[:, 2:] - square[:, :2]).prod(dim=1) / 100**2).double()
    assert 0.33 < shares.min() < 0.4
    assert shares.max() > 0.95
    assert abs((square[:, :2] - (100 - square[:, 2:])).double().mean()) < 2  # no side is preferred


# Figures and errors


def test_channel_statistics(small, large):
    pixels = np.stack([np.asarray(noise(16, 16, seed)) for seed in range(12)]) / 255
    for pipeline in both_ways(small):
        mean, std = pipeline.channel_statistics()
        assert mean == pytest.approx(pixels.mean(axis=(0, 1, 2)), abs=1e-4)
        assert std == pytest.approx(pixels.std(axis=(0, 1, 2)), abs=1e-4)
    large = ImagePipeline(large, default_size=24)
    pixels = batch_of(large, list(range(8)), training=False)["pixel_values"].double().flatten(0, 1) / 255
    assert large.channel_statistics()[0] == pytest.approx(pixels.mean(dim=(0, 2, 3)).tolist(), abs=1e-4)


def test_statistics_do_not_depend_on_the_pieces(small, monkeypatch):
    whole = ImagePipeline(small).channel_statistics()
    monkeypatch.setattr("hf_icckd.data.pipeline._STATISTICS_PIECE", 5)
    assert ImagePipeline(small).channel_statistics() == whole


def test_images_without_contrast_have_a_standard_deviation_all_the_same():
    _, std = ImagePipeline(data_of([PIL.Image.new("RGB", (8, 8), (9, 9, 9))] * 4)).channel_statistics()
    assert std == (0.0039,) * 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 0}, "image_size is 0, expected a number at least 1"),
        (
            {"augmentation": False},
            r"augmentation is False, expected an Augmentation, such as Augmentation\(\), or None",
        ),
        ({"max_size": -4}, "max_size is -4, expected a number at least 1"),
        ({"resident_max_bytes": -1}, "resident_max_bytes is -1, expected a number at least 0"),
        ({"crop_pct": 0}, "crop_pct is 0, expected a number above 0 and at most 1"),
    ],
)
def test_options_out_of_range(small, options, message):
    with pytest.raises(ValueError, match=message):
        ImagePipeline(small, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop_padding": -1}, "crop_padding is -1, expected a number at least 0"),
        ({"min_crop_scale": 1.5}, "min_crop_scale is 1.5, expected a number above 0 and at most 1"),
        ({"min_crop_scale": 0}, "min_crop_scale is 0, expected a number above 0"),
        ({"color_jitter": 2}, "color_jitter is 2, expected a number at least 0 and at most 1"),
        ({"random_erasing": -1}, "random_erasing is -1, expected a number at least 0 and at most 1"),
    ],
)
def test_augmentations_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(**options)
    with pytest.raises(ValueError, match=message):
        TrainingDataArguments(**options)


def test_what_the_options_choose():
    assert TrainingDataArguments(augmentation="none").chosen_augmentation(3) is None
    chosen = TrainingDataArguments(color_jitter=0.2, crop_padding=2).chosen_augmentation(3)
    assert chosen == Augmentation(color_jitter=0.2, crop_padding=2, seed=3)
    assert TrainingDataArguments(augmentation_seed=5).chosen_augmentation(3).seed == 5


def test_choices_left_open_are_made_for_the_images():
    """Recorded teacher targets belong to this dictionary."""
    small = Augmentation(seed=7).for_images(32, small=True, mirrored=False)
    assert small.recorded() == {
        "crop_padding": 4,
        "min_crop_scale": None,
        "horizontal_flip": False,
        "seed": 7,
        "color_jitter": 0.0,
        "trivial_augment": False,
        "random_erasing": 0.0,
    }
    large = Augmentation(crop_padding=3, horizontal_flip=False).for_images(224, small=False, mirrored=True)
    assert (large.crop_padding, large.min_crop_scale, large.horizontal_flip) == (None, 0.35, False)


def test_unknown_splits_and_no_views(small):
    with pytest.raises(ValueError, match="split is 'validation', expected one of train, test"):
        ImagePipeline(small).dataset("validation")
    with pytest.raises(ValueError, match="num_views is 0, expected a number at least 1"):
        ImagePipeline(small).dataset("train", num_views=0)
