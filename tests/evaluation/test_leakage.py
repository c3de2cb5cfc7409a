"""Test images that a model was trained on are counted, named and refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from hf_icckd import evaluate, student, teacher
from hf_icckd.data import load_image_data
from hf_icckd.evaluation.leakage import check_leakage, earlier_images, find_leakage, origins_of
from hf_icckd.options.command_line import UserError
from hf_icckd.runs.images import RunImages, read_images, write_images

QUICK = ["--max_steps", "1", "--disable_tqdm", "true", "--model", "cifar_resnet8", "--num_threads", "1",
         "--per_device_train_batch_size", "8", "--use_cpu", "true"]  # fmt: skip


def hashes(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.uint64)


def record(folder: Path, train: np.ndarray, **more) -> str:
    folder.mkdir()
    labels = np.zeros(len(train), dtype=int)
    write_images(folder, RunImages({"train": train}, {"train": labels}, ["a"], (0.5,) * 3, (0.2,) * 3, **more))
    return str(folder)


def test_images_that_a_model_was_trained_on_are_counted(tmp_path):
    name = record(tmp_path / "t", hashes(1, 2, 3, 3), earlier=hashes(4))
    [found] = find_leakage({"teacher": name}, "test", 5, lambda: hashes(3, 4, 5, 6, 3), lambda: hashes(3, 9))
    assert (found.seen, found.own, found.images) == (3, 2, 5)
    assert found.record["trained_on"] == 3
    assert found.note == (
        "The teacher was trained on 3 of 5 images of the test split (60.00 %), so metrics on it may be too good. 2 of "
        "them are in this run's own training split too: --duplicates drop leaves those out."
    )
    with pytest.raises(ValueError, match=r"the teacher '.*t' was trained on 3 of 5 images .*--allow_leakage true"):
        check_leakage([found], allowed=False)
    check_leakage([found], allowed=True)


@pytest.mark.parametrize(("seen", "refused"), [(0, False), (2, False), (3, True)])
def test_one_in_a_hundred_is_not_refused(tmp_path, seen, refused):
    name = record(tmp_path / "t", np.arange(seen, dtype=np.uint64))
    found = find_leakage({"teacher": name}, "test", 200, lambda: np.arange(200, dtype=np.uint64))
    assert (found[0].note is None) == (seen == 0)
    if refused:
        with pytest.raises(ValueError, match="expected at most 1 %"):
            check_leakage(found, allowed=False)
    else:
        check_leakage(found, allowed=False)


def test_a_model_without_a_record_is_not_comparable_and_nothing_is_hashed():
    def never():
        raise AssertionError("hashed for nothing")

    [found] = find_leakage({"teacher": "someone/teacher"}, "test", 5, never)
    assert found.record == {"comparable": False}
    assert "The teacher has no record of its training images here" in found.note
    check_leakage([found], allowed=False)


def test_a_stream_is_not_comparable(tmp_path):
    [found] = find_leakage({"teacher": record(tmp_path / "t", hashes(1))}, "test", 5, lambda: None)
    assert found.record == {"comparable": False}
    assert "read as a stream" in found.note and "no record" not in found.note


def test_what_earlier_models_were_trained_on_is_kept(tmp_path):
    first = record(tmp_path / "first", hashes(1, 2))
    second = record(tmp_path / "second", hashes(3), earlier=hashes(1, 2, 4), complete=False)
    earlier, complete = earlier_images({"teacher": first, "start checkpoint": second}, hashes(1))
    assert (earlier.tolist(), complete) == ([2, 3, 4], False)
    assert earlier_images({"teacher": first}, hashes(1))[1]
    assert not earlier_images({"teacher": first, "pretrained start": "resnet18"}, hashes(1))[1]
    [found] = find_leakage({"model": second}, "test", 5, lambda: hashes(7))
    assert "a model that it comes from has no record" in found.note


def test_models_that_a_run_comes_from():
    assert origins_of({"teacher": "t", "pretrained": True, "model": "resnet18", "control": "c"}) == {
        "teacher": "t",
        "pretrained start": "resnet18",
    }
    assert origins_of({"start_from": "s", "pretrained": False, "model": "x"}) == {"start checkpoint": "s"}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder of images without a test split, and a teacher of it."""
    folder = tmp_path_factory.mktemp("leakage")
    for label, red in (("a", 0), ("b", 200)):
        (folder / "data" / label).mkdir(parents=True)
        for number in range(30):
            PIL.Image.new("RGB", (8, 8), (red, number, 0)).save(folder / "data" / label / f"{number}.png")
    teacher.main([*QUICK, "--dataset", f"{folder}/data", "--output_dir", f"{folder}/teacher"])
    return folder


def distil(place: Path, name: str, *words: str) -> tuple[dict, str]:
    student.main([*QUICK, "--dataset", f"{place}/data", "--teacher", f"{place}/teacher", "--accept_teacher", "true",
                  "--output_dir", f"{place}/{name}", *words])  # fmt: skip
    return json.loads((place / name / "metrics.json").read_text()), (place / name / "README.md").read_text()


def test_a_student_with_another_cut_is_refused_or_says_so(place, caplog):
    words = ["--test_fraction", "0.5"]
    with pytest.raises(UserError, match=r"the teacher '.*' was trained on \d+ of \d+ images of the test split"):
        distil(place, "refused", *words)
    assert not (place / "refused" / "all_args.yaml").exists()
    metrics, card = distil(place, "allowed", *words, "--allow_leakage", "true")
    data = load_image_data(f"{place}/data", test_fraction=0.5)
    seen = int(np.isin(data.hashes()["test"], read_images(place / "teacher").hashes["train"]).sum())
    assert metrics["leakage"]["teacher"]["trained_on"] == seen > 1
    note = f"The teacher was trained on {seen} of {len(data.test)} images of the test split"
    assert note in caplog.text
    assert any(text.startswith(note) for text in metrics["notes"])
    assert note in card


def test_a_student_with_the_same_cut_has_nothing_to_say(place):
    metrics, _ = distil(place, "same")
    assert metrics["leakage"]["teacher"]["trained_on"] == 0
    assert "trained on" not in " ".join(metrics["notes"])
    assert read_images(place / "same").trained.tolist() == read_images(place / "teacher").trained.tolist()


def test_an_evaluation_is_compared_too(place, tmp_path, caplog):
    words = ["--model", f"{place}/teacher", "--dataset", f"{place}/data", "--output_file", f"{tmp_path}/x.json"]
    evaluate.main(words)
    assert json.loads((tmp_path / "x.json").read_text())["leakage"]["model"]["trained_on"] == 0
    with pytest.raises(UserError, match=r"the model '.*' was trained on"):
        evaluate.main([*words, "--test_fraction", "0.5"])
    evaluate.main([*words, "--test_fraction", "0.5", "--allow_leakage", "true"])
    assert json.loads((tmp_path / "x.json").read_text())["leakage"]["model"]["trained_on"] > 1
    evaluate.main([*words, "--test_fraction", "0.5", "--split", "train"])
    assert "leakage" not in json.loads((tmp_path / "x.json").read_text())


def test_a_teacher_without_a_record_is_named(place, caplog):
    (place / "teacher" / "image_hashes.npz").rename(place / "kept.npz")
    try:
        metrics, card = distil(place, "unknown")
    finally:
        (place / "kept.npz").rename(place / "teacher" / "image_hashes.npz")
    assert metrics["leakage"]["teacher"] == {"comparable": False}
    note = "The teacher has no record of its training images here"
    assert note in caplog.text
    assert note in card
