"""Teachers that know the classes, that don't, and that number them in another way."""

from __future__ import annotations

import json

import pytest
import torch

from hf_icckd.evaluation.teacher_check import check_teacher, matching_order
from hf_icckd.runs.records import RecordedAccuracy, recorded_accuracy

NAMES = ["ant", "bee", "cat", "dog"]


def outputs(right: int, images: int = 400, classes: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits that are right for the first of the images and wrong by one class for the others, and the labels."""
    labels = torch.arange(images) % classes
    answers = torch.where(torch.arange(images) < right, labels, (labels + 1) % classes)
    return torch.nn.functional.one_hot(answers, classes).float(), labels


def test_a_good_teacher_passes_with_and_without_a_record():
    for record in (None, RecordedAccuracy(97.0, 1000)):
        check = check_teacher(*outputs(380), record)
        assert check.problem(NAMES) is None
        assert check.top1 == check.balanced_accuracy == 95.0 and check.chance == 25.0
        assert "95.00 %" in check.line and "400 evaluation images" in check.line
        assert ("97.00 %" in check.line) == (record is not None)


def test_far_below_its_record_is_a_problem_and_a_few_points_are_none():
    assert check_teacher(*outputs(320), RecordedAccuracy(97.0, 1000)).below_record
    assert not check_teacher(*outputs(360), RecordedAccuracy(97.0, 1000)).below_record
    problem = check_teacher(*outputs(200), RecordedAccuracy(97.0, 1000)).problem(NAMES)
    assert "far below its record" in problem and "--accept_teacher" in problem and "97.00 %" in problem


def test_few_images_are_no_proof():
    check = check_teacher(*outputs(10, images=12), RecordedAccuracy(95.0, 1000))
    assert check.top1 < 85 and not check.below_record
    assert check_teacher(*outputs(1, images=12), RecordedAccuracy(95.0, 1000)).below_record


@pytest.mark.parametrize("images", [2, 4, 6])
def test_a_teacher_without_a_mistake_passes_however_few_images_there_are(images):
    labels = torch.arange(images) % 2
    assert check_teacher(torch.eye(2)[labels], labels).problem(["no", "yes"]) is None
    assert check_teacher(torch.eye(2)[labels * 0], labels).near_chance


@pytest.mark.parametrize("images", [40, 4000])
def test_a_constant_answer_is_near_chance_however_unequal_the_classes_are(images):
    labels = (torch.arange(images) % 10 == 0).long()  # 90 % of one class
    logits = torch.tensor([[1.0, 0.0]]).repeat(images, 1)
    check = check_teacher(logits, labels)
    assert check.top1 == 90.0 and check.balanced_accuracy == 50.0
    assert "near chance" in check.problem(["no", "yes"])


def test_a_useful_answer_on_unequal_classes_is_not_near_chance():
    labels = (torch.arange(400) % 10 == 0).long()
    answers = labels.clone()
    answers[:40] = 0  # misses four of the rare class
    assert check_teacher(torch.eye(2)[answers], labels).problem(["no", "yes"]) is None


def test_luck_in_another_order_is_not_taken_for_the_order():
    """An untrained net gives a few images of a class the same wrong answer."""
    labels = torch.arange(80) % 10
    answers = torch.where(torch.arange(80) < 8 * 10, labels * 0 + 3, labels)
    answers[labels == 5] = 7
    check = check_teacher(torch.eye(10)[answers], labels)
    assert check.near_chance and check.reordered
    problem = check.problem([f"c{number}" for number in range(10)])
    assert "--classes" not in problem and "another teacher" in problem


def test_classes_in_another_order_are_shown_with_the_option_that_follows_them():
    logits, labels = outputs(380)
    order = [2, 0, 3, 1]
    shuffled = logits[:, order]  # output i stands for class order[i]
    check = check_teacher(shuffled, labels)
    assert check.order == tuple(order)
    assert check.matched == 95.0
    assert "--classes cat ant dog bee;" in check.problem(NAMES)
    assert "--classes 'a b' ant 'dog&cat' bee;" in check.problem(["ant", "bee", "a b", "dog&cat"])


def test_the_order_of_many_classes_is_shown_to_its_end():
    labels = torch.arange(400) % 40
    problem = check_teacher(torch.eye(40)[(labels + 1) % 40], labels).problem([f"class{index}" for index in range(40)])
    assert "--classes class39 class0 class1 " in problem and " class37 class38;" in problem


def test_an_order_that_explains_little_is_not_shown():
    generator = torch.Generator().manual_seed(0)
    check = check_teacher(torch.rand(400, 4, generator=generator), torch.arange(400) % 4)
    assert "--classes" not in check.problem(NAMES) and "take another teacher" in check.problem(NAMES)


def test_the_matching_is_one_to_one_where_outputs_or_classes_never_occur():
    assert matching_order({(3, 1): 2, (3, 0): 1, (1, 0): 2}, 5) == (3, 0, 2, 1, 4)


def test_of_equal_counts_a_class_keeps_its_number():
    assert matching_order({(1, 0): 3, (1, 1): 3, (0, 2): 1}, 3) == (2, 1, 0)


def test_two_classes_that_changed_places_are_found_among_many():
    labels = torch.arange(400) % 10
    answers = labels.clone()
    answers[labels == 3], answers[labels == 7] = 7, 3
    check = check_teacher(torch.eye(10)[answers], labels)
    assert check.top1 == 80.0 and not check.near_chance and check.reordered
    assert "in another order" in check.problem(list("abcdefghij")) and "a b c h e f g d i j" in check.problem(
        list("abcdefghij")
    )


@pytest.mark.parametrize(("images", "classes"), [(100, 100), (400, 20), (60, 10)])
def test_a_weak_teacher_is_not_taken_for_one_of_another_order(images, classes):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(images) % classes
    guesses = torch.randint(classes, (images,), generator=generator)
    right = torch.rand(images, generator=generator) < 0.5
    check = check_teacher(torch.eye(classes)[torch.where(right, labels, guesses)], labels)
    assert not check.reordered and check.problem([str(index) for index in range(classes)]) is None


def test_one_class_alone_can_be_measured():
    assert check_teacher(torch.eye(3)[torch.ones(50, dtype=torch.int64)], torch.ones(50).long()).chance > 33


def test_the_record_of_a_folder(tmp_path):
    assert recorded_accuracy(str(tmp_path)) is None
    assert recorded_accuracy("me/model") is None
    (tmp_path / "metrics.json").write_text("{}")
    assert recorded_accuracy(str(tmp_path)) is None
    (tmp_path / "metrics.json").write_text(json.dumps({"test": {"top1": 91.5, "images": 20}}))
    assert recorded_accuracy(str(tmp_path)) == RecordedAccuracy(91.5, 20)


def test_the_record_of_a_repository(tmp_path, monkeypatch):
    file = tmp_path / "metrics.json"
    file.write_text(json.dumps({"test": {"top1": 91.5, "images": 20}}))
    asked = []

    def download(repository, name, revision):
        asked.append((repository, name, revision))
        return str(file)

    monkeypatch.setattr("hf_icckd.runs.records.hf_hub_download", download)
    assert recorded_accuracy("hf-hub:me/model@v1") == RecordedAccuracy(91.5, 20)
    assert recorded_accuracy("resnet18.a1_in1k") is None
    assert asked == [("me/model", "metrics.json", "v1")]
