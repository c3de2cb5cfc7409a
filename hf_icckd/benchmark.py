"""Compare size and latency of models: `hf-icckd benchmark FOLDER ... [--threads 1 4]`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from hf_icckd.evaluation.deploy import file_size, weights_size
from hf_icckd.evaluation.deployed_table import deployed_table
from hf_icckd.evaluation.latency import Timed, measure_latencies
from hf_icckd.models.onnx import plain_copy
from hf_icckd.models.pretrained import from_pretrained
from hf_icckd.models.runtimes import input_size, run_file, run_torch
from hf_icckd.options.command_line import parse_command, readable_errors, set_up_logging
from hf_icckd.runs.layout import METRICS_FILE
from hf_icckd.utils.atomic_files import user_path
from hf_icckd.utils.formats import EXPORTED_SUFFIXES, FORMATS, check_installed
from hf_icckd.utils.machine import processor_name
from hf_icckd.utils.text import json_text, show


class _Model(NamedTuple):
    """What is timed, and what is known of it."""

    timed: Timed
    row: dict[str, Any]


def main(argv: list[str] | None = None) -> None:
    """Time the models in turn and print a table."""
    (args,) = parse_command("benchmark", argv)
    set_up_logging()
    with readable_errors("file with --output_file"):
        if args.output_file is not None and not Path(args.output_file).absolute().parent.is_dir():
            raise ValueError(f"output_file is {args.output_file!r}, whose folder does not exist; create it first")
        models = [each for name in args.models for each in _models(name)]
        latencies = measure_latencies(
            [each.timed for each in models], args.batch_sizes, args.threads, args.rounds, "timing"
        )
        rows = [each.row | {"latencies": own} for each, own in zip(models, latencies, strict=True)]
        show(deployed_table(rows, f"milliseconds for each call on {processor_name() or 'this CPU'}", left=2))
        if args.output_file is not None:
            Path(args.output_file).write_text(
                json_text({"processor": processor_name(), "rows": rows}), encoding="utf-8"
            )


def _models(name: str) -> Iterator[_Model]:
    """A model in torch, and every file in its folder that it was exported to; or one exported file."""
    path = user_path(name)
    if path.suffix.lower() in EXPORTED_SUFFIXES:
        if not path.is_file():
            raise ValueError(f"{name!r} does not exist; export it first, with hf-icckd export")
        form = next((key for key, each in FORMATS.items() if each.file == path.name), _by_suffix(path))
        yield _file(name, form, path, {})
        return
    top1 = _recorded_top1(path)
    classifier = plain_copy(from_pretrained(name))
    size = classifier.spec.image_size
    torch_row = {"model": name, "format": "torch", "bytes": weights_size(classifier), **top1.get("torch", {})}
    yield _Model(Timed(lambda threads: run_torch(classifier, threads), size), torch_row)
    for form, each in FORMATS.items():
        if (path / each.file).is_file():
            yield _file(name, form, path / each.file, top1.get(form, {}))


def _by_suffix(path: Path) -> str:
    return "openvino" if path.suffix.lower() == ".xml" else "onnx"


def _file(name: str, form: str, path: Path, top1: dict[str, float]) -> _Model:
    runtime = "openvino" if path.suffix.lower() == ".xml" else "onnxruntime"
    check_installed((runtime,), FORMATS[form].extra, f"{str(path)!r}")
    row = {"model": name, "format": form, "bytes": file_size(path), **top1}
    return _Model(Timed(lambda threads: run_file(path, threads), input_size(path)), row)


def _recorded_top1(folder: Path) -> dict[str, dict[str, float]]:
    """Top-1 by format, as the last export of a finished run measured it; without an export that of the run itself."""
    try:
        results = json.loads((folder / METRICS_FILE).read_text(encoding="utf-8"))
        rows = results.get("deployment", {}).get("rows", [])
        found = {row["format"]: {"top1": row["top1"]} for row in rows if "top1" in row}
        return found or {"torch": {"top1": results["test"]["top1"]}}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}


if __name__ == "__main__":
    main()
