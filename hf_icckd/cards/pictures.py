"""The pictures of a model card, each a small PNG file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from hf_icckd.cards.card import CURVES, EMBEDDING_MAP, RELIABILITY, SOFT_LABELS
from hf_icckd.cards.content import EmbeddingPlane, soft_label_series
from hf_icckd.metrics.catalogue import METRICS
from hf_icckd.utils.atomic_files import replace_file
from hf_icckd.utils.plotting import BLUE, COLOURS, FAINT, GREY, ORANGE, SHAPES, WIDTH, png, styled

_LONGEST_NAME = 26


def draw_pictures(
    folder: Path, results: dict[str, Any], split: str, images: np.ndarray, plane: EmbeddingPlane | None
) -> None:
    """Draw every picture of a card into the folder of its run.

    Args:
        folder: The folder.
        results: What metrics.json holds.
        split: Name of the split that was evaluated while training.
        images: From `shown_images`.
        plane: Map of embeddings, or None to leave that picture out.
    """
    if results["losses"] or results["history"]:
        draw_training_curves(folder / CURVES, results["losses"], results["history"], split)
    draw_reliability(folder / RELIABILITY, results["calibration"])
    if plane is not None:
        draw_embedding_map(folder / EMBEDDING_MAP, plane.points, plane.labels, plane.names)
    titles = [each["label"] for each in results["soft_labels"]["images"]]
    draw_soft_labels(folder / SOFT_LABELS, images, titles, soft_label_series(results))


@styled
def draw_training_curves(
    path: str | Path, losses: Sequence[dict[str, float]], evaluations: Sequence[dict[str, float]], split: str
) -> None:
    """Draw loss and terms, accuracy, and the share of anchors past the gate (if there is one) over the epochs.

    Args:
        path: File to write.
        losses: Rows with `epoch`, `step`, `loss`, terms of the loss and perhaps `gated_fraction`; may be empty.
        evaluations: Rows with `epoch`, `eval_top1` and perhaps `eval_agreement`, in per cent; may be empty.
        split: Name of the split that was evaluated.

    Raises:
        ValueError: If there is nothing to draw.
    """
    if not losses and not evaluations:
        raise ValueError("got neither losses nor evaluations, expected at least one row; log or evaluate more often")
    panels: list[tuple[Sequence[dict[str, float]], dict[str, str], dict[str, Any]]] = []
    if losses:
        terms = [name for name in losses[-1] if name not in ("epoch", "step", "loss", "gated_fraction")]
        curves = {name: name for name in ("loss", *terms)}
        panels.append((losses, curves, {"title": "training loss and its unweighted terms"}))
    if evaluations:
        shown = (name for name in ("top1", "agreement") if f"eval_{name}" in evaluations[-1])
        curves = {f"eval_{name}": METRICS[name].name for name in shown}
        panels.append((evaluations, curves, {"title": f"{split} split", "ylabel": "%"}))
    if any("gated_fraction" in row for row in losses):
        passed = {"title": "anchors past the gate", "ylabel": "share", "ylim": (0, 1.02)}
        panels.append((losses, {"gated_fraction": "anchors"}, passed))
    figure = Figure(figsize=(WIDTH, 3.1), layout="constrained")
    for axis, (rows, curves, look) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for colour, (name, title) in zip(COLOURS, curves.items(), strict=False):
            points = [(row["epoch"], row[name]) for row in rows if name in row]
            marker = "o" if len(points) == 1 else None  # a line of one point can't be seen
            axis.plot(*zip(*points, strict=True), color=colour, label=title, linewidth=1.6, marker=marker)
        axis.set(xlabel="epoch", **look)
        axis.grid(True)
        if len(curves) > 1:
            axis.legend(fontsize=8)
    _save(figure, path)


@styled
def draw_reliability(path: str | Path, bins: Sequence[dict[str, float]]) -> None:
    """Draw accuracy by confidence, and the number of images by confidence.

    Args:
        path: File to write.
        bins: `count`, `confidence` and `accuracy` (fractions) of bins of equal width on 0..1, in their order.
    """
    counts, accuracy = (np.array([row[key] for row in bins], dtype=float) for key in ("count", "accuracy"))
    width = 1 / len(bins)
    centres = (np.arange(len(bins)) + 0.5) * width
    filled = counts > 0
    figure = Figure(figsize=(WIDTH, 3.1), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.bar(centres[filled], accuracy[filled], 0.92 * width, color=BLUE, label="accuracy")
    left.plot([0, 1], [0, 1], color=ORANGE, linestyle="--", linewidth=1.4, label="perfect calibration")
    left.set(title="accuracy by confidence", xlim=(0, 1), ylim=(0, 1.02), ylabel="accuracy")
    left.legend(fontsize=8, loc="upper left")
    right.bar(centres, 100 * counts / max(counts.sum(), 1), 0.92 * width, color=GREY)
    right.set(title="images by confidence", xlim=(0, 1), ylabel="% of the images")
    for axis in (left, right):
        axis.set_xlabel("confidence (largest probability)")
        axis.grid(True, axis="y")
    _save(figure, path)


@styled
def draw_embedding_map(path: str | Path, points: np.ndarray, labels: np.ndarray, names: dict[int, str]) -> None:
    """Draw embeddings in a plane, coloured by class.

    Args:
        path: File to write.
        points: (N, 2).
        labels: (N,) class indices.
        names: Names of the classes that get a colour, at most ten; all others are grey.
    """
    figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
    axis = figure.subplots()
    others = ~np.isin(labels, list(names))
    if others.any():
        title = f" {others.sum():,} of other classes"
        axis.scatter(points[others, 0], points[others, 1], s=9, color=FAINT, linewidths=0, label=title)
    for place, (label, name) in enumerate(names.items()):
        chosen = points[labels == label]
        # The space is there because matplotlib leaves labels that begin with an underscore out of the legend.
        axis.scatter(
            chosen[:, 0],
            chosen[:, 1],
            s=16,
            color=COLOURS[place],
            marker=SHAPES[place % 5],
            linewidths=0,
            label=f" {short(name)}",
        )
    axis.set(xlabel="first principal axis", ylabel="second principal axis")
    axis.set_aspect("equal", adjustable="datalim")
    axis.grid(True)
    figure.legend(loc="outside right upper", title="class", fontsize=8, markerscale=1.4)
    _save(figure, path)


@styled
def draw_soft_labels(
    path: str | Path, images: np.ndarray, titles: Sequence[str], series: dict[str, list[dict[str, float]]]
) -> None:
    """Draw some images and, beside each, the class probabilities of several models as bars.

    Args:
        path: File to write.
        images: (N, H, W, 3) uint8.
        titles: Text above each image.
        series: By model, for each image the probabilities by class: the same classes in all models, the most probable
            first.
    """
    # With many classes even the largest probability may be small, so the axis ends at the longest bar.
    highest = max((value for rows in series.values() for row in rows for value in row.values()), default=1)
    figure = Figure(figsize=(WIDTH, 0.5 + 1.75 * len(images)), layout="constrained")
    grid = figure.subplots(len(images), 2, squeeze=False, width_ratios=(1, 3.6), sharex="col")
    for row, (picture, axis) in enumerate(grid):
        picture.imshow(images[row], interpolation="nearest" if images.shape[1] <= 96 else "antialiased")
        picture.set_title(short(titles[row]))
        picture.axis("off")
        classes = list(next(iter(series.values()))[row])
        height = 0.8 / len(series)
        for place, (name, probabilities) in enumerate(series.items()):
            values = [probabilities[row][each] for each in classes]
            offsets = np.arange(len(classes)) + (place - (len(series) - 1) / 2) * height
            axis.barh(offsets, values, 0.9 * height, color=COLOURS[place], label=f" {name}")
        axis.set_yticks(range(len(classes)), [short(each) for each in classes])
        axis.invert_yaxis()
        axis.set_xlim(0, min(1, 1.1 * highest))
        axis.grid(True, axis="x")
    grid[-1][1].set_xlabel("probability")
    handles = grid[0][1].get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper right", ncols=len(series), fontsize=8)
    _save(figure, path)


def short(name: str) -> str:
    """Class name, shortened to fit beside an axis."""
    name = " ".join(name.split())
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


def _save(figure: Figure, path: str | Path) -> None:
    replace_file(path, lambda unfinished: unfinished.write_bytes(png(figure)))
