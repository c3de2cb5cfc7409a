"""Two and four real processes compute what one does: losses, weights, cache, evaluation."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hf_icckd import ImagePipeline, create_classifier, load_image_data, predict_split
from tests.forks import Forks

WORKER = Path(__file__).with_name("worker.py")
RUNS = [
    f"{name} x{accumulation}"
    for name in (
        "intra_class",
        "sftn",
        "kd",
        "kd+rkd",
        "others",
        "recorded",
        "crossed",
        "mixed",
        "unlabeled",
        "alone",
        "weighted",
        "sampled",
        "ce",
        "frozen",
        "probe",
    )
    for accumulation in (1, 2)
]


def run(forks: Forks, folder: Path, processes: int, *more: object) -> list[dict]:
    for done in forks.run_processes([WORKER, folder, processes, *more], processes):
        assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(processes)]


@pytest.fixture(scope="module")
def results(forks, tmp_path_factory):
    """Results by number of processes; one process leaves a checkpoint that the others resume."""
    folder = tmp_path_factory.mktemp("world")
    one = run(forks, folder / "1", 1)
    checkpoint = folder / "1" / "stopped" / "checkpoint-3"
    return {1: one, 2: run(forks, folder / "2", 2, checkpoint), 4: run(forks, folder / "4", 4, checkpoint)}


def assert_close(one: dict, other: dict) -> None:
    assert one.keys() == other.keys()
    for part, values in one.items():
        assert values.keys() == other[part].keys()
        for name, value in values.items():
            found = other[part][name]
            if found.shape == value.shape and torch.allclose(found, value, rtol=1e-9, atol=1e-9):
                continue  # what follows takes ten times as long
            torch.testing.assert_close(
                found, value, rtol=1e-9, atol=1e-9, msg=lambda m, n=name, p=part: f"{p} {n}: {m}"
            )


@pytest.mark.parametrize("world", [2, 4])
@pytest.mark.parametrize("name", RUNS)
def test_many_processes_equal_one(results, world, name):
    for each in results[world]:
        assert_close(results[1][0][name], each[name])


@pytest.mark.parametrize("world", [1, 2, 4])
@pytest.mark.parametrize("name", ["ce", "kd", "mixed", "unlabeled", "alone", "weighted", "sampled", "frozen", "probe"])
def test_two_micro_batches_equal_one_batch(results, world, name):
    """For the terms that are means over images. The others compare images: there the micro-batch is what they see."""
    one, two = (results[world][0][f"{name} x{accumulation}"]["weights"] for accumulation in (1, 2))
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("world", [2, 4])
def test_all_processes_fit_one_head(results, world):
    for each in results[world]:
        for name, value in results[world][0]["fitted"].items():
            assert torch.equal(each["fitted"][name], value), name
            torch.testing.assert_close(value, results[1][0]["fitted"][name], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("world", [2, 4])
def test_caches_of_all_processes_are_identical(results, world):
    for run_name in ("intra_class x1", "intra_class x2", "resumed"):
        for each in results[world][1:]:
            for name, value in results[world][0][run_name]["cache"].items():
                assert torch.equal(value, each[run_name]["cache"][name]), (run_name, name)


@pytest.mark.parametrize("world", [1, 2, 4])
def test_figures_need_no_more_than_a_batch_at_a_time(results, world):
    for each in results[world]:
        figures = each["figures"]
        of_classes = {"balanced_accuracy", "macro_f1", "lowest_recall"}
        assert figures.keys() == {"top1", "top5", "nll", "ece", "agreement", "kl_to_teacher"} | of_classes
        for name, (whole, measured) in figures.items():
            assert measured == pytest.approx(whole, rel=1e-12), name
            assert measured == pytest.approx(results[1][0]["figures"][name][0], rel=1e-6), name


def test_the_runs_tested_something(results):
    terms = results[1][0]["intra_class x1"]["terms"]
    assert len(terms["loss/ce"]) == 20
    assert terms["loss/intra_class"].max() > 0.1
    assert 0 < terms["gated_fraction"].mean() < 1
    assert terms["loss/cmi"][:5].abs().max() == 0 and terms["loss/cmi"][5:].max() < 0
    assert results[1][0]["sftn x1"]["terms"]["loss/branch_kl"].min() > 0
    assert results[1][0]["kd+rkd x1"]["terms"]["loss/rkd_angle"].min() > 0
    # An accumulated intra-class term is another one: its negatives in the batch are those of the micro-batch.
    assert not torch.allclose(terms["loss/intra_class"], results[1][0]["intra_class x2"]["terms"]["loss/intra_class"])


@pytest.mark.parametrize("world", [1, 2, 4])
def test_one_process_stops_all(results, world):
    assert [each["stopped at"] for each in results[world]] == [3] * world


@pytest.mark.parametrize("world", [1, 2, 4])
def test_another_number_of_processes_goes_on(results, world):
    """All resume the checkpoint that one process wrote, and end like a run that was never stopped."""
    for each in results[world]:
        assert_close(results[1][0]["intra_class x1"], each["resumed"])
        assert len(each["losses"]) == 20
        assert each["losses"] == pytest.approx(results[1][0]["losses"], rel=1e-5)


@pytest.mark.parametrize("world", [1, 2, 4])
def test_the_same_weights_are_kept(results, world):
    """Also by those that resume a checkpoint of one process."""
    one = results[1][0]["kept"]
    assert one["choice"]["step"] < one["end"]["step"] < 20  # stopped early
    for each in results[world]:
        assert_close(one, each["kept"])
        assert_close(one, each["kept again"])


@pytest.mark.parametrize("world", [2, 4])
def test_evaluation_loses_and_doubles_no_image(results, world):
    one = results[1][0]["logits"]
    assert len(one) == 41
    for each in results[world]:
        torch.testing.assert_close(each["logits"], one, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("world", [2, 4])
def test_evaluation_is_that_of_the_saved_model(results, world):
    """Every process has BatchNorm statistics of its own while training; all must evaluate with those of the first."""
    first, *others = (result["normalised"] for result in results[world])
    assert any(not torch.equal(value, others[0]["state"][name]) for name, value in first["state"].items())
    data = load_image_data("digits", max_train_samples=151, max_eval_samples=41)
    model = create_classifier("cifar_resnet8", data.label_names, image_size=8)
    model.load_state_dict(first["state"])
    alone = predict_split(model, ImagePipeline(data).dataset("test")).logits
    for each in (first, *others):
        torch.testing.assert_close(each["logits"], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("world", [1, 2, 4])
def test_processes_agree_or_fail_at_once(results, world):
    for rank, each in enumerate(results[world]):
        same, different = each["check_equal"]
        assert same == ""
        assert ("process 1 has data 'y', process 0 'x'; start all processes with the same" in different) == (world > 1)
        result, refused, left = each["on_first_rank"]
        assert result == {"rank": 0}
        assert refused == ("only process 0 can know" if rank == 0 else "exit 1")
        assert left == ("exit error: one line" if rank == 0 else "exit 1")
        assert each["any_rank"] == [False, True]
        assert each["exit_code"] == 138


def test_announced_processes_must_exist(forks, tmp_path):
    words = ["-m", "hf_icckd.teacher", "--output_dir", tmp_path / "run"]
    done = forks.run(words, env=forks.environment | {"WORLD_SIZE": "2"})
    assert done.returncode != 0
    assert "WORLD_SIZE is 2 but RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT are not set" in done.stderr
