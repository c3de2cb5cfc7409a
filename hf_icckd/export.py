"""Write a model for deployment: `hf-icckd export FOLDER [--formats onnx int8 openvino]`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from hf_icckd.cards.card import write_card
from hf_icckd.data import ImageData, load_image_data
from hf_icckd.data.from_options import Load, load_data
from hf_icckd.evaluation.deploy import Checks, Deployment, deploy
from hf_icckd.evaluation.deployed_table import deployed_table
from hf_icckd.models.classifier import ImageClassifier, check_same_classes
from hf_icckd.models.pretrained import from_pretrained
from hf_icckd.options.command_line import parse_command, readable_errors, set_up_logging
from hf_icckd.options.deployment import ExportArguments, ExportDataArguments
from hf_icckd.runs.layout import METRICS_FILE
from hf_icckd.runs.records import read_records, with_recorded_data
from hf_icckd.utils.atomic_files import user_path, write_text
from hf_icckd.utils.formats import EXPORTED_SUFFIXES, FORMATS
from hf_icckd.utils.machine import processor_name
from hf_icckd.utils.text import json_text, show

logger = logging.getLogger(__name__)


def main(argv: list[str] | None = None, *, load: Load = load_image_data) -> None:
    """Write the files; for a finished run, add what was measured to its metrics and its card.

    Args:
        argv: Words of the command line; None for those of the program.
        load: Loads the data set that the run's folder records.
    """
    data_args, args = parse_command("export", argv)
    set_up_logging()
    with readable_errors("file with --output"):
        folder, targets = user_path(args.folder), _targets(args)
        model = from_pretrained(args.folder)
        data = _find_data(data_args, args, model, load)
        checks = Checks(
            args.tolerance, args.logit_tolerance, args.num_images, args.calibration_images, args.weight_bits
        )
        done = deploy(model, targets, data, checks)
        name = None if data is None else data.hub_id or user_path(data.name).resolve().name
        if done.rows:
            images = f"{done.test_images:,} test images of {name}" if name else "accuracy is not measured"
            timing = f"latencies in milliseconds for a call, on {processor_name() or 'this CPU'}"
            show("\n".join([deployed_table(done.rows, f"{args.folder}: {images}"), "", timing, *done.notes]))
            if (folder / METRICS_FILE).is_file():
                _record(folder, done, name, args.num_images)
        if done.refused:
            raise ValueError("; ".join(done.refused.values()))


def _targets(args: ExportArguments) -> dict[str, Path]:
    """The files to write, by format."""
    folder, names = user_path(args.folder), {name: FORMATS[name].file for name in args.formats}
    if args.output is None:
        if not folder.is_dir():
            raise ValueError(f"{args.folder!r} is not a local folder; say with --output where the files go")
        return {name: folder / file for name, file in names.items()}
    output = user_path(args.output)
    if len(names) == 1 and not output.is_dir():
        ((name, file),) = names.items()
        suffix = Path(file).suffix
        if output.suffix != suffix:
            raise ValueError(
                f"output is {args.output!r}, expected for the format {name} a file that ends in {suffix}, or a folder "
                "that exists; correct the name, or create the folder first"
            )
        return {name: output}
    if output.suffix in EXPORTED_SUFFIXES:
        raise ValueError(
            f"output is {args.output!r} but there are {len(names)} formats, {', '.join(names)}; give a folder"
        )
    return {name: output / file for name, file in names.items()}


def _find_data(
    data_args: ExportDataArguments, args: ExportArguments, model: ImageClassifier, load: Load
) -> ImageData | None:
    """The data set that the user names, or that the run's folder records; None if that is not there and not needed."""
    try:
        if data_args.dataset:
            data = load_data(data_args)
        else:  # known from training: the log need not describe it again
            data = load(with_recorded_data(data_args, user_path(args.folder), "model"))
        check_same_classes(model.spec.label_names, tuple(data.label_names), "model")
    except ValueError as error:
        if data_args.dataset:
            raise
        hint = "name the data set with --dataset"
        if "int8" in args.formats:
            raise ValueError(f"int8 needs calibration images of the training split, but {error}; {hint}") from error
        logger.info("accuracy is not measured: %s; %s", error, hint)
        return None
    return data


def _record(folder: Path, done: Deployment, dataset: str | None, num_images: int) -> None:
    """Add what was measured to the metrics of a finished run, and to its card."""
    try:
        arguments, results = read_records(folder)
    except ValueError as error:
        raise ValueError(f"{error}; the files are written, but what was measured is not recorded") from error
    deployment: dict[str, Any] = {"processor": processor_name(), "random_images": num_images}
    if dataset is not None:
        deployment |= {"dataset": dataset, "test_images": done.test_images}
    results["deployment"] = deployment | {"rows": done.rows}
    results.pop("onnx", None)  # what earlier versions recorded, of an earlier export
    write_text(folder / METRICS_FILE, json_text(results))
    if "model" in results:  # runs of 0.1.0 recorded too little for a card
        write_card(folder, arguments, results)


if __name__ == "__main__":
    main()
