"""Balanced accuracy on uneven classes, without and with each option: digits, one in ten of five classes.

    python benchmarks/imbalance.py --output runs/imbalance [--seeds 0 1 2] [--epochs 30]

Teachers by cross-entropy alone, then students of a teacher that was trained without any option and of one that was
trained with logit adjustment. The same command continues where it was stopped. Test images are even.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a program, a file has only its own folder

from hf_icckd import load_image_data, student, teacher

RATIO, SMALL = 10, 5
OPTIONS = {
    "none": [],
    "class_weights square_root": ["--class_weights", "square_root"],
    "class_weights balanced": ["--class_weights", "balanced"],
    "sampling square_root": ["--sampling", "square_root"],
    "sampling balanced": ["--sampling", "balanced"],
    "logit_adjustment 1": ["--logit_adjustment", "1"],
}
QUIET = ["--eval_strategy", "no", "--disable_tqdm", "true", "--num_threads", "1", "--use_cpu", "true"]
TEACHERS = ("none", "logit_adjustment 1")  # those that have students


def uneven_digits(folder: Path) -> Path:
    """Write the digits with one in ten training images of 5 to 9; the test split stays as it is."""
    digits, seen, rows = load_image_data("digits"), [0] * 10, []
    for row, label in enumerate(digits.labels("train").tolist()):
        if label < 10 - SMALL or seen[label] % RATIO == 0:
            rows.append(row)
        seen[label] += 1
    folder.mkdir(parents=True, exist_ok=True)
    digits.train.select(rows).to_parquet(folder / "train.parquet")
    digits.test.to_parquet(folder / "test.parquet")
    return folder


def run(recipe, folder: Path, words: list[str]) -> dict[str, float]:
    """Top-1, balanced accuracy and mean recall of large and small classes, in per cent, of a run on the test split."""
    recipe.main([*words, "--output_dir", str(folder)])
    results = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    recalls = results["per_class"]["test"]["recall"]
    return {
        "top-1": results["test"]["top1"],
        "balanced accuracy": results["test"]["balanced_accuracy"],
        "recall, large": statistics.mean(recalls[:-SMALL]),
        "recall, small": statistics.mean(recalls[-SMALL:]),
    }


def table(found: dict[str, list[dict[str, float]]]) -> str:
    """Mean and standard deviation over the seeds as a table in Markdown."""
    names = list(next(iter(found.values()))[0])
    lines = [f"| run | {' | '.join(names)} |", f"| --- |{' ---: |' * len(names)}"]
    for arm, runs in found.items():
        cells = []
        for name in names:
            values = [each[name] for each in runs]
            cells.append(f"{statistics.mean(values):.2f} ± {statistics.stdev(values) if len(values) > 1 else 0:.2f}")
        lines.append(f"| {arm} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Train all and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder of the data set and of all runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=30)
    args = parser.parse_args()
    data = uneven_digits(args.output / "digits")
    found: dict[str, list[dict[str, float]]] = {}
    for seed in args.seeds:
        common = ["--dataset", str(data), "--seed", str(seed), "--num_train_epochs", str(args.epochs), *QUIET]
        runs = args.output / f"seed-{seed}"
        for name, words in OPTIONS.items():
            net = ["--model", "cifar_resnet20", "--terms", "none", *words]
            result = run(teacher, runs / "teacher" / name.replace(" ", "-"), [*common, *net])
            found.setdefault(f"teacher, {name}", []).append(result)
        for guide in TEACHERS:
            folder = runs / "teacher" / guide.replace(" ", "-")
            for name, words in OPTIONS.items():
                net = ["--model", "cifar_resnet8", "--teacher", str(folder), *words]
                result = run(
                    student, runs / f"student-of-{guide.replace(' ', '-')}" / name.replace(" ", "-"), [*common, *net]
                )
                found.setdefault(f"student, {name}; teacher, {guide}", []).append(result)
    print(table(found))


if __name__ == "__main__":
    main()
