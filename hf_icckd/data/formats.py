"""Which files are images: by what is in them, where the name doesn't say it."""

from __future__ import annotations

import functools
import importlib.util
import io
import os
import struct
import warnings
from pathlib import Path

import PIL.features
import PIL.Image

HEAD_BYTES = 4096  # of a file that `unreadable_format` wants to see

# Vector graphics, films and containers that Pillow hands to other programs, and FITS, whose signed values it takes for
# unsigned ones.
_NOT_PICTURES = {"BUFR", "EPS", "FITS", "GRIB", "HDF5", "IPTC", "MPEG", "PDF", "WMF"}
# Formats that begin with bytes that nothing else begins with: a file without a known suffix must be one of these.
_SURE = (
    "AVIF", "BMP", "DDS", "GIF", "HEIF", "ICNS", "JPEG", "JPEG2000", "PNG", "PPM", "PSD", "QOI", "SGI", "TIFF", "WEBP",
)  # fmt: skip
_TEXT_SUFFIXES = {
    ".cfg", ".csv", ".htm", ".html", ".ini", ".js", ".json", ".jsonl", ".log", ".md", ".ndjson", ".py", ".rst", ".sh",
    ".svg", ".tex", ".toml", ".tsv", ".txt", ".xml", ".yaml", ".yml",
}  # fmt: skip
# Many are TIFF files whose first picture is a small preview.
_RAW_SUFFIXES = {
    ".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dng", ".erf", ".iiq", ".kdc", ".mrw", ".nef", ".nrw", ".orf", ".pef",
    ".raf", ".raw", ".rw2", ".sr2", ".srf", ".srw", ".x3f",
}  # fmt: skip
_FILM_SUFFIXES = {".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"}
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1", b"mif2")
_CONVERT = "convert it to JPEG or PNG"
_RAW = "a raw photo of a camera: develop it to JPEG or TIFF first"
_PDF, _POSTSCRIPT = "a PDF document: export its pages as PNG", "a PostScript drawing: export it as PNG"
_FILM, _SVG = "a film: export its frames as JPEG or PNG", "an SVG drawing: export it as PNG"
_WEB_PAGE = "a web page instead of an image, as failed downloads leave them: download the image again"
# Data sets come with such files, which no one means as images.
DOCUMENTS = frozenset((_PDF, _POSTSCRIPT, _FILM, _SVG, _WEB_PAGE))
_BEGINNINGS = {
    b"FUJIFILMCCD-RAW": _RAW,
    b"IIRO": _RAW,
    b"IIRS": _RAW,
    b"MMOR": _RAW,
    b"IIU\0": _RAW,
    b"FOVb": _RAW,
    b"\0MRM": _RAW,
    b"\xff\x0a": f"a JPEG XL image, which Pillow can't read: {_CONVERT}",
    b"\0\0\0\x0cJXL ": f"a JPEG XL image, which Pillow can't read: {_CONVERT}",
    b"%PDF": _PDF,
    b"%!PS": _POSTSCRIPT,
    b"SIMPLE  =": "a FITS file: convert it to TIFF or PNG",
    b"version https://git-lfs": "a Git LFS pointer instead of the file: fetch it with `git lfs pull`",
}
_PREVIEW_TAG, _DNG_TAG = 254, 50706  # of TIFF: kind of the first picture, and version of DNG


@functools.cache
def readable_formats() -> tuple[str, ...]:
    """Names of the formats that images are read from. HEIF is among them where pillow-heif is installed."""
    PIL.Image.init()
    if importlib.util.find_spec("pillow_heif") is not None:
        import pillow_heif

        pillow_heif.register_heif_opener()
    return tuple(name for name in dict.fromkeys(PIL.Image.ID) if name not in _NOT_PICTURES)


@functools.cache
def image_suffixes() -> frozenset[str]:
    """Suffixes of files that Pillow reads, in lower case, such as `.jpg`, `.jfif`, `.jp2` and `.tif`."""
    formats = {*readable_formats(), "MPO"}  # which is read as JPEG
    return frozenset(suffix for suffix, name in PIL.Image.registered_extensions().items() if name in formats)


