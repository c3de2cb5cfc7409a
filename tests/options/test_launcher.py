"""How many CPU threads a process takes, and why; how many processes decode for it."""

from __future__ import annotations

import multiprocessing
import shutil
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


@pytest.fixture(autouse=True)
def much_shared_memory(monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=8 * 2**30))


def test_workers_are_one_less_than_the_cores_of_a_process(monkeypatch):
    monkeypatch.setattr(multiprocessing, "get_context", lambda: SimpleNamespace(get_start_method=lambda: "fork"))
    assert loading_workers(None, 8) == 7 and loading_workers(None, 1) == 0
    assert loading_workers(0, 8) == 0 and loading_workers(20, 8) == 20
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert loading_workers(None, 8) == 1 and loading_workers(None, 2) == 0
    assert loading_workers(None, 512) == 8  # a quarter of the shared memory
    monkeypatch.delenv("LOCAL_WORLD_SIZE")
    assert loading_workers(None, 512) == 16
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=64 * 2**20))  # a container of Docker's
    assert loading_workers(None, 8) == 0 and loading_workers(4, 8) == 4


@pytest.mark.parametrize(
    ("module", "file", "expected"),
    [
        (None, "/home/me/train.py", 0),
        ("train", "/home/me/train.py", 0),
        ("hf_icckd.student", "/env/hf_icckd/student.py", 7),
        (None, "/env/bin/hf-icckd", 7),
        (None, "recipes/teacher.py", 7),
        (None, None, 0),
    ],
)
def test_a_script_that_workers_would_import_gets_none(monkeypatch, module, file, expected):
    monkeypatch.setattr(multiprocessing, "get_context", lambda: SimpleNamespace(get_start_method=lambda: "spawn"))
    main = SimpleNamespace(__spec__=module and SimpleNamespace(name=module), __file__=file)
    monkeypatch.setitem(sys.modules, "__main__", main)
    assert loading_workers(None, 8) == expected and loading_workers(3, 8) == 3
