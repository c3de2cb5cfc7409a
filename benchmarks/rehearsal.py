"""Seconds that the rehearsal before the first step takes: the default run, and a ViT-B at 224 pixels.

    python benchmarks/rehearsal.py [--rounds 3]

Each is a process of its own that ends after its rehearsal. Seconds of the processors stand beside those of the clock:
on a machine that does other work too, the clock says little. The parts are those of the last round.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a program, a file has only its own folder

from benchmarks.report import machine

RUNS = {
    "default run": [],
    "ViT-B at 224": ["--model", "vit_base_patch16_224", "--image_size", "224", "--max_train_samples", "64",
                     "--max_eval_samples", "16"],
}  # fmt: skip
PROGRAM = """
import json, os, sys, time
from hf_icckd import session, teacher
from hf_icckd.training.rehearsal import rehearse

def timed(trainer):
    clock, processors = time.perf_counter(), time.process_time()
    rehearse(trainer)
    print(json.dumps([time.perf_counter() - clock, time.process_time() - processors]), flush=True)
    os._exit(0)

session.rehearse = timed
teacher.main(sys.argv[1:])
"""


def rehearsal(words: list[str]) -> tuple[list[float], list[tuple[str, str]]]:
    """Seconds of clock and processors of a run's rehearsal, and its parts with the seconds of each.

    Raises:
        RuntimeError: If it fails, with what it wrote last.
    """
    with tempfile.TemporaryDirectory() as folder:
        options = ["--disable_tqdm", "true", "--log_level", "debug", "--output_dir", f"{folder}/run", *words]
        done = subprocess.run([sys.executable, "-c", PROGRAM, *options], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    parts = re.findall(r"^rehearsal of (.*): ([\d.]+) s", done.stderr, re.MULTILINE)
    return json.loads(done.stdout.splitlines()[-1]), parts


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    print(machine())
    for name, words in RUNS.items():
        rounds = [rehearsal(words) for _ in range(args.rounds)]
        clock, processors = (statistics.median(seconds) for seconds in zip(*(each for each, _ in rounds), strict=True))
        print(f"{name}: {clock:.1f} s, {processors:.1f} s of processors")
        print("".join(f"  {part}: {value} s\n" for part, value in rounds[-1][1]), end="")


if __name__ == "__main__":
    main()
