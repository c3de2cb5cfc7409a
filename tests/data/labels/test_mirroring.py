"""Names of classes that a mirrored image would belie."""

from __future__ import annotations

import string

import pytest

from hf_icckd import Augmentation, ImageData, ImagePipeline, load_image_data
from hf_icckd.data.labels.mirroring import describe_mirroring, mirroring_doubt
from hf_icckd.data.report import data_report
from tests.data.test_pipeline import encoded, noise, split_of


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (list(string.digits), "all classes are single digits or letters"),
        (list(string.ascii_uppercase), "all classes are single digits or letters"),
        ([*string.digits, *string.ascii_letters], "all classes are single digits or letters"),
        (["あ", "い", "う"], "all classes are single digits or letters"),
        (["zero", "One", "two"], "all classes are digits"),
        (["left_hand", "right_hand"], "the class 'left_hand' says left"),
        (["turn left", "straight on"], "the class 'turn left' says left"),
        (["straight on", "Turn Right"], "the class 'Turn Right' says right"),
        (["leftTurn", "other"], "the class 'leftTurn' says left"),
        (["LEFT-EYE", "nose"], "the class 'LEFT-EYE' says left"),
        (["clockwise", "still"], "the class 'clockwise' says clockwise"),
        (["lefthand", "foot", "righthand"], "the classes 'lefthand' and 'righthand' are opposite sides"),
        (["knee_L", "knee_R", "hip"], "the classes 'knee_L' and 'knee_R' are opposite sides"),
        (["main gauche", "main droite"], "the classes 'main gauche' and 'main droite' are opposite sides"),
    ],
)
def test_names_that_make_it_a_question(names, told):
    assert mirroring_doubt(names) == told


@pytest.mark.parametrize(
    "names",
    [
        ["cat", "dog"],
        ["0", "1", "10"],
        ["a", "bc"],
        ["bright", "dark"],
        ["upright piano", "grand piano"],
        ["leftover", "copyright"],
        ["right whale", "blue whale"],
        ["right_whale", "orca"],
        ["one", "cat"],
        ["clock", "rock"],
        ["lion", "rion"],
    ],
)
def test_names_that_say_nothing_against_it(names):
    assert mirroring_doubt(names) == ""


def data_with(names: list[str], **more) -> ImageData:
    split = split_of([encoded(noise(16, 16, seed)) for seed in range(4)])
    return ImageData("test", names, split, split, **more)


QUESTION = {"mirrored": False, "mirroring_doubt": "all classes are single digits or letters"}


@pytest.mark.parametrize(
    ("more", "augmentation", "flip", "told", "warned"),
    [
        ({}, Augmentation(), True, "Half of the training images are mirrored, because no class name", False),
        (QUESTION, Augmentation(), False, "not mirrored, because all classes are single digits or letters.", True),
        (QUESTION, Augmentation(horizontal_flip=True), True, "are mirrored, because horizontal_flip is true.", False),
        (QUESTION, Augmentation(horizontal_flip=False), False, "not mirrored, because horizontal_flip is fal", False),
        ({"mirrored": False}, Augmentation(), False, "not mirrored, because a mirrored image of this data", False),
        ({}, None, None, "not mirrored, because there is no augmentation.", False),
    ],
)
def test_what_is_done_is_said_and_an_option_decides(more, augmentation, flip, told, warned):
    data = data_with(["a", "b"], **more)
    pipeline = ImagePipeline(data, augmentation)
    report = data_report(data, pipeline)
    assert told in report["mirrored"]
    assert (pipeline.augmentation and pipeline.augmentation.horizontal_flip) is flip
    asked = any("Give --horizontal_flip true to mirror training" in warning for warning in report["warnings"])
    assert asked is warned


def test_every_load_asks_the_names(tmp_path):
    for split in ("train", "test"):
        for label in ("b", "d"):
            folder = tmp_path / split / label
            folder.mkdir(parents=True)
            for number in range(3):
                noise(8, 8, number).save(folder / f"{number}.png")
    data = load_image_data(tmp_path)
    assert not data.mirrored and data.mirroring_doubt == "all classes are single digits or letters"
    # Groups hide what the classes show.
    assert not load_image_data(tmp_path, label_groups={"one side": ["b"], "other": ["d"]}).mirrored
    stream = tmp_path / "stream"
    stream.mkdir()
    for name, rows in data.splits().items():
        rows.select_columns(["image", "label"]).to_parquet(str(stream / f"{name}.parquet"))
    assert load_image_data(stream, streaming=True).mirroring_doubt == data.mirroring_doubt
    digits = load_image_data("digits", max_train_samples=20)
    assert (digits.mirrored, digits.mirroring_doubt) == (False, "")


def test_the_sentence_alone():
    assert describe_mirroring(True, "", Augmentation()).startswith("Half of the training images are mirrored")
