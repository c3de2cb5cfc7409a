"""Cross-fitted teachers: parts of the training images, who teaches which, and what is recorded."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, Value
from datasets import Image as ImageColumn
from PIL import Image
from safetensors.torch import load_file

from hf_icckd import ImageData, ImagePipeline, from_pretrained, load_image_data, predict_split, student, teacher
from hf_icckd.data.splits.cut import without_fold
from hf_icckd.options.command_line import UserError
from hf_icckd.options.data import ImageDataArguments
from hf_icckd.options.distill_words import read_command
from hf_icckd.runs.images import read_images
from hf_icckd.training.cross_fitting import cross_fit, unseen_by

QUICK = ["--dataset", "digits", "--max_train_samples", "160", "--max_eval_samples", "40", "--max_steps", "2",
         "--disable_tqdm", "true", "--num_threads", "1"]  # fmt: skip


def images(**options) -> ImageData:
    return load_image_data("digits", **options)


def test_parts_are_disjoint_whole_and_follow_from_content():
    whole, parts = images(), [images(fold=f"{number}/3") for number in range(3)]
    every = whole.hashes()["train"]
    left_out = [np.setdiff1d(every, part.hashes()["train"]) for part in parts]
    assert sum(map(len, left_out)) == len(np.unique(every))
    np.testing.assert_array_equal(np.sort(np.concatenate(left_out)), np.unique(every))
    assert all(len(part.test) == len(whole.test) for part in parts)
    assert min(map(len, left_out)) > 0.25 * len(every)
    assert f"{len(left_out[0])} images of part 0/3" in f"{parts[0].left_out[-1].count} {parts[0].left_out[-1].reason}"
    fewer = images(fold="0/3", classes=["1", "2"])
    assert not np.intersect1d(fewer.hashes()["train"], left_out[0]).size


@pytest.mark.parametrize("fold", ["5/5", "1/1", "1", "a/b", "-1/3", "0/0"])
def test_parts_that_there_are_not(fold):
    with pytest.raises(ValueError, match=f"fold is '{fold}', expected K/N with K from 0 to N - 1, for example 0/5"):
        ImageDataArguments(fold=fold)


def test_a_class_is_not_left_out():
    features = Features({"image": ImageColumn(), "label": Value("int64")})
    pictures = [Image.new("RGB", (2, 2), (shade,) * 3) for shade in (1, 2, 3)]
    rows = Dataset.from_dict({"image": pictures, "label": [0, 0, 1]}, features=features)
    with pytest.raises(ValueError, match=r"fold is \d/2, which would leave out all images of class 'b'; take another"):
        for number in (0, 1):  # the one image of b is in one of them
            without_fold({"train": rows}, number, 2, ["a", "b"])


@pytest.fixture(scope="module")
def folds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("folds")
    names = [str(folder / f"fold-{number}") for number in range(2)]
    for number, name in enumerate(names):
        words = [*QUICK, "--model", "cifar_resnet8", "--terms", "none", "--seed", str(number)]
        teacher.main([*words, "--fold", f"{number}/2", "--max_train_samples", "2000", "--output_dir", name])
    return names


def test_each_image_is_taught_by_one_that_has_not_seen_it(folds):
    hashes = images().hashes()["train"]
    chosen = unseen_by(folds, hashes)
    for number, name in enumerate(folds):
        assert not np.isin(hashes[(chosen == number).numpy()], read_images(name).trained).any()
    assert 0.4 < chosen.float().mean() < 0.6


def test_teachers_that_do_not_serve_are_named(folds, tmp_path):
    hashes = images().hashes()["train"]
    with pytest.raises(ValueError, match="training images were trained on by every teacher, expected one for each"):
        unseen_by(folds[:1], hashes)
    with pytest.raises(ValueError, match=r"the teacher '.*fold-1' would teach no image"):
        unseen_by([*folds, folds[1]], hashes)
    with pytest.raises(ValueError, match="the teacher 'resnet18' has no complete record of the images"):
        unseen_by([folds[0], "resnet18"], hashes)


def test_a_student_learns_from_what_was_recorded_of_each(folds, tmp_path):
    words = [*QUICK, "--model", "cifar_resnet8", "--accept_teacher", "true", "--teacher", folds[0]]
    words += ["--cross_fitted_with", folds[1], "--output_dir", str(tmp_path / "student"), "--crop_padding", "0"]
    words += ["--horizontal_flip", "false"]
    with pytest.raises(SystemExit, match="cross_fitted_with needs recorded targets: which teacher teaches depends"):
        student.main(words)
    student.main([*words, "--teacher_targets", "auto", "--teacher_targets_dir", str(tmp_path / "targets")])
    notes = json.loads((tmp_path / "student" / "metrics.json").read_text())["notes"]
    assert any(note.startswith("Each training image was taught by a teacher that was not") for note in notes)
    [block] = (tmp_path / "targets").glob("*.safetensors")
    recorded = load_file(block)["logits"]
    data = images(max_train_samples=160, max_eval_samples=40)
    chosen = unseen_by(folds, data.hashes()["train"])
    for number, name in enumerate(folds):
        net = from_pretrained(name)
        own = predict_split(net, ImagePipeline(data).dataset("train").for_classifier(net.spec)).logits
        rows = chosen == number
        torch.testing.assert_close(recorded[rows].float(), own[rows], rtol=2e-3, atol=2e-3)


def test_parts_are_of_what_would_be_there_without_them():
    """The same limits for teachers and student, as the messages ask for."""
    own = images(max_train_samples=300).hashes()["train"]
    left = [np.setdiff1d(own, images(max_train_samples=300, fold=f"{part}/3").hashes()["train"]) for part in range(3)]
    assert sorted(map(len, left))[0] > 60 and sum(map(len, left)) == 300


def test_recording_in_half_precision_on_a_cpu(folds, tmp_path):
    words = [*QUICK, "--model", "cifar_resnet8", "--accept_teacher", "true", "--teacher", folds[0], "--bf16", "true"]
    words += ["--use_cpu", "true", "--cross_fitted_with", folds[1], "--output_dir", str(tmp_path / "student")]
    student.main([*words, "--teacher_targets", "auto", "--teacher_targets_dir", str(tmp_path / "targets")])
    words = [word for word in words if word != "--cross_fitted_with"]
    words.insert(words.index(folds[1]), "--ensemble_with")
    with pytest.raises(SystemExit, match="cross_fitted True -> None"):  # the same teachers, and another run
        student.main(words)


def test_a_temperature_of_many_teachers(folds, tmp_path):
    words = [*QUICK, "--model", "cifar_resnet8", "--accept_teacher", "true", "--teacher", folds[0]]
    words += ["--cross_fitted_with", folds[1], "--objectives", "kd:temperature=auto", "--teacher_targets", "auto"]
    with pytest.raises(SystemExit, match="cross-fitted teachers share those; take one that does not"):
        student.main([*words, "--output_dir", str(tmp_path / "x"), "--teacher_targets_dir", str(tmp_path / "t")])


def test_images_without_labels_have_teachers_of_their_own(folds):
    data = images(max_train_samples=20)
    labeled = len(data.train)
    data.unlabeled, data.unlabeled_only = images(max_train_samples=50).train, True
    assert len(cross_fit(folds, data)) == 50
    data.unlabeled_only = False
    assert len(cross_fit(folds, data)) == labeled + 50


@pytest.mark.parametrize("option", [["--fold", "0/3"], ["--cross_fitted_with", "runs/x"]])
def test_distill_does_not_take_them(option):
    with pytest.raises(UserError, match=f"{option[0][2:]}.*hf-icckd teacher --fold"):
        read_command(["photos", *option])


def test_all_or_one(tmp_path):
    with pytest.raises(SystemExit, match="an image is taught by all or by one; leave one of the two out"):
        student.main(["--ensemble_with", "a", "--cross_fitted_with", "b", "--output_dir", str(tmp_path / "x")])
