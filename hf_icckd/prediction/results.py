"""Many predictions: kept on disk, ordered by how sure they are, written as a table, CSV or JSON."""

from __future__ import annotations

import csv
import io
import json
import math
import tempfile
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hf_icckd.prediction.predict import Prediction
from hf_icckd.utils.atomic_files import replace_file
from hf_icckd.utils.text import format_grid, shorten, shorten_path

Order = Literal["margin", "name"]
_PATH_COLUMNS, _NAME_COLUMNS = 42, 18  # with two probabilities and what separates them 96
_DIGITS = 6


class Results:
    """Predictions in a temporary file; memory holds 16 bytes of each.

    Args:
        folder: Where the temporary file is; None for the system's place.

    Attributes:
        classes: How many images were given each class.
        errors: How many have no prediction.
        unreadable: How many of these could not be read as an image.
        top_k: Most classes of an image.

    Example:
        >>> with Results() as results:
        ...     results.add(Prediction("sure.png", (("cat", 0.9), ("dog", 0.1)), 0.8))
        ...     results.add(Prediction("unsure.png", (("dog", 0.6), ("cat", 0.4)), 0.2))
        ...     [each.image for each in results.ordered("margin")]
        ['unsure.png', 'sure.png']
    """

    def __init__(self, folder: Path | None = None):
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  closed by `__exit__`
        self._offsets, self._margins = array("q"), array("d")
        self.classes: Counter[str] = Counter()
        self.errors, self.unreadable, self.top_k = 0, 0, 1

    def __enter__(self) -> Results:
        return self

    def __exit__(self, *details: object) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._offsets)

    def add(self, prediction: Prediction) -> None:
        """Keep a prediction."""
        self._offsets.append(self._file.seek(0, io.SEEK_END))
        self._margins.append(math.inf if prediction.margin is None else prediction.margin)
        record = (prediction.image, prediction.top, prediction.margin, prediction.error, prediction.readable)
        self._file.write(json.dumps(record).encode() + b"\n")
        self.top_k = max(self.top_k, len(prediction.top))
        self.unreadable += not prediction.readable
        if prediction.label is None:
            self.errors += 1
        else:
            self.classes[prediction.label] += 1

    def ordered(self, order: Order) -> Iterator[Prediction]:
        """Yield all predictions.

        Args:
            order: margin: the least sure ones first, those without a prediction last; name: as they were added.
        """
        numbers = np.arange(len(self)) if order == "name" else np.argsort(np.array(self._margins), kind="stable")
        for number in numbers:
            self._file.seek(self._offsets[int(number)])
            image, top, margin, error, readable = json.loads(self._file.readline())
            yield Prediction(image, tuple((name, share) for name, share in top), margin, error, readable)


def write_results(path: Path, results: Results, order: Order) -> None:
    """Write predictions one by one, as CSV or JSON by the suffix; an existing file is replaced at the end."""
    write = _write_csv if path.suffix.lower() == ".csv" else _write_json

    def write_all(unfinished: Path) -> None:
        with unfinished.open("w", encoding="utf-8", newline="") as file:
            write(file, results.ordered(order), results.top_k)

    replace_file(path, write_all)


def _write_csv(file: Any, predictions: Iterable[Prediction], top_k: int) -> None:
    further = [name for rank in range(2, top_k + 1) for name in (f"class_{rank}", f"probability_{rank}")]
    writer = csv.writer(file)
    writer.writerow(["image", "class", "probability", *further, "margin", "error"])
    for each in predictions:
        cells: list[Any] = [cell for name, share in each.top for cell in (name, round(share, _DIGITS))]
        cells += [""] * (2 * top_k - len(cells))
        margin = "" if each.margin is None else round(each.margin, _DIGITS)
        writer.writerow([each.image, *cells, margin, each.error or ""])


def _write_json(file: Any, predictions: Iterable[Prediction], top_k: int) -> None:
    """A list with one object a line."""
    file.write("[")
    separator = "\n"
    for each in predictions:
        file.write(f"{separator}{json.dumps(_record(each), ensure_ascii=False)}")
        separator = ",\n"
    file.write("\n]\n")


def _record(prediction: Prediction) -> dict[str, Any]:
    if prediction.error is not None:
        return {"image": prediction.image, "error": prediction.error}
    top = [{"class": name, "probability": round(share, _DIGITS)} for name, share in prediction.top]
    return {"image": prediction.image, **top[0], "margin": round(prediction.margin or 0.0, _DIGITS), "top": top}


def results_table(results: Results, order: Order, title: str, rows: int = 40) -> str:
    """The first predictions as a table of at most 100 columns, under a title."""
    shown = islice((each for each in results.ordered(order) if each.error is None), rows)
    heads = ["image", "class", "%", "then", "%"][: 1 + 2 * min(results.top_k, 2)]
    lines = []
    for each in shown:
        cells = [cell for name, share in each.top[:2] for cell in (shorten(name, _NAME_COLUMNS), f"{100 * share:.2f}")]
        lines.append([shorten_path(each.image, _PATH_COLUMNS), *cells])
    return format_grid([(head,) for head in heads], lines, title, left=(0, 1, 3))
