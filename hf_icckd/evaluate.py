"""Measure classifiers: `hf-icckd evaluate MODEL ... [--dataset DATA] [--teacher MODEL] [--report FOLDER]`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch

from hf_icckd import metrics
from hf_icckd.cards.content import calibration_rows, embedding_plane
from hf_icckd.cards.evaluation_page import (
    HTML,
    SHOWN_CONFUSIONS,
    SHOWN_MISTAKES,
    Measured,
    Mistake,
    comparison_table,
    write_page,
)
from hf_icckd.data import ImageData, ImagePipeline
from hf_icckd.data.from_options import load_data
from hf_icckd.data.sampling import BatchDataset, BatchKey
from hf_icckd.data.sources.stream import StreamedSplit
from hf_icckd.data.splits.content import content_of
from hf_icckd.evaluation.cost import cost_metrics
from hf_icckd.evaluation.leakage import Leakage, check_leakage, find_leakage
from hf_icckd.evaluation.split import SplitOutputs, predict_split, split_metrics
from hf_icckd.metrics.class_tables import class_table
from hf_icckd.models.classifier import ImageClassifier, check_same_classes
from hf_icckd.models.pretrained import from_pretrained
from hf_icckd.options.command_line import parse_command, readable_errors, set_up_logging
from hf_icckd.options.data import DataArguments
from hf_icckd.options.evaluation import EvaluationArguments, EvaluationDataArguments
from hf_icckd.options.launcher import loading_workers
from hf_icckd.runs.records import with_recorded_data
from hf_icckd.runs.summary import summary_table
from hf_icckd.utils.atomic_files import user_path
from hf_icckd.utils.machine import best_device, cores, keep_freed_memory
from hf_icckd.utils.text import json_text, show

logger = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> None:
    """Measure one classifier, or compare several."""
    data_args, args = parse_command("evaluate", argv)
    set_up_logging()
    if best_device().type == "cpu":
        keep_freed_memory()
    with readable_errors("place with --output_file or --report"):
        _check_places(args)
        models = {name: from_pretrained(name).to(best_device()) for name in args.model}
        data_args = data_args if data_args.dataset else _recorded_data(data_args, args.model[0])
        data = load_data(data_args)
        if args.split not in data.splits():
            raise ValueError(f"split is {args.split!r}, expected one of: {', '.join(data.splits())}")
        for name, model in models.items():
            which = "model" if len(models) == 1 else f"model {name!r}"
            check_same_classes(model.spec.label_names, tuple(data.label_names), which)
        teacher = None
        if args.teacher is not None:
            teacher = from_pretrained(args.teacher).to(best_device())
            check_same_classes(teacher.spec.label_names, next(iter(models.values())).spec.label_names, second="model")
        leakage = _compare_images(data, args)
        measured = [measure(name, model, data, data_args, args, teacher) for name, model in models.items()]
        for each in measured:
            found = {one.role: one.record for one in leakage if len(models) == 1 or one.name == each.name}
            if found:
                each.results["leakage"] = found
        _show_and_write(measured, data, args)


def measure(
    name: str,
    model: ImageClassifier,
    data: ImageData,
    data_args: DataArguments,
    args: EvaluationArguments,
    teacher: ImageClassifier | None = None,
) -> Measured:
    """Measure a model on a split, in its own pixels.

    Args:
        name: How the user calls it.
        model: The model, on the device that it runs on.
        data: The data set.
        data_args: How it is read.
        args: What to measure.
        teacher: Another model, to measure agreement with.
    """
    size = data_args.image_size or model.spec.image_size
    pipeline = ImagePipeline(
        data,
        None,
        default_size=size,
        max_size=size,
        crop_pct=model.spec.crop_pct,
        interpolation=model.spec.interpolation,
        crop_mode=model.spec.crop_mode,
        mean=model.spec.mean,
        teacher=None if teacher is None else teacher.spec,
        resident_max_bytes=data_args.resident_max_bytes,
        device=model.scale.device,
    )
    dataset, workers = pipeline.dataset(args.split), loading_workers(args.num_workers, cores())

    def outputs(classifier: ImageClassifier, images: BatchDataset) -> SplitOutputs:
        return predict_split(
            classifier, images, batch_size=args.batch_size, num_workers=workers, description="evaluating"
        )

    others = None if teacher is None else outputs(teacher, dataset.for_classifier(teacher.spec))
    own, names = outputs(model, dataset), list(data.label_names)
    results: dict[str, Any] = {
        args.split: {"images": len(dataset), **split_metrics(own, others)},
        "per_class": {"names": names, args.split: class_table(own.logits, own.labels, names)},
        "cost": cost_metrics(model),
    }
    if others is not None:
        results[f"teacher_{args.split}"] = split_metrics(others)
    if args.report is None:
        return Measured(name, results, [], None, None)
    mistakes = None if data.streamed else _mistakes(own, dataset, data.splits()[args.split])
    return Measured(name, results, calibration_rows(own), embedding_plane(own, names), mistakes)


def _mistakes(outputs: SplitOutputs, dataset: BatchDataset, rows: Any) -> list[list[Mistake]]:
    """Of the most frequent confusions the images that the model is surest of."""
    found = []
    for true, other, _ in metrics.confusions(outputs.logits, outputs.labels, SHOWN_CONFUSIONS):
        worst = metrics.worst_mistakes(outputs.logits, outputs.labels, true, other, SHOWN_MISTAKES)
        batch = dataset.__getitems__(BatchKey(0, torch.tensor([row for row, _ in worst]), len(worst)))
        images = batch["pixel_values"][:, 0].permute(0, 2, 3, 1).cpu().numpy()
        names = [_name_of(rows, row) for row, _ in worst]
        shown = zip(images, names, [probability for _, probability in worst], strict=True)
        found.append([Mistake(*each) for each in shown])
    return found


def _name_of(rows: Any, row: int) -> str:
    """File of an image, where it is one."""
    image = rows[row]["image"]
    path = image.get("path") if isinstance(image, dict) else None
    return Path(path).name if path else f"row {row:,}"


def _show_and_write(models: list[Measured], data: ImageData, args: EvaluationArguments) -> None:
    if len(models) == 1:
        show(summary_table(models[0].results, f"{models[0].name} on {data.name}", args.split))
    else:
        images = models[0].results[args.split]["images"]
        show(comparison_table(models, args.split, f"{data.name}: {images:,} images of the {args.split} split"))
    if args.report is not None:
        folder = user_path(args.report)
        write_page(folder, models, args.split, data.hub_id or user_path(data.name).resolve().name)
        show(f"the page is {folder / HTML}")
    if args.output_file is not None:
        results = models[0].results if len(models) == 1 else {each.name: each.results for each in models}
        Path(args.output_file).write_text(json_text(results), encoding="utf-8")


def _recorded_data(data_args: EvaluationDataArguments, model: str) -> EvaluationDataArguments:
    try:
        return with_recorded_data(data_args, user_path(model), "model")
    except ValueError as error:
        raise ValueError(f"{error}; name the data set with --dataset") from error


def _check_places(args: EvaluationArguments) -> None:
    """Raise ValueError before anything is measured if its results could not be written."""
    if args.output_file is not None and not Path(args.output_file).absolute().parent.is_dir():
        raise ValueError(f"output_file is {args.output_file!r}, whose folder does not exist; create it first")
    if args.report is None:
        return
    folder = user_path(args.report)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"report is {args.report!r}, which is a file, expected a folder; choose another")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / HTML).is_file():
        raise ValueError(
            f"report is {args.report!r}, a folder that holds other files, expected a new one or one of an earlier "
            "report; choose another"
        )


def _compare_images(data: ImageData, args: EvaluationArguments) -> list[Leakage]:
    """Compare the images of the split with those that the models were trained on; not for the training split."""
    if args.split == "train":
        return []
    models = {"model": args.model[0]} if len(args.model) == 1 else {f"model {name!r}": name for name in args.model}
    if args.teacher is not None:
        models["teacher"] = args.teacher
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
