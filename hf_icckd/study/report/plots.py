"""Pictures of a study's report: functions of the plan and the metrics of one pair of networks.

Each returns a matplotlib figure, or None if nothing it shows is measured yet.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hf_icckd.metrics.catalogue import METRICS
from hf_icckd.study.plan import Plan
from hf_icckd.study.report.frames import COMPARED, TEACHER, arm, column_of
from hf_icckd.study.report.statistics import gains, mean_interval, rank_correlation
from hf_icckd.study.run import ALONE
from hf_icckd.utils.plotting import BLUE, GREEN, GREY, GROUND, OCHRE, ORANGE, SKY, VIOLET, styled

# ---- rows of what is compared: teachers, a panel for each student, or students, a panel for each teacher


@styled
def students(plan: Plan, frame: pd.DataFrame, metric: str) -> Figure | None:
    """A metric of the students; networks without a teacher come last."""
    column = column_of(metric)
    alone = {f"{ALONE}/{name}": arm(frame, ALONE, name, column) for name in plan.alone}
    panels = {panel: rows | alone for panel, rows in _of_students(plan, frame, column).items()}
    return _rows(plan, panels, COMPARED[metric].title, COMPARED[metric].decimals)


@styled
def agreement(plan: Plan, frame: pd.DataFrame) -> Figure | None:
    """Agreement of students with their teacher."""
    return _rows(plan, _of_students(plan, frame, "test.agreement"), METRICS["agreement"].title, 1)


@styled
def cost(plan: Plan, frame: pd.DataFrame) -> Figure | None:
    """Training time of each teacher relative to the control with the same seed."""
    seconds = _by_teacher(plan, frame, TEACHER, "training_seconds")
    ratios = {name: (values / seconds[plan.comparison.control]).dropna() for name, values in seconds.items()}
    return _rows(plan, {"": ratios}, "wall time over the control's", 2)


@styled
def fine_probe(plan: Plan, frame: pd.DataFrame) -> Figure | None:
    """Accuracy of linear probes for finer classes that were never told: teachers, and students that were probed."""
    probes = {
        features: _of_students(plan, frame, f"fine_probe.{column}", teachers=True)
        for column, features in (("embeddings", "embeddings"), ("soft_labels", "soft labels"))
    }
    panels = {
        f"{panel}: probe on the {features}": found[panel]
        for panel in probes["embeddings"]
        for features, found in probes.items()
        if any(len(values) for values in found[panel].values())
    }
    chance = frame["fine_probe.chance"].mean()  # a line at chance, far to the left, would squeeze the points together
    title = "fine class found (%)" + ("" if math.isnan(chance) else f"; chance: {chance:.1f}")
    return _rows(plan, panels, title, 2)


def _of_students(
    plan: Plan, frame: pd.DataFrame, column: str, teachers: bool = False
) -> dict[str, dict[str, pd.Series]]:
    """Rows of each panel; on request with those of the teachers, in a panel before or a row above."""
    if not plan.comparison.of_students:
        names = {TEACHER: "teachers"} if teachers else {}
        names |= {student: plan.labels.get(student, student) for student in plan.students}
        return {title: _by_teacher(plan, frame, student, column) for student, title in names.items()}
    rows = [TEACHER, *plan.students] if teachers else list(plan.students)
    return {
        plan.labels.get(teacher, teacher): {row: arm(frame, teacher, row, column) for row in rows}
        for teacher in plan.teachers
    }


def _by_teacher(plan: Plan, frame: pd.DataFrame, student: str, column: str) -> dict[str, pd.Series]:
    return {teacher: arm(frame, teacher, student, column) for teacher in plan.teachers}


def _rows(plan: Plan, panels: dict[str, dict[str, pd.Series]], title: str, decimals: int) -> Figure | None:
    """Rows of points, one per seed, with mean and interval below and the mean as text; a line marks the control's."""
    if all(values.empty for rows in panels.values() for values in rows.values()):
        return None
    names, styles = list(dict.fromkeys(itertools.chain(*panels.values()))), compared_styles(plan)
    columns = len(panels) if len(panels) <= 3 else 2
    lines = math.ceil(len(panels) / columns)
    size = (2.4 + (2.7 if columns == 3 else 3.4) * columns, lines * (0.8 + 0.36 * len(names)))
    figure = Figure(size, layout="constrained")
    grid = figure.subplots(lines, columns, sharey=True, squeeze=False).flatten()
    for axis, (panel, rows) in zip(grid, panels.items(), strict=False):
        for place, name in enumerate(names):
            _row(axis, place, rows[name], styles.get(name, {"color": GREY, "marker": "o"}), decimals)
        control = rows[plan.comparison.claim_and_control[1]]
        if len(control):
            axis.axvline(control.mean(), color=GREY, lw=1, ls="--", zorder=0)
        axis.set(title=panel, xlabel=title, ylim=(len(names) - 0.4, -0.6))
        axis.set_yticks(range(len(names)), [_row_label(plan, name) for name in names])
        axis.tick_params(axis="y", length=0)
        axis.margins(x=0.08)
        axis.grid(axis="x")
    for axis in grid[len(panels) :]:
        axis.remove()
    return figure


