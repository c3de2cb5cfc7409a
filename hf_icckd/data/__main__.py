"""Say what is understood of a data set: `hf-icckd data FOLDER_OR_ID [--option value ...]`.

Nothing is trained. The report is printed, some images of each class are drawn into a PNG file, up to 10,000 images of
each split are decoded, and the exit code is 1 if a run would refuse the data set.
"""

from __future__ import annotations

from pathlib import Path

from hf_icckd.data import ImageData, load_image_data
from hf_icckd.data.contact_sheet import draw_contact_sheet
from hf_icckd.data.readable import find_unreadable
from hf_icckd.data.report import data_report, with_mirroring, with_sampling
from hf_icckd.data.report_text import report_table
from hf_icckd.data.sources.stream import StreamedSplit
from hf_icckd.options.command_line import parse_command, readable_errors, set_up_logging
from hf_icckd.options.commands import ReportArguments
from hf_icckd.utils.atomic_files import user_path
from hf_icckd.utils.text import show

_DECODED = 10_000  # images of a split: a minute or so, unless they are large


def main(argv: list[str] | None = None) -> None:
    """Print the report on a data set and draw its contact sheet."""
    data_args, args = parse_command("data", argv)
    set_up_logging()
    with readable_errors("file with --contact_sheet"):
        sheet = _place_of_sheet(args.contact_sheet, data_args.dataset)
        data = load_image_data(data_args)
        report = with_mirroring(data_report(data), data, data_args.chosen_augmentation(0))
        report = with_sampling(report, data_args.chosen_sampling(0))
        show(report_table(report))
        errors = draw_contact_sheet(sheet, data)
        show(f"{args.contact_sheet} shows some training images of each class")
        _refuse_unreadable(data, errors)


def _place_of_sheet(name: str, dataset: str) -> Path:
    """Path of the contact sheet. It must not lie in the data set: the next run would take it for one of its images."""
    path, folder = user_path(name).absolute(), user_path(dataset).absolute()
    if path.suffix.lower() != ".png":
        raise ValueError(f"contact_sheet is {name!r}, expected a PNG file; give a name that ends in .png")
    if not path.parent.is_dir():
        raise ValueError(f"contact_sheet is {name!r}, whose folder does not exist; create it first")
    known = path.name == ReportArguments.contact_sheet  # passed over when the data set is read
    if folder.is_dir() and not known and path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(
            f"the contact sheet {name!r} would lie in the data set and be taken for one of its images; choose a file "
            "elsewhere with --contact_sheet"
        )
    return path


def _refuse_unreadable(data: ImageData, errors: list[str]) -> None:
    """Decode images of every split, not of a stream, and raise ValueError if one can't be read: a run would end there.

    Args:
        data: The data set.
        errors: Images that could not be drawn.
    """
    for name, split in data.splits().items():
        if isinstance(split, StreamedSplit):
            continue
        looked_at, bad, first = find_unreadable(split, name, data.pixel_range, _DECODED)
        if bad:
            raise ValueError(f"{bad:,} of {looked_at:,} {name} images can't be read. The first: {first}")
        show(f"{'all' if looked_at == len(split) else 'evenly spaced'} {looked_at:,} {name} images can be read")
    if errors:
        raise ValueError(errors[0])


if __name__ == "__main__":
    main()
