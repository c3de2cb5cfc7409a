"""Of two processes that train, sharded or not, one talks to the Hub; what it is refused ends both."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests import ROOT
from tests.distributed.test_fsdp2 import LAUNCH
from tests.hub.hub_server import serve
from tests.hub.test_push import RUN

OPTIONS = [
    "--max_train_samples", "160", "--max_eval_samples", "40", "--model", "cifar_resnet8", "--max_steps", "2",
    "--disable_tqdm", "true", "--num_threads", "1", "--use_cpu", "true", "--eval_strategy", "no",
    "--ddp_timeout", "60", "--save_strategy", "steps", "--save_steps", "1", "--push_to_hub", "true",
    "--hub_strategy", "every_save",
]  # fmt: skip


LAUNCHES = {
    "ddp": ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "hf_icckd.teacher"],
    "fsdp2": [*LAUNCH, Path(__file__).with_name("fsdp_teacher.py")],
}


def train(launch: str, environment: dict[str, str], folder: Path, repo_id: str) -> subprocess.CompletedProcess:
    command = [sys.executable, *LAUNCHES[launch], *OPTIONS, "--output_dir", folder, "--hub_model_id", repo_id]
    environment = environment | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("launch", LAUNCHES)
def test_one_process_pushes(tmp_path, launch):
    with serve() as hub:
        done = train(launch, hub.environment(tmp_path / "home"), tmp_path / "run", "me/pair")
        assert done.returncode == 0, done.stderr[-3000:]
        commits = hub.repos["me/pair"].commits
        assert commits[0].message == "Step 1" and len(commits) > 1
        asked = Counter(operation for operation, _ in hub.requests)
        # Once before training, once for each push.
        assert asked["check"] == 1 and asked["commit"] == len(commits) and asked["create"] == 1 + len(commits)
        assert set(commits[-1].files) == RUN
        assert commits[-1].files["model.safetensors"] == (tmp_path / "run" / "model.safetensors").read_bytes()

        refused = train(launch, hub.environment(tmp_path / "home", "hf_nobody"), tmp_path / "other", "me/other")
        assert refused.returncode == 1
        assert len(re.findall(r"^error: nothing could be pushed to me/other.*401", refused.stderr, re.MULTILINE)) == 1
        assert not list((tmp_path / "other").iterdir())
