"""Data set and pipeline from the options of a command line."""

from __future__ import annotations

import logging

from hf_icckd.data import ImageData, ImagePipeline, load_image_data
from hf_icckd.data.sources.classes import read_groups
from hf_icckd.options.data import DataArguments, TrainingDataArguments
from hf_icckd.options.training import DistillationTrainingArguments

logger = logging.getLogger(__name__)


def load_pipeline(
    data_args: TrainingDataArguments,
    args: DistillationTrainingArguments,
    default_size: int,
    crop_pct: float,
    interpolation: str,
    max_size: int | None = None,
) -> ImagePipeline:
    """Data set and pipeline as the options say; the other arguments are those of `ImagePipeline`."""
    with args.main_process_first(desc="reading the data set"):
        data = load_data(data_args)
    return ImagePipeline(
        data,
        image_size=data_args.image_size,
        default_size=default_size,
        max_size=max_size,
        crop_pct=crop_pct,
        interpolation=interpolation,
        augmentation=data_args.augmentation == "standard",
        crop_padding=data_args.crop_padding,
        min_crop_scale=data_args.min_crop_scale,
        horizontal_flip=data_args.horizontal_flip,
        color_jitter=data_args.color_jitter,
        trivial_augment=data_args.trivial_augment,
        random_erasing=data_args.random_erasing,
        resident_max_bytes=data_args.resident_max_bytes,
        seed=args.seed if data_args.augmentation_seed is None else data_args.augmentation_seed,
        device=args.device,
        compile_backend=args.torch_compile_backend,
    )


def load_data(data_args: DataArguments) -> ImageData:
    """Data set as the options say; notes about it are logged."""
    data = load_image_data(
        data_args.dataset,
        config_name=data_args.dataset_config_name,
        image_column=data_args.image_column,
        label_column=data_args.label_column,
        test_fraction=data_args.test_fraction,
        validation_fraction=data_args.validation_fraction,
        max_train_samples=data_args.max_train_samples,
        max_eval_samples=data_args.max_eval_samples,
        streaming=data_args.streaming,
        classes=data_args.classes,
        label_groups=None if data_args.label_groups is None else read_groups(data_args.label_groups),
    )
    for note in data.notes:
        logger.info("%s", note)
    return data
