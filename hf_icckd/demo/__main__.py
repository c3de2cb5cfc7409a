"""Compare a teacher and its student on a local page: `python -m hf_icckd.demo TEACHER STUDENT`."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
from datasets import Dataset

from hf_icckd.data import ImageData
from hf_icckd.data.from_options import load_data
from hf_icckd.data.images import read_image
from hf_icckd.data.labels.columns import labels_of
from hf_icckd.data.sampling import balanced_subset
from hf_icckd.data.sources.stream import StreamedSplit
from hf_icckd.demo.comparison import class_means, shared_names
from hf_icckd.demo.page import Net, build_page, import_gradio, launch
from hf_icckd.models.classifier import check_same_classes
from hf_icckd.models.pretrained import from_pretrained
from hf_icckd.options.command_line import parse_command, readable_errors, set_up_logging
from hf_icckd.options.commands import DemoDataArguments
from hf_icckd.runs.records import with_recorded_data
from hf_icckd.utils.atomic_files import user_path
from hf_icckd.utils.machine import best_device, keep_freed_memory
from hf_icckd.utils.text import show

_MAX_PER_CLASS = 200  # images that a class mean is taken over
_EXAMPLES = 10


def main(argv: list[str] | None = None) -> None:
    """Serve the page until it is interrupted."""
    data_args, args = parse_command("demo", argv)
    set_up_logging()
    device = best_device()
    if device.type == "cpu":
        keep_freed_memory()
    with readable_errors(), tempfile.TemporaryDirectory() as folder:
        import_gradio()
        nets = [
            Net(role, origin, from_pretrained(origin).to(device))
            for role, origin in (("teacher", args.teacher), ("student", args.student))
        ]
        check_same_classes(nets[0].model.spec.label_names, nets[1].model.spec.label_names, second="student")
        data, note = find_data(data_args, nets[0])
        examples: list[tuple[Path, str]] = []
        pixel_range = None if data is None else data.pixel_range
        label_names = shared_names(nets[0].model, nets[1].model)
        if data is not None:
            # A teacher without class names was not compared with the data set, so the student is.
            check_same_classes(nets[1].model.spec.label_names, tuple(data.label_names), "student")
            rows, note = rows_for_means(data, args.max_images)
            means = [
                class_means(
                    net.model, rows, labels_of(rows), f"class means of the {net.role}", pixel_range=data.pixel_range
                )
                for net in nets
            ]
            nets = [net._replace(means=mean) for net, mean in zip(nets, means, strict=True)]
            examples, label_names = save_examples(data, Path(folder)), tuple(data.label_names)
        # When interrupted, Gradio leaves dropped pictures behind; in this folder they are deleted.
        os.environ.setdefault("GRADIO_TEMP_DIR", folder)
        page = build_page(nets[0], nets[1], label_names, note, examples, pixel_range)
        addresses = launch(page, args.host, args.port, args.share)
        show(f"{' and '.join(addresses)} shows {args.teacher} and {args.student}; stop it with Ctrl-C")
        page.block_thread()


def find_data(args: DemoDataArguments, teacher: Net) -> tuple[ImageData | None, str]:
    """The data set the user named, or else the teacher's own; None and the reason if that can't be loaded.

    Raises:
        ValueError: If the data set the user named can't be loaded or has other classes.
    """
    try:
        data = load_data(args if args.dataset else with_recorded_data(args, user_path(teacher.origin), "teacher"))
        check_same_classes(teacher.model.spec.label_names, tuple(data.label_names))
    except ValueError as error:
        if args.dataset:
            raise
        return None, f"No nearest classes and no examples: {error}. Name a data set with --dataset."
    return data, ""


def rows_for_means(data: ImageData, max_images: int) -> tuple[Dataset, str]:
    """Training images for class means, evenly over the classes, and a sentence about them."""
    limit = min(max_images, _MAX_PER_CLASS * len(data.label_names))
    rows = data.train.head(limit) if isinstance(data.train, StreamedSplit) else data.train
    labels = labels_of(rows)
    labelled = np.flatnonzero(labels >= 0)
    chosen = rows.select(labelled[balanced_subset(labels[labelled], limit)])
    return chosen, f"Class means are taken over {len(chosen):,} training images of {data.name}."


def save_examples(data: ImageData, folder: Path) -> list[tuple[Path, str]]:
    """Write the first test image of each of ten classes. Returns paths and class names."""
    rows = data.test.head(256) if isinstance(data.test, StreamedSplit) else data.test
    labels = labels_of(rows)
    examples: list[tuple[Path, str]] = []
    for label, row in zip(*np.unique(labels, return_index=True), strict=True):
        if label >= 0 and len(examples) < _EXAMPLES:
            path = folder / f"{len(examples)}.png"
            read_image(rows, int(row), "test", data.pixel_range).save(path)
            examples.append((path, data.label_names[label]))
    return examples


if __name__ == "__main__":
    main()
