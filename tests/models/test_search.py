"""Which architectures there are, and what is known of them without their weights."""

from __future__ import annotations

import json

import pytest
import timm

from hf_icckd import find_models
from hf_icckd.models import search
from hf_icckd.models.search import Architecture, find_architectures
from hf_icckd.options.command_line import UserError


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setattr(search, "HF_HOME", str(tmp_path))
    return tmp_path


def test_they_are_those_of_timm_and_ours_with_their_parameters():
    found = {each.name: each for each in find_architectures("*resnet20*")}
    assert found["cifar_resnet20"] == Architecture("cifar_resnet20", 278_324, (32, 32), {})
    (resnet18,) = find_architectures("resnet18")
    net = timm.create_model("resnet18")
    assert resnet18.parameters == sum(each.numel() for each in net.parameters())
    assert resnet18.image_size == (224, 224)
    assert next(iter(resnet18.licences)) == timm.get_pretrained_cfg("resnet18").tag
    assert (
        resnet18.licences["a1_in1k"] == "apache-2.0" and resnet18.licences["fb_ssl_yfcc100m_ft_in1k"] == "cc-by-nc-4.0"
    )


@pytest.mark.parametrize(
    "name", ["vit_tiny_patch16_224", "mobilenetv3_small_050", "convnext_atto", "swin_tiny_patch4_window7_224"]
)
def test_counting_without_values_gives_the_number(name):
    assert search._count(name) == sum(each.numel() for each in timm.create_model(name).parameters())


def test_they_are_counted_once(home, monkeypatch):
    first = find_architectures("cifar_*")
    (kept,) = (home / "hf_icckd").iterdir()
    assert json.loads(kept.read_text())["cifar_resnet8"] == first[-1].parameters
    monkeypatch.setattr(search, "_count", None)
    assert find_architectures("cifar_*") == first
    assert [each.name for each in find_architectures("cifar_resnet*", high=300_000)] == [
        "cifar_resnet20",
        "cifar_resnet14",
        "cifar_resnet8",
    ]
    assert find_architectures("cifar_*", pretrained_only=True) == []


def test_a_damaged_cache_is_counted_again(home):
    first = find_architectures("cifar_wrn_*")
    (kept,) = (home / "hf_icckd").iterdir()
    kept.write_text("{")
    assert find_architectures("cifar_wrn_*") == first


def test_the_table_fits_a_terminal(capsys):
    find_models.main(["--pattern", "vit_tiny_*", "--task", "teacher"])
    lines = capsys.readouterr().out.strip().splitlines()
    assert max(map(len, lines)) <= 100 and "fair-noncommercial-research-license" in " ".join(lines)
    find_models.main(["resnet18"])
    text = capsys.readouterr().out
    assert "fb_ssl_yfcc100m_ft_in1k, cc-by-nc-4.0" in text and "11.7 M" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--max_params", "5x"], "max_params is '5x', expected a number of parameters such as 5M or 800K"),
        (["--max_params", "0M"], "max_params is '0M', expected a number of parameters"),
        (["--max_params", "1K", "--min_params", "2K"], "min_params is 2K but max_params 1K, expected no more"),
        (["--pattern", "resnat*"], r"pattern is 'resnat\*', which no architecture fits"),
        (["--pattern", "cifar_*", "--max_params", "10"], "no architecture fits; allow more parameters"),
    ],
)
def test_wrong_options_end_in_one_line(words, message):
    with pytest.raises(UserError, match=f"^error: {message}"):
        find_models.main(words)
