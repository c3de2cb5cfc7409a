"""Each recipe for a data set of the literature starts, on a small copy with the columns and splits of the Hub's."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import yaml
from datasets import ClassLabel, Dataset, Features, Image
from PIL import Image as Pictures

from hf_icckd import plan, student, teacher
from hf_icckd.options.command_line import UserError
from hf_icckd.options.pairs import PAIRS
from tests import ROOT

CONFIGS = ROOT / "recipes" / "configs"
ROWS = 20
COPIES = {  # image column, label columns, splits, pixels
    "cifar10": ("img", ["label"], ["train", "test"], 32),
    "cifar100": ("img", ["fine_label", "coarse_label"], ["train", "test"], 32),
    "tiny-imagenet": ("image", ["label"], ["train", "valid"], 64),
    "imagenet": ("image", ["label"], ["train", "validation", "test"], 72),
}


def copy_of(name, folder):
    """Write the parquet files of a data set, as the Hub has them; ImageNet's test split has no labels."""
    image, labels, splits, pixels = COPIES[name]
    features = Features({image: Image(), **{each: ClassLabel(names=["cat", "dog"]) for each in labels}})
    generator = np.random.default_rng(0)
    (folder / "data").mkdir(parents=True)
    for split in splits:
        known = not (name == "imagenet" and split == "test")
        columns = {
            each: [row // (number + 1) % 2 if known else -1 for row in range(ROWS)]
            for number, each in enumerate(labels)
        }
        pictures = [
            Pictures.fromarray(generator.integers(0, 256, (pixels, pixels, 3), dtype=np.uint8)) for _ in range(ROWS)
        ]
        rows = Dataset.from_dict({image: pictures, **columns}, features=features)
        rows.to_parquet(folder / "data" / f"{split}-00000-of-00001.parquet")
    return folder


SHORT = [
    "--max_steps", "2", "--per_device_train_batch_size", "4", "--disable_tqdm", "true", "--rehearsal", "false",
    "--bf16", "false",
]  # fmt: skip
SMALL = {  # nets and sizes that take a second
    "cifar10": [],
    "cifar100": ["--pair", "wrn_40_1-wrn_16_1"],
    "tiny-imagenet": ["--pair", "vgg13-vgg8"],
    "imagenet": ["--image_size", "64", "--dataloader_num_workers", "0"],
}


@pytest.mark.parametrize("name", COPIES)
def test_recipes_start(name, tmp_path):
    data = ["--dataset", str(copy_of(name, tmp_path / "data")), *SHORT]
    small = SMALL[name]
    config = str(CONFIGS / name)
    teacher.main([f"{config}/teacher.yaml", *data, *small, "--output_dir", f"{tmp_path}/teacher"])
    distilling = ["--teacher", f"{tmp_path}/teacher", "--accept_teacher", "true"]
    student.main([f"{config}/student.yaml", *data, *small, *distilling, "--output_dir", f"{tmp_path}/student"])
    metrics = json.loads((tmp_path / "student" / "metrics.json").read_text())
    assert metrics["test"]["images"] == ROWS and metrics["training"]["step"] == 2
    recorded = yaml.safe_load((tmp_path / "student" / "all_args.yaml").read_text())
    schedule = yaml.safe_load((CONFIGS / name / "student.yaml").read_text())
    assert recorded["lr_milestones"] == schedule["lr_milestones"]
    if name == "tiny-imagenet":
        assert metrics["model"]["architecture"] == "cifar_vgg8"
        assert json.loads((tmp_path / "student" / "config.json").read_text())["model_args"] == {"img_size": 64}


@pytest.mark.parametrize("kind", ["streamed", "folder"])
def test_imagenet_starts_as_a_stream_and_from_a_folder(kind, tmp_path, monkeypatch, caplog):
    data = copy_of("imagenet", tmp_path / "data")
    words = ["--streaming", "true"]
    if kind == "folder":
        for split in ("train", "validation"):
            rows = Dataset.from_parquet(
                str(data / "data" / f"{split}-00000-of-00001.parquet"), cache_dir=str(tmp_path)
            )
            for number, row in enumerate(rows):
                file = tmp_path / "folder" / split / "ab"[row["label"]] / f"{number}.jpg"
                file.parent.mkdir(parents=True, exist_ok=True)
                row["image"].save(file)
        data, words = tmp_path / "folder", []
    monkeypatch.setattr(plan, "_LONG", 8)
    words += ["--dataset", str(data), *SHORT, *SMALL["imagenet"], "--model", "resnet10t"]
    teacher.main([f"{CONFIGS}/imagenet/teacher.yaml", *words, "--output_dir", f"{tmp_path}/teacher"])
    assert json.loads((tmp_path / "teacher" / "metrics.json").read_text())["test"]["images"] == ROWS
    (said,) = [each.getMessage() for each in caplog.records if "of training; memory: about" in each.getMessage()]
    assert re.fullmatch(r"about \d+ seconds? of training; .* MB for a step, .* free; disk: up to .* free", said)


def test_cifar100_without_the_recipe_asks_for_the_label_column(tmp_path):
    words = ["--dataset", str(copy_of("cifar100", tmp_path / "data")), "--output_dir", f"{tmp_path}/run"]
    with pytest.raises(UserError, match="fine_label, coarse_label; choose one with --label_column"):
        teacher.main(words)


def test_recipes_share_the_schedule_of_their_data_set():
    for name in COPIES:
        both = [yaml.safe_load((CONFIGS / name / f"{role}.yaml").read_text()) for role in ("teacher", "student")]
        own = ("model", "teacher", "terms", "objectives", "output_dir")
        first, second = ({key: value for key, value in each.items() if key not in own} for each in both)
        assert first == second
        assert tuple(each["model"].removeprefix("cifar_") for each in both) in [
            tuple(pair.split("-")) for pair in PAIRS
        ]