def is_image_file(path: str | os.PathLike) -> bool:
    """Whether a file is an image that can be read: by its suffix, else by its content.

    The suffix alone decides for suffixes that Pillow knows and for those of text, which no one means as images. So a
    file called `.png` that is none counts as an image; decoding it says what is wrong.
    """
    suffix = Path(path).suffix.lower()
    if suffix in image_suffixes():
        return True
    if suffix in _TEXT_SUFFIXES or suffix in _RAW_SUFFIXES:
        return False
    if unreadable_format(_head(path)) is not None:
        return False
    return _opens(path)


def what_else(path: str | os.PathLike) -> str:
    """What a file is that is no image, with the way round where one is known.

    Example:
        >>> what_else("notes.txt")
        'a text file'
    """
    suffix = Path(path).suffix.lower()
    if suffix in _TEXT_SUFFIXES - {".svg", ".htm", ".html"}:
        return "a text file"
    if suffix in _FILM_SUFFIXES:
        return _FILM
    return unreadable_format(_head(path)) or "no image of a format that is read"


def is_image_content(content: bytes) -> bool:
    """Whether bytes are an image that can be read, told without a name."""
    return unreadable_format(content[:HEAD_BYTES]) is None and _opens(io.BytesIO(content))


def _opens(file: str | os.PathLike | io.BytesIO) -> bool:
    sure = [name for name in readable_formats() if name in _SURE]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with PIL.Image.open(file, formats=sure):
                return True
    except PIL.Image.DecompressionBombError:
        return True  # decoding it says that it is too large
    except Exception:  # decoders raise dozens of types
        return False


def unreadable_format(head: bytes) -> str | None:
    """Name the format of a file that can't be read, with the way round; None if nothing is known against it.

    Args:
        head: First bytes of the file, up to `HEAD_BYTES`.

    Example:
        >>> unreadable_format(b"%PDF-1.7")
        'a PDF document: export its pages as PNG'
    """
    for beginning, text in _BEGINNINGS.items():
        if head.startswith(beginning):
            return text
    if head[8:10] == b"CR" and head[:2] == b"II":
        return _RAW
    if _DNG_TAG in _first_tags(head) or _first_tags(head).get(_PREVIEW_TAG, 0) & 1:
        return _RAW
    if head[128:132] == b"DICM":
        return "a DICOM file: convert it to 16-bit PNG or TIFF and give --pixel_range"
    return _boxed_format(head) or _marked_up_format(head)


def _boxed_format(head: bytes) -> str | None:
    """Formats of the family of MP4, which name themselves after the word `ftyp`."""
    if head[4:8] != b"ftyp":
        return None
    brands = [head[start : start + 4] for start in (8, *range(16, min(int.from_bytes(head[:4], "big"), 64), 4))]
    if b"avif" in brands or b"avis" in brands:
        lacking = f"an AVIF image, which this build of Pillow can't read: install a newer Pillow or {_CONVERT}"
        return None if PIL.features.check("avif") else lacking
    if brands[0] == b"crx ":
        return _RAW
    if any(brand in _HEIF_BRANDS for brand in brands):
        lacking = (
            "a HEIC photo, which Pillow can't read alone: pip install 'hf-icckd[heic]' (pillow-heif is BSD-3-Clause, "
            f"its wheels are GPLv2 because they hold x265), or {_CONVERT}"
        )
        return None if "HEIF" in readable_formats() else lacking
    return _FILM


def _marked_up_format(head: bytes) -> str | None:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return _WEB_PAGE
    if text.startswith((b"<svg", b"<?xml", b"<!doctype svg")) and b"<svg" in text:
        return _SVG
    return None


def _first_tags(head: bytes) -> dict[int, int]:
    """Tags of the first picture of a TIFF file, with the first value of each; none for other files."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(head[:4])
    if order is None or len(head) < 8:
        return {}
    (start,) = struct.unpack_from(f"{order}I", head, 4)
    if start + 2 > len(head):
        return {}
    (count,) = struct.unpack_from(f"{order}H", head, start)
    tags = {}
    for entry in range(start + 2, min(start + 2 + 12 * count, len(head) - 11), 12):
        tag, kind = struct.unpack_from(f"{order}HH", head, entry)
        (tags[tag],) = struct.unpack_from(f"{order}{'H' if kind == 3 else 'I'}", head, entry + 8)
    return tags


def _head(path: str | os.PathLike) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(HEAD_BYTES)
    except OSError:
        return b""
