"""Show a classifier, or a teacher and its student, on a local page: `hf-icckd demo MODEL [STUDENT]`."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset

from hf_icckd.data import ImageData
from hf_icckd.data.from_options import load_data
from hf_icckd.data.images import read_image, scale_to_longest
from hf_icckd.data.labels.columns import labels_of
from hf_icckd.data.sampling import balanced_subset
from hf_icckd.data.sources.built_in import BUILT_IN
from hf_icckd.data.sources.stream import StreamedSplit
from hf_icckd.demo.comparison import class_means, shared_names
from hf_icckd.demo.page import Net, build_page, import_gradio, launch
from hf_icckd.demo.space import check_place, write_space
from hf_icckd.models.classifier import check_same_classes
from hf_icckd.models.hub_names import hub_name
from hf_icckd.models.pretrained import from_pretrained
from hf_icckd.options.command_line import parse_command, readable_errors, set_up_logging
from hf_icckd.options.commands import DemoArguments, DemoDataArguments
from hf_icckd.runs.records import read_options, with_recorded_data
from hf_icckd.utils.atomic_files import user_path
from hf_icckd.utils.machine import best_device, keep_freed_memory
from hf_icckd.utils.text import show

_MAX_PER_CLASS = 200  # images that a class mean is taken over
_EXAMPLES = 10
_EXAMPLE_SIZE = 512  # pixels, in a Space
_RUNTIMES = {"timm": "timm", "onnx": "ONNX Runtime"}


def main(argv: list[str] | None = None) -> None:
    """Serve the page until it is interrupted, or write the Space."""
    data_args, args = parse_command("demo", argv)
    set_up_logging()
    with readable_errors("folder with --space"), tempfile.TemporaryDirectory() as folder:
        if args.space is None:
            _serve(data_args, args, Path(folder))
        else:
            _write(data_args, args, Path(folder))


def _serve(data_args: DemoDataArguments, args: DemoArguments, folder: Path) -> None:
    device = best_device()
    if device.type == "cpu":
        keep_freed_memory()
    import_gradio()
    nets = load_nets(args.models, device)
    data, reason = find_data(data_args, nets[0])
    note, examples = f"No nearest classes and no examples: {reason}", list[tuple[Path, str]]()
    pixel_range = None if data is None else data.pixel_range
    label_names = shared_names(*(net.model for net in nets))
    if data is not None:
        # A teacher without class names was not compared with the data set, so the student is.
        check_same_classes(nets[-1].model.spec.label_names, tuple(data.label_names), nets[-1].role)
        rows, note = rows_for_means(data, args.max_images)
        means = [
            class_means(net.model, rows, labels_of(rows), f"class means of the {net.role}", pixel_range=pixel_range)
            for net in nets
        ]
        nets = [net._replace(means=mean) for net, mean in zip(nets, means, strict=True)]
        examples, label_names = save_examples(data, folder), tuple(data.label_names)
    # When interrupted, Gradio leaves dropped pictures behind; in this folder they are deleted.
    os.environ.setdefault("GRADIO_TEMP_DIR", str(folder))
    page = build_page(nets, label_names, note, examples, pixel_range)
    addresses = launch(page, args.host, args.port, args.share)
    show(f"{' and '.join(addresses)} shows {' and '.join(args.models)}; stop it with Ctrl-C")
    page.block_thread()


def _write(data_args: DemoDataArguments, args: DemoArguments, folder: Path) -> None:
    place = check_place(args.space or "")
    for name in args.repo_id or []:
        if hub_name(name) is None:
            raise ValueError(f"repo_id is {name!r}, expected the name of a model on the Hub, such as me/student")
    nets = load_nets(args.models, torch.device("cpu"))
    data, reason = None, "the data set is on the Hub. Name it with --dataset."
    if data_args.dataset or not _is_fetched(read_options(nets[0].origin).get("dataset")):
        data, reason = find_data(data_args, nets[0])
    examples = [] if data is None else [path for path, _ in save_examples(data, folder, _EXAMPLE_SIZE)]
    recorded = read_options(nets[-1].origin)
    runtime = write_space(
        place,
        nets,
        examples,
        repo_ids=args.repo_id or [],
        licence=args.license or recorded.get("license"),
        pixel_range=data.pixel_range if data is not None else recorded.get("pixel_range"),
    )
    note = f"It has no examples: {reason}"
    if data is not None:
        note = f"examples/ holds {len(examples)} test images of {data.name}; delete those that must not be public."
    show(
        f"{args.space} is a Space of {' and '.join(args.models)}, which {_RUNTIMES[runtime]} runs.\n{note}\n"
        f"Try it: pip install -r {args.space}/requirements.txt && python {args.space}/app.py"
    )


def load_nets(origins: list[str], device: torch.device) -> list[Net]:
    """Load one classifier, or a teacher and its student.

    Raises:
        ValueError: If one can't be loaded, or they have different classes.
    """
    roles = ["model"] if len(origins) == 1 else ["teacher", "student"]
    nets = [Net(role, origin, from_pretrained(origin).to(device)) for role, origin in zip(roles, origins, strict=True)]
    check_same_classes(nets[0].model.spec.label_names, nets[-1].model.spec.label_names, second="student")
    return nets


def find_data(args: DemoDataArguments, net: Net) -> tuple[ImageData | None, str]:
    """The data set the user named, or else the net's own; None and the reason if that can't be loaded.

    Raises:
        ValueError: If the data set the user named can't be loaded or has other classes.
    """
    try:
        data = load_data(args if args.dataset else with_recorded_data(args, user_path(net.origin), net.role))
        check_same_classes(net.model.spec.label_names, tuple(data.label_names), net.role)
    except ValueError as error:
        if args.dataset:
            raise
        return None, f"{error}. Name a data set with --dataset."
    return data, ""


def _is_fetched(dataset: str | None) -> bool:
    """Whether a recorded data set would be fetched from the Hub, which may take gigabytes."""
    return dataset is not None and dataset not in BUILT_IN and not user_path(dataset).exists()


def rows_for_means(data: ImageData, max_images: int) -> tuple[Dataset, str]:
    """Training images for class means, evenly over the classes, and a sentence about them."""
    limit = min(max_images, _MAX_PER_CLASS * len(data.label_names))
    rows = data.train.head(limit) if isinstance(data.train, StreamedSplit) else data.train
    labels = labels_of(rows)
    labelled = np.flatnonzero(labels >= 0)
    chosen = rows.select(labelled[balanced_subset(labels[labelled], limit)])
    return chosen, f"Class means are taken over {len(chosen):,} training images of {data.name}."


def save_examples(data: ImageData, folder: Path, max_size: int | None = None) -> list[tuple[Path, str]]:
    """Write the first test image of each of ten classes. Returns paths and class names.

    Args:
        data: The data set.
        folder: Where the PNG files go.
        max_size: Longest side; larger images are scaled down. None to write them as they are.
    """
    rows = data.test.head(256) if isinstance(data.test, StreamedSplit) else data.test
    labels = labels_of(rows)
    examples: list[tuple[Path, str]] = []
    for label, row in zip(*np.unique(labels, return_index=True), strict=True):
        if label >= 0 and len(examples) < _EXAMPLES:
            path = folder / f"{len(examples)}.png"
            image = read_image(rows, int(row), "test", data.pixel_range)
            if max_size is not None and max(image.size) > max_size:
                image = scale_to_longest(image, max_size)
            image.save(path)
            examples.append((path, data.label_names[label]))
    return examples


if __name__ == "__main__":
    main()
