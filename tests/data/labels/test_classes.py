"""Some of the classes, or groups of them: what is learned, what is kept, what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from hf_icckd import load_image_data, session
from hf_icckd.data.labels.classes import read_groups
from hf_icckd.evaluation.split import SplitOutputs
from hf_icckd.teacher import main as teacher_main

GROUPS = {"round": ["0", "6", "8", "9"], "straight": ["1", "4", "7"], "open": ["2", "3", "5"]}


def test_chosen_classes_are_numbered_as_given():
    everything = load_image_data("digits")
    some = load_image_data("digits", classes=["7", "1", "4"], validation_fraction=0.2)
    assert some.label_names == ["7", "1", "4"]
    counts = np.bincount(everything.labels("train"))
    assert len(some.train) + len(some.validation) == counts[[7, 1, 4]].sum()
    assert np.bincount(some.labels("test")).tolist() == np.bincount(everything.labels("test"))[[7, 1, 4]].tolist()
    seven = everything.test[int(np.flatnonzero(everything.labels("test") == 7)[0])]["image"]
    assert [row["label"] for row in some.test if row["image"] == seven] == [0]


def test_groups_take_the_place_of_classes_which_remain():
    plain = load_image_data("digits", validation_fraction=0.2, max_train_samples=100)
    grouped = load_image_data("digits", validation_fraction=0.2, max_train_samples=100, label_groups=GROUPS)
    assert grouped.label_names == list(GROUPS)
    group_of = {int(digit): number for number, digits in enumerate(GROUPS.values()) for digit in digits}
    for split in ("train", "validation", "test"):  # cut as without groups: evenly by class
        assert grouped.fine_labels(split).tolist() == plain.labels(split).tolist()
        assert grouped.labels(split).tolist() == [group_of[digit] for digit in plain.labels(split)]
    assert plain.fine_labels("train") is None
    assert grouped.fingerprint() != plain.fingerprint()


def test_groups_of_chosen_classes():
    data = load_image_data("digits", classes=["1", "2", "3"], label_groups=GROUPS)
    assert data.label_names == ["straight", "open"] and set(data.fine_labels("test")) == {0, 1, 2}


def test_the_synthetic_set_knows_which_view_dominates():
    data = load_image_data("synthetic")
    fine = data.fine_labels("test")
    assert (fine // 2 == data.labels("test")).all() and 0.3 < (fine % 2).mean() < 0.7


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": ["1", "eleven"]}, "has no class 'eleven'"),
        ({"classes": ["1", "2", "1"]}, "classes names '1' twice"),
        ({"classes": ["1"]}, "the one class '1'"),
        ({"label_groups": {"a": ["1", "2"], "b": ["2"]}}, "class '2' is in two groups, the second is 'b'"),
        ({"label_groups": {"a": ["1", "2"]}}, "8 classes are in no group, the first is '0'"),
        ({"label_groups": {"all": list("0123456789")}}, "the one class 'all'"),
        ({"classes": ["1", "2"], "streaming": True}, "streaming is true but classes"),
    ],
)
def test_what_does_not_fit_is_explained(options, message):
    with pytest.raises(ValueError, match=message):
        load_image_data("digits", **options)


def test_files_of_groups(tmp_path):
    path = tmp_path / "groups.yaml"
    path.write_text("small: [0, 1]\nlarge: [8, 9]\n")
    assert read_groups(path) == {"small": ["0", "1"], "large": ["8", "9"]}
    path.write_text("no: [1e3, 007]\nyes: [~, 0x1f]\n")  # names, whatever YAML would take them for
    assert read_groups(path) == {"no": ["1e3", "007"], "yes": ["~", "0x1f"]}
    wrong = ("- a", "a: b", "a: [[b, c]]", "a: [{b: c}]")
    messages = dict.fromkeys(wrong, "holds something else than lines `group:") | {"{": "not valid YAML"}
    for text, message in messages.items():
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_groups(path)
    with pytest.raises(ValueError, match="does not exist"):
        read_groups(tmp_path / "none.yaml")


def test_without_a_known_class_to_score_there_is_no_probe():
    """A few training and test images may be of different classes: the run still reports its other metrics."""
    data = load_image_data("synthetic", max_train_samples=2, max_eval_samples=3)
    train, test = (
        SplitOutputs(torch.randn(len(labels), 10), torch.randn(len(labels), 4), torch.tensor(labels))
        for labels in ([1, 9], [2, 2, 9])
    )
    assert session._probes(data, {"train": train, "test": test})["fine_probe"]["chance"] in (0, 100)
    test.labels[-1] = 2
    assert session._probes(data, {"train": train, "test": test}) == {}


def test_a_run_on_groups_reports_the_probe(tmp_path, capsys):
    path = tmp_path / "groups.yaml"
    path.write_text(json.dumps(GROUPS))
    options = "--max_train_samples 200 --max_eval_samples 60 --model cifar_resnet8 --num_train_epochs 1"
    teacher_main(
        [
            *options.split(),
            "--label_groups",
            str(path),
            "--output_dir",
            str(tmp_path / "run"),
            "--disable_tqdm",
            "true",
        ]
    )
    probe = json.loads((tmp_path / "run" / "metrics.json").read_text())["fine_probe"]
    assert probe["chance"] <= 50 and 0 <= probe["soft_labels"] <= 100
    assert f"{probe['embeddings']:.2f} % from embeddings" in capsys.readouterr().out
