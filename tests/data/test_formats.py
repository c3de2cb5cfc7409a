"""Images are told by their content, and what can't be read is named with the way round."""

from __future__ import annotations

import io
import struct

import PIL.features
import pytest

from hf_icckd.data import formats
from hf_icckd.data.formats import image_suffixes, is_image_file, readable_formats, unreadable_format
from hf_icckd.data.images import UnreadableImageError, decode_image
from tests.data.test_pipeline import encoded, noise


def boxed(brand: bytes, *others: bytes) -> bytes:
    body = brand + b"\0\0\0\0" + b"".join(others)
    return struct.pack(">I", 8 + len(body)) + b"ftyp" + body + b"\0" * 64


HEIC = boxed(b"heic", b"mif1", b"heic")
RAW = b"II*\0" + struct.pack("<IH", 8, 1) + struct.pack("<HHII", 254, 4, 1, 1) + b"\0" * 64
NAMED = {
    "camera": (RAW, "a raw photo of a camera: develop it"),
    "dng": (b"II*\0" + struct.pack("<IH", 8, 1) + struct.pack("<HHI4B", 50706, 1, 4, 1, 4, 0, 0), "a raw photo"),
    "cr2": (b"II*\0\x10\0\0\0CR\2\0", "a raw photo"),
    "cr3": (boxed(b"crx "), "a raw photo"),
    "raf": (b"FUJIFILMCCD-RAW 0201", "a raw photo"),
    "dicom": (b"\0" * 128 + b"DICM", "a DICOM file: convert it to 16-bit PNG or TIFF and give --pixel_range"),
    "svg": (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg">', "an SVG drawing: export it as PNG"),
    "pdf": (b"%PDF-1.7", "a PDF document: export its pages as PNG"),
    "film": (boxed(b"isom", b"mp42"), "a film: export its frames"),
    "jxl": (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL image"),
    "html": (b"\n<!DOCTYPE html><html>404", "a web page .* download the image again"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid", "a Git LFS pointer .*`git lfs pull`"),
    "fits": (b"SIMPLE  =                    T", "a FITS file: convert it"),
}


@pytest.mark.parametrize("name", NAMED)
def test_what_cannot_be_read_is_named_with_the_way_round(name, tmp_path):
    head, text = NAMED[name]
    with pytest.raises(
        UnreadableImageError, match=rf"^photo cannot be read as an image \(it is {text}.*\); remove it$"
    ):
        decode_image({"bytes": head, "path": None}, "photo", "; remove it")
    (tmp_path / "photo").write_bytes(head)
    assert not is_image_file(tmp_path / "photo")
    with pytest.raises(UnreadableImageError, match=text):
        decode_image({"bytes": None, "path": str(tmp_path / "photo")}, "photo")


@pytest.mark.skipif("HEIF" in readable_formats(), reason="pillow-heif is installed")
def test_heic_without_its_plugin(monkeypatch, tmp_path):
    for brand in (b"heic", b"heix", b"mif1", b"msf1"):
        told = unreadable_format(boxed(brand))
        assert "pip install 'hf-icckd[heic]'" in told and "BSD-3-Clause" in told and "GPLv2" in told
    (tmp_path / "a.heic").write_bytes(HEIC)
    assert not is_image_file(tmp_path / "a.heic") and ".heic" not in image_suffixes()
    with pytest.raises(UnreadableImageError, match=r"it is a HEIC photo, .*or convert it to JPEG or PNG"):
        decode_image({"bytes": HEIC, "path": None}, "photo")


def test_heic_with_its_plugin(tmp_path):
    pytest.importorskip("pillow_heif")
    data = encoded(noise(64, 48), "HEIF", quality=100)
    assert unreadable_format(data) is None and {".heic", ".heif"} <= image_suffixes()
    (tmp_path / "photo").write_bytes(data)
    assert is_image_file(tmp_path / "photo")
    assert decode_image({"bytes": data, "path": None}, "photo").size == (64, 48)


def test_avif_is_named_only_where_pillow_lacks_it(monkeypatch):
    monkeypatch.setattr(formats.PIL.features, "check", lambda name: name == "avif")
    assert unreadable_format(boxed(b"avif", b"mif1")) is None
    monkeypatch.setattr(formats.PIL.features, "check", lambda name: False)
    assert unreadable_format(boxed(b"avif", b"mif1")).startswith("an AVIF image, which this build of Pillow can't")


KINDS = {"PNG": ".png", "JPEG": ".jfif", "JPEG2000": ".jp2", "TIFF": ".tif", "WEBP": ".webp", "GIF": ".gif",
         "BMP": ".bmp", "PPM": ".ppm", "DDS": ".dds", "SGI": ".sgi"}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", ["known", "capitals", "none", "unknown", "number"])
def test_images_are_found_whatever_they_are_called(kind, suffix, tmp_path):
    if kind == "JPEG2000" and not PIL.features.check("jpg_2000"):
        pytest.skip("this build of Pillow lacks JPEG 2000")
    data = encoded(noise(16, 16), kind)
    known = KINDS[kind]
    name = {"known": known, "capitals": known.upper(), "none": "", "unknown": ".xyz", "number": ".2"}[suffix]
    path = tmp_path / f"image{name}"
    path.write_bytes(data)
    assert is_image_file(path) and unreadable_format(data[:4096]) is None
    assert decode_image({"bytes": None, "path": str(path)}, "image").size == (16, 16)


def test_text_is_never_opened(tmp_path):
    data = encoded(noise(16, 16))
    for suffix in (".txt", ".csv", ".json", ".xml", ".md", ".html", ".py", ".CSV"):
        (tmp_path / f"a{suffix}").write_bytes(data)
        assert not is_image_file(tmp_path / f"a{suffix}")
    # Not even read: there is no such file.
    assert not is_image_file(tmp_path / "missing.txt") and is_image_file(tmp_path / "missing.png")


@pytest.mark.parametrize("content", [b"", b"hello", b"\0" * 500, b"PK\3\4" + b"\0" * 60, b"P5 no numbers", b"BM"])
@pytest.mark.parametrize("suffix", ["", ".dat", ".db"])
def test_other_files_are_no_images(content, suffix, tmp_path):
    (tmp_path / f"a{suffix}").write_bytes(content)
    assert not is_image_file(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("suffix", [".nef", ".DNG", ".arw"])
def test_the_preview_in_a_raw_photo_is_no_image(suffix, tmp_path):
    """Pillow would take it, 160 pixels wide, for the photo."""
    (tmp_path / f"a{suffix}").write_bytes(encoded(noise(16, 16), "TIFF"))
    assert not is_image_file(tmp_path / f"a{suffix}")
    preview = io.BytesIO()
    noise(16, 16).save(preview, "TIFF", tiffinfo={254: 1})
    (tmp_path / "b").write_bytes(preview.getvalue())
    assert not is_image_file(tmp_path / "b")
    with pytest.raises(UnreadableImageError, match="it is a raw photo of a camera"):
        decode_image({"bytes": preview.getvalue(), "path": None}, "photo")


@pytest.mark.parametrize("suffix", [".eps", ".ps", ".pdf", ".mpg", ".h5", ".fits", ".wmf", ".heic", ".txt", ".nef"])
def test_suffixes_of_what_is_no_image(suffix):
    assert suffix not in image_suffixes() or (suffix == ".heic" and "HEIF" in readable_formats())


def test_suffixes_of_images():
    assert {".jpg", ".jpeg", ".jpe", ".jfif", ".jp2", ".j2k", ".tif", ".tiff", ".png", ".webp", ".bmp", ".gif",
            ".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".mpo"} <= image_suffixes()  # fmt: skip


def test_no_other_program_is_started_for_an_image():
    """Pillow hands PostScript to Ghostscript."""
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    with pytest.raises(UnreadableImageError, match="it is a PostScript drawing: export it as PNG"):
        decode_image({"bytes": eps, "path": None}, "drawing")
