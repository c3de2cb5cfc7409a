"""The pictures of a model card: figures in, a small PNG file out. No display is needed, no global setting is changed.

They are opaque: dark text on a light neutral ground reads the same on a light and on a dark page, and so do images of
any colour.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import PIL.Image
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hf_icckd.cards.card import CURVES, EMBEDDING_MAP, RELIABILITY, SOFT_LABELS
from hf_icckd.cards.content import EmbeddingPlane, soft_label_series
from hf_icckd.utils.atomic_files import replace_file

_WIDTH, _DPI = 9.0, 140  # inches, dots an inch: about as wide as a card's column on a fine screen
_GROUND, _INK, _FAINT = "#f6f6f3", "#24292f", "#c9ccd1"
# Told apart with any kind of colour vision as far as ten can be; shapes help where colours don't.
_COLOURS = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56b4e9", "#7b4fa3", "#8c564b", "#6b7280", "#a3b000",
)  # fmt: skip
_SHAPES = ("o", "^", "s", "D", "v")
_STYLE = {
    "axes.edgecolor": _INK,
    "axes.facecolor": _GROUND,
    "axes.labelcolor": _INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "figure.facecolor": _GROUND,
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 9,
    "grid.color": _FAINT,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "text.color": _INK,
    "text.parse_math": False,  # a class may be called "$5"
    "xtick.color": _INK,
    "ytick.color": _INK,
}
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


def draw_training_curves(
    path: str | Path, losses: Sequence[dict[str, float]], evaluations: Sequence[dict[str, float]], split: str
) -> None:
    """Loss and its terms, accuracy and, where there is a gate, the share of anchors that pass it, over the epochs.

    Args:
        path: The file.
        losses: Rows with `epoch`, `step`, `loss`, terms of the loss and maybe `gated_fraction`; may be empty.
        evaluations: Rows with `epoch`, `eval_top1` and maybe `eval_agreement`, in per cent; may be empty.
        split: Name of the split that was evaluated.

    Raises:
        ValueError: If there is nothing to draw.
    """
    if not losses and not evaluations:
        raise ValueError("got neither losses nor evaluations, expected at least one row; log or evaluate more often")
    panels = []
    if losses:
        terms = [name for name in losses[-1] if name not in ("epoch", "step", "loss", "gated_fraction")]
        curves = {name: name for name in ("loss", *terms)}
        panels.append((losses, curves, {"title": "training loss and its unweighted terms"}))
    if evaluations:
        curves = {"eval_top1": "top-1", "eval_agreement": "agreement with the teacher"}
        curves = {name: title for name, title in curves.items() if name in evaluations[-1]}
        panels.append((evaluations, curves, {"title": f"{split} split", "ylabel": "%"}))
    if any("gated_fraction" in row for row in losses):
        look = {"title": "anchors past the gate", "ylabel": "share", "ylim": (0, 1.02)}
        panels.append((losses, {"gated_fraction": "anchors"}, look))
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 3.1), layout="constrained")
        for axis, (rows, curves, look) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            for colour, (name, title) in zip(_COLOURS, curves.items(), strict=False):
                points = [(row["epoch"], row[name]) for row in rows if name in row]
                marker = "o" if len(points) == 1 else None  # a line of one point can't be seen
                axis.plot(*zip(*points, strict=True), color=colour, label=title, linewidth=1.6, marker=marker)
            axis.set(xlabel="epoch", **look)
            axis.grid(True)
            if len(curves) > 1:
                axis.legend(fontsize=8)
        _save(figure, path)


def draw_reliability(path: str | Path, bins: Sequence[dict[str, float]]) -> None:
    """Accuracy by confidence, and how many images there are of each confidence.

    Args:
        path: The file.
        bins: `count`, `confidence` and `accuracy` (fractions) of bins of equal width on 0..1, in their order.
    """
    counts, accuracy = (np.array([row[key] for row in bins], dtype=float) for key in ("count", "accuracy"))
    width = 1 / len(bins)
    centres = (np.arange(len(bins)) + 0.5) * width
    filled = counts > 0
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 3.1), layout="constrained")
        left, right = figure.subplots(1, 2)
        left.bar(centres[filled], accuracy[filled], 0.92 * width, color=_COLOURS[0], label="accuracy")
        left.plot([0, 1], [0, 1], color=_COLOURS[1], linestyle="--", linewidth=1.4, label="perfect calibration")
        left.set(title="accuracy by confidence", xlim=(0, 1), ylim=(0, 1.02), ylabel="accuracy")
        left.legend(fontsize=8, loc="upper left")
        right.bar(centres, 100 * counts / max(counts.sum(), 1), 0.92 * width, color=_COLOURS[8])
        right.set(title="images by confidence", xlim=(0, 1), ylabel="% of the images")
        for axis in (left, right):
            axis.set_xlabel("confidence (largest probability)")
            axis.grid(True, axis="y")
            axis.set_axisbelow(True)
        _save(figure, path)


def draw_embedding_map(path: str | Path, points: np.ndarray, labels: np.ndarray, names: dict[int, str]) -> None:
    """Embeddings in a plane, coloured by class.

    Args:
        path: The file.
        points: (N, 2).
        labels: (N,) class indices.
        names: Names of the (at most ten) classes that get a colour; all others are grey.
    """
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 4.6), layout="constrained")
        axis = figure.subplots()
        others = ~np.isin(labels, list(names))
        if others.any():
            axis.scatter(
                *points[others].T, s=9, color=_FAINT, linewidths=0, label=f" {others.sum():,} of other classes"
            )
        for place, (label, name) in enumerate(names.items()):
            chosen = points[labels == label]
            # matplotlib leaves out of a legend what begins with an underscore: hence the space.
            axis.scatter(
                *chosen.T,
                s=16,
                color=_COLOURS[place],
                marker=_SHAPES[place % 5],
                linewidths=0,
                label=f" {short(name)}",
            )
        axis.set(xlabel="first principal axis", ylabel="second principal axis")
        axis.set_aspect("equal", adjustable="datalim")
        axis.grid(True)
        axis.set_axisbelow(True)
        figure.legend(loc="outside right upper", title="class", fontsize=8, markerscale=1.4)
        _save(figure, path)


def draw_soft_labels(
    path: str | Path, images: np.ndarray, titles: Sequence[str], series: dict[str, list[dict[str, float]]]
) -> None:
    """Probabilities that several models give to the classes of some images, as bars beside the images.

    Args:
        path: The file.
        images: (N, H, W, 3) uint8.
        titles: What stands above each image.
        series: For each model, by name, the probabilities of every image by class: the same classes in all models,
            the most probable first.
    """
    # Of many classes even the most probable may have little: the axis ends where the longest bar does.
    highest = max((value for rows in series.values() for row in rows for value in row.values()), default=1)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 0.5 + 1.75 * len(images)), layout="constrained")
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
                axis.barh(offsets, values, 0.9 * height, color=_COLOURS[place], label=f" {name}")
            axis.set_yticks(range(len(classes)), [short(each) for each in classes])
            axis.invert_yaxis()
            axis.set_xlim(0, min(1, 1.1 * highest))
            axis.grid(True, axis="x")
            axis.set_axisbelow(True)
        grid[-1][1].set_xlabel("probability")
        handles = grid[0][1].get_legend_handles_labels()
        figure.legend(*handles, loc="outside upper right", ncols=len(series), fontsize=8)
        _save(figure, path)


def short(name: str) -> str:
    """A class name that fits beside an axis."""
    name = " ".join(name.split())
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


def _save(figure: Figure, path: str | Path) -> None:
    canvas = FigureCanvasAgg(figure)
    figure.set_dpi(_DPI)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a name in a script that the font lacks shows as boxes
        canvas.draw()
    # 256 colours are enough for plots and thumbnails, and a third of the bytes.
    image = PIL.Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").quantize(256, dither=_NO_DITHER)
    replace_file(path, lambda unfinished: image.save(unfinished, "PNG", optimize=True))


_NO_DITHER: Any = PIL.Image.Dither.NONE
