"""Write a model as an ONNX file: `python -m hf_icckd.export FOLDER [--output FILE]`."""

from __future__ import annotations

from pathlib import Path

import torch

from hf_icckd.cards.card import write_card
from hf_icckd.models.onnx import OnnxExport, export_onnx
from hf_icckd.options.command_line import parse_command, readable_errors, set_up_logging
from hf_icckd.runs.layout import METRICS_FILE
from hf_icckd.runs.records import read_records
from hf_icckd.utils.atomic_files import write_text
from hf_icckd.utils.machine import processor_name
from hf_icckd.utils.text import format_table, json_text, show


def main(argv: list[str] | None = None) -> None:
    """Write the ONNX file; for a finished run, add the comparison with torch to its metrics and its card."""
    (args,) = parse_command("export", argv)
    set_up_logging()
    with readable_errors("file with --output"):
        folder = Path(args.folder)
        if args.output is None and not folder.is_dir():
            raise ValueError(f"{args.folder!r} is not a local folder; name the ONNX file with --output")
        output = args.output or folder / "model.onnx"
        export = export_onnx(args.folder, output, num_images=args.num_images, tolerance=args.tolerance)
        if (folder / METRICS_FILE).is_file():
            _note(folder, export, args.num_images)
        rows = [
            ("largest difference in a logit", f"{export.max_difference:.2g}"),
            ("same top class", f"{export.agreement:.2%} of {args.num_images:,} random images"),
            ("ONNX Runtime, one image", f"{export.latency_ms:.2f} ms"),
        ]
        show(format_table(rows, f"{export.path} agrees with torch"))


def _note(folder: Path, export: OnnxExport, num_images: int) -> None:
    """Add the comparison to the metrics of a finished run, and to its card."""
    try:
        arguments, results = read_records(folder)
    except ValueError as error:
        raise ValueError(f"{error}; the ONNX file is written, but the comparison is not recorded") from error
    results["onnx"] = {
        "latency_ms": export.latency_ms,
        "processor": processor_name(),
        "threads": torch.get_num_threads(),
        "max_difference": export.max_difference,
        "agreement": 100 * export.agreement,
        "images": num_images,
    }
    write_text(folder / METRICS_FILE, json_text(results))
    if "model" in results:  # runs of 0.1.0 recorded too little for a card
        write_card(folder, arguments, results)


if __name__ == "__main__":
    main()
