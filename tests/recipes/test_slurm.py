"""The SLURM script, with programs in place of SLURM's: what each task is started as, and when it is queued again."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests import ROOT

SCRIPT = ROOT / "recipes" / "slurm.sh"
SRUN = """#!/bin/bash
while [[ $1 == --* ]]; do shift; done
for task in 0 1; do SLURM_PROCID=$task SLURM_LOCALID=$task "$@"; code=$?; done
exit $code
"""
SCONTROL = """#!/bin/bash
if [ "$1" = show ]; then printf 'node7\\nnode8\\n'; else echo "scontrol $*"; fi
"""
PYTHON = """#!/bin/bash
echo "rank $RANK of $WORLD_SIZE, $LOCAL_RANK of $LOCAL_WORLD_SIZE, $MASTER_ADDR:$MASTER_PORT, $OMP_NUM_THREADS: $*"
exit $ENDS_WITH
"""


def run(tmp_path, code: int, *words: str) -> subprocess.CompletedProcess:
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL), ("python", PYTHON)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_NODELIST": "node[7-8]", "SLURM_JOB_ID": "12",
        "SLURM_NTASKS": "2", "SLURM_NNODES": "1", "SLURM_CPUS_PER_TASK": "8", "ENDS_WITH": str(code),
    }  # fmt: skip
    return subprocess.run(["bash", SCRIPT, *words], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("code", "again"), [(0, False), (1, False), (3, False), (138, True), (143, False)])
def test_a_job_that_was_warned_is_queued_again(tmp_path, code, again):
    done = run(tmp_path, code, "teacher", "--output_dir", "runs/a b")
    assert done.returncode == code, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:2] == [
        f"rank {rank} of 2, {rank} of 2, node7:20012, 8: -m hf_icckd.teacher --output_dir runs/a b" for rank in (0, 1)
    ]
    assert lines[2:] == (["scontrol requeue 12"] if again else [])


def test_without_words_it_says_how_it_is_used(tmp_path):
    done = run(tmp_path, 0)
    assert done.returncode == 2 and "usage: sbatch" in done.stderr


def test_it_parses_and_asks_for_the_warning():
    subprocess.run(["bash", "-n", SCRIPT], check=True)
    assert "#SBATCH --signal=USR1@" in SCRIPT.read_text() and "#SBATCH --requeue" in SCRIPT.read_text()
