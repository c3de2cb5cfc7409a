"""Train a teacher: `hf-icckd teacher [CONFIG.yaml] [--option value ...]`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from hf_icckd.cards.licences import warn_of_licences
from hf_icckd.data import load_image_data
from hf_icckd.data.from_options import Load, load_pipeline
from hf_icckd.losses import full_specs, parse_terms, refuse_mixed
from hf_icckd.models.architectures import check_architecture, default_cfg
from hf_icckd.nets import Pixels, build_classifier, load_start, trained_pixels
from hf_icckd.options.command_line import parse_command, readable_errors, set_up_logging
from hf_icckd.options.imbalance import check_one_remedy
from hf_icckd.options.recipes import RECIPES
from hf_icckd.runs.chosen_options import ChosenOptions
from hf_icckd.runs.folder import RunFolder, no_empty_folders
from hf_icckd.session import Finished, Train, show_finished, train_and_report
from hf_icckd.training.run_images import as_begun
from hf_icckd.training.teacher_trainer import TeacherTrainer, check_terms


def main(
    argv: list[str] | None = None,
    *,
    train: Train = train_and_report,
    finished: Finished = show_finished,
    load: Load = load_image_data,
) -> None:
    """Train a teacher as the command line says, or resume a run that was interrupted.

    Args:
        argv: Words of the command line; None for those of the program.
        train: Called with all that was built.
        finished: Called instead for a run that is finished.
        load: Loads the data set.
    """
    data_args, model_args, args = parse_command("teacher", argv, RECIPES["teacher"], chosen := ChosenOptions())
    set_up_logging(args.process_index == 0, args.log_level == "debug")
    with readable_errors(), no_empty_folders(Path(args.output_dir)):
        chosen.log()
        terms = parse_terms(args.terms)  # an error shows before anything is loaded
        check_terms(terms, args)
        if data_args.mixes:
            refuse_mixed(terms)
        check_one_remedy(args.class_weights, args.logit_adjustment, data_args.sampling)
        args.terms = full_specs(args.terms)  # as the run is recorded
        start, identity = load_start(model_args, args, chosen.given)
        known = {"chosen_options": chosen.recorded, **identity}
        folder = RunFolder("teacher", args, data_args, model_args, scheduled=terms.scheduled, **known)
        if folder.finished:
            folder.check_data(lambda: load(data_args).fingerprint())
            finished(folder, args)
            return
        warn_of_licences(folder.values)
        check_architecture(model_args.model)
        trained = trained_pixels(model_args, model_args.model, start)
        pipeline = load_pipeline(
            data_args,
            args,
            *_wanted_pixels(trained, model_args.model),
            mean=None if trained is None else trained.mean,
            prepare=partial(as_begun, folder),
            load=load,
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


def _wanted_pixels(trained: Pixels | None, architecture: str) -> tuple[int, float, str]:
    """Image size, share of the short side that evaluation keeps, and interpolation that the net is made for."""
    if trained is not None:
        return trained.size, trained.crop_pct, trained.interpolation
    default = default_cfg(architecture)
    return default.input_size[-1], default.crop_pct, "bilinear"


if __name__ == "__main__":
    main()
