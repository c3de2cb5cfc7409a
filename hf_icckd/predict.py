"""Predict the classes of images: `hf-icckd predict MODEL IMAGES... [--output_file FILE.csv]`."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from hf_icckd.options.command_line import UserError, parse_command, readable_errors, set_up_logging
from hf_icckd.options.prediction import PredictionArguments
from hf_icckd.prediction.predict import Prediction, predict_images
from hf_icckd.prediction.results import Results, results_table, write_results
from hf_icckd.utils.atomic_files import user_path
from hf_icckd.utils.machine import keep_freed_memory
from hf_icckd.utils.text import listed, show

logger = logging.getLogger(__name__)

_ROWS = 40  # of the table
_NAMED = 50  # files without a prediction


def main(argv: list[str] | None = None) -> None:
    """Print the predictions, the least sure ones first, and write all of them to a file if one is named."""
    (args,) = parse_command("predict", argv)
    set_up_logging()
    keep_freed_memory()
    with readable_errors("file with --output_file"):
        output = _place(args.output_file)
        predictions = predict_images(
            args.model,
            args.images,
            top_k=args.top_k,
            batch_size=args.batch_size,
            num_workers=args.num_workers,
            pixel_range=args.pixel_range and tuple(args.pixel_range),
            progress=True,
        )
        with Results(None if output is None else output.parent) as results:
            finished = _collect(predictions, results)
            if output is not None:
                write_results(output, results, args.sort)
            _report(results, args)
            if not finished:
                raise SystemExit(130)
            if results.unreadable == len(results):
                raise UserError("no file could be read as an image")
            if results.errors == len(results):
                raise UserError("the model's logits are not finite for any image; check its weights")


def _place(name: str | None) -> Path | None:
    """Path of the file to write, in a folder that exists."""
    if name is None:
        return None
    path = user_path(name)
    if not path.absolute().parent.is_dir():
        raise ValueError(f"output_file is {name!r}, whose folder does not exist; create it first")
    if path.is_dir():
        raise ValueError(f"output_file is {name!r}, which is a folder; name a file")
    return path


def _collect(predictions: Iterable[Prediction], results: Results) -> bool:
    """Keep all predictions; False if the user interrupted it, so that what there is can be written."""
    try:
        for each in predictions:
            results.add(each)
    except KeyboardInterrupt:
        logger.warning("interrupted; images predicted so far: %s", f"{len(results):,}")
        return False
    return True


def _report(results: Results, args: PredictionArguments) -> None:
    """Print table and summary, and name the files without a prediction on stderr."""
    predicted = len(results) - results.errors
    if predicted:
        first = ", the least sure ones first" if args.sort == "margin" else ""
        counts = listed([f"{name}: {count:,}" for name, count in results.classes.most_common()])
        title = f"{args.model}: {predicted:,} images{first}"
        lines = [results_table(results, args.sort, title, _ROWS), ""]
        if predicted > _ROWS:
            lines.append(f"and {predicted - _ROWS:,} more")
        lines.append(f"images of each class: {counts}")
        if args.output_file is not None:
            lines.append(f"{args.output_file} holds all of them")
        elif predicted > _ROWS:
            lines.append("--output_file FILE.csv or FILE.json writes all of them")
        show("\n".join(lines))
    unread = (each.error or "" for each in results.ordered("name") if not each.readable)
    _name_files("files could not be read", results.unreadable, len(results), unread)
    unclassed = (each.image for each in results.ordered("name") if each.readable and each.error is not None)
    why = "images have no class, because the model's logits are not finite; check its weights"
    _name_files(why, results.errors - results.unreadable, len(results), unclassed)


def _name_files(what: str, count: int, total: int, names: Iterator[str]) -> None:
    """Say on stderr what is wrong with some files, and name the first of them."""
    if count:
        more = [f"and {count - _NAMED:,} more"] if count > _NAMED else []
        logger.warning("%s", "\n  ".join([f"{count:,} of {total:,} {what}:", *islice(names, _NAMED), *more]))


if __name__ == "__main__":
    main()
