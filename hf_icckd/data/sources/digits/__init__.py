"""The embedded data set of handwritten digits; README.md beside this file gives source and licence."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from datasets import IterableDataset, load_dataset

from hf_icckd.data.sources.source import Reading, Source, refuse_file_options, refuse_to_stream
from hf_icckd.data.splits.roles import named_reading
from hf_icckd.options.data import ImageDataArguments


class Digits(Source):
    """1,797 grey images of 8 x 8 pixels."""

    mirrored = False  # a mirrored 2 is no 2

    def read(self, options: ImageDataArguments) -> Reading:
        """Read the two parquet files beside this one."""
        refuse_file_options("digits", options)
        files = {name: str(Path(__file__).with_name(f"{name}.parquet")) for name in ("train", "test")}
        return named_reading("digits", load_dataset("parquet", data_files=files), options, "split")

    def streams(self, options: ImageDataArguments) -> Mapping[str, IterableDataset]:
        """Refuse: the images are here already."""
        refuse_to_stream("digits")
