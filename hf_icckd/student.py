"""Distil a student: `python -m hf_icckd.student [CONFIG.yaml] [--option value ...]`."""

from __future__ import annotations

from pathlib import Path

from timm.models import get_pretrained_cfg

from hf_icckd.data.from_options import load_pipeline
from hf_icckd.losses import parse_objectives
from hf_icckd.models.classifier import check_architecture, check_same_classes
from hf_icckd.models.pretrained import fingerprint, from_pretrained
from hf_icckd.options.command_line import parse_arguments, readable_errors, set_up_logging
from hf_icckd.options.recipes import RECIPES, StudentModelArguments
from hf_icckd.runs.folder import RunFolder
from hf_icckd.session import build_classifier, show_finished, train_and_report
from hf_icckd.training.student_trainer import StudentTrainer
from hf_icckd.training.teacher_targets import TeacherTargets
from hf_icckd.utils import distributed


def main(argv: list[str] | None = None) -> None:
    """Distil a student as the command line says, or go on with a run that was interrupted."""
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
        # With the teacher's weights: a student of another teacher in the same place is another run.
        folder = RunFolder(
            "student",
            args,
            data_args,
            model_args,
            teacher_fingerprint=fingerprint(teacher),
            recorded_targets=args.teacher_targets != "live",  # in half precision, so the run is another
        )
        if folder.finished:
            show_finished(folder, args)
            return
        default = get_pretrained_cfg(model_args.model)
        # From scratch the student takes the pixels its teacher takes.
        size = default.input_size[-1] if model_args.pretrained else teacher.spec.image_size
        pipeline = load_pipeline(data_args, args, size, teacher.spec.crop_pct, teacher.spec.interpolation, size)
        check_same_classes(teacher.spec.label_names, tuple(pipeline.data.label_names))
        # From scratch the student normalises as its teacher does, too.
        student = build_classifier(
            model_args, data_args, pipeline, args.seed, lambda: (teacher.spec.mean, teacher.spec.std)
        )
        targets = None
        # Processes open the folder together; those of other options would wait for each other.
        distributed.check_equal({name: getattr(args, name) for name in ("teacher_targets", "teacher_targets_dir")})
        if args.teacher_targets != "live":
            targets = TeacherTargets(
                args.teacher_targets_dir or "runs/teacher-targets",
                teacher,
                pipeline,
                objectives.teacher_outputs,
                precision=args.precision,
                create=args.teacher_targets != "replay",
            )
        trainer = StudentTrainer(
            student,
            teacher,
            args,
            pipeline.dataset("train", training=True),
            pipeline.dataset(pipeline.evaluation_split),
            objectives,
            targets=targets,
        )
        train_and_report(trainer, pipeline, folder, teacher)


if __name__ == "__main__":
    main()
