"""Seconds from the command to the first step, beside those that the imports take.

    python benchmarks/start_up.py --dataset uoft-cs/cifar100 --label_column fine_label --output results/FOLDER

The first start of a data set reads its images, later ones find them in the cache folder of `datasets`; this measures
later ones. Each is a process of its own, and the two kinds take turns.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a program, a file has only its own folder

from benchmarks.report import machine
from benchmarks.rounds import summary

IMPORTS = "import os, hf_icckd.teacher; os._exit(0)"  # neither of the two takes itself apart in the end
FIRST_STEP = """
import functools, os, sys
from transformers import TrainerCallback
from hf_icckd import teacher

class Leave(TrainerCallback):
    def on_step_end(self, *args, **kwargs):
        os._exit(0)

teacher.TeacherTrainer = functools.partial(teacher.TeacherTrainer, callbacks=[Leave()])
teacher.main(sys.argv[1:])
"""


def seconds(program: str, *words: str) -> float:
    """How long a program takes.

    Raises:
        RuntimeError: If it fails, with what it wrote last.
    """
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return time.perf_counter() - start


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--label_column")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, help="folder for start_up.json")
    args = parser.parse_args()
    words = ["--dataset", args.dataset, "--disable_tqdm", "true"]
    words += ["--label_column", args.label_column] if args.label_column else []
    measured = {"imports": [], "first step": []}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(args.rounds + 1):
            imports = seconds(IMPORTS)
            first_step = seconds(FIRST_STEP, *words, "--output_dir", f"{folder}/{number}")
            if number:  # the one before may have read the images
                measured["imports"].append(imports)
                measured["first step"].append(first_step)
    pairs = zip(measured["first step"], measured["imports"], strict=True)
    measured["over the imports"] = [first_step - imports for first_step, imports in pairs]
    for name, values in measured.items():
        each = summary(values)
        print(f"{name:<17} {each['median']:5.1f} s ({each['min']:.1f} to {each['max']:.1f})")
    if args.output is not None:
        args.output.mkdir(parents=True, exist_ok=True)
        record = {"rounds": args.rounds, "machine": machine(), "seconds": measured}
        (args.output / "start_up.json").write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
