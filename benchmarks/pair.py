"""A row of the table that everyone quotes, run again: teachers, and a student of each by each objective, over seeds.

    python benchmarks/pair.py --pair vgg13-vgg8 --dataset uoft-cs/cifar100 --output runs/vgg13-vgg8 [--seeds 3]
    python benchmarks/pair.py --pair wrn_40_1-wrn_16_1 --dataset $CIFAR100 --label_column fine_label --epochs 20 ...

The recipes of recipes/configs/cifar100 train on all 50,000 images, with 240 epochs unless --epochs is given. There are
two teachers, by cross-entropy with two views (ce) and with the intra-class term besides (term); students learn by
labels alone, and from each teacher by each of --objectives. Accuracies are those of the last epoch.

The published row stands beside it only after 240 epochs: a shorter schedule makes another table. Finished runs are not
repeated, and one that was cut off goes on.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a program, a file has only its own folder

from benchmarks.commands import train
from benchmarks.report import machine
from hf_icckd.options.pairs import PAIRS

ROOT = Path(__file__).resolve().parents[1]
FULL = 240
TEACHERS = {"ce": "none", "term": "intra_class:weight=0.05"}
# Teacher, student by labels, student by KD on CIFAR-100, in percent: RepDistiller's table, one run each, last epoch.
PUBLISHED = {
    "wrn_40_2-wrn_16_2": (75.61, 73.26, 74.92),
    "wrn_40_2-wrn_40_1": (75.61, 71.98, 73.54),
    "resnet56-resnet20": (72.34, 69.06, 70.66),
    "resnet110-resnet20": (74.31, 69.06, 70.67),
    "resnet110-resnet32": (74.31, 71.14, 73.08),
    "resnet32x4-resnet8x4": (79.42, 72.50, 73.33),
    "vgg13-vgg8": (74.64, 70.36, 72.98),
    "vgg13-mobilenetv2": (74.64, 64.60, 67.37),
    "resnet32x4-shufflenetv1": (79.42, 70.50, 74.07),
    "resnet32x4-shufflenetv2": (79.42, 71.82, 74.45),
    "wrn_40_2-shufflenetv1": (75.61, 70.50, 74.83),
}


def main() -> None:
    """Train what is missing, and write the row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pair", required=True, choices=[pair for pair in PAIRS if "cifar" in PAIRS[pair][0]])
    parser.add_argument("--dataset", required=True, help="CIFAR-100: a Hub id, or a folder of its files")
    parser.add_argument("--label_column", default="fine_label")
    parser.add_argument("--output", type=Path, required=True, help="folder of the runs, row.json and README.md")
    parser.add_argument("--epochs", type=int, default=FULL)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--objectives", nargs="+", default=["kd:temperature=4"])
    parser.add_argument("--options", nargs=argparse.REMAINDER, default=[], help="further options of every run")
    args = parser.parse_args()
    values: dict[str, list[float]] = {}
    for seed in range(args.seeds):
        folder = args.output / f"seed-{seed}"
        for name, role, words in runs(args, folder):
            top1 = train(role, folder / name, *options(args, role, seed), *words, *args.options)
            values.setdefault(name, []).append(top1)
            write(args, values)
    print((args.output / "README.md").read_text())


def runs(args: argparse.Namespace, folder: Path) -> Iterator[tuple[str, str, list[str]]]:
    """Name, kind and own options of each run of a seed, teachers before their students."""
    student = PAIRS[args.pair][1]
    yield "labels", "teacher", ["--model", student, "--terms", "none", "--num_views", "1"]
    for teacher, terms in TEACHERS.items():
        yield f"teacher-{teacher}", "teacher", ["--pair", args.pair, "--terms", terms]
        for objective in args.objectives:
            words = ["--pair", args.pair, "--teacher", str(folder / f"teacher-{teacher}"), "--objectives", objective]
            yield f"{objective.partition(':')[0]}-{teacher}", "student", words


def options(args: argparse.Namespace, role: str, seed: int) -> list[object]:
    """What the runs of a kind share: the recipe, the images and the length."""
    config = ROOT / "recipes" / "configs" / "cifar100" / f"{role}.yaml"
    data = ["--dataset", args.dataset, "--label_column", args.label_column, "--seed", seed]
    length = ["--num_train_epochs", args.epochs, "--eval_strategy", "no", "--save_total_limit", 1]
    return [config, *data, *length, "--disable_tqdm", "true"]


def write(args: argparse.Namespace, values: dict[str, list[float]]) -> None:
    """Write the row so far, as JSON and as a page."""
    # Where things are on this machine is nobody's business.
    words = [Path(word).name if Path(word).is_absolute() else word for word in sys.argv[1:]]
    command, here = f"python benchmarks/pair.py {' '.join(words)}", machine()
    rounded = {name: [round(each, 2) for each in found] for name, found in values.items()}
    record = {"pair": args.pair, "epochs": args.epochs, "top1": rounded, "machine": here, "command": command}
    (args.output / "row.json").write_text(json.dumps(record, indent=1) + "\n")
    full = args.epochs == FULL
    lines = [
        f"# {args.pair} on CIFAR-100, {args.epochs} epoch{'s' * (args.epochs != 1)}"
        + ("" if full else ": a short schedule"),
        "",
        "| " + " | ".join(["", *values]) + " |",
        "| --- |" + " ---: |" * len(values),
        "| top-1, % | " + " | ".join(map(mean_and_spread, values.values())) + " |",
    ]
    if full and args.pair in PUBLISHED:
        teacher, labels, kd = PUBLISHED[args.pair]
        known = {"labels": labels, "teacher-ce": teacher, "kd-ce": kd}
        lines.append("| RepDistiller's table | " + " | ".join(str(known.get(name, "")) for name in values) + " |")
        lines += [
            "",
            "The published teacher has one view, and KD there the weights 0.1 and 0.9; rows of other papers are often",
        ]
        lines += ["the best epoch on the test split, 0.31 points higher on average."]
    else:
        lines += ["", "No published number stands beside it: those are for 240 epochs."]
    seeds = max(map(len, values.values()))
    lines += [
        "",
        f"Mean {'and standard deviation ' if seeds > 1 else ''}over {seeds} seed{'s' * (seeds > 1)}, last epoch.",
    ]
    lines += ["", f"    {command}", "", f"{here['device']}, {here['cores']} cores, {here['instructions']}.", ""]
    (args.output / "README.md").write_text("\n".join(lines))


def mean_and_spread(values: list[float]) -> str:
    """Mean and standard deviation; one value stands alone."""
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{spread}"


if __name__ == "__main__":
    main()
