"""Distil a student: `hf-icckd student [CONFIG.yaml] [--option value ...]`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from hf_icckd.cards.licences import warn_of_licences
from hf_icckd.data import ImagePipeline, load_image_data
from hf_icckd.data.from_options import Load, load_pipeline
from hf_icckd.data.pipeline import Channels
from hf_icckd.losses import WeightedObjectives, check_outputs, parse_objectives, refuse_mixed, refuse_unlabeled
from hf_icckd.models.architectures import check_architecture
from hf_icckd.models.classifier import ClassifierSpec, CropMode, ImageClassifier
from hf_icckd.models.embedding_teacher import by_embeddings, check_teacher_classes
from hf_icckd.models.ensemble import ensemble
from hf_icckd.models.from_weights import WeightsFile
from hf_icckd.models.pretrained import fingerprint, from_pretrained
from hf_icckd.nets import Pixels, build_classifier, load_start, trained_pixels
from hf_icckd.options.command_line import parse_command, readable_errors, set_up_logging
from hf_icckd.options.data import StudentDataArguments
from hf_icckd.options.imbalance import check_one_remedy
from hf_icckd.options.nets import StudentModelArguments
from hf_icckd.options.pairs import nets_of
from hf_icckd.options.recipes import RECIPES
from hf_icckd.options.training import StudentTrainingArguments
from hf_icckd.runs.chosen_options import ChosenOptions
from hf_icckd.runs.folder import RunFolder, no_empty_folders
from hf_icckd.runs.records import RecordedAccuracy, recorded_accuracy
from hf_icckd.session import Finished, Train, show_finished, train_and_report
from hf_icckd.training.cross_fitting import cross_fit
from hf_icckd.training.recorded_batches import recordable
from hf_icckd.training.run_images import as_begun
from hf_icckd.training.student_trainer import StudentTrainer
from hf_icckd.training.teacher_targets import TeacherTargets
from hf_icckd.utils import distributed


def main(
    argv: list[str] | None = None,
    *,
    stand_in: ImageClassifier | None = None,
    record: bool = True,
    train: Train = train_and_report,
    finished: Finished = show_finished,
    load: Load = load_image_data,
) -> None:
    """Distil a student as the command line says, or resume a run that was interrupted.

    Args:
        stand_in: Stands in for the teacher that the options name, if that is not trained yet.
        record: Whether the teacher's outputs are recorded if the options ask for it; false for a trial, in which the
            teacher runs.
        train: As for the recipe of teachers; so are `finished` and `load`.
    """
    data_args, model_args, args = parse_command("student", argv, RECIPES["student"], chosen := ChosenOptions())
    set_up_logging(args.process_index == 0, args.log_level == "debug")
    with readable_errors(), no_empty_folders(Path(args.output_dir)):
        chosen.log()
        check_architecture(model_args.model)
        objectives = _objectives(data_args, args)  # an error shows before anything is loaded
        teacher = _teacher_of(objectives, model_args, stand_in)
        start, identity = load_start(model_args, args, chosen.given)
        # The teacher's weights are part of what the run is, wherever they are stored.
        folder = RunFolder(
            "student",
            args,
            data_args,
            model_args,
            scheduled=objectives.scheduled,
            teacher_fingerprint=fingerprint(teacher),
            recorded_targets=args.teacher_targets != "live",  # in half precision, so results differ
            cross_fitted=bool(model_args.cross_fitted_with) or None,  # the same teachers teach otherwise then
            chosen_options=chosen.recorded,
            **identity,
        )
        if folder.finished:
            folder.check_data(lambda: load(data_args).fingerprint())
            finished(folder, args)
            return
        # Of a teacher that is not trained yet nothing is recorded, and the Hub may know another one by that name.
        warn_of_licences(folder.values if stand_in is None else folder.values | {"teacher": None})
        trained = trained_pixels(model_args, model_args.model, start)
        pipeline = _pipeline(data_args, args, trained, teacher, folder, load)
        scaling = teacher.spec.mean, teacher.spec.std
        student = build_classifier(model_args, data_args, pipeline, args.seed, lambda: scaling, start)
        trainer = StudentTrainer(
            student,
            teacher,
            args,
            pipeline.dataset("train", training=True),
            pipeline.dataset(pipeline.evaluation_split),
            objectives,
            targets=_open_targets(args, model_args, teacher, pipeline, objectives.teacher_outputs, record),
            teacher_record=_record_of(model_args) if stand_in is None else None,
            labeled_dataset=pipeline.dataset("train"),
        )
        train(trainer, pipeline, folder, teacher)


def _check_pair(model_args: StudentModelArguments, teacher: ImageClassifier) -> None:
    found = teacher.spec.architecture
    if model_args.pair is not None and found != (expected := nets_of(model_args.pair)[0]):
        raise ValueError(
            f"pair is {model_args.pair!r}, whose teacher is {expected}, but {model_args.teacher!r} is a {found}; give "
            "another --teacher, or --model instead of --pair"
        )


def _pipeline(
    data_args: StudentDataArguments,
    args: StudentTrainingArguments,
    trained: Pixels | None,
    teacher: ImageClassifier,
    folder: RunFolder,
    load: Load,
) -> ImagePipeline:
    """The data of student and teacher. Raises ValueError if the teacher has other classes."""
    pixels, crop_mode, mean = _wanted_pixels(trained, teacher.spec)
    pipeline = load_pipeline(
        data_args,
        args,
        *pixels,
        crop_mode=crop_mode,
        mean=mean,
        teacher=teacher.spec,
        prepare=partial(as_begun, folder),
        load=load,
    )
    check_teacher_classes(teacher, tuple(pipeline.data.label_names))
    return pipeline


def _objectives(data_args: StudentDataArguments, args: StudentTrainingArguments) -> WeightedObjectives:
    """The objectives. Raises ValueError if options contradict them or one another, before anything is loaded."""
    objectives = parse_objectives(args.objectives)
    if data_args.mixes:
        refuse_mixed(objectives)
    if data_args.unlabeled_dataset is not None:
        refuse_unlabeled(objectives)
    check_one_remedy(args.class_weights, args.logit_adjustment, data_args.sampling)
    for name in ("ce_weight", "label_smoothing", "class_weights", "logit_adjustment"):
        if data_args.unlabeled_only and name in args.changed and getattr(args, name):
            raise ValueError(
                f"{name} is {getattr(args, name)} but unlabeled_only is true: no training image has a label to "
                "compare with; leave one of them out"
            )
    return objectives


def _named_teacher(model_args: StudentModelArguments) -> ImageClassifier:
    """The teacher as it is stored; without classes if it has no classification layer."""
    if model_args.teacher == StudentModelArguments.teacher and not Path(model_args.teacher).exists():
        raise ValueError(
            f"there is no teacher in {model_args.teacher!r}; train one first with hf-icckd teacher, or name one with "
            "--teacher"
        )
    return from_pretrained(model_args.teacher, _weights_file(model_args), needs_head=False)


def _record_of(model_args: StudentModelArguments) -> RecordedAccuracy | None:
    """Accuracy that the teacher is known to have; of an ensemble nobody has measured it."""
    several = model_args.ensemble_with or model_args.cross_fitted_with
    return None if several else recorded_accuracy(model_args.teacher)


def _teacher_of(
    objectives: WeightedObjectives, model_args: StudentModelArguments, stand_in: ImageClassifier | None
) -> ImageClassifier:
    """What the options name, or stands in for it, as it teaches: without classes if they say not to use its head.

    Raises:
        ValueError: If an objective reads what it does not have, or it is another net than the pair's.
    """
    teacher = stand_in or _named_teacher(model_args)
    _check_pair(model_args, teacher)
    if others := model_args.ensemble_with or model_args.cross_fitted_with:
        teacher = ensemble([teacher, *map(from_pretrained, others)], model_args.ensemble_weights)
    if not model_args.teacher_head:
        teacher = by_embeddings(teacher)
    check_outputs(objectives, teacher, "teacher")
    return teacher


def _wanted_pixels(
    trained: Pixels | None, teacher: ClassifierSpec
) -> tuple[tuple[int, float, str, int], CropMode | None, Channels]:
    """Size, share that evaluation keeps, interpolation and largest size of the student's images; crop mode and mean.

    A student that starts from trained weights gets the pixels that they were trained with. From scratch it takes those
    of its teacher, normalised alike.
    """
    if trained is None:
        pixels = teacher.image_size, teacher.crop_pct, teacher.interpolation, teacher.image_size
        return pixels, teacher.crop_mode, teacher.mean
    # As for a pretrained teacher, the images decide about borders.
    return (trained.size, trained.crop_pct, trained.interpolation, trained.size), None, trained.mean


def _weights_file(model_args: StudentModelArguments) -> WeightsFile | None:
    """What the options say of a teacher that is a file of weights."""
    if model_args.teacher_model is None:
        return None
    mean, std = (
        None if values is None else (values[0], values[1], values[2])
        for values in (model_args.teacher_mean, model_args.teacher_std)
    )
    return WeightsFile(model_args.teacher_model, model_args.teacher_weights, model_args.teacher_image_size, mean, std)


def _open_targets(
    args: StudentTrainingArguments,
    model_args: StudentModelArguments,
    teacher: ImageClassifier,
    pipeline: ImagePipeline,
    outputs: tuple[str, ...],
    record: bool,
) -> TeacherTargets | None:
    """Recorded teacher outputs, if the options ask for them; if none may be recorded, the options become live."""
    # Processes open the folder together; if their options differed, some would wait for ever.
    distributed.check_equal({name: getattr(args, name) for name in ("teacher_targets", "teacher_targets_dir")})
    if args.teacher_targets == "live":
        if model_args.cross_fitted_with:
            raise ValueError(
                "cross_fitted_with needs recorded targets: which teacher teaches depends on the image; add "
                "--teacher_targets auto"
            )
        return None
    recordable(teacher, pipeline, outputs)  # what can't be recorded later is an error now
    if not record:
        args.teacher_targets, args.teacher_targets_dir = "live", None
        return None
    taught_by = None
    if model_args.cross_fitted_with:
        taught_by = cross_fit([model_args.teacher, *model_args.cross_fitted_with], pipeline.data)
    return TeacherTargets(
        args.teacher_targets_dir or "runs/teacher-targets",
        teacher,
        pipeline,
        outputs,
        precision=args.precision,
        create=args.teacher_targets != "replay",
        taught_by=taught_by,
    )


if __name__ == "__main__":
    main()
