"""Data set and pipeline from the options of a command line."""

from __future__ import annotations

import copy
import dataclasses
import logging
from collections.abc import Callable
from typing import Any

from hf_icckd.data import ImageData, ImagePipeline, load_image_data
from hf_icckd.data.images import CropMode
from hf_icckd.data.pipeline import Channels
from hf_icckd.data.report import data_report
from hf_icckd.data.report_text import report_table
from hf_icckd.models.classifier import ClassifierSpec
from hf_icckd.options.checks import default_of
from hf_icckd.options.data import ImageDataArguments, TrainingDataArguments, UnlabeledDataArguments
from hf_icckd.options.training import DistillationTrainingArguments

logger = logging.getLogger(__name__)

_LOGGED_CLASSES = 10  # every run logs the table, also a resumed one
Load = Callable[[ImageDataArguments], ImageData]


class LoadOnce:
    """Loads a data set once for several runs that read it with the same options.

    Each run gets a data set of its own, with the hashes and other things that are known of its images by then, and
    without the notes that other runs made.
    """

    def __init__(self) -> None:
        self._loaded: dict[str, tuple[ImageData, list[str]]] = {}

    def __call__(self, options: ImageDataArguments) -> ImageData:
        """As `load_image_data`."""
        read = dataclasses.fields(UnlabeledDataArguments)  # some runs have no option of images without labels
        key = repr([getattr(options, each.name, default_of(each)) for each in read])
        if key in self._loaded:
            latest, notes = self._loaded[key]
            data = copy.copy(latest)
        else:
            data = load_image_data(options)
            notes = data.notes
        data.notes = [*notes]
        self._loaded[key] = data, [*notes]
        return data


def load_pipeline(
    data_args: TrainingDataArguments,
    args: DistillationTrainingArguments,
    default_size: int,
    crop_pct: float,
    interpolation: str,
    max_size: int | None = None,
    *,
    crop_mode: CropMode | None = None,
    mean: Channels | None = None,
    teacher: ClassifierSpec | None = None,
    prepare: Callable[[ImageData], ImageData] | None = None,
    load: Load = load_image_data,
) -> ImagePipeline:
    """Load the data set and prepare it for a net that wants these pixels; see `ImagePipeline`.

    Args:
        data_args: Options of the data.
        args: Options of the trainer.
        default_size: See `ImagePipeline`, as for `crop_pct`, `interpolation` and `max_size`.
        crop_pct: As there.
        interpolation: As there.
        max_size: As there.
        prepare: Changes the loaded data set before it is used; all processes call it together.
        load: Loads the data set.
    """
    with args.main_process_first(desc="reading the data set"):
        data = load(data_args)
    if prepare is not None:
        data = prepare(data)
    # Small images are never enlarged here but by the net, as when the model is evaluated by itself.
    pipeline = ImagePipeline(
        data,
        data_args.chosen_augmentation(args.seed),
        default_size=data_args.image_size or default_size,
        max_size=data_args.image_size or max_size,
        crop_pct=crop_pct,
        interpolation=interpolation,
        crop_mode=crop_mode,
        mean=mean,
        teacher=teacher,
        resident_max_bytes=data_args.resident_max_bytes,
        device=args.device,
        compile_backend=args.torch_compile_backend,
        sampling=data_args.chosen_sampling(args.seed),
        decoding=data_args.decoding,
        image_cache=data_args.image_cache,
    )
    if args.process_index == 0:
        _log(data_report(data, pipeline))
    return pipeline


def load_data(data_args: ImageDataArguments) -> ImageData:
    """Load the data set and log what was understood of it."""
    data = load_image_data(data_args)
    _log(data_report(data))
    return data


def _log(report: dict[str, Any]) -> None:
    logger.info("\n%s\n", report_table(report, classes=_LOGGED_CLASSES))
