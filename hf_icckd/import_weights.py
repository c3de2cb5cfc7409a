"""Make a model folder of a file of weights: `hf-icckd import FILE --model ARCHITECTURE ...`."""

from __future__ import annotations

from pathlib import Path

from hf_icckd.models.classifier import ImageClassifier, name_classes
from hf_icckd.models.from_weights import WeightsFile, load_weights_file
from hf_icckd.models.pretrained import save_pretrained
from hf_icckd.models.state_dicts import is_weights_file
from hf_icckd.options.command_line import parse_command, readable_errors, set_up_logging
from hf_icckd.options.lookup import ImportArguments
from hf_icckd.utils.atomic_files import user_path
from hf_icckd.utils.text import format_table, show


def main(argv: list[str] | None = None) -> None:
    """Write the folder and say what is in it."""
    (args,) = parse_command("import", argv)
    set_up_logging()
    with readable_errors():
        folder = user_path(args.output_dir)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ValueError(f"output folder {args.output_dir!r} is not empty; choose another with --output_dir")
        classifier = import_weights(args)
        save_pretrained(folder, classifier)
        spec = classifier.spec
        rows = [
            ("net", spec.architecture),
            ("classes", f"{len(spec.label_names):,}: {', '.join(spec.label_names[:3])}, ..."),
            ("images", f"{spec.image_size} x {spec.image_size} pixels"),
            ("mean, std", f"{' '.join(map(str, spec.mean))}, {' '.join(map(str, spec.std))}"),
        ]
        show(format_table(rows, f"{args.output_dir} holds {args.file}"))


def import_weights(args: ImportArguments) -> ImageClassifier:
    """Load a file of weights as a classifier with the names of its classes.

    Raises:
        ValueError: If it is no file of weights of that net, or there are more or fewer names than classes.
    """
    path: Path = user_path(args.file)
    if not path.is_file() or not is_weights_file(path):
        raise ValueError(f"file is {args.file!r}, expected a .pth, .pt, .pth.tar or .safetensors file; check the path")
    mean, std = (None if each is None else (each[0], each[1], each[2]) for each in (args.mean, args.std))
    about = WeightsFile(args.model, args.key, args.image_size, mean, std, option="--")
    classifier = load_weights_file(path, about)
    return classifier if args.label_names is None else name_classes(classifier, tuple(args.label_names))


if __name__ == "__main__":
    main()
