"""Memory that a training step frees is there for the next one, without the system."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import torch
from hf_icckd.allocator import keep_freed_memory

def step():
    return sum(torch.ones(10 * 2**20).sum() for _ in range(4))  # 40 MiB each, freed at once

done = len(sys.argv) > 1 and keep_freed_memory()
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(done, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(*words: str, **environment: str) -> tuple[str, int]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words], capture_output=True, text=True, check=True, env=plain | environment
    )
    kept, count = done.stdout.split()
    return kept, int(count)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left alone")
def test_freed_blocks_are_used_again():
    kept, count = faults("keep")
    assert kept == "True" and count <= 2 * 10_240
    # 20 blocks of 10,240 pages of 4 KiB, unless the system hands out larger ones.
    assert faults()[1] > 5 * count


def test_what_a_user_has_set_stays():
    assert faults("keep", MALLOC_TRIM_THRESHOLD_="1000000")[0] == "False"
