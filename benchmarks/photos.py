"""Photographs of one size, made from larger ones, for the benchmarks of loading.

    python benchmarks/photos.py PHOTOS --megapixels 2 --output runs/photos-2

PHOTOS is a folder with JPEGs, at any depth, such as the wallpapers that Debian packages bring (mate-backgrounds,
lomiri-wallpapers-16.04, ukui-wallpapers, plasma-workspace-wallpapers). Those with as many pixels or more, each once,
are scaled down, which leaves them the detail of a sharp photograph, and written as JPEG of quality 90 with Pillow's
other defaults. The last line says how many there are, and their bits per pixel. Enlarged images would decode too
cheaply. Whole loaders need epochs of many steps: with `--files 960` the photographs stand there several times, under
different names.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageOps

QUALITY = 90
_SAME = 3.0  # grey levels between 16 x 16 pixels of two sizes of one photograph


def photographs(source: Path, wanted: Callable[[PIL.Image.Image], bool]) -> Iterator[PIL.Image.Image]:
    """RGB photographs below a folder, upright; of one that lies there in several sizes, the first of them.

    Args:
        source: The folder.
        wanted: Whether to take an image, which is opened but not decoded.
    """
    PIL.Image.MAX_IMAGE_PIXELS = None
    seen: list[np.ndarray] = []
    for file in sorted(source.rglob("*.[jJ][pP]*[gG]")):
        with PIL.Image.open(file) as opened:
            if opened.mode != "RGB" or not wanted(opened):
                continue
            image = PIL.ImageOps.exif_transpose(opened)
        small = np.asarray(image.resize((16, 16), PIL.Image.Resampling.BOX), dtype=float)
        if all(np.abs(small - other).mean() > _SAME for other in seen):
            seen.append(small)
            yield image


def make_photos(source: Path, megapixels: float, output: Path, files: int = 0) -> tuple[int, float]:
    """Write the photographs as `train` and `test`, each in two class folders.

    Args:
        source: Folder of the originals.
        megapixels: Of what is written.
        output: Folder to write to.
        files: Files to reach by repeating photographs, if there are fewer.

    Returns:
        How many there are, and their bits per pixel.

    Raises:
        ValueError: If there are fewer than eight.
    """
    made: list[Path] = []
    bits, pixels = 0, 0
    least = megapixels * 1e6 / 1.03
    for image in photographs(source, lambda opened: opened.size[0] * opened.size[1] >= least):
        share = (megapixels * 1e6 / (image.size[0] * image.size[1])) ** 0.5
        width, height = (round(side * share) for side in image.size)
        file = output / _place(len(made))
        file.parent.mkdir(parents=True, exist_ok=True)
        small = image.resize((width, height), PIL.Image.Resampling.LANCZOS, reducing_gap=3.0)
        small.save(file, quality=QUALITY)
        made.append(file)
        bits, pixels = bits + 8 * file.stat().st_size, pixels + width * height
    count = len(made)
    if count < 8:
        raise ValueError(f"{source} holds {count} RGB JPEGs of {megapixels:g} megapixels or more, expected 8 at least")
    for number in range(count, files):
        shutil.copyfile(made[number % count], output / _place(number))
    return count, bits / pixels


def _place(number: int) -> str:
    """Path of a photograph below the folder: every fourth is for testing, fours take turns in two classes."""
    return f"{'test' if number % 4 == 3 else 'train'}/{'ab'[number // 4 % 2]}/{number:03d}.jpg"


def main() -> None:
    """Make them and say what was made."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--megapixels", type=float, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--files", type=int, default=0, help="repeat them until there are so many")
    args = parser.parse_args()
    count, bits = make_photos(args.photos, args.megapixels, args.output, args.files)
    print(f"{args.output}: {count} photographs of {args.megapixels:g} megapixels, {bits:.2f} bits per pixel")


if __name__ == "__main__":
    main()
