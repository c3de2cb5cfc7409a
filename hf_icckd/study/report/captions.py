"""Pictures of a report: which there are, their titles, and what to look at in each."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from hf_icckd.study.plan import Plan
from hf_icckd.study.report import plots, sweep_plots
from hf_icckd.study.report.cells import escape
from hf_icckd.study.report.controls import gate_pairs
from hf_icckd.study.report.frames import TEACHER
from hf_icckd.utils import plotting

NOT_YET, NOT_HERE = "Not measured yet", "Not in this study"

# Kind of picture -> its title, and one sentence on what to look at.
_TEXTS = {
    "students": (
        "Students",
        "Is a row's bar (95 % interval of the mean) clear of the dashed line, the control's mean? Dots are seeds. The "
        "paired intervals in the tables above decide.",
    ),
    "fine-probe": (
        "Finer classes that nobody was told",
        "Rows to the right of the dashed line, the control's mean, know more about images within a class.",
    ),
    "gain": (
        "Gain of students and information in soft labels",
        "The method's claim in one picture: if information is what helps, points rise to the right in both panels.",
    ),
    "accuracies": (
        "Accuracy of teachers and of students",
        "If points rose to the right, better teachers would simply make better students; the method says that "
        "accuracy is not what decides.",
    ),
    "geometry": (
        "Geometry and soft labels",
        "Do the lines go where the arrows point? Distance ratio and information should grow with the weight, and NC1 "
        "stay away from 0.",
    ),
    "gate": (
        "Training with and without the gate",
        "The method says that training is unstable without the gate: look for lines that jump, lag behind, or end in "
        "a cross (diverged).",
    ),
    "agreement": (
        "Agreement of students with their teacher",
        "A student that agrees more has copied more of its teacher, right or wrong.",
    ),
    "cost": (
        "What teachers cost",
        "Training time of a teacher relative to the control with the same seed, both in one session on the machine of "
        "most runs; equal compute is near 1.",
    ),
}


@dataclass(frozen=True)
class Picture:
    """A picture of the report.

    Attributes:
        file: File name in plots/.
        title: Heading.
        look: What to look at, in one sentence.
        data: PNG bytes; None if it can't be drawn.
        absent: Why it can't be drawn.
    """

    file: str
    title: str
    look: str
    data: bytes | None
    absent: str = NOT_YET


def pictures(plan: Plan, rows: pd.DataFrame, main: pd.DataFrame, points: pd.DataFrame) -> list[Picture]:
    """All pictures except those of the ablations, pair by pair; a study of students has none that compares teachers.

    Args:
        rows: Rows of `all_runs`.
        main: Rows of `main_runs`.
        points: Rows of `curves`.
    """
    return [
        picture
        for pair in plan.pairs
        for picture in _of_pair(plan, pair, rows[rows.pair == pair], main[main.pair == pair], points)
    ]


def _of_pair(plan: Plan, pair: str, rows: pd.DataFrame, main: pd.DataFrame, points: pd.DataFrame) -> list[Picture]:
    metric, of_teachers = plan.comparison.metric, not plan.comparison.of_students
    points = points[points.run.isin(rows.run)]
    # If there are finer classes, every finished teacher has been probed for them.
    asked = ((main.student == TEACHER) & (main.status == "finished")).any()
    found = [
        _picture(plan, pair, "students", plots.students(plan, main, metric)),
        _picture(plan, pair, "fine-probe", plots.fine_probe(plan, main), absent=NOT_HERE if asked else NOT_YET),
    ]
    if of_teachers:
        found.append(_picture(plan, pair, "gain", plots.gain(plan, rows, metric)))
        found.append(_picture(plan, pair, "accuracies", plots.accuracies(plan, rows)))
    weights = {name: sweep for name, sweep in plan.sweeps.items() if sweep.option == "intra_class.weight"}
    for name, sweep in weights.items():
        figure = sweep_plots.geometry(plan, rows, sweep)
        found.append(_picture(plan, pair, "geometry", figure, name if len(weights) > 1 else ""))
    gates = gate_pairs(plan)
    for gated, ungated in gates:
        figure = plots.gate(plan, points, gated, ungated)
        found.append(_picture(plan, pair, "gate", figure, plan.labels.get(ungated, ungated) if len(gates) > 1 else ""))
    for kind, planned in (("geometry", weights), ("gate", gates)):
        if not planned:
            found.append(_picture(plan, pair, kind, None, absent=NOT_HERE))
    found.append(_picture(plan, pair, "agreement", plots.agreement(plan, main)))
    if of_teachers:
        found.append(_picture(plan, pair, "cost", plots.cost(plan, main)))
    return found


def ablation(plan: Plan, rows: pd.DataFrame, name: str, pair: str) -> Picture:
    """The picture of one sweep.

    Args:
        rows: Rows of `all_runs`.
        name: Name of the sweep.
        pair: Name of the pair.
    """
    sweep = plan.sweeps[name]
    figure = sweep_plots.ablation(plan, rows[rows.pair == pair], sweep)
    file = _file(plan, pair, f"sweep-{name}")
    return Picture(file, escape(sweep.title or sweep.option) + suffix(plan, pair), "", _png(figure))


def suffix(plan: Plan, pair: str) -> str:
    """Name of the pair for a title, if there are several."""
    return f" ({escape(pair)})" if len(plan.pairs) > 1 else ""


def _picture(
    plan: Plan, pair: str, kind: str, figure: Figure | None, variant: str = "", absent: str = NOT_YET
) -> Picture:
    title, look = _TEXTS[kind]
    title += f": {escape(variant)}" if variant else ""
    file = _file(plan, pair, f"{kind}-{variant}" if variant else kind)
    return Picture(file, title + suffix(plan, pair), look, _png(figure), absent)


def _png(figure: Figure | None) -> bytes | None:
    return None if figure is None else plotting.png(figure)


def _file(plan: Plan, pair: str, kind: str) -> str:
    """File name that is safe on any file system and in URLs; a hash keeps names apart that had to be changed."""
    name = f"{kind}-{pair}" if len(plan.pairs) > 1 else kind
    plain = re.sub(r"[^\w.=-]+", "-", name, flags=re.ASCII)
    return plain + ("" if plain == name else f"-{hashlib.sha256(name.encode()).hexdigest()[:6]}") + ".png"
