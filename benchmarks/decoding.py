"""Milliseconds from a stored photograph to a random crop, by several ways, in one process and one thread.

    python benchmarks/decoding.py --photos runs/photos-0.3 runs/photos-2 runs/photos-12 --output results/FOLDER

PHOTOS are folders made by `benchmarks/photos.py`. Each way makes the same keyed crops of the same images, in turns:

- `whole`: all pixels by Pillow, cropped and scaled by Pillow (`--decoding whole`, as everything was before);
- `scaled`: ours by default, one view, and `two views` of the same decoding;
- `torchvision`: decode_jpeg, crop, and the uint8 resize of torchvision's transforms v2;
- `copies`: ours from copies with a short side of 512 pixels (`--image_cache 512`);
- `raw copies`: the same copies as arrays in memory.

Beside the times stands the mean difference of the crops from those of `whole`, in grey levels. With `--scales` it is
told instead how long Pillow decodes a photograph at each scale, and how large copies are.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import torch
import torchvision
from torchvision.transforms.v2 import functional as v2

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a program, a file has only its own folder

from benchmarks.report import machine
from benchmarks.rounds import summary
from hf_icckd import Augmentation
from hf_icckd.data.augment import resized_crop_boxes
from hf_icckd.data.stored_image import StoredImage, resized
from hf_icckd.utils.machine import keep_freed_memory

SIZE, COPY = 224, 512
Way = Callable[[int, list[tuple[int, int, int, int]]], np.ndarray]


def ways_of(files: list[Path]) -> tuple[dict[str, Way], list[tuple[int, int]]]:
    """Each way as a function of the number of an image and of the boxes of two views, and the sizes of the images."""
    stored = [{"bytes": file.read_bytes(), "path": str(file)} for file in files]
    opened = [StoredImage(each, "photo") for each in stored]
    copies = [each.shrunk(COPY) or each.whole() for each in opened]
    encoded = [{"bytes": _jpeg(copy), "path": None} for copy in copies]
    arrays = [np.array(copy) for copy in copies]

    def by_torchvision(index: int, boxes) -> np.ndarray:
        left, top, right, bottom = boxes[0]
        content = torch.frombuffer(bytearray(stored[index]["bytes"]), dtype=torch.uint8)
        pixels = torchvision.io.decode_jpeg(content, torchvision.io.ImageReadMode.RGB)
        crop = v2.resize(pixels[:, top:bottom, left:right], [SIZE, SIZE], antialias=True)
        return crop.permute(1, 2, 0).numpy()[None]

    def of_copy(index: int, boxes) -> np.ndarray:
        image = StoredImage(encoded[index], "copy")
        return image.crops([_scaled(boxes[0], opened[index].size, image.size)], SIZE, "bilinear")

    def of_array(index: int, boxes) -> np.ndarray:
        left, top, right, bottom = _scaled(boxes[0], opened[index].size, copies[index].size)
        return resized(arrays[index][top:bottom, left:right], SIZE, "bilinear")[None]

    def ours(decoding: str, views: int) -> Way:
        return lambda index, boxes: StoredImage(stored[index], "photo", decoding=decoding).crops(
            boxes[:views], SIZE, "bilinear"
        )

    ways = {
        "whole": ours("whole", 1),
        "scaled": ours("scaled", 1),
        "two views": ours("scaled", 2),
        "torchvision": by_torchvision,
        "copies": of_copy,
        "raw copies": of_array,
    }
    return ways, [each.size for each in opened]


def _jpeg(image: PIL.Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=95)
    return file.getvalue()


def _scaled(box, size: tuple[int, int], other: tuple[int, int]) -> tuple[int, int, int, int]:
    """A box of an image in a copy of it, in whole pixels and not empty."""
    across, down = other[0] / size[0], other[1] / size[1]
    left, top = round(box[0] * across), round(box[1] * down)
    return left, top, max(left + 1, round(box[2] * across)), max(top + 1, round(box[3] * down))


def measure(folder: Path, rounds: int, most: int) -> dict[str, dict[str, object]]:
    """Times of each way over all images, in milliseconds per image, and its difference from `whole`."""
    files = sorted(folder.rglob("*.jpg"))[:most]
    ways, sizes = ways_of(files)
    rows, table = torch.arange(len(files)), torch.tensor(sizes)
    times: dict[str, list[float]] = {name: [] for name in ways}
    crops: dict[str, list[np.ndarray]] = {}
    for number in range(rounds + 1):  # the first is thrown away
        views = [resized_crop_boxes(table, Augmentation(), number, rows, view) for view in range(2)]
        for name in random.Random(number).sample(list(ways), len(ways)):
            start = time.perf_counter()
            crops[name] = [ways[name](index, [views[0][index], views[1][index]]) for index in range(len(files))]
            times[name].append(1e3 * (time.perf_counter() - start) / len(files))
    return {
        name: {
            "ms": summary(times[name][1:]),
            "ratio_to_whole": summary([a / b for a, b in zip(times["whole"][1:], times[name][1:], strict=True)]),
            "difference": float(
                np.mean([np.abs(a[0].astype(int) - b[0].astype(int)).mean() for a, b in zip(
                    crops[name], crops["whole"], strict=True)])
            ),
        }
        for name in ways
    }  # fmt: skip


def scales(folder: Path, rounds: int, most: int) -> str:
    """Milliseconds of decoding at each scale, and kilobytes of a copy as JPEG and as an array."""
    contents = [file.read_bytes() for file in sorted(folder.rglob("*.jpg"))[:most]]
    words = []
    for scale in (1, 2, 4, 8):
        times = []
        for _ in range(rounds):
            start = time.perf_counter()
            for content in contents:
                image = PIL.Image.open(io.BytesIO(content))
                image.draft(None, (image.size[0] // scale, image.size[1] // scale))
                image.load()
            times.append(1e3 * (time.perf_counter() - start) / len(contents))
        words.append(f"1/{scale} {summary(times)['median']:.1f} ms")
    copies = [StoredImage({"bytes": each, "path": None}, "photo").shrunk(COPY) for each in contents]
    found = [copy for copy in copies if copy is not None]
    encoded, raw = (sum(len(_jpeg(copy)) for copy in found), sum(3 * copy.size[0] * copy.size[1] for copy in found))
    size = (
        f"; a copy {encoded / len(found) / 1e3:.0f} kB, as an array {raw / len(found) / 1e3:.0f} kB" if found else ""
    )
    return f"{folder.name}: {', '.join(words)}{size}"


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, nargs="+", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--most", type=int, default=40, help="photographs of a folder")
    parser.add_argument("--scales", action="store_true", help="only how long decoding takes at each scale")
    parser.add_argument("--output", type=Path, help="folder for decoding.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()  # as in training
    record = {"machine": machine(), "rounds": args.rounds, "photos": {}}
    if args.scales:
        print("\n".join(scales(folder, args.rounds, args.most) for folder in args.photos))
        return
    for folder in args.photos:
        measured = record["photos"][folder.name] = measure(folder, args.rounds, args.most)
        print(f"\n{folder.name}\nway            ms an image         whole / way         grey levels from whole")
        for name, each in measured.items():
            ms, ratio = each["ms"], each["ratio_to_whole"]
            print(
                f"{name:<13}{ms['median']:7.2f} ({ms['min']:.2f} to {ms['max']:.2f})  "
                f"{ratio['median']:6.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})  {each['difference']:8.2f}"
            )
    if args.output:
        args.output.mkdir(parents=True, exist_ok=True)
        (args.output / "decoding.json").write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
