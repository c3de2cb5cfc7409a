r"""Does it matter for a net that JPEGs are decoded at 1/2 to 1/8? Top-1 of pairs of runs, scaled and whole.

    python benchmarks/scaled_decoding.py PHOTOS --output results/FOLDER
    python benchmarks/scaled_decoding.py PHOTOS --start_from lite0 --epochs 3 --runs runs/scaled-decoding-pretrained \
        --output results/FOLDER

PHOTOS is a folder with JPEGs, as for `benchmarks/photos.py`. Each photograph is a class: pieces of 640 x 640 pixels
are cut out of it, those for training from its left part and those for testing from the rest, and written as JPEG of
quality 90. A resnet10t is trained on them from scratch at 96 pixels, or the net in a folder is fine-tuned as it is by
default (`benchmarks/photographs.py` imports lite0), with both ways of decoding and the same seeds. The same command
resumes. Printed is the mean difference over the seeds with its 90 % interval.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
import sys
from pathlib import Path

import numpy as np
import PIL.Image
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a program, a file has only its own folder

from benchmarks.photos import QUALITY, photographs
from benchmarks.report import machine
from hf_icckd import teacher

PIECE, SHORT_SIDE, LEFT = 640, 1300, 0.6  # pixels, pixels of the photograph, share of its width for training
FROM_SCRATCH = ["--model", "resnet10t", "--learning_rate", "0.1"]
PER_CLASS = {"train": 48, "test": 120}  # fewer test images cost more precision than fewer seeds do


def make_pieces(source: Path, output: Path, classes: int) -> int:
    """Cut the pieces; returns the number of classes.

    Raises:
        ValueError: If fewer than ten photographs are large enough.
    """
    generator, done = np.random.default_rng(0), 0

    def large_enough(opened: PIL.Image.Image) -> bool:
        return opened.size[0] >= 1.3 * opened.size[1] and opened.size[1] >= SHORT_SIDE

    for large in itertools.islice(photographs(source, large_enough), classes):
        image = large.resize((round(large.size[0] * SHORT_SIDE / large.size[1]), SHORT_SIDE), reducing_gap=3.0)
        edge = round(LEFT * image.size[0])
        for split, (low, high) in {"train": (0, max(edge, PIECE)), "test": (edge, image.size[0])}.items():
            folder = output / split / f"{done:02d}"
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(PER_CLASS[split]):
                left = int(generator.integers(low, max(low, high - PIECE) + 1))
                top = int(generator.integers(0, SHORT_SIDE - PIECE + 1))
                image.crop((left, top, left + PIECE, top + PIECE)).save(folder / f"{number}.jpg", quality=QUALITY)
        done += 1
    if done < 10:
        raise ValueError(f"{source} holds {done} RGB JPEGs that are large and wide enough, expected 10 at least")
    return done


def main() -> None:
    """Train the pairs, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--classes", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=5, help="two or more")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--start_from", help="folder of a pretrained net")
    parser.add_argument("--runs", type=Path, default=Path("runs/scaled-decoding"), help="folder of images and runs")
    parser.add_argument("--output", type=Path, help="folder for a record, which is named like the folder of runs")
    args = parser.parse_args()
    net = ["--start_from", args.start_from] if args.start_from else FROM_SCRATCH
    images = args.runs / "images"
    classes = len(list((images / "train").glob("*"))) or make_pieces(args.photos, images, args.classes)
    top1: dict[str, list[float]] = {"scaled": [], "whole": []}
    for seed in range(args.seeds):
        for decoding, found in top1.items():
            folder = args.runs / f"{decoding}-{seed}"
            if not (folder / "metrics.json").is_file():
                words = f"--image_size 96 --terms none --num_views 1 --seed {seed} --num_train_epochs {args.epochs}"
                words += " --per_device_train_batch_size 32 --eval_strategy no --save_strategy no"
                words += f" --decoding {decoding} --disable_tqdm true"
                teacher.main(["--dataset", str(images), *net, *words.split(), "--output_dir", str(folder)])
            found.append(json.loads((folder / "metrics.json").read_text())["test"]["top1"])
            print(f"seed {seed}, {decoding}: {found[-1]:.2f} %", flush=True)
    differences = [one - other for one, other in zip(top1["scaled"], top1["whole"], strict=True)]
    half = stats.t.ppf(0.95, args.seeds - 1) * statistics.stdev(differences) / math.sqrt(args.seeds)
    mean = statistics.mean(differences)
    print(f"scaled minus whole: {mean:+.2f} points, 90 % interval {mean - half:+.2f} to {mean + half:+.2f}")
    if args.output:
        args.output.mkdir(parents=True, exist_ok=True)
        record = {"machine": machine(), "net": Path(net[1]).name, "classes": classes, "epochs": args.epochs}
        record |= {"top1": top1, "mean": mean, "interval": [mean - half, mean + half]}
        (args.output / f"{args.runs.name}.json").write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
