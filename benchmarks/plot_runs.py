"""Draw the curves of finished runs: `python benchmarks/plot_runs.py OUTPUT.png RUN [RUN ...]`.

A run is its folder or a copy of its metrics.json.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

PANELS = (("eval_top1", "top-1 (%)"), ("eval_nll", "negative log-likelihood (nats)"), ("eval_ece", "ECE"))


def main(output: str, runs: list[str]) -> None:
    """Top-1, NLL and ECE per epoch, a line for each run."""
    figure, axes = plt.subplots(1, len(PANELS), figsize=(11, 3.4), layout="constrained", facecolor="white")
    for run in runs:
        path = Path(run)
        file = path / "metrics.json" if path.is_dir() else path
        history = json.loads(file.read_text())["history"]
        for axis, (key, _) in zip(axes, PANELS, strict=True):
            axis.plot([row["epoch"] for row in history], [row[key] for row in history], label=path.stem, lw=1.5)
    for axis, (_, title) in zip(axes, PANELS, strict=True):
        axis.set(xlabel="epoch", title=title)
        axis.grid(alpha=0.3)
    axes[0].legend(frameon=False, fontsize=8)
    figure.savefig(output, dpi=110)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2:])
