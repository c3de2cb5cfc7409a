"""Write model cards again from the records of runs: `hf-icckd card FOLDER ... [--license ID]`.

A card is the README.md of a run's folder. All of it comes from metrics.json, all_args.yaml and the pictures in the
folder, except what a person wrote between `<!-- yours: begin NAME -->` and `<!-- yours: end NAME -->`, which is kept.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import yaml

from hf_icckd.cards.card import write_card
from hf_icckd.options.command_line import parse_command
from hf_icckd.runs.layout import ARGS_FILE
from hf_icckd.runs.records import read_records
from hf_icckd.utils.atomic_files import write_text


def main(argv: list[str] | None = None) -> None:
    """Write the cards of finished runs again. Nothing is trained and no image is read."""
    (options,) = parse_command("card", argv)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    try:
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
