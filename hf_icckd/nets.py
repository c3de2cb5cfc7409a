"""The net that a recipe trains: new, pretrained, or a trained classifier to start from."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from typing import NamedTuple

from transformers import set_seed

from hf_icckd.data import ImagePipeline
from hf_icckd.data.pipeline import Channels
from hf_icckd.models.adapt import adapt_classifier
from hf_icckd.models.architectures import default_cfg
from hf_icckd.models.classifier import ImageClassifier, create_classifier
from hf_icckd.models.foreign import is_foreign
from hf_icckd.models.pretrained import fingerprint, from_pretrained
from hf_icckd.options.data import TrainingDataArguments
from hf_icckd.options.fine_tuning import FineTuning, check_start
from hf_icckd.options.nets import StudentModelArguments, TeacherModelArguments, TrainedNet

logger = logging.getLogger(__name__)

ModelArguments = TeacherModelArguments | StudentModelArguments


def load_start(
    model_args: ModelArguments, args: FineTuning, given: Collection[str]
) -> tuple[ImageClassifier | None, dict[str, str]]:
    """The classifier to start from, if there is one, and what it adds to the identity of the run.

    Its architecture becomes that of the options.

    Args:
        model_args: What to start from.
        args: What is to be frozen.
        given: Names of the options that the user gave.

    Raises:
        ValueError: If it can't be loaded or trained, `--model` names another architecture, or a backbone with new
            weights is to be frozen.
    """
    check_start(args, model_args.pretrained, model_args.start_from)
    if model_args.start_from is None:
        return None, {}
    start = from_pretrained(model_args.start_from)
    known = start.spec.architecture
    if is_foreign(start):
        raise ValueError(
            f"start_from {model_args.start_from!r} is a {known}, which is not a net of timm: it can teach but not be "
            "trained here; start from a timm model"
        )
    if "model" in given and model_args.model != known:
        raise ValueError(
            f"model is {model_args.model!r} but start_from {model_args.start_from!r} is a {known}; leave one of them "
            "out"
        )
    model_args.model = known
    # The weights that the run starts from are part of what it is.
    return start, {"start_fingerprint": fingerprint(start)}


class Pixels(NamedTuple):
    """What a net's weights were trained with.

    Attributes:
        size: Height and width of the images.
        crop_pct: Share of the short side that evaluation keeps.
        interpolation: How images are scaled.
        mean: Channel means of the normalisation.
    """

    size: int
    crop_pct: float
    interpolation: str
    mean: Channels


def trained_pixels(model_args: TrainedNet, architecture: str, start: ImageClassifier | None) -> Pixels | None:
    """Pixels of a net that starts from trained weights; None for one from scratch."""
    if start is not None:
        spec = start.spec
        return Pixels(spec.image_size, spec.crop_pct, spec.interpolation, spec.mean)
    if not model_args.pretrained:
        return None
    default = default_cfg(architecture)
    red, green, blue = default.mean
    return Pixels(default.input_size[-1], default.crop_pct, default.interpolation, (red, green, blue))


def build_classifier(
    model_args: ModelArguments,
    data_args: TrainingDataArguments,
    pipeline: ImagePipeline,
    seed: int,
    normalisation: Callable[[], tuple[Channels, Channels]],
    start: ImageClassifier | None = None,
) -> ImageClassifier:
    """The net to train: new, pretrained, or a trained classifier to start from.

    Args:
        model_args: Architecture, whether its weights are pretrained, and its dropout.
        data_args: Image size, if the user set one.
        pipeline: Data of the run.
        seed: Seed of the initial weights.
        normalisation: Returns mean and std of a net that is trained from scratch.
        start: Trained classifier to start from; it keeps its normalisation.
    """
    set_seed(seed)
    names, drop_args = pipeline.data.label_names, model_args.drop_args
    if start is not None:
        if start.spec.label_names != tuple(names):
            logger.info("the start checkpoint has other classes than the data: it gets a new classification layer")
        # Small images are taken whole, whatever the net was evaluated with before.
        size, crop_pct, crop_mode = data_args.image_size, pipeline.crop_pct, pipeline.crop_mode
        return adapt_classifier(start, names, size, crop_pct, crop_mode, drop_args)
    mean, std = (None, None) if model_args.pretrained else normalisation()
    model = create_classifier(
        model_args.model,
        names,
        # A pretrained net takes the size it was trained with, unless the user sets another; it resizes on the device.
        image_size=data_args.image_size or (None if model_args.pretrained else pipeline.image_size),
        mean=mean,
        std=std,
        crop_pct=pipeline.crop_pct,
        interpolation=pipeline.interpolation,
        crop_mode=pipeline.crop_mode,
        pretrained=model_args.pretrained,
        drop_args=drop_args,
    )
    if (size := model.spec.image_size) > pipeline.image_size:
        logger.info("the net enlarges them to %d x %d pixels", size, size)
    return model
