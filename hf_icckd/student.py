"""Distil a student: `python -m hf_icckd.student [CONFIG.yaml] [--option value ...]`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from hf_icckd.data import ImagePipeline, load_image_data
from hf_icckd.data.from_options import load_pipeline
from hf_icckd.losses import parse_objectives
from hf_icckd.models.architectures import check_architecture, default_cfg
from hf_icckd.models.classifier import ImageClassifier, check_same_classes
from hf_icckd.models.pretrained import fingerprint, from_pretrained
from hf_icckd.options.command_line import parse_arguments, readable_errors, set_up_logging
from hf_icckd.options.recipes import RECIPES, StudentModelArguments
from hf_icckd.options.training import StudentTrainingArguments
from hf_icckd.runs.folder import RunFolder
from hf_icckd.session import build_classifier, show_finished, train_and_report
from hf_icckd.training.run_images import as_begun
from hf_icckd.training.student_trainer import StudentTrainer
from hf_icckd.training.teacher_targets import TeacherTargets
from hf_icckd.utils import distributed


def main(argv: list[str] | None = None) -> None:
    """Distil a student as the command line says, or resume a run that was interrupted."""
    data_args, model_args, args = parse_arguments(RECIPES["student"], __doc__, argv)
    set_up_logging(args.process_index == 0, args.log_level == "debug")
    with readable_errors():
        check_architecture(model_args.model)
        objectives = parse_objectives(args.objectives)  # an error shows before anything is loaded
        if model_args.teacher == StudentModelArguments.teacher and not Path(model_args.teacher).is_dir():
            raise ValueError(
                f"there is no teacher in {model_args.teacher!r}; train one first with recipes/teacher.py, or name one "
                "with --teacher"
            )
        teacher = from_pretrained(model_args.teacher)
        # The teacher's weights are part of what the run is, wherever they are stored.
        folder = RunFolder(
            "student",
            args,
            data_args,
            model_args,
            scheduled=objectives.scheduled,
            teacher_fingerprint=fingerprint(teacher),
            recorded_targets=args.teacher_targets != "live",  # in half precision, so results differ
        )
        if folder.finished:
            folder.check_data(lambda: load_image_data(data_args).fingerprint())
            show_finished(folder, args)
            return
        default = default_cfg(model_args.model)
        # From scratch, a student takes the same pixels as its teacher, normalised alike.
        size = default.input_size[-1] if model_args.pretrained else teacher.spec.image_size
        pixels = size, teacher.spec.crop_pct, teacher.spec.interpolation, size
        # Borders have the colour that they will have where the student is used.
        red, green, blue = default.mean if model_args.pretrained else teacher.spec.mean
        pipeline = load_pipeline(
            data_args,
            args,
            *pixels,
            crop_mode=teacher.spec.crop_mode,
            mean=(red, green, blue),
            prepare=partial(as_begun, folder),
        )
        check_same_classes(teacher.spec.label_names, tuple(pipeline.data.label_names))
        student = build_classifier(
            model_args, data_args, pipeline, args.seed, lambda: (teacher.spec.mean, teacher.spec.std)
        )
        trainer = StudentTrainer(
            student,
            teacher,
            args,
            pipeline.dataset("train", training=True),
            pipeline.dataset(pipeline.evaluation_split),
            objectives,
            targets=_open_targets(args, teacher, pipeline, objectives.teacher_outputs),
        )
        train_and_report(trainer, pipeline, folder, teacher)


def _open_targets(
    args: StudentTrainingArguments, teacher: ImageClassifier, pipeline: ImagePipeline, outputs: tuple[str, ...]
) -> TeacherTargets | None:
    """Recorded teacher outputs, if the options ask for them."""
    # Processes open the folder together; if their options differed, some would wait for ever.
    distributed.check_equal({name: getattr(args, name) for name in ("teacher_targets", "teacher_targets_dir")})
    if args.teacher_targets == "live":
        return None
    return TeacherTargets(
        args.teacher_targets_dir or "runs/teacher-targets",
        teacher,
        pipeline,
        outputs,
        precision=args.precision,
        create=args.teacher_targets != "replay",
    )


if __name__ == "__main__":
    main()
