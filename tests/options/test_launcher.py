"""How many CPU threads a process takes, and why."""

from __future__ import annotations

import pytest

from hf_icckd.options.launcher import threads_per_process


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