def _row_label(plan: Plan, name: str) -> str:
    if name == TEACHER:
        return "teacher"
    alone, _, student = name.rpartition("/")  # other names have no slash
    return f"{plan.labels.get(student, student)} (no teacher)" if alone else plan.labels.get(name, name)


def _row(axis: Axes, place: int, values: pd.Series, style: dict[str, Any], decimals: int) -> None:
    note = "no figure"
    if len(values):
        axis.plot(values, np.full(len(values), place - 0.14), ls="none", ms=4, alpha=0.55, mec="none", **style)
        low, high = mean_interval(values)
        if not math.isnan(low):
            axis.plot([low, high], [place + 0.14] * 2, color=style["color"], lw=2.2, solid_capstyle="butt")
        axis.plot(values.mean(), place + 0.14, "|", color=style["color"], ms=9, mew=2.2)
        note = f"{values.mean():.{decimals}f}"
    axis.annotate(
        note,
        (1.01, place),
        xycoords=axis.get_yaxis_transform(),
        va="center",
        fontsize=8,
        color=GREY,
        annotation_clip=False,
    )


def compared_styles(plan: Plan) -> dict[str, dict[str, Any]]:
    """Colour and marker of each teacher, or student, the same in all pictures: grey the control, blue the claim."""
    claimed, control = plan.comparison.claim_and_control
    names = plan.students if plan.comparison.of_students else plan.teachers
    others = [name for name in names if name not in (claimed, control)]
    colors, markers = itertools.cycle([ORANGE, GREEN, VIOLET, SKY, OCHRE]), itertools.cycle("s^vPX<>")
    styles: dict[str, dict[str, Any]] = {name: {"color": next(colors), "marker": next(markers)} for name in others}
    return styles | {control: {"color": GREY, "marker": "o"}, claimed: {"color": BLUE, "marker": "D"}}


# ---- scatters


@styled
def gain(plan: Plan, frame: pd.DataFrame, metric: str) -> Figure | None:
    """Gain of students over the control's, against the information in their teachers' soft labels."""
    points = gains(frame, plan.comparison.control, column_of(metric)).dropna(subset=["gain"])
    columns = {
        "teacher.test.soft_label_information_matched": "teacher's information, matched entropy (nats)",
        "teacher.test.soft_label_information_t4": "teacher's information, T = 4 (nats)",
    }
    unit = COMPARED[metric].difference_unit or COMPARED[metric].title
    return _scatters(plan, points, columns, "gain", f"gain over the control ({unit})", 0.0)


@styled
def accuracies(plan: Plan, frame: pd.DataFrame) -> Figure | None:
    """Top-1 of students against that of their teachers."""
    points = gains(frame, plan.comparison.control, "test.top1")
    title = METRICS["top1"].title
    columns = {"teacher.test.top1": f"teacher's test {title}"}
    return _scatters(plan, points, columns, "value", f"student's test {title}")


def _scatters(
    plan: Plan, points: pd.DataFrame, columns: dict[str, str], y: str, y_title: str, level: float | None = None
) -> Figure | None:
    """A panel for each student and column, with a point per teacher and seed."""
    points = points.dropna(subset=[*columns, y])
    names = [name for name in plan.students if name in set(points.student)]
    if not names:
        return None
    panels = [(name, column) for name in names for column in columns]
    across = len(columns) if len(columns) > 1 else min(3, len(panels))
    down = math.ceil(len(panels) / across)
    figure = Figure((2.6 + 3.2 * across, 0.3 + 2.9 * down), layout="constrained")
    grid = figure.subplots(down, across, squeeze=False).flatten()
    handles: dict[str, Artist] = {}
    for axis, (name, column) in zip(grid, panels, strict=False):
        shown = points[points.student == name]
        _scatter(axis, plan, shown, column, y)
        if level is not None:
            axis.axhline(level, color=GREY, lw=1, ls="--", zorder=0)
        title = f"{plan.labels.get(name, name)}\n{correlation_text(rank_correlation(shown[column], shown[y]))}"
        axis.set_title(title, fontsize=9)  # larger, it would run into the legend
        axis.set(xlabel=columns[column], ylabel=y_title)
        axis.grid()
        handles |= dict(zip(*axis.get_legend_handles_labels()[::-1], strict=True))
    for axis in grid[len(panels) :]:
        axis.remove()
    figure.legend(list(handles.values()), list(handles), loc="outside right upper", fontsize=8)
    return figure


