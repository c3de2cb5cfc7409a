"""Commands of the package in processes of their own, as a user types them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def run(*words: object) -> None:
    """A command of the package, printed and run. Raises CalledProcessError if it fails."""
    print("$ hf-icckd", *words, flush=True)
    subprocess.run([sys.executable, "-m", "hf_icckd", *map(str, words)], check=True)


def train(command: str, folder: Path, *words: object) -> float:
    """Train into a folder, unless it is done; return what was measured on the test split, top-1 in percent."""
    if not (folder / "metrics.json").exists():
        run(command, *words, "--output_dir", folder)
    return json.loads((folder / "metrics.json").read_text())["test"]["top1"]
