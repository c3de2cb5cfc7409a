"""A page on how models do on one split: HTML in one file, and the same as Markdown with pictures beside it."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np
import PIL.Image

from hf_icckd.cards.content import EmbeddingPlane
from hf_icckd.cards.pictures import draw_embedding_map, draw_reliability
from hf_icckd.metrics.catalogue import METRICS
from hf_icckd.utils.atomic_files import write_text
from hf_icckd.utils.text import escape_markdown, format_grid, shorten_path

HTML, MARKDOWN, PICTURES = "report.html", "report.md", "pictures"
SHOWN_CONFUSIONS, SHOWN_MISTAKES = 8, 4
_FEW_CLASSES = 5  # of which top-5 is 100 % with any model
_LONGEST_MODEL = 28
_SIDE = 112  # pixels of a shown image, at least
_SUMMARY = ("top1", "top5", "balanced_accuracy", "macro_f1", "nll", "ece")


class Mistake(NamedTuple):
    """An image that is taken for another class.

    Attributes:
        image: (S, S, 3) uint8, as the model sees it.
        name: File, or number of the row.
        probability: Of the predicted class.
    """

    image: np.ndarray
    name: str
    probability: float


class Measured(NamedTuple):
    """What was measured of one model.

    Attributes:
        name: How the user calls it.
        results: The split's metrics by its name, `per_class` and `cost`, as in a JSON file.
        calibration: Rows of the reliability table.
        plane: Map of its embeddings; None for a net without.
        mistakes: Of the most frequent confusions, in their order, the worst images; None where images can't be read
            again.
    """

    name: str
    results: dict[str, Any]
    calibration: list[dict[str, float]]
    plane: EmbeddingPlane | None
    mistakes: list[list[Mistake]] | None


def comparison_table(models: Sequence[Measured], split: str, title: str) -> str:
    """Models side by side, as text that fits a terminal: without what only the page has room for."""
    heads, rows = _summary(models, split)
    kept = [number for number, head in enumerate(heads) if head not in (METRICS["macro_f1"].title, "FLOPs")]
    in_two_lines = [tuple(("", *heads[number].rsplit(" ", 1))[-2:]) for number in kept]
    cells = [[shorten_path(row[0], _LONGEST_MODEL), *(row[number] for number in kept[1:])] for row in rows]
    return format_grid(in_two_lines, cells, title)


def write_page(folder: Path, models: Sequence[Measured], split: str, data: str) -> None:
    """Write the page.

    Args:
        folder: Where to; it is made if needed.
        models: The models, on the same images.
        split: Name of the split.
        data: Name of the data set.
    """
    pictures = folder / PICTURES
    pictures.mkdir(parents=True, exist_ok=True)
    heads, rows = _summary(models, split)
    page = {
        "data": data,
        "split": split,
        "measured": models[0].results[split],
        "table": models[0].results["per_class"][split],
        "heads": heads,
        "rows": rows,
        "best": _best(models, split, len(heads)),
        "models": [_section(model, split, pictures, f"{number}-") for number, model in enumerate(models, 1)],
    }

    def inside(name: str) -> str:
        return f"data:image/png;base64,{base64.b64encode((pictures / name).read_bytes()).decode()}"

    def beside(name: str) -> str:
        return f"{PICTURES}/{name}"

    for file, picture in ((HTML, inside), (MARKDOWN, beside)):
        write_text(folder / file, _template(file, picture).render(page))


def _summary(models: Sequence[Measured], split: str) -> tuple[list[str], list[list[str]]]:
    """Heads and cells of the table of models."""
    shown = _shown(models, split)
    heads = ["model", *(METRICS[name].title for name in shown), "parameters", "FLOPs", "latency (ms)"]
    rows = []
    for model in models:
        measured, cost = model.results[split], model.results["cost"]
        values = [f"{measured[name]:.{METRICS[name].decimals}f}" for name in shown]
        flops = f"{cost['flops']:,}" if "flops" in cost else "not counted"
        rows.append([model.name, *values, f"{cost['parameters']:,}", flops, f"{cost['latency_ms']:.2f}"])
    return heads, rows


def _shown(models: Sequence[Measured], split: str) -> list[str]:
    few = len(models[0].results["per_class"]["names"]) <= _FEW_CLASSES
    return [name for name in _SUMMARY if name in models[0].results[split] and not (few and name == "top5")]


def _best(models: Sequence[Measured], split: str, columns: int) -> list[int | None]:
    """For each column the number of the row with the best value; None where there is nothing to choose."""
    best: list[int | None] = [None]
    for name in _shown(models, split):
        values = [model.results[split][name] * (1 if METRICS[name].higher_is_better else -1) for model in models]
        best.append(values.index(max(values)) if len(set(values)) > 1 else None)
    return best + [None] * (columns - len(best))


def _section(model: Measured, split: str, pictures: Path, prefix: str) -> dict[str, Any]:
    """What the templates show of one model; its pictures are drawn."""
    table, names = model.results["per_class"][split], model.results["per_class"]["names"]
    columns = ("images", "predicted", "recall", "precision", "f1")
    classes = [
        {"name": name, **{column: table[column][number] for column in columns}}
        for number, name in enumerate(names)
        if table["images"][number] or table["predicted"][number]
    ]
    # The lowest recalls first; a class without images has none and comes last.
    classes.sort(key=lambda row: (row["recall"] is None, row["recall"]))
    of = dict(zip(names, table["images"], strict=True))
    confusions = []
    for number, found in enumerate(table["confusions"][:SHOWN_CONFUSIONS]):
        shown = [] if model.mistakes is None else model.mistakes[number]
        files = [f"{prefix}mistake-{number + 1}-{place}.png" for place in range(1, len(shown) + 1)]
        for file, mistake in zip(files, shown, strict=True):
            (pictures / file).write_bytes(_enlarged(mistake.image))
        confusions.append({**found, "of": of[found["class"]], "mistakes": list(zip(files, shown, strict=True))})
    reliability, plane = f"{prefix}reliability.png", f"{prefix}embeddings.png"
    draw_reliability(pictures / reliability, model.calibration)
    if model.plane is not None:
        draw_embedding_map(pictures / plane, model.plane.points, model.plane.labels, model.plane.names)
    return {
        "name": model.name,
        "measured": model.results[split],
        "zero_recall": table["zero_recall"],
        "classes": classes,
        "confusions": confusions,
        "mistakes_left_out": model.mistakes is None,
        "reliability": reliability,
        "plane": None if model.plane is None else plane,
        "variance": None if model.plane is None else [100 * share for share in model.plane.shares.tolist()],
    }


def _enlarged(image: np.ndarray) -> bytes:
    """PNG of an image, whose pixels are doubled until one can see something."""
    times = max(1, -(-_SIDE // image.shape[1]))
    target = io.BytesIO()
    PIL.Image.fromarray(image.repeat(times, axis=0).repeat(times, axis=1)).save(target, "PNG", optimize=True)
    return target.getvalue()


def _template(file: str, picture: Callable[[str], str]) -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
        undefined=jinja2.StrictUndefined,
        autoescape=file == HTML,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    if file == MARKDOWN:
        environment.filters["escape"] = escape_markdown
    environment.filters["picture"] = picture
    environment.filters["number"] = lambda value: "" if value is None else f"{value:.2f}"
    environment.globals["metrics"] = METRICS
    return environment.get_template(f"evaluation.{file.rpartition('.')[2]}")
