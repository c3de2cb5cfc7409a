"""Draw what the intra-class term does to teachers, where it goes, and what students make of it, over its weight.

python benchmarks/embeddings.py results/study-temperatures --teachers ce intra,intra_class.weight=0.05 intra \
    --output results/study-temperatures/embeddings.jsonl
python docs/term.py results/study-temperatures docs/term.png
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hf_icckd.study import Records, load_plan
from hf_icckd.study.report.cells import value_label
from hf_icckd.study.report.frames import TEACHER, arm, run_metrics
from hf_icckd.study.report.plots import end_labels
from hf_icckd.study.report.sweep_plots import points_and_means
from hf_icckd.utils.plotting import BLUE, GREY, ORANGE, png, styled

SPLITS = {"train": BLUE, "test": ORANGE}


@styled
def draw(study: Path) -> Figure:
    """Variance within classes, what is told of it, and students: a place on each x axis for each weight."""
    plan = load_plan(study / "study.yaml")
    (sweep,) = plan.sweeps.values()
    (student,) = sweep.students
    teachers = {value_label(value): name for value, name in plan.sweep_teachers(sweep).items()}
    frame = run_metrics(Records(study / "records.jsonl").by_name)
    figure = Figure((9.6, 3.1), layout="constrained")
    axes = figure.subplots(1, 3, width_ratios=[1.3, 1, 1])
    embeddings = pd.read_json(study / "embeddings.jsonl", lines=True)
    _variance(axes[0], embeddings.groupby(["split", "teacher"])[["read", "unread"]].mean(), list(teachers.values()))

    ends = []
    for split, color in SPLITS.items():
        column = f"{split}.soft_label_information_matched"
        measured = [(place, arm(frame, name, TEACHER, column)) for place, name in enumerate(teachers.values())]
        points_and_means(axes[1], measured, color, "o", connected=True)
        ends.append((measured[-1][0], measured[-1][1].mean(), split, color))
    axes[1].set(title="what soft labels say of an image\n(nats, at matched entropy)")
    axes[1].set_ylim(bottom=0)
    end_labels(axes[1], ends)

    measured = [(place, arm(frame, name, student, "test.top1")) for place, name in enumerate(teachers.values())]
    points_and_means(axes[2], measured, GREY, "D", connected=True)
    axes[2].set(title=f"students by {plan.labels[student]}\ntest top-1 (%)")
    for axis in axes:
        axis.grid(axis="y")
        axis.set_xlabel(sweep.title)
        axis.set_xticks(range(len(teachers)), list(teachers))
        axis.set_xlim(-0.5, len(teachers) - 0.5)
    return figure


def _variance(axis: Axes, means: pd.DataFrame, teachers: list[str]) -> None:
    """A bar for each teacher and split, in two parts: what the last layer reads, and the rest."""
    for split, shift in zip(SPLITS, (-0.21, 0.21), strict=True):
        for place, teacher in enumerate(teachers):
            read, unread = means.loc[(split, teacher)]
            at, color = place + shift, SPLITS[split]
            axis.bar(at, read, 0.38, color=color)
            axis.bar(at, unread, 0.38, bottom=read, fill=False, edgecolor=color, hatch="////", lw=1)
            axis.annotate(split, (at, read + unread), (0, 2), textcoords="offset points", ha="center", color=color)
    axis.margins(y=0.1)
    axis.set(title="variance within classes, over that of their means\nfull: read by the last layer, hatched: not")


if __name__ == "__main__":
    Path(sys.argv[2]).write_bytes(png(draw(Path(sys.argv[1]))))
