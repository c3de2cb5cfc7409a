"""Pictures of sweeps: the effect of one option on teachers and their students."""

from __future__ import annotations

import itertools
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from hf_icckd.metrics.catalogue import METRICS
from hf_icckd.study.parts import Sweep
from hf_icckd.study.plan import Plan
from hf_icckd.study.report.cells import value_label
from hf_icckd.study.report.frames import TEACHER, arm, sweep_runs
from hf_icckd.study.report.plots import end_labels
from hf_icckd.study.report.statistics import mean_interval
from hf_icckd.utils.plotting import BLUE, GREEN, ORANGE, VIOLET, styled

# Title of a panel, with what theory or the paper predict -> its lines.
_GEOMETRY = {
    "distance ratio, intra / inter\n↗ theory: grows with the weight": {
        "test": "test.distance_ratio",
        "train": "train.distance_ratio",
    },
    "NC1\n0: classes are collapsed": {"test": "test.nc1", "train": "train.nc1"},
    "share of the variance within classes\nthat the last layer does not read": {
        "test": "test.unread_variance",
        "train": "train.unread_variance",
    },
    "soft-label information (nats), test\n↗ claim: grows with the weight": {
        "T = 1": "test.soft_label_information",
        "T = 4": "test.soft_label_information_t4",
        "matched": "test.soft_label_information_matched",
    },
}


@styled
def ablation(plan: Plan, frame: pd.DataFrame, sweep: Sweep) -> Figure | None:
    """Top-1 of students and teachers over an option: a point per seed, the mean, and an interval from three seeds on.

    Args:
        frame: Rows of `run_metrics` of one pair.
    """
    names = {name: plan.labels.get(name, name) if len(sweep.students) > 1 else "" for name in sweep.students}
    panels = {
        f"student, test {METRICS['top1'].title}": {label: (name, "test.top1") for name, label in names.items()},
        f"teacher, test {METRICS['top1'].title}": {"": (TEACHER, "test.top1")},
    }
    return _panels(plan, frame, sweep, panels, (4.1, 3.2))


@styled
def geometry(plan: Plan, frame: pd.DataFrame, sweep: Sweep) -> Figure | None:
    """Geometry and soft-label information of the teachers, with what theory and the paper predict.

    Args:
        frame: Rows of `run_metrics` of one pair.
        sweep: The sweep over the weight of the intra-class term.
    """
    panels = {
        title: {label: (TEACHER, column) for label, column in columns.items()} for title, columns in _GEOMETRY.items()
    }
    return _panels(plan, frame, sweep, panels, (3.5, 3.5), bottom=0)


def _panels(
    plan: Plan,
    frame: pd.DataFrame,
    sweep: Sweep,
    panels: dict[str, dict[str, tuple[str, str]]],
    size: tuple[float, float],
    bottom: float | None = None,
) -> Figure | None:
    """A panel of that size for each title, with a line for each label: a column of a student or the teacher.

    A panel of which nothing was measured is left out: early studies lack some metrics.
    """
    rows = sweep_runs(plan, sweep, frame)
    panels = {
        title: lines
        for title, lines in panels.items()
        if rows[[column for _, column in lines.values()]].notna().any(axis=None)
    }
    if not panels:
        return None
    figure = Figure((size[0] * len(panels), size[1]), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (title, lines) in zip(axes, panels.items(), strict=True):
        places = _value_axis(axis, sweep.values)
        ends = []
        styles = zip(itertools.cycle([BLUE, ORANGE, GREEN, VIOLET]), itertools.cycle("oDs^"), strict=False)
        for (label, (student, column)), (color, marker) in zip(lines.items(), styles, strict=False):
            by_value = {value: arm(rows, name, student, column) for value, name in plan.sweep_teachers(sweep).items()}
            measured = [(place, by_value[value]) for place, value in places if len(by_value[value])]
            if measured:
                points_and_means(axis, measured, color, marker, connected=_is_numeric(sweep.values))
                ends.append((measured[-1][0], measured[-1][1].mean(), label, color))
        axis.set(title=title, xlabel=sweep.title or sweep.option)
        axis.set_ylim(bottom=bottom)
        axis.grid(axis="y")
        end_labels(axis, ends)
    return figure


def points_and_means(
    axis: Axes, measured: list[tuple[float, pd.Series]], color: str, marker: str, connected: bool
) -> None:
    """Draw the seeds at each place, their mean, and its 95 % interval from three seeds on; means may be joined."""
    for place, values in measured:
        axis.plot([place] * len(values), values, ls="none", marker=marker, ms=4.5, alpha=0.7, mec="none", color=color)
        if len(values) > 2:  # from two it would be 13 times as long as their distance, and hide them
            axis.plot([place] * 2, mean_interval(values), color=color, lw=1.2, alpha=0.7)
    places, means = [place for place, _ in measured], [values.mean() for _, values in measured]
    axis.plot(places, means, color=color, marker="_", ms=10, mew=2, lw=1.3, ls="-" if connected else "none")


def _value_axis(axis: Axes, values: list[Any]) -> list[tuple[float, Any]]:
    """Set up the x axis for the values of an option; return the place of each, from left to right."""
    if not _is_numeric(values):
        _write_values(axis, list(range(len(values))), values)
        axis.set_xlim(-0.6, len(values) - 0.4)
        return list(enumerate(values))
    positive = [value for value in values if value > 0]
    if positive and min(values) >= 0 and max(positive) / min(positive) >= 10:
        if min(values) > 0:
            axis.set_xscale("log")
        else:  # 0 is one step to the left of the smallest value
            axis.set_xscale("symlog", linthresh=min(positive), linscale=0.6)
    _write_values(axis, values, values)
    axis.xaxis.set_minor_locator(NullLocator())
    return [(value, value) for value in sorted(values)]


def _write_values(axis: Axes, places: list[float], values: list[Any]) -> None:
    """Write each value below its place, all of them aslant where they wouldn't fit beside each other."""
    labels = [value_label(value) for value in values]
    crowded = len(labels) > 6 or len(labels) * max(map(len, labels)) > 36  # characters that a panel has room for
    if crowded:
        axis.set_xticks(places, labels, rotation=45, ha="right", rotation_mode="anchor")
    else:
        axis.set_xticks(places, labels)


def _is_numeric(values: list[Any]) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
