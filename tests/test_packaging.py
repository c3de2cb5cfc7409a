"""setup.cfg and the workflows of a public CI say the same, and what they name exists."""

from __future__ import annotations

import configparser
import re

import pytest
import yaml

from hf_icckd import __version__
from tests import ROOT

WORKFLOWS = {path.stem: path for path in sorted((ROOT / ".github" / "workflows").glob("*.yml"))}
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg")


def jobs(name: str) -> dict:
    return yaml.safe_load(WORKFLOWS[name].read_text())["jobs"]


def test_every_python_that_is_promised_is_tested():
    classifiers = SETUP["metadata"]["classifiers"]
    promised = re.findall(r"^Programming Language :: Python :: (3\.\d+)$", classifiers, re.MULTILINE)
    assert jobs("test")["test"]["strategy"]["matrix"]["python"] == promised
    assert SETUP["options"]["python_requires"] == f">={promised[0]}"
    assert f"Python {promised[0]} to {promised[-1]}" in (ROOT / "README.md").read_text()


def test_the_version_is_cited():
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == __version__


@pytest.mark.parametrize("name", WORKFLOWS)
def test_workflows_may_do_little_and_end(name):
    workflow = yaml.safe_load(WORKFLOWS[name].read_text())
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        if job == {"uses": "./.github/workflows/test.yml"}:  # which is checked by itself
            continue
        assert job["timeout-minutes"] <= 90 and job["runs-on"] == "ubuntu-latest"
        assert {"write"} >= set(job.get("permissions", {}).values())
        for step in job["steps"]:
            assert ("run" in step) != ("uses" in step)
            # In a pull request someone else's text must not become part of a command.
            assert "${{" not in step.get("run", "")
            if "actions/checkout" in step.get("uses", ""):
                assert step["with"]["persist-credentials"] is False


def test_the_site_is_built_alike_everywhere():
    command = "sphinx-build -W --keep-going -c docs . build/site"
    assert command in WORKFLOWS["docs"].read_text() and command in (ROOT / "CONTRIBUTING.md").read_text()
    assert "-W --keep-going -c docs ." in (ROOT / ".ci" / "release").read_text()


def test_only_tags_are_published():
    release = yaml.safe_load(WORKFLOWS["release"].read_text())
    assert release[True] == {"push": {"tags": ["v*"]}}  # `on` is a boolean to YAML 1.1
    assert release["jobs"]["publish"]["needs"] == ["build", "test"]
    assert release["jobs"]["publish"]["permissions"] == {"id-token": "write"}
