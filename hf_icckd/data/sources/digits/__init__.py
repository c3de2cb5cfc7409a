"""The embedded data set of handwritten digits; README.md beside this file gives source and licence."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from datasets import Dataset, IterableDataset

from hf_icckd.data.sources.folder import read_folder
from hf_icckd.data.sources.source import Source, refuse_to_stream


class Digits(Source):
    """1,797 grey images of 8 x 8 pixels."""

    mirrored = False  # a mirrored 2 is no 2

    def splits(self) -> Mapping[str, Dataset]:
        """Read the two parquet files beside this one."""
        return read_folder(Path(__file__).parent)

    def streams(self) -> Mapping[str, IterableDataset]:
        """Refuse: the images are here already."""
        refuse_to_stream("digits")
