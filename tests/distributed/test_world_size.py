"""Two real processes compute what one does: losses, weights, cache, evaluation."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hf_icckd import ImagePipeline, create_classifier, load_image_data, predict_split

WORKER = Path(__file__).with_name("worker.py")


def run(folder: Path, processes: int) -> list[dict]:
    folder.mkdir()
    launcher = (
        ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"] if processes > 1 else []
    )
    done = subprocess.run(
        [sys.executable, *launcher, WORKER, folder, str(processes)],
        capture_output=True,
        text=True,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(processes)]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    return run(folder / "one", 1), run(folder / "two", 2)


@pytest.mark.parametrize("what", ["teacher", "student", "cache", "logs"])
def test_two_processes_equal_one(results, what):
    (one,), two = results
    assert one[what]
    for name, value in one[what].items():
        for each in two:
            torch.testing.assert_close(
                each[what][name], value, rtol=1e-9, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}"
            )


def test_caches_of_all_processes_are_identical(results):
    for name, value in results[1][0]["cache"].items():
        assert torch.equal(value, results[1][1]["cache"][name]), name


def test_the_run_tested_something(results):
    logs = results[0][0]["logs"]
    assert logs["teacher/loss/intra_class"].max() > 0.1
    assert 0 < logs["teacher/gated_fraction"].mean() < 1
    assert logs["student/loss/rkd_angle"].min() > 0


def test_evaluation_loses_and_doubles_no_image(results):
    (one,), two = results
    assert len(one["logits"]["test"]) == 41
    for each in two:
        torch.testing.assert_close(each["logits"]["test"], one["logits"]["test"], rtol=1e-5, atol=1e-6)


def test_evaluation_is_that_of_the_saved_model(results):
    """Every process has BatchNorm statistics of its own while training; all must evaluate with those of the first."""
    first, second = (result["normalised"] for result in results[1])
    assert any(not torch.equal(value, second["state"][name]) for name, value in first["state"].items())
    data = load_image_data("digits", max_train_samples=151, max_eval_samples=41)
    model = create_classifier("cifar_resnet8", data.label_names, image_size=8)
    model.load_state_dict(first["state"])
    alone = predict_split(model, ImagePipeline(data).dataset("test")).logits
    for each in (first, second):
        torch.testing.assert_close(each["logits"], alone, rtol=1e-4, atol=1e-5)


def test_announced_processes_must_exist(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "hf_icckd.teacher", "--output_dir", tmp_path / "run"],
        capture_output=True,
        text=True,
        env=os.environ | {"WORLD_SIZE": "2", "CUDA_VISIBLE_DEVICES": ""},
        timeout=120,
    )
    assert done.returncode != 0
    assert "WORLD_SIZE is 2 but RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT are not set" in done.stderr
