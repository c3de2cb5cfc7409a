"""Crops of a stored image show what crops of the whole decoding show, however much of it is decoded."""

from __future__ import annotations

import io

import numpy as np
import PIL.Image
import PIL.PngImagePlugin
import pytest
import torchvision
from PIL import ImageOps

from hf_icckd.data import stored_image
from hf_icckd.data.images import UnreadableImageError, decode_image, resampling
from hf_icckd.data.stored_image import StoredImage, decoding_scale, snapped_box, snapping_unit, stored_box

BOXES = [(0, 0, 640, 480), (32, 48, 608, 400), (8, 16, 208, 216), (104, 80, 640, 480)]  # where none is moved


def photo(width: int = 640, height: int = 480) -> PIL.Image.Image:
    """Smooth colours with some noise, as in a photograph."""
    generator = np.random.default_rng(0)
    coarse = PIL.Image.fromarray(generator.integers(0, 256, (height // 40, width // 40, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), PIL.Image.Resampling.BICUBIC), dtype=float)
    return PIL.Image.fromarray((smooth + generator.normal(0, 3, smooth.shape)).clip(0, 255).astype(np.uint8))


def stored(image: PIL.Image.Image, kind: str = "JPEG", orientation: int | None = None, **options) -> dict:
    content = io.BytesIO()
    if orientation is not None:
        exif = PIL.Image.Exif()
        exif[0x0112] = orientation
        options["exif"] = exif
    if kind == "JPEG":
        options.setdefault("quality", 90)
    image.save(content, kind, **options)
    return {"bytes": content.getvalue(), "path": None}


def from_whole(value: dict, boxes, size: int, interpolation: str = "bilinear") -> np.ndarray:
    image = decode_image(value, "it")
    method = PIL.Image.Resampling[interpolation.upper()]
    return np.stack([np.asarray(image.resize((size, size), method, box=box)) for box in boxes])


def difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(int) - other.astype(int)).mean())


@pytest.mark.parametrize("size", [24, 56, 112, 224])
@pytest.mark.parametrize("orientation", [None, 1, 2, 3, 4, 5, 6, 7, 8, 9])
def test_crops_are_those_of_the_whole_image(size, orientation):
    value = stored(photo(), orientation=orientation)
    image = StoredImage(value, "it")
    assert image.size == decode_image(value, "it").size
    boxes = [(left, top, min(right, image.size[0]), min(bottom, image.size[1])) for left, top, right, bottom in BOXES]
    for box in boxes:
        one, other = image.crops([box], size, "bilinear"), from_whole(value, [box], size)
        assert difference(one, other) < 2
        # Not shifted: by a pixel of the crop, the difference would be larger.
        shifted = np.roll(other, 1, axis=2)
        assert difference(one[:, :, 1:], shifted[:, :, 1:]) > 1.3 * difference(one, other)


def test_a_box_of_the_upright_image_is_found_in_the_stored_one():
    raw = PIL.Image.fromarray(np.random.default_rng(0).integers(0, 255, (13, 17, 3), dtype=np.uint8))
    for orientation in range(1, 9):
        raw.getexif()[0x0112] = orientation
        upright = ImageOps.exif_transpose(raw)
        crop = raw.crop(stored_box((2, 3, 9, 8), raw.size, orientation))
        crop.getexif()[0x0112] = orientation
        assert np.array_equal(np.asarray(ImageOps.exif_transpose(crop)), np.asarray(upright.crop((2, 3, 9, 8))))


def test_the_scale_leaves_every_crop_its_pixels():
    size = (4000, 4000)
    assert decoding_scale([(0, 0, 1792, 1792)], size, 224) == 8
    assert decoding_scale([(0, 0, 1784, 4000)], size, 224) == 4
    assert decoding_scale([(0, 0, 4000, 4000), (0, 0, 4000, 504)], size, 224) == 2
    assert decoding_scale([(0, 0, 440, 440)], size, 224) == 1 and decoding_scale([(0, 0, 8, 8)], size, 224) == 1
    assert decoding_scale([(0, 0, 400, 300)], (400, 300), 8) == 4  # boxes of a small image are not moved by eighths


@pytest.mark.parametrize("size", [(4000, 3001), (513, 600), (300, 259), (130, 129), (70, 8), (1, 1)])
def test_a_snapped_box_is_in_the_image_and_near(size):
    generator = np.random.default_rng(0)
    unit = snapping_unit(size)
    for _ in range(300):
        left, top = (int(generator.integers(side)) for side in size)
        box = (left, top, int(generator.integers(left, size[0])) + 1, int(generator.integers(top, size[1])) + 1)
        moved = snapped_box(box, size)
        assert 0 <= moved[0] < moved[2] <= size[0] and 0 <= moved[1] < moved[3] <= size[1]
        assert all(place % unit == 0 or place == size[index % 2] for index, place in enumerate(moved))
        far = [abs(one - other) for one, other in zip(box, moved, strict=True)]
        assert max(far) <= (unit // 2 if min(box[2] - box[0], box[3] - box[1]) >= 2 * unit else 2 * unit)
    assert snapped_box((0, 0, *size), size) == (0, 0, *size)


@pytest.mark.parametrize("width", [640, 641, 643, 647])
def test_a_jpeg_is_decoded_at_its_scale(width, monkeypatch):
    image = StoredImage(stored(photo(width, 487)), "it")
    for scale in (1, 2, 4, 8):
        assert image._decode(scale).shape == (-(-487 // scale), -(-width // scale), 3)


def test_views_share_one_decoding_and_a_second_net_too(monkeypatch):
    decoded = []
    decode = StoredImage._decode
    monkeypatch.setattr(StoredImage, "_decode", lambda self, scale: decoded.append(scale) or decode(self, scale))
    image = StoredImage(stored(photo()), "it")
    image.crops(BOXES[:2], 56, "bilinear")
    image.crops(BOXES[:2], 80, "bilinear")
    assert decoded == [4]
    image.crops(BOXES[:2], 320, "bilinear")
    assert decoded == [4, 1]


def test_pixels_do_not_depend_on_what_was_decoded_before():
    value = stored(photo())
    image = StoredImage(value, "it")
    image.crops(BOXES, 300, "bilinear")
    alone = StoredImage(value, "it").crops(BOXES[:2], 56, "bilinear")
    assert np.array_equal(image.crops(BOXES[:2], 56, "bilinear"), alone)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("decoding", ["whole", "scaled"])
def test_a_png_is_decoded_whole(decoding, interpolation):
    value = stored(photo(), "PNG")
    image = StoredImage(value, "it", decoding=decoding)
    one, other = image.crops(BOXES, 56, interpolation), from_whole(value, BOXES, 56, interpolation)
    if decoding == "scaled":  # without the neighbours of the box
        parts = [photo().crop(box).resize((56, 56), resampling(interpolation)) for box in BOXES]
        other = np.stack([np.asarray(part) for part in parts])
    # torch's rounding is not Pillow's.
    assert np.abs(one.astype(int) - other.astype(int)).max() <= (1 if decoding == "scaled" else 0)
    assert np.array_equal(np.asarray(image.whole()), np.asarray(decode_image(value, "it")))


@pytest.mark.parametrize("decoding", ["whole", "scaled"])
@pytest.mark.parametrize("orientation", [3, 6])
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_other_formats_are_turned_too(kind, orientation, decoding):
    options = {"lossless": True} if kind == "WEBP" else {}
    value = stored(photo(600, 304), kind, orientation, **options)
    image, whole = StoredImage(value, "it", decoding=decoding), decode_image(value, "it")
    assert image.size == whole.size
    box = (0, 0, *whole.size)
    assert difference(image.crops([box], 56, "bilinear"), from_whole(value, [box], 56)) < 0.5
    assert image.shrunk(100).size == whole.resize((100, 197) if orientation == 6 else (197, 100)).size


def test_a_png_is_decoded_once(monkeypatch):
    decoded = []
    load = PIL.PngImagePlugin.PngImageFile.load_prepare
    monkeypatch.setattr(PIL.PngImagePlugin.PngImageFile, "load_prepare", lambda self: decoded.append(1) or load(self))
    image = StoredImage(stored(photo(), "PNG"), "it")
    assert not decoded
    assert image.size == (640, 480)
    image.crops(BOXES, 56, "bilinear")
    image.shrunk(100)
    assert len(decoded) == 1


def test_whole_decoding_is_exact_for_jpegs():
    value = stored(photo(), orientation=6)
    boxes = [(0, 0, 480, 640), (10, 20, 300, 500)]
    image = StoredImage(value, "it", decoding="whole")
    assert np.array_equal(image.crops(boxes, 56, "bilinear"), from_whole(value, boxes, 56))


KINDS = {
    "progressive": lambda: stored(photo(), progressive=True),
    "grey": lambda: stored(photo().convert("L")),
    "cmyk": lambda: stored(photo().convert("CMYK")),
    "rgb": lambda: stored(photo(), keep_rgb=True),
    "no subsampling": lambda: stored(photo(), subsampling=0),
    "4:2:0": lambda: stored(photo(), subsampling=2),
    "two frames": lambda: stored(photo(), "MPO", save_all=True, append_images=[photo(320, 240)]),
    "palette": lambda: stored(photo().convert("P"), "PNG"),
    "alpha": lambda: stored(photo().convert("RGBA"), "PNG"),
    "16 bit": lambda: stored(PIL.Image.fromarray(np.asarray(photo().convert("L")).astype(np.uint16) * 257), "PNG"),
    "webp": lambda: stored(photo(), "WEBP"),
    "animated": lambda: stored(photo(), "WEBP", save_all=True, append_images=[photo(640, 480)]),
    "gif": lambda: stored(photo(), "GIF"),
    "tiff": lambda: stored(photo(), "TIFF"),
    "avif": lambda: stored(photo(), "AVIF"),
    "jpeg 2000": lambda: stored(photo(), "JPEG2000"),
}  # fmt: skip


@pytest.mark.parametrize("size", [56, 224])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_the_right_pixels(kind, size):
    value = KINDS[kind]()
    assert difference(StoredImage(value, "it").crops(BOXES, size, "bilinear"), from_whole(value, BOXES, size)) < 2


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_panorama_of_100_megapixels():
    wide = PIL.Image.linear_gradient("L").rotate(90).resize((20_000, 5_000))
    image = StoredImage(stored(wide), "it")
    left, right = image.crops([(0, 0, 5_000, 5_000), (15_000, 0, 20_000, 5_000)], 224, "bilinear")
    assert image._decoded[1].shape == (625, 2_500, 3)
    assert abs(left[:, 0].mean() - 0) < 3 and abs(left[:, -1].mean() - 64) < 3
    assert abs(right[:, 0].mean() - 191) < 3 and abs(right[:, -1].mean() - 255) < 3
    copy = image.shrunk(100)
    assert copy.size == (400, 100)


def test_an_image_smaller_than_its_crop_is_enlarged():
    value, box = stored(photo(120, 80)), (0, 0, 120, 80)
    assert difference(StoredImage(value, "it").crops([box], 224, "bilinear"), from_whole(value, [box], 224)) < 1


@pytest.mark.parametrize("size", [56, 400])
@pytest.mark.parametrize("decoding", ["whole", "scaled"])
def test_a_truncated_file_is_one_error(decoding, size):
    value = stored(photo())
    value["bytes"] = value["bytes"][: len(value["bytes"]) // 2]
    with pytest.raises(UnreadableImageError, match=r"row 3 cannot be read as an image \(.*truncated.*\); repair it"):
        StoredImage(value, "row 3", "; repair it", decoding=decoding).crops(BOXES, size, "bilinear")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"bytes": b"%PDF-1.7", "path": None}, "it is a PDF document"),
        ({"bytes": None, "path": "/nowhere/a.jpg"}, "FileNotFoundError"),
        (None, "the cell is empty"),
    ],
)
def test_what_is_no_image_is_one_error_when_it_is_opened(value, message):
    with pytest.raises(UnreadableImageError, match=rf"row 3 cannot be read as an image \(.*{message}"):
        StoredImage(value, "row 3")


def test_a_file_that_is_replaced_after_it_was_opened_changes_nothing(tmp_path):
    file = tmp_path / "a.jpg"
    photo().save(file, quality=90)
    image = StoredImage({"bytes": None, "path": str(file)}, "it")
    before = StoredImage({"bytes": None, "path": str(file)}, "it").crops(BOXES, 56, "bilinear")
    photo(200, 100).save(file)
    assert np.array_equal(image.crops(BOXES, 56, "bilinear"), before)


def refuse(*args):
    raise RuntimeError("not a JPEG")


def test_pillow_decodes_where_torchvision_can_not(monkeypatch):
    value = stored(photo())
    monkeypatch.setattr(torchvision.io, "decode_jpeg", refuse)
    assert np.array_equal(StoredImage(value, "it")._decode(1), np.asarray(decode_image(value, "it")))


def test_pillow_decodes_where_torchvision_has_no_decoder(monkeypatch):
    value = stored(photo())
    monkeypatch.setattr(stored_image, "jpeg_decoder", lambda: "pillow")
    monkeypatch.setattr(torchvision.io, "decode_jpeg", None)
    assert np.array_equal(StoredImage(value, "it")._decode(1), np.asarray(decode_image(value, "it")))
