"""Draw students' top-1 over KD's temperature, for each teacher of a study whose students are named kd-TEMPERATURE.

python docs/temperatures.py results/study-temperatures docs/temperatures.png
"""

from __future__ import annotations

import sys
from pathlib import Path

from matplotlib.figure import Figure

from hf_icckd.study import Records, load_plan
from hf_icckd.study.report.frames import arm, main_runs, run_metrics
from hf_icckd.study.report.plots import compared_styles, end_labels
from hf_icckd.study.report.sweep_plots import points_and_means
from hf_icckd.utils.plotting import png, styled

SPLITS = {"validation.top1": "validation images", "test.top1": "test images"}


@styled
def draw(study: Path) -> Figure:
    """A panel for each split, a line for each teacher."""
    plan = load_plan(study / "study.yaml")
    frame = main_runs(plan, run_metrics(Records(study / "records.jsonl").by_name))
    temperatures = {name: float(name.removeprefix("kd-")) for name in plan.students}
    figure = Figure((9.4, 3.6), layout="constrained")
    for axis, (column, title) in zip(figure.subplots(1, len(SPLITS)), SPLITS.items(), strict=True):
        ends = []
        for place, (teacher, style) in enumerate(compared_styles(plan).items()):
            of_student = {at: arm(frame, teacher, name, column) for name, at in temperatures.items()}
            # Beside one another: intervals would overlap.
            measured = [(at + 0.12 * place, values) for at, values in of_student.items() if len(values)]
            points_and_means(axis, measured, **style, connected=True)
            ends.append((measured[-1][0], measured[-1][1].mean(), plan.labels.get(teacher, teacher), style["color"]))
        axis.set(title=f"students, top-1 (%), {title}", xlabel="temperature of KD")
        axis.set_xticks(list(temperatures.values()))
        axis.grid(axis="y")
        end_labels(axis, ends)
    return figure


if __name__ == "__main__":
    Path(sys.argv[2]).write_bytes(png(draw(Path(sys.argv[1]))))
