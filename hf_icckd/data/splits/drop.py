"""Leave out exact copies of images, and say how many."""

from __future__ import annotations

import numpy as np
from datasets import Dataset

from hf_icckd.data.labels.columns import labels_of
from hf_icckd.data.sources.image_data import LeftOut, file_of
from hf_icckd.data.splits.content import content_of, with_content
from hf_icckd.data.splits.duplicates import keep_one


def drop_duplicates(splits: dict[str, Dataset]) -> tuple[dict[str, Dataset], list[LeftOut]]:
    """Keep one copy of every image; see `keep_one`.

    Args:
        splits: Splits with the columns `image` and `label`.

    Returns:
        The splits, with the column of hashes, and what was left out of each.

    Raises:
        ValueError: If no image of a split is left.
    """
    splits = {name: with_content(rows, name) for name, rows in splits.items()}
    hashes = {name: content_of(rows, name) for name, rows in splits.items()}
    kept = keep_one(hashes, {name: labels_of(rows) for name, rows in splits.items()})
    left_out = []
    for name, each in kept.items():
        if len(each.rows) == 0:
            raise ValueError(
                f"duplicates is 'drop' and every image of the {name} split is a copy of another one, expected some "
                "that are not; give --duplicates keep, or name another split"
            )
        for dropped, reason in (
            (each.copies, f"exact copies in the {name} split of images that are kept"),
            (each.two_labels, f"images of the {name} split that stand under more than one label"),
        ):
            if len(dropped):
                left_out.append(LeftOut(len(dropped), reason, _example(splits[name], name, dropped)))
    return {name: rows.select(kept[name].rows) for name, rows in splits.items()}, left_out


def _example(rows: Dataset, name: str, dropped: np.ndarray) -> str:
    row = int(dropped[0])
    return file_of(rows, row) or f"row {row} of the {name} split"
