"""A small study for tests, and a program that stands in for its runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from hf_icckd.options.command_line import DIVERGED

STUDY = {
    "title": "a small one",
    "seeds": [0, 1],
    "options": {"dataset": "digits", "validation_fraction": 0.2},
    "teacher_options": {"num_train_epochs": 2},
    "student_options": {"num_train_epochs": 1},
    "pairs": {"small": {"teacher": "cifar_resnet20", "student": "cifar_resnet8"}},
    "teachers": {
        "ce": {"terms": "none"},
        "intra": {"terms": "intra_class:weight=0.5"},
        "default": {"terms": ["intra_class:margin=0.2"]},
    },
    "students": {"kd": {"objectives": ["kd"]}, "tuned": {"trials": [{"ce_weight": 1}, {"ce_weight": 2}]}},
    "alone": {"no teacher": {"terms": "none", "num_views": 1}},
    "comparison": {"teacher": "intra", "control": "ce", "student": "kd"},
    "tuning_seeds": [100],
    "sweeps": {
        "weight": {
            "base": "intra",
            "option": "intra_class.weight",
            "values": [0, 0.05, 0.1, 0.5],
            "seeds": [0],
            "students": ["kd"],
        }
    },
}


# Stands for python with a recipe: it writes what a run writes, or fails as one does, without any training.
FAKE = f"""#!{sys.executable}
import json, pathlib, shutil, signal, sys, time
words = sys.argv[3:]
options = {{w[2:]: words[i + 1] for i, w in enumerate(words) if w.startswith("--")}}
folder = pathlib.Path(options["output_dir"])
folder.mkdir(parents=True, exist_ok=True)
(folder / "all_args.yaml").write_text(json.dumps(options | {{"data_fingerprint": "abc"}}))
behaviour = pathlib.Path({{control!r}})
told = json.loads(behaviour.read_text()) if behaviour.is_file() else {{}}
said = next((what for part, what in told.items() if part in str(folder)), None)
with open(str(behaviour) + ".log", "a") as log:
    log.write(f"{{{{sys.argv[2]}}}} {{{{options['output_dir']}}}} {{{{options.get('ce_weight')}}}}\\n")
if said in ("wait", "wait-0"):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143 if said == "wait" else 0))
    time.sleep(60)
if said == "quit":
    sys.exit(0)
if said == {DIVERGED}:
    print("error: loss/ce is nan since step 2", file=sys.stderr)
if said:
    sys.exit(said)
for needed in ("teacher", "start_from"):
    assert needed not in options or (pathlib.Path(options[needed]) / "metrics.json").is_file()
if folder.name == "teacher":  # an assistant is trained by the other recipe
    shutil.copytree({{model!r}}, folder, dirs_exist_ok=True)
top1 = 50.0 + int(options.get("ce_weight", 0))
figures = {{"top1": top1}}
(folder / "metrics.json").write_text(json.dumps({{
    "test": figures, "validation": figures,
    "history": [{{"epoch": 1, "step": 8, "eval_top1": top1, "eval_runtime": 3}}],
    "losses": [{{"epoch": e, "step": 4 * e, "loss": 2.0, "ce": e}} for e in (1, 2, 3)], "soft_labels": {{}},
    "environment": {{"command": "python secret/place", "torch": "2"}},
}}))
"""


def names(plan, records=None) -> list[str]:
    return [run.name for run in plan.runs(records or {})]


def edit_records(folder: Path, change) -> None:
    path = folder / "records.jsonl"
    records = [change(json.loads(line)) for line in path.read_text().splitlines()]
    path.write_text("".join(f"{json.dumps(each)}\n" for each in records if each is not None))
