"""Measure any classifier: `hf-icckd evaluate --model FOLDER_OR_NAME [--dataset ...] [--teacher ...]`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from hf_icckd.data import ImageData, ImagePipeline
from hf_icckd.data.from_options import load_data
from hf_icckd.data.sampling import BatchDataset
from hf_icckd.data.sources.stream import StreamedSplit
from hf_icckd.data.splits.content import content_of
from hf_icckd.evaluation.cost import cost_metrics
from hf_icckd.evaluation.leakage import Leakage, check_leakage, find_leakage
from hf_icckd.evaluation.split import SplitOutputs, predict_split, split_metrics
from hf_icckd.metrics.class_tables import class_table
from hf_icckd.models.classifier import ImageClassifier, check_same_classes
from hf_icckd.models.pretrained import from_pretrained
from hf_icckd.options.command_line import parse_command, readable_errors, set_up_logging
from hf_icckd.options.commands import EvaluationArguments
from hf_icckd.runs.summary import summary_table
from hf_icckd.utils.machine import best_device, keep_freed_memory
from hf_icckd.utils.text import json_text, show

logger = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> None:
    """Measure a classifier."""
    data_args, args = parse_command("evaluate", argv)
    set_up_logging()
    device = best_device()
    if device.type == "cpu":
        keep_freed_memory()
    with readable_errors("file with --output_file"):
        if args.output_file is not None and not Path(args.output_file).absolute().parent.is_dir():
            raise ValueError(f"output_file is {args.output_file!r}, whose folder does not exist; create it first")
        model = from_pretrained(args.model).to(device)
        data = load_data(data_args)
        if args.split not in data.splits():
            raise ValueError(f"split is {args.split!r}, expected one of: {', '.join(data.splits())}")
        check_same_classes(model.spec.label_names, tuple(data.label_names), "model")
        other = None
        if args.teacher is not None:
            other = from_pretrained(args.teacher).to(device)
            check_same_classes(other.spec.label_names, model.spec.label_names, second="model")
        leakage = _compare_images(data, args)
        pipeline = ImagePipeline(
            data,
            default_size=data_args.image_size or model.spec.image_size,
            max_size=data_args.image_size or model.spec.image_size,
            crop_pct=model.spec.crop_pct,
            interpolation=model.spec.interpolation,
            crop_mode=model.spec.crop_mode,
            mean=model.spec.mean,
            teacher=None if other is None else other.spec,
            resident_max_bytes=data_args.resident_max_bytes,
            device=device,
        )
        dataset = pipeline.dataset(args.split)

        def outputs(classifier: ImageClassifier, images: BatchDataset) -> SplitOutputs:
            return predict_split(
                classifier,
                images,
                batch_size=args.batch_size,
                num_workers=args.num_workers,
                description="evaluating",
            )

        teacher = None if other is None else outputs(other, dataset.for_classifier(other.spec))
        own, names = outputs(model, dataset), list(data.label_names)
        results: dict[str, Any] = {
            args.split: {"images": len(dataset), **split_metrics(own, teacher)},
            "per_class": {"names": names, args.split: class_table(own.logits, own.labels, names)},
            "cost": cost_metrics(model),
        }
        if leakage:
            results["leakage"] = {each.role: each.record for each in leakage}
        if teacher is not None:
            results[f"teacher_{args.split}"] = split_metrics(teacher)
        show(summary_table(results, f"{args.model} on {data.name}", args.split))
        if args.output_file is not None:
            Path(args.output_file).write_text(json_text(results), encoding="utf-8")


def _compare_images(data: ImageData, args: EvaluationArguments) -> list[Leakage]:
    """Compare the images of the split with those that the models were trained on; not for the training split."""
    if args.split == "train":
        return []
    models = {role: name for role, name in (("model", args.model), ("teacher", args.teacher)) if name is not None}
    rows = data.splits()[args.split]
    streamed = isinstance(rows, StreamedSplit)
    found = find_leakage(models, args.split, len(rows), lambda: None if streamed else content_of(rows, args.split))
    for each in found:
        if each.note:
            logger.warning("%s", each.note)
    check_leakage(found, args.allow_leakage)
    return found


if __name__ == "__main__":
    main()
