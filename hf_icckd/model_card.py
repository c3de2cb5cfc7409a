"""The README.md of a run's folder: what the model is, its figures, how to use it, how it was made.

Everything in it comes from the two records of the run, metrics.json and all_args.yaml, so it can be made anew at any
time: `python -m hf_icckd.model_card FOLDER [FOLDER ...] [--license ID]`. It shows the pictures that are in the folder.
What a person wrote between the marks `<!-- yours: begin NAME -->` and `<!-- yours: end NAME -->` stays as it is.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

import yaml

from hf_icckd.cards.card import write_card
from hf_icckd.options.checks import check_licence
from hf_icckd.runs.layout import ARGS_FILE
from hf_icckd.runs.records import read_records
from hf_icckd.utils.atomic_files import write_text


def main(argv: list[str] | None = None) -> None:
    """Make the cards of finished runs anew; nothing is trained and no image is read."""
    parser = argparse.ArgumentParser(prog="python -m hf_icckd.model_card", description=main.__doc__)
    parser.add_argument("folders", nargs="+", metavar="FOLDER", help="Folder of a finished run.")
    parser.add_argument("--license", help="Identifier of the licence, written into all_args.yaml too.")
    options = parser.parse_args(argv)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    try:
        check_licence(options.license)
        for folder in options.folders:
            arguments, results = read_records(folder)
            if "model" not in results:
                raise ValueError(
                    f"the run in {folder!r} was made by an earlier version, which recorded less than a card needs; "
                    "train it again"
                )
            if options.license is not None:
                arguments["license"] = options.license
                write_text(Path(folder) / ARGS_FILE, yaml.safe_dump(arguments, sort_keys=True))
            write_card(folder, arguments, results)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
