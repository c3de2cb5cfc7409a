"""Train a teacher: `python -m hf_icckd.teacher [CONFIG.yaml] [--option value ...]`."""

from __future__ import annotations

from timm.models import get_pretrained_cfg

from hf_icckd.cli import parse_arguments, set_up_logging
from hf_icckd.modeling import check_architecture
from hf_icckd.run_folder import RunFolder
from hf_icckd.runs import build_classifier, load_pipeline, publish, readable_errors, show_finished, train_and_report
from hf_icckd.teacher_trainer import TeacherTrainer
from hf_icckd.training_args import RECIPES


def main(argv: list[str] | None = None) -> None:
    """Train a teacher as the command line says, or go on with a run that was interrupted."""
    data_args, model_args, args = parse_arguments(RECIPES["teacher"], __doc__, argv)
    set_up_logging(args.process_index == 0, args.log_level == "debug")
    with readable_errors():
        folder = RunFolder("teacher", args, data_args, model_args)
        if folder.finished:
            show_finished(folder)
            publish(folder, args)
            return
        for architecture in filter(None, (model_args.model, args.student_branches)):
            check_architecture(architecture)
        default = get_pretrained_cfg(model_args.model)
        interpolation = default.interpolation if model_args.pretrained else "bilinear"
        pipeline = load_pipeline(data_args, args, default.input_size[-1], default.crop_pct, interpolation)
        model = build_classifier(model_args, data_args, pipeline, args.seed, pipeline.channel_statistics())
        trainer = TeacherTrainer(
            model,
            args,
            pipeline.dataset("train", training=True, num_views=args.num_views),
            pipeline.dataset(pipeline.evaluation_split),
        )
        train_and_report(trainer, pipeline, folder)


if __name__ == "__main__":
    main()
