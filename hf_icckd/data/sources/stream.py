"""A split that is read row by row, shuffled in a buffer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from datasets import Dataset, IterableDataset

from hf_icckd.utils.keyed_random import generator_seed

_SHUFFLED_ROWS = 4096  # in memory: a few hundred MiB of photographs


class StreamedSplit:
    """A split that can only be read from its beginning.

    Args:
        rows: Columns `image` (undecoded) and `label` (class index).
        length: Rows per epoch.
        name: Name of the split for errors.
    """

    def __init__(self, rows: IterableDataset, length: int, num_classes: int, name: str):
        self.rows, self.length, self.num_classes, self.name = rows, length, num_classes, name

    def __len__(self) -> int:
        return self.length

    def head(self, count: int) -> Dataset:
        """Return the first rows as a table."""
        return Dataset.from_list(list(self.rows.take(min(count, self.length))), features=self.rows.features)

    def read(self, seed: int | None, epoch: int) -> Iterator[dict[str, Any]]:
        """Yield the rows of an epoch; with a seed, files and nearby rows are shuffled, differently in each epoch.

        Raises:
            ValueError: If there are fewer rows than announced, or a label is invalid.
        """
        rows = self.rows
        if seed is not None:
            rows = rows.shuffle(seed=generator_seed(seed, epoch, 0) % 2**32, buffer_size=_SHUFFLED_ROWS)
        count = 0
        for count, row in enumerate(rows.take(self.length), start=1):  # noqa: B007 (its last value is read)
            if row["label"] is None or not 0 <= row["label"] < self.num_classes:
                raise ValueError(
                    f"{self.name} split: an image has the label {row['label']}, expected 0 to {self.num_classes - 1}; "
                    "correct or remove such rows"
                )
            yield row
        if count < self.length:
            raise ValueError(
                f"{self.name} split: the data set ends after {count:,} images, {self.length:,} were announced; give "
                "their number with --max_train_samples or --max_eval_samples"
            )
