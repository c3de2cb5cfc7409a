"""Records of a study: what is kept of each run, in a file that outlives the runs' folders and their machine."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from transformers.trainer import TRAINER_STATE_NAME

from hf_icckd.losses import full_specs
from hf_icckd.models.pretrained import fingerprint, from_pretrained
from hf_icckd.runs.checkpoints import newest_intact
from hf_icckd.runs.layout import ARGS_FILE, METRICS_FILE
from hf_icckd.runs.records import loss_row
from hf_icckd.study.run import Run
from hf_icckd.study.terms import as_specs
from hf_icckd.utils.atomic_files import sync, write_text

RECORDS_FILE = "records.jsonl"

# Options that name a place on this machine; fingerprints identify what was there.
_PLACES = {
    *("dataset", "label_column", "output_dir", "logging_dir", "run_name"),
    *("start_from", "teacher", "ensemble_with", "cross_fitted_with", "teacher_targets_dir"),
}
_CURVE = ("epoch", "eval_top1", "eval_nll", "eval_ece", "eval_agreement")
_METRICS = (
    *("test", "teacher_test", "validation", "train", "fine_probe", "cost", "training", "notes", "environment"),
)


class Records:
    """The file of records: one JSON object a line, for each run that ended.

    Args:
        path: The file; it need not exist yet.

    Raises:
        ValueError: If a line can't be read, unless it is the last one and was cut off while being written.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.by_name: dict[str, dict[str, Any]] = {}
        text = self.path.read_text(encoding="utf-8") if self.path.is_file() else ""
        lines = text.splitlines()
        for number, line in enumerate(lines, start=1):
            try:
                record = json.loads(line)
                self.by_name[record["run"]] = record
            except (json.JSONDecodeError, KeyError, TypeError) as error:
                if number == len(lines) and not text.endswith("\n"):  # the machine stopped while writing it
                    text = "".join(f"{whole}\n" for whole in lines[:-1])
                    write_text(self.path, text)
                    break
                raise ValueError(
                    f"line {number} of {self.path} is not a record ({error}); restore the line"
                ) from error

        if text and not text.endswith("\n"):  # some editors leave it out
            write_text(self.path, f"{text}\n")

    def add(self, record: dict[str, Any]) -> None:
        """Append a record and wait until it is on disk."""
        self.by_name[record["run"]] = record
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        sync(self.path)


def make_record(run: Run, folder: Path, status: str, seconds: float, message: str | None = None) -> dict[str, Any]:
    """Record of a run that ended.

    Args:
        folder: Folder of the run.
        status: `finished` or `diverged`.
        seconds: Wall time over all sessions.
        message: Last line of a diverged run's output.
    """
    results = json.loads((folder / METRICS_FILE).read_text(encoding="utf-8")) if status == "finished" else {}
    results.get("environment", {}).pop("command", None)  # full of paths; the options say the same
    arguments = (
        yaml.safe_load((folder / ARGS_FILE).read_text(encoding="utf-8")) if (folder / ARGS_FILE).is_file() else {}
    )
    if "terms" in arguments:  # in full: a default may be another one later
        arguments["terms"] = full_specs(as_specs(arguments["terms"]))
    return {
        "run": run.name,
        **{name: getattr(run, name) for name in ("pair", "teacher", "student", "seed", "trial")},
        "status": status,
        "message": message,
        "weights": fingerprint(from_pretrained(folder)) if results and run.student is None else None,
        "options": run.options,
        "arguments": {k: value for k, value in arguments.items() if k not in _PLACES and value is not None},
        "curve": _curve(results or _logged(folder)),
        "metrics": {name: results[name] for name in _METRICS if name in results},
        "seconds": round(seconds, 1),
        "finished": datetime.now().isoformat(timespec="seconds"),
    }


def _logged(folder: Path) -> dict[str, Any]:
    """History and losses of an unfinished run, up to its last checkpoint."""
    checkpoint = newest_intact(folder)
    if checkpoint is None:
        return {}
    log = json.loads((checkpoint / TRAINER_STATE_NAME).read_text(encoding="utf-8"))["log_history"]
    history = [entry for entry in log if "eval_top1" in entry]
    return {"history": history, "losses": [loss_row(entry) for entry in log if "images_per_second" in entry]}


def _curve(results: dict[str, Any]) -> list[dict[str, float]]:
    """One point per evaluation, with the training losses last logged before it, to six digits."""
    points, losses = [], results.get("losses", [])
    for entry in results.get("history", []):
        before = [row for row in losses if row["step"] <= entry["step"]]
        point = {
            name if name in ("loss", "epoch", "gated_fraction") else f"loss/{name}": value
            for name, value in (before[-1] if before else {}).items()
            if name != "step"
        }
        point |= {name: value for name, value in entry.items() if name in _CURVE}
        points.append({name: float(f"{value:.6g}") for name, value in point.items()})
    return points