def _scatter(axis: Axes, plan: Plan, points: pd.DataFrame, x: str, y: str) -> None:
    styles = compared_styles(plan)
    swept = points[~points.teacher.isin(plan.teachers)]
    if len(swept):
        axis.plot(swept[x], swept[y], ls="none", marker=".", ms=5, alpha=0.45, color=GREY, label="of sweeps")
    order = points[points.teacher.isin(plan.teachers)].groupby("teacher")[y].mean().sort_values(ascending=False)
    for teacher in order.index:
        rows = points[points.teacher == teacher]
        axis.plot(
            rows[x],
            rows[y],
            ls="none",
            ms=5.5,
            alpha=0.85,
            mec=GROUND,
            mew=0.5,
            label=plan.labels.get(teacher, teacher),
            **styles[teacher],
        )


def correlation_text(found: dict[str, float]) -> str:
    """Text of a `rank_correlation`."""
    if math.isnan(found["rho"]):
        return f"no correlation from {found['n']} points"
    ends = "" if math.isnan(found["low"]) else f" ({found['low']:.2f} to {found['high']:.2f})"
    return f"Spearman {found['rho']:.2f}{ends}, n = {found['n']}"


# ---- training curves


@styled
def gate(plan: Plan, points: pd.DataFrame, gated: str, ungated: str) -> Figure | None:
    """Training loss and top-1 of two teachers that differ in the gate alone; a cross marks the end of a diverged run.

    Shows the cross-entropy if it is recorded, because the term itself is another quantity without the gate.

    Args:
        points: Rows of `curves` of one pair.
        gated: Name of the teacher with the gate.
        ungated: Name of the teacher without it.
    """
    points = points[(points.student == TEACHER) & points.trial.isna() & points.teacher.isin([gated, ungated])]
    loss = ("loss/ce", "training cross-entropy") if "loss/ce" in points else ("loss", "training loss")
    columns = {loss[0]: f"{loss[1]} (nats)", "eval_top1": "top-1 on held-out images (%)"}
    if points.empty or not set(columns) & set(points.columns):
        return None
    figure = Figure((8.6, 3.3), layout="constrained")
    for axis, (column, title) in zip(figure.subplots(1, 2), columns.items(), strict=True):
        ends = []
        for teacher, name, color in ((gated, "with gate", BLUE), (ungated, "no gate", ORANGE)):
            rows = points[points.teacher == teacher].reindex(columns=[*points.columns.union(columns)])
            rows = rows.dropna(subset=[column])
            for _, run in rows.groupby("run"):
                axis.plot(run.epoch, run[column], color=color, lw=1, alpha=0.7)
                if (run.status == "diverged").any():
                    axis.plot(run.epoch.iloc[-1], run[column].iloc[-1], "x", color=color, ms=8, mew=2)
            if len(rows):
                last = rows[rows.epoch == rows.epoch.max()]
                ends.append((last.epoch.iloc[0], last[column].mean(), name, color))
        axis.set(title=title, xlabel="epoch")
        axis.grid(axis="y")
        end_labels(axis, ends)
    return figure


def end_labels(axis: Axes, ends: list[tuple[float, float, str, str]]) -> None:
    """Label lines at the right edge, at the height of their ends but without overlap.

    Args:
        axis: The axis with everything drawn; its limits are kept.
        ends: x, y, name and colour of each line's end.
    """
    axis.set(xlim=axis.get_xlim(), ylim=axis.get_ylim())  # the heights below depend on the limits
    to_fraction = axis.transAxes.inverted()
    placed = -1.0
    for x, y, name, color in sorted(ends, key=lambda end: end[1]):
        height = to_fraction.transform(axis.transData.transform((x, y)))[1]
        placed = max(height, placed + 0.08)
        axis.annotate(name, (1.01, placed), xycoords="axes fraction", va="center", color=color, annotation_clip=False)
