"""Memory that a training step frees is there for the next one, without the system, and not in loading workers."""

from __future__ import annotations

import os
import platform

import pytest

from hf_icckd.utils import machine
from hf_icckd.utils.machine import missing_compiler

PROGRAM = """
import resource, sys
import torch
from hf_icckd.utils.machine import keep_freed_memory

def step():
    return sum(torch.ones(10 * 2**20).sum() for _ in range(4))  # 40 MiB each, freed at once

done = len(sys.argv) > 1 and keep_freed_memory()
for _ in range(5):  # small blocks settle between the large ones, which then lie elsewhere once or twice
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(done, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


FORKED = """
import psutil, torch
from hf_icckd.data.loading import _CONTEXTS
from hf_icckd.utils.machine import keep_freed_memory

def tell(queue):
    queue.put(psutil.Process().memory_info().rss)

assert keep_freed_memory()
blocks = [torch.ones(2**18) for _ in range(256)]  # 256 MiB
between = [torch.ones(2**8) for _ in range(256)]  # so that the end of the heap is in use
del blocks
kept = psutil.Process().memory_info().rss
context = _CONTEXTS["fork"]()
queue = context.Queue()
worker = context.Process(target=tell, args=(queue,))
worker.start()
print(kept - queue.get(timeout=60))
worker.join()
"""

of_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left alone")


def run(forks, program: str, *words: str, **environment: str) -> list[str]:
    """The allocator reads the environment when a process starts: forks have that of the tests."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = forks.run(["-c", program, *words], env=plain | environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def faults(forks, *words: str, **environment: str) -> tuple[str, int]:
    kept, count = run(forks, PROGRAM, *words, **environment)
    return kept, int(count)


@of_glibc
def test_freed_blocks_are_used_again(forks):
    kept, count = faults(forks, "keep")
    # Otherwise 20 blocks of 10,240 pages of 4 KiB, unless the system hands out larger ones. Behind a small block,
    # one of them may still move.
    assert kept == "True" and 4 * count < faults(forks)[1]


@of_glibc
def test_workers_hold_none_of_the_memory_that_training_has_freed(forks):
    assert int(run(forks, FORKED)[0]) > 200 * 2**20


def test_what_a_user_has_set_stays(forks):
    assert faults(forks, "keep", MALLOC_TRIM_THRESHOLD_="1000000")[0] == "False"


@pytest.mark.parametrize(
    ("device", "there", "variables", "missing"),
    [
        ("cpu", ["g++"], {}, ""),
        ("cpu", ["gcc"], {}, "g++"),
        ("cpu", ["g++"], {"CXX": "icpx"}, "icpx"),
        ("cpu", ["ccache"], {"CXX": "ccache g++"}, ""),
        ("cuda", ["clang"], {}, ""),
        ("cuda", ["g++"], {}, "gcc or clang"),
    ],
)
def test_a_missing_compiler_is_named(tmp_path, monkeypatch, device, there, variables, missing):
    for name in there:
        (tmp_path / name).touch(mode=0o755)
    for name in ("CC", "CXX"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")
    assert missing_compiler(device) == missing


def test_what_is_free_is_that_of_the_container(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    whole = machine.free_memory()
    assert whole > 2**20
    for name, text in (
        ("memory.max", "1000000\n"),
        ("memory.current", "700000\n"),
        ("memory.stat", "anon 9\ninactive_file 50000\n"),
    ):
        (tmp_path / name).write_text(text)
    assert machine.free_memory() == 350_000
    (tmp_path / "memory.max").write_text("max\n")  # none
    assert machine.free_memory() > 2**20
