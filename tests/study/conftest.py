"""Fixtures of the tests of studies."""

from __future__ import annotations

import json
import shutil
import stat
from pathlib import Path

import pytest
import yaml

from hf_icckd import save_pretrained
from hf_icckd.study import StudyRunner, load_plan
from hf_icckd.study import runner as runner_module
from hf_icckd.study.plan import Plan
from tests.study.small_study import FAKE, STUDY


@pytest.fixture
def study(tmp_path) -> Path:
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(STUDY, sort_keys=False))
    return path


@pytest.fixture
def fake(tmp_path, monkeypatch, tiny_classifier):
    """Has the stand-in do all runs; returns a function that sets how runs with a part of a name end."""
    control, model = tmp_path / "control.json", tmp_path / "model"
    save_pretrained(model, tiny_classifier())
    program = tmp_path / "python"
    text = FAKE.replace("{{", "{").replace("}}", "}").replace("{control!r}", repr(str(control)))
    program.write_text(text.replace("{model!r}", repr(str(model))))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(runner_module.sys, "executable", str(program))
    monkeypatch.setattr(runner_module, "_POLL_SECONDS", 0.01)

    def tell(**ends):
        control.write_text(json.dumps({name.replace("__", "/"): end for name, end in ends.items()}))

    log = Path(f"{control}.log")
    tell.log = lambda: log.read_text().splitlines() if log.exists() else []
    return tell


_ENDED: dict[str, Path] = {}  # folder of a study by its plan


@pytest.fixture
def ended(fake, tmp_path_factory):
    """Fills a folder with a study whose runs have all ended; the runs of a plan are done once a session."""

    def make(plan: Plan, folder: Path) -> None:
        asked = repr(plan)
        if asked not in _ENDED:
            kept = tmp_path_factory.mktemp("ended")
            assert StudyRunner(plan, kept).run()
            _ENDED[asked] = kept
        shutil.copytree(_ENDED[asked], folder, dirs_exist_ok=True)

    return make


@pytest.fixture
def finetuned(study):
    """A study with a teacher that starts from the control; it stands first, and its sweep has a seed of its own."""
    tuned = {"finetuned": {"start_from": "{teacher ce}", "num_train_epochs": 1}}
    sweep = {"base": "finetuned", "option": "intra_class.margin", "values": [0.5], "seeds": [7], "students": ["kd"]}
    study.write_text(
        yaml.safe_dump(STUDY | {"teachers": tuned | STUDY["teachers"], "sweeps": {"margin": sweep}}, sort_keys=False)
    )
    return load_plan(study)
