"""Train a teacher: `python -m hf_icckd.teacher [CONFIG.yaml] [--option value ...]`."""

from __future__ import annotations

from functools import partial

from hf_icckd.cards.licences import warn_of_licences
from hf_icckd.data import load_image_data
from hf_icckd.data.from_options import load_pipeline
from hf_icckd.data.pipeline import Channels
from hf_icckd.losses import full_specs, parse_terms, refuse_mixed
from hf_icckd.models.architectures import check_architecture, default_cfg
from hf_icckd.models.classifier import ImageClassifier
from hf_icckd.models.foreign import is_foreign
from hf_icckd.models.pretrained import fingerprint, from_pretrained
from hf_icckd.options.command_line import parse_command, readable_errors, set_up_logging
from hf_icckd.options.nets import TeacherModelArguments
from hf_icckd.options.recipes import RECIPES
from hf_icckd.runs.folder import RunFolder
from hf_icckd.session import Finished, Train, build_classifier, show_finished, train_and_report
from hf_icckd.training.run_images import as_begun
from hf_icckd.training.teacher_trainer import TeacherTrainer, check_terms


def main(
    argv: list[str] | None = None, *, train: Train = train_and_report, finished: Finished = show_finished
) -> None:
    """Train a teacher as the command line says, or resume a run that was interrupted.

    Args:
        argv: Words of the command line; None for those of the program.
        train: Called with all that was built.
        finished: Called instead for a run that is finished.
    """
    data_args, model_args, args = parse_command("teacher", argv, RECIPES["teacher"])
    set_up_logging(args.process_index == 0, args.log_level == "debug")
    with readable_errors():
        terms = parse_terms(args.terms)  # an error shows before anything is loaded
        check_terms(terms, args)
        if data_args.mixes:
            refuse_mixed(terms)
        args.terms = full_specs(args.terms)  # as the run is recorded
        start = None if model_args.start_from is None else from_pretrained(model_args.start_from)
        if start is not None:
            model_args.model = _architecture_of(start, model_args)
        # The weights that the run starts from are part of what it is.
        identity = {} if start is None else {"start_fingerprint": fingerprint(start)}
        folder = RunFolder("teacher", args, data_args, model_args, **identity)
        if folder.finished:
            folder.check_data(lambda: load_image_data(data_args).fingerprint())
            finished(folder, args)
            return
        warn_of_licences(folder.values)
        check_architecture(model_args.model)
        pipeline = load_pipeline(
            data_args,
            args,
            *_wanted_pixels(start, model_args),
            mean=_mean(start, model_args),
            prepare=partial(as_begun, folder),
        )
        begun = None if folder.removed is None else folder.removed.before
        statistics = pipeline.channel_statistics if begun is None else lambda: (begun.mean, begun.std)
        model = build_classifier(model_args, data_args, pipeline, args.seed, statistics, start)
        trainer = TeacherTrainer(
            model,
            args,
            pipeline.dataset("train", training=True, num_views=args.num_views),
            pipeline.dataset(pipeline.evaluation_split),
            terms=terms,
        )
        train(trainer, pipeline, folder, None)


def _wanted_pixels(start: ImageClassifier | None, model_args: TeacherModelArguments) -> tuple[int, float, str]:
    """Image size, share of the short side that evaluation keeps, and interpolation that the net is made for."""
    if start is not None:
        return start.spec.image_size, start.spec.crop_pct, start.spec.interpolation
    default = default_cfg(model_args.model)
    return default.input_size[-1], default.crop_pct, default.interpolation if model_args.pretrained else "bilinear"


def _mean(start: ImageClassifier | None, model_args: TeacherModelArguments) -> Channels | None:
    """Channel means of the net's normalisation; None if it is trained from scratch and takes those of the images."""
    if start is not None:
        return start.spec.mean
    red, green, blue = default_cfg(model_args.model).mean
    return (red, green, blue) if model_args.pretrained else None


def _architecture_of(start: ImageClassifier, model_args: TeacherModelArguments) -> str:
    """Architecture of the start checkpoint. Raises if `--model` names a different one."""
    known = start.spec.architecture
    if is_foreign(start):
        raise ValueError(
            f"start_from {model_args.start_from!r} is a {known}, which is not a net of timm: it can teach but not be "
            "trained here; start from a timm model"
        )
    if model_args.model not in (known, TeacherModelArguments.model):
        raise ValueError(
            f"model is {model_args.model!r} but start_from {model_args.start_from!r} is a {known}; leave out --model"
        )
    return known


if __name__ == "__main__":
    main()
