"""Data sets of the Hugging Face Hub."""

from __future__ import annotations

import contextlib
import logging
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetBuilder, IterableDataset, load_dataset, load_dataset_builder

from hf_icckd.data.sources.built_in import BUILT_IN
from hf_icckd.data.sources.source import Reading, Source, reason, refuse_file_options
from hf_icckd.data.splits.roles import named_reading
from hf_icckd.options.data import ImageDataArguments
from hf_icckd.utils.atomic_files import existing_folder

logger = logging.getLogger(__name__)
_LARGE = 10**9  # bytes, from which on it is said what a data set takes before it is fetched


class Hub(Source):
    """A data set of the Hub by its id, such as `uoft-cs/cifar100`."""

    def __init__(self, hub_id: str, config_name: str | None):
        self.hub_id, self.name, self.config_name = hub_id, hub_id, config_name

    def read(self, options: ImageDataArguments) -> Reading:
        """Fetch the data set, or read the copy that was fetched before."""
        refuse_file_options(self.name, options)
        return named_reading(self.name, self._load(streaming=False), options, "split")

    def streams(self, options: ImageDataArguments) -> Mapping[str, IterableDataset]:
        """Open the data set without fetching it."""
        return self._load(streaming=True)

    def revision(self, rows: Dataset) -> str | None:
        """Return the commit: `datasets` names the folder of its copy after it."""
        names = {Path(file["filename"]).parent.name for file in rows.cache_files}
        name = names.pop() if len(names) == 1 else ""
        return name if re.fullmatch("[0-9a-f]{40}", name) else None

    def _load(self, streaming: bool) -> Any:
        with self._explained():
            builder = None if streaming else load_dataset_builder(self.hub_id, self.config_name)
        if builder is not None:
            self._announce(builder)
        with self._explained():
            return load_dataset(self.hub_id, self.config_name, streaming=streaming)

    def _announce(self, builder: DatasetBuilder) -> None:
        """Say what a large data set takes on the disk before it is fetched. Raises ValueError if there is no room."""
        fetched, stored = builder.info.download_size or 0, builder.info.dataset_size or 0
        folder = Path(builder.cache_dir)
        if fetched + stored < _LARGE or folder.exists():
            return
        place = existing_folder(folder)
        free = shutil.disk_usage(place).free
        sizes = (
            f"dataset {self.hub_id!r} is {fetched / _LARGE:.0f} GB to fetch and {stored / _LARGE:.0f} GB beside that "
            f"when it is unpacked, and {free / _LARGE:.0f} GB are free in {place}"
        )
        if fetched + stored > free:
            raise ValueError(
                f"{sizes}; choose another place with the environment variable HF_HOME, or read it without storing it: "
                "--streaming true"
            )
        logger.info("%s; --streaming true reads it without storing it", sizes)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Errors as one ValueError that says what helps."""
        try:
            yield
        except Exception as error:  # the Hub client and the builders raise dozens of types
            why = reason(error)
            if "onfig name is missing" in why or "pick one among the available configs" in why:
                raise ValueError(
                    f"dataset {self.hub_id!r} has several configurations; choose one with --dataset_config_name: {why}"
                ) from error
            raise ValueError(
                f"dataset {self.hub_id!r} is none of {', '.join(BUILT_IN)}, not a folder here, and could not be "
                f"loaded from the Hub: {why}; check the name, its configurations and the connection"
            ) from error
