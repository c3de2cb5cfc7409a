"""Which pixels a student asks for, and that its teacher is measured on its own."""

from __future__ import annotations

import json

import pytest

from hf_icckd import create_classifier, save_pretrained, student, teacher
from hf_icckd.nets import Pixels
from hf_icckd.options.command_line import UserError
from tests.data.test_pipeline import noise


@pytest.fixture
def guide():
    return create_classifier(
        "cifar_resnet8", ["a", "b"], image_size=40, mean=(0.3,) * 3, crop_pct=0.7, interpolation="nearest",
        crop_mode="squash",
    )  # fmt: skip


def test_from_scratch_it_takes_the_pixels_of_its_teacher(guide):
    assert student._wanted_pixels(None, guide.spec) == ((40, 0.7, "nearest", 40), "squash", (0.3, 0.3, 0.3))


def test_pretrained_it_takes_those_of_its_weights(guide):
    pixels, crop_mode, mean = student._wanted_pixels(Pixels(224, 0.9, "bicubic", (0.4,) * 3), guide.spec)
    assert pixels == (224, 0.9, "bicubic", 224)
    assert (crop_mode, mean) == (None, (0.4,) * 3)


@pytest.mark.parametrize(("side", "sizes"), [(20, (20, 12)), (110, (48, 32))])
def test_a_run_says_of_its_teacher_what_the_teachers_run_says(tmp_path, side, sizes):
    for number, (split, label) in enumerate((split, label) for split in ("train", "test") for label in "ab"):
        folder = tmp_path / "images" / split / label
        folder.mkdir(parents=True)
        for row in range(6):
            noise(side, side - 2, 10 * number + row).save(folder / f"{row}.png")
    common = ["--dataset", f"{tmp_path}/images", "--model", "cifar_resnet8", "--max_steps", "2", "--use_cpu", "true",
              "--num_threads", "1", "--save_strategy", "no", "--disable_tqdm", "true"]  # fmt: skip
    teacher.main([*common, "--image_size", str(sizes[0]), "--output_dir", f"{tmp_path}/teacher"])
    words = [
        "--teacher",
        f"{tmp_path}/teacher",
        "--accept_teacher",
        "true",
        "--teacher_targets",
        "auto",
        "--teacher_targets_dir",
    ]
    student.main([*common, "--image_size", str(sizes[1]), *words, f"{tmp_path}/targets", "--output_dir",
                  f"{tmp_path}/run"])  # fmt: skip
    own, of_run = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("teacher", "run"))
    assert of_run["teacher_test"]["nll"] == own["test"]["nll"]
    identity = json.loads((tmp_path / "targets" / "targets.json").read_text())["identity"]
    assert (identity["image_size"], identity["teacher_image_size"]) == (sizes[0], sizes[0])


def test_a_run_that_is_refused_leaves_no_folder_that_it_made(tmp_path):
    save_pretrained(tmp_path / "guide", create_classifier("cifar_resnet8", list("0123456789"), image_size=8))
    words = ["--dataset", "digits", "--max_train_samples", "40", "--model", "cifar_resnet8", "--use_cpu", "true",
             "--num_threads", "1", "--teacher", f"{tmp_path}/guide", "--output_dir"]  # fmt: skip
    (tmp_path / "mine").mkdir()
    for folder in ("new/run", "mine"):
        with pytest.raises(UserError, match="near chance"):
            student.main([*words, f"{tmp_path}/{folder}"])
    assert sorted(each.name for each in tmp_path.iterdir()) == ["guide", "mine"]
