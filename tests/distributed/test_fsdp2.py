"""Two processes that shard a teacher with FSDP2 compute what one process does, and leave the same files.

On CPUs: `fsdp_worker.py` makes accelerate believe that it has GPUs; everything after that, from the shipped
configuration on, is what runs on them, but for NCCL in the place of gloo.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file

from hf_icckd import ImagePipeline, create_classifier, from_pretrained, load_image_data, predict_split
from tests import ROOT
from tests.forks import Forks

WORKER = Path(__file__).with_name("fsdp_worker.py")
LAUNCH = ["-m", "accelerate.commands.launch", "--config_file", ROOT / "recipes" / "accelerate" / "fsdp2.yaml"]
RUNS = ["conv", "sgd x2", "sgd", "cut", "resumed", "adamw", "adamw resumed", "best", "best resumed"]


def run(forks: Forks, folder: Path, processes: int, *more: object) -> list[dict]:
    words = [*(LAUNCH if processes > 1 else []), WORKER, folder, *more]
    done = forks.run(words, cwd=ROOT, env=forks.environment | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(processes)]


@pytest.fixture(scope="module")
def results(forks, tmp_path_factory):
    """Results of one process, of two that shard, and of one that resumes the checkpoint of the two."""
    folder = tmp_path_factory.mktemp("fsdp2")
    one = run(forks, folder / "1", 1)[0]
    two = run(forks, folder / "2", 2, folder / "1" / "cut" / "checkpoint-3")
    back = run(forks, folder / "back", 1, folder / "2" / "cut" / "checkpoint-3", "only")[0]
    return {"one": one, "two": two, "back": back, "folder": folder}


def assert_close(expected: dict, actual: dict, rtol: float = 1e-9, atol: float = 1e-9) -> None:
    """Bit for bit with a tolerance of 0."""
    for part, values in expected.items():
        assert values.keys() == actual[part].keys()
        for name, value in values.items():
            torch.testing.assert_close(
                actual[part][name], value, rtol=rtol, atol=atol, msg=lambda m, n=name, p=part: f"{p} {n}: {m}"
            )


@pytest.mark.parametrize("name", RUNS)
def test_sharded_equals_one_process(results, name):
    """Weights, optimiser, cache, terms of every step, outputs before and after training."""
    assert_close(results["one"][name], results["two"][0][name])


def test_the_runs_tested_something(results):
    assert results["two"][0]["shards"] == [44, 44]
    assert results["one"]["shards"] == [0, 44]
    assert results["two"][0]["sgd"]["terms"]["loss/intra_class"].max() > 0.1
    logits = results["two"][0]["sgd"]["logits"]
    assert not torch.allclose(logits["before"], logits["after"], atol=0.1)


def test_caches_and_outputs_are_identical_on_all_processes(results):
    first, second = results["two"]
    for name in [*RUNS, "bf16", "other"]:
        for part in ("cache", "logits", "terms"):
            assert_close({part: first[name][part]}, second[name], 0, 0)


@pytest.mark.parametrize(
    ("whole", "resumed"), [("sgd", "resumed"), ("adamw", "adamw resumed"), ("best", "best resumed")]
)
def test_a_sharded_run_goes_on_bit_for_bit(results, whole, resumed):
    whole, resumed = (results["two"][0][name] for name in (whole, resumed))
    for part in ("weights", "moments", "cache", "terms"):
        assert_close({part: whole[part]}, resumed, 0, 0)


def test_the_best_weights_are_kept_and_not_the_last(results):
    for each in (results["one"], results["two"][0]):
        assert each["best step"] in (3, 6)
        best, last = (each[name]["weights"]["net.head.weight"] for name in ("best", "sgd"))
        assert not torch.allclose(best, last)


def test_any_goes_on_with_a_checkpoint_of_any_other(results):
    """Two processes that shard resume the checkpoint of one that does not, and the other way round."""
    for other in (results["two"][0]["other"], results["back"]["other"]):
        assert_close({key: value for key, value in results["one"]["sgd"].items() if key != "logits"}, other)


def test_sharded_equals_ddp_bit_for_bit(results):
    """With BatchNorm, in float32."""
    for each in results["two"]:
        assert_close({"terms": each["ddp"]["terms"], "cache": each["ddp"]["cache"]}, each["sharded"], 0, 0)
    assert_close(results["two"][0]["ddp"], results["two"][0]["sharded"], 0, 0)


def test_checkpoints_are_those_of_one_process(results):
    one, two = (results["folder"] / name / "adamw" / "checkpoint-3" for name in ("1", "2"))
    assert sorted(path.name for path in one.iterdir()) == sorted(path.name for path in two.iterdir())
    weights = [{"weights": load_file(path / "model.safetensors")} for path in (one, two)]
    assert_close(*weights)
    first, second = (torch.load(path / "optimizer.pt", weights_only=True) for path in (one, two))
    assert first["param_groups"] == second["param_groups"]
    assert_close(first["state"], second["state"])


def test_half_precision_is_that_of_one_process(results):
    """Weights and evaluation stay float32; bf16 in between rounds differently in other batches."""
    one, two = results["one"]["bf16"], results["two"][0]["bf16"]
    assert_close({key: one[key] for key in ("weights", "logits")}, two, rtol=0.05, atol=0.01)
    assert {value.dtype for value in two["weights"].values()} == {torch.float32}
    for each in (one, two):
        assert not torch.equal(each["logits"]["after"], each["logits"]["after"].bfloat16().float())


def test_all_end_with_the_one_that_fails(results):
    first, second = (each["full disk"] for each in results["two"])
    assert "the checkpoint of step 3 can't be written" in first and "No space left on device" in first
    assert "see process 0" in second
    first, second = (each["not finite"] for each in results["two"])
    assert first.startswith("a weight of another process is not finite after step 3")
    assert second.startswith("net.blocks.0.mlp.fc1.weight is not finite after step 3")
    assert not (results["folder"] / "2" / "poisoned").exists()


def test_the_export_is_whole_and_the_recipe_ends(results):
    weights = load_file(results["folder"] / "2" / "exported" / "model.safetensors")
    assert_close(
        {"weights": results["one"]["adamw"]["weights"]}, {"weights": {f"net.{k}": v for k, v in weights.items()}}
    )
    folder = results["folder"] / "2" / "recipe"
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md", "all_args.yaml", "config.json", "data_report.txt", "embedding_map.png", "image_hashes.npz",
        "metrics.json", "model.safetensors",
        "reliability.png", "soft_labels.png", "training_curves.png",
    ]  # fmt: skip
    net = timm.create_model(f"local-dir:{folder}", pretrained=True)
    assert sum(parameter.numel() for parameter in net.parameters()) == 272_474
    figures = json.loads((folder / "metrics.json").read_text())
    assert figures["cost"]["parameters"] == 272_474
    assert figures["environment"]["processes"] == 2
    data = load_image_data("digits", max_train_samples=151, max_eval_samples=41)
    logits, _, labels, _ = predict_split(from_pretrained(folder), ImagePipeline(data).dataset("test"))
    top1 = 100 * (logits.argmax(dim=1) == labels).double().mean().item()
    assert figures["test"]["top1"] == pytest.approx(top1)
    assert (
        0 < figures["train"]["unread_variance"] < figures["train"]["unread_variance_graded"] < 1
    )  # of shards: the whole layer


def test_compiled_nets_are_refused(results):
    assert results["one"]["compiled"] == ""
    for each in results["two"]:
        assert "torch_compile is true, expected false with FSDP" in each["compiled"]


@pytest.mark.parametrize(
    ("architecture", "blocks"),
    [
        ("resnet26", ["Bottleneck"]),
        ("vit_tiny_patch16_224", ["Block"]),
        ("convnext_atto", ["ConvNeXtBlock", "ConvNeXtStage"]),
        ("regnety_002", ["Bottleneck"]),
        ("cifar_resnet8", []),
    ],
)
def test_the_net_says_which_blocks_it_repeats(architecture, blocks):
    assert create_classifier(architecture, ["a", "b"])._no_split_modules == blocks
