"""How many CPU threads a process takes, and why; how many processes decode for it."""

from __future__ import annotations

import multiprocessing
import sys
from types import SimpleNamespace

import pytest

from hf_icckd.options.launcher import loading_workers, threads_per_process


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch):
    for name in ("OMP_NUM_THREADS", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("asked", "environment", "expected"),
    [
        (None, {}, (8, "8 core(s) for 1 process(es)")),
        (None, {"OMP_NUM_THREADS": "1"}, (1, "OMP_NUM_THREADS")),
        (None, {"OMP_NUM_THREADS": "3,2"}, (3, "OMP_NUM_THREADS")),
        (5, {"OMP_NUM_THREADS": "3"}, (5, "--num_threads")),
        # Launchers set 1 by themselves.
        (None, {"OMP_NUM_THREADS": "1", "LOCAL_WORLD_SIZE": "2"}, (4, "8 core(s) for 2 process(es)")),
        (None, {"OMP_NUM_THREADS": "1", "ACCELERATE_MIXED_PRECISION": "no"}, (8, "8 core(s) for 1 process(es)")),
        (None, {"OMP_NUM_THREADS": "3", "LOCAL_WORLD_SIZE": "2"}, (3, "OMP_NUM_THREADS")),
        (None, {"LOCAL_WORLD_SIZE": "16"}, (1, "8 core(s) for 16 process(es)")),
    ],
)
def test_threads(monkeypatch, asked, environment, expected):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert threads_per_process(asked, cores=8) == expected


def test_a_value_that_is_no_number_is_an_error(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "all")
    with pytest.raises(ValueError, match="OMP_NUM_THREADS is 'all', expected a whole number"):
        threads_per_process(None, cores=8)


def test_workers_are_one_less_than_the_cores_of_a_process(monkeypatch):
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda allow_none: "fork")
    assert loading_workers(None, 8) == 7 and loading_workers(None, 1) == 0
    assert loading_workers(0, 8) == 0 and loading_workers(20, 8) == 20
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert loading_workers(None, 8) == 1 and loading_workers(None, 2) == 0
    monkeypatch.delenv("LOCAL_WORLD_SIZE")
    assert loading_workers(None, 512) == 16


def test_the_start_method_stays_open(monkeypatch):
    """A script may choose it after it has made its arguments."""
    asked = []
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda allow_none: asked.append(allow_none))
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: ["spawn", "fork"])
    monkeypatch.setitem(sys.modules, "__main__", SimpleNamespace(__file__="train.py"))  # of a debugger: no __spec__
    assert loading_workers(None, 8) == 0 and asked == [True]


@pytest.mark.parametrize(
    ("module", "file", "expected"),
    [
        (None, "/home/me/train.py", 0),
        ("train", "/home/me/train.py", 0),
        ("hf_icckd.student", "/env/hf_icckd/student.py", 7),
        (None, "/env/bin/hf-icckd", 7),
        ("__main__", "/env/Scripts/hf-icckd.exe/__main__.py", 7),  # on Windows
        (None, "recipes/teacher.py", 7),
        (None, None, 0),
    ],
)
def test_a_script_that_workers_would_import_gets_none(monkeypatch, module, file, expected):
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda allow_none: "spawn")
    main = SimpleNamespace(__spec__=module and SimpleNamespace(name=module), __file__=file)
    monkeypatch.setitem(sys.modules, "__main__", main)
    assert loading_workers(None, 8) == expected and loading_workers(3, 8) == 3
