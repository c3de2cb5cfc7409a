"""The file of a study's records, which outlives runs and machines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hf_icckd.files import sync
from hf_icckd.run_folder import write_text

RECORDS_FILE = "records.jsonl"


class Records:
    """The file of records: a JSON object a line, one for each run that ended.

    Args:
        path: The file; it need not be there yet.

    Raises:
        ValueError: If a line, other than a last one that was cut off in the middle, can't be read.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.by_name: dict[str, dict[str, Any]] = {}
        text = self.path.read_text() if self.path.is_file() else ""
        lines = text.splitlines()
        for number, line in enumerate(lines, start=1):
            try:
                record = json.loads(line)
                self.by_name[record["run"]] = record
            except (json.JSONDecodeError, KeyError, TypeError) as error:
                if number == len(lines) and not text.endswith("\n"):  # the machine stopped while it was written
                    text = "".join(f"{whole}\n" for whole in lines[:-1])
                    write_text(self.path, text)
                    break
                raise ValueError(
                    f"line {number} of {self.path} is no record ({error}); mend it or remove the line"
                ) from error

        if text and not text.endswith("\n"):  # some editors leave it out
            write_text(self.path, f"{text}\n")

    def add(self, record: dict[str, Any]) -> None:
        """Append a record and wait until it is on the disk."""
        self.by_name[record["run"]] = record
        with self.path.open("a") as file:
            file.write(json.dumps(record) + "\n")
        sync(self.path)
