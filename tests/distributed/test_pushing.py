"""Of two processes that train, sharded or not, one talks to the Hub; what it is refused ends both."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_multi_gpu_env

from tests import ROOT
from tests.hub.hub_server import WRITER
from tests.hub.test_push import RUN

OPTIONS = [
    "--max_train_samples", "160", "--max_eval_samples", "40", "--model", "cifar_resnet8", "--max_steps", "2",
    "--disable_tqdm", "true", "--num_threads", "1", "--use_cpu", "true", "--eval_strategy", "no",
    "--ddp_timeout", "60", "--save_strategy", "steps", "--save_steps", "1", "--push_to_hub", "true",
]  # fmt: skip


def sharding() -> dict[str, str]:
    """What accelerate makes of the configuration that shards."""
    words = ["--config_file", str(ROOT / "recipes" / "accelerate" / "fsdp2.yaml"), "recipes/teacher.py"]
    args, _, _ = _validate_launch_command(launch_command_parser().parse_args(words))
    return {
        name: value for name, value in prepare_multi_gpu_env(args).items() if name.startswith(("ACCELERATE_", "FSDP_"))
    }


PROGRAMS = {
    "ddp": (["-m", "hf_icckd.teacher"], dict),
    "fsdp2": ([Path(__file__).with_name("fsdp_teacher.py")], sharding),
}


@pytest.mark.parametrize("kind", PROGRAMS)
def test_one_process_pushes(hub, hub_forks, tmp_path, kind):
    def train(folder: str, repo_id: str, token: str) -> list[subprocess.CompletedProcess]:
        program, environment = PROGRAMS[kind]
        words = [*program, *OPTIONS, "--output_dir", tmp_path / folder, "--hub_model_id", repo_id]
        env = hub_forks.environment | environment() | {"HF_TOKEN": token}
        return hub_forks.run_processes(words, 2, cwd=ROOT, env=env, timeout=120)

    repo_id, other = f"me/pair-{kind}", f"me/refused-{kind}"
    for done in train("run", repo_id, WRITER):
        assert done.returncode == 0, done.stderr[-3000:]
    (commit,) = hub.repos[repo_id].commits
    asked = Counter(operation for operation, repo in hub.requests if repo == repo_id)
    # Once before training, once for the push.
    assert asked["check"] == 1 and asked["commit"] == 1 and asked["create"] == 2
    assert set(commit.files) == RUN
    assert commit.files["model.safetensors"] == (tmp_path / "run" / "model.safetensors").read_bytes()

    refused = train("other", other, "hf_nobody")
    assert [done.returncode for done in refused] == [1, 1]
    said = "".join(done.stderr for done in refused)
    assert len(re.findall(rf"^error: nothing could be pushed to {other}.*401", said, re.MULTILINE)) == 1
    assert not (tmp_path / "other").exists()
