"""Write a model as an ONNX file: `python -m hf_icckd.export FOLDER [--output FILE]`."""

from __future__ import annotations

import json
from pathlib import Path

from hf_icckd.cli import ArgumentParser, set_up_logging
from hf_icckd.files import replace_file
from hf_icckd.hub import METRICS_FILE
from hf_icckd.onnx_export import export_onnx
from hf_icckd.progress import format_table
from hf_icckd.runs import readable_errors, show


def main(argv: list[str] | None = None) -> None:
    """Export as the command line says; the figures of a finished run get the latency of ONNX Runtime."""
    parser = ArgumentParser([], prog="python -m hf_icckd.export", description=__doc__, allow_abbrev=False)
    parser.add_argument("folder", help="Folder of a run, Hub id or a pretrained timm model's name.")
    parser.add_argument("--output", help="The file; default: model.onnx in the folder.")
    parser.add_argument("--num_images", type=int, default=1000, help="Random images to compare with torch on.")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="Largest difference of a logit.")
    args = parser.parse_args(argv)
    set_up_logging()
    with readable_errors():
        folder = Path(args.folder)
        if args.output is None and not folder.is_dir():
            raise ValueError(f"{args.folder!r} is no folder here; say with --output where the ONNX file is to go")
        output = args.output or folder / "model.onnx"
        export = export_onnx(args.folder, output, num_images=args.num_images, tolerance=args.tolerance)
        _note_latency(folder / METRICS_FILE, export.latency_ms)
        rows = [
            ("largest difference of a logit", f"{export.max_difference:.2g}"),
            ("same class first", f"{export.agreement:.2%} of {args.num_images:,} random images"),
            ("ONNX Runtime, one image", f"{export.latency_ms:.2f} ms"),
        ]
        show(format_table(rows, f"{export.path} agrees with torch"))


def _note_latency(path: Path, latency_ms: float) -> None:
    """Add the latency to the figures of a run, if there are any."""
    if not path.is_file():
        return
    try:
        figures = json.loads(path.read_text())
        figures["cost"]["onnx_latency_ms"] = latency_ms
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged; the ONNX file is written, but its latency is not noted") from error
    replace_file(path, lambda unfinished: unfinished.write_text(json.dumps(figures, indent=2) + "\n"))


if __name__ == "__main__":
    main()
