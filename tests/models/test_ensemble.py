"""Several teachers as one."""

from __future__ import annotations

import json
import math
import re

import pytest
import torch

from hf_icckd import create_classifier, student, teacher
from hf_icckd.cards.licences import inherited_licences
from hf_icckd.evaluation.leakage import origins_of
from hf_icckd.losses import check_outputs, parse_objectives
from hf_icckd.models.ensemble import ensemble
from hf_icckd.models.pretrained import fingerprint, save_pretrained
from hf_icckd.options.nets import StudentModelArguments
from hf_icckd.runs.pair import pair_table

NAMES = ["a", "b", "c"]


def member(seed, mean=(0.3,) * 3, std=(0.4,) * 3, names=NAMES, size=8):
    torch.manual_seed(seed)
    return create_classifier("cifar_resnet8", names, image_size=size, mean=mean, std=std).eval().double()


def pixels(seed=0):
    return torch.randint(0, 256, (5, 3, 8, 8), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def test_its_probabilities_are_the_geometric_mean():
    members = [member(0), member(1, mean=(0.1, 0.5, 0.9), std=(0.2, 0.3, 0.1)), member(2)]
    found = ensemble(members, [2, 1, 1]).double()(pixels())
    apart = [each(pixels()).logits for each in members]
    for temperature in (1.0, 4.0):
        expected = []
        for rows in zip(*((each / temperature).softmax(1).tolist() for each in apart), strict=True):
            products = [math.prod(p**share for p, share in zip(column, (0.5, 0.25, 0.25), strict=True))
                        for column in zip(*rows, strict=True)]  # fmt: skip
            expected.append([each / sum(products) for each in products])
        probabilities = (found.logits / temperature).softmax(1)
        torch.testing.assert_close(probabilities, torch.tensor(expected, dtype=torch.float64))
    assert found.embeddings is None


def test_two_of_a_kind_are_one():
    one = member(0)
    logits = one(pixels()).logits
    both = ensemble([one, one]).double()(pixels()).logits
    torch.testing.assert_close(both, logits)


@pytest.mark.parametrize(
    ("others", "weights", "message"),
    [
        ([], None, "an ensemble of 1 classifier was asked for, expected two or more"),
        ([member(1, names=["a", "c", "b"])], None, "first teacher and teacher 2 name 2 classes differently"),
        ([member(1, size=16)], None, "the first teacher has image_size 8, teacher 2 16; an ensemble gets one image"),
        ([member(1)], [1, 2, 3], r"weights are \[1, 2, 3\] for 2 teachers, expected a number above 0 for each"),
        *(([member(1)], [1, wrong], "expected a number above 0 for each") for wrong in (0, math.nan, math.inf)),
    ],
)
def test_members_that_do_not_fit_are_refused(others, weights, message):
    with pytest.raises(ValueError, match=message):
        ensemble([member(0), *others], weights)


def test_how_a_member_sees_pixels_is_part_of_what_the_ensemble_is():
    first, one, other = member(0), member(1), member(1, std=(0.2,) * 3)
    assert fingerprint(ensemble([first, one])) != fingerprint(ensemble([first, other]))
    with pytest.raises(ValueError, match="is not a net of timm, so it can teach but not be saved here"):
        save_pretrained("nowhere", ensemble([first, one]))


def test_objectives_that_read_embeddings_say_that_there_are_none():
    both = ensemble([member(0), member(1)])
    check_outputs(parse_objectives(["kd", "dkd", "dist"]), both, "teacher")
    with pytest.raises(ValueError, match=r"rkd compares embeddings, but the teacher cifar_resnet8 \+ cifar_resnet8"):
        check_outputs(parse_objectives(["rkd"]), both, "teacher")


def test_a_teacher_that_is_not_trained_yet_stands_in_for_the_first(tmp_path):
    """The trial of `hf-icckd distill`: what can't work is an error before the teacher is trained."""
    save_pretrained(tmp_path / "other", member(1))
    options = StudentModelArguments(
        model="cifar_resnet20", pair="resnet110-resnet20", ensemble_with=[str(tmp_path / "other")]
    )
    torch.manual_seed(0)
    stand_in = create_classifier("cifar_resnet110", NAMES, image_size=8)
    found = student._teacher_of(parse_objectives(["kd"]), options, stand_in)
    assert found.spec.architecture == "cifar_resnet110 + cifar_resnet8"  # of the pair, the first counts
    with pytest.raises(ValueError, match="rkd compares embeddings"):
        student._teacher_of(parse_objectives(["rkd"]), options, stand_in)


def test_every_teacher_is_looked_at():
    values = {"teacher": "one", "ensemble_with": ["two", "three"]}
    assert origins_of(values) == {"teacher": "one", "teacher 2": "two", "teacher 3": "three"}
    assert [each["of"] for each in inherited_licences(values)] == ["teacher", "teacher 2", "teacher 3"]


def test_a_student_of_two_teachers(tmp_path):
    quick = ["--dataset", "digits", "--max_train_samples", "160", "--max_eval_samples", "40", "--max_steps", "2"]
    quick += ["--model", "cifar_resnet8", "--disable_tqdm", "true", "--num_threads", "1"]
    folders = [str(tmp_path / name) for name in ("one", "two")]
    for seed, folder in enumerate(folders):
        teacher.main([*quick, "--output_dir", folder, "--terms", "none", "--seed", str(seed)])
    words = [*quick, "--accept_teacher", "true", "--teacher", folders[0], "--ensemble_with", folders[1]]
    words += ["--ensemble_weights", "2", "1", "--output_dir", str(tmp_path / "student")]
    words += ["--teacher_targets", "auto", "--teacher_targets_dir", str(tmp_path / "targets")]
    student.main(words)
    found = json.loads((tmp_path / "student" / "metrics.json").read_text())
    assert found["teacher"]["architecture"] == "cifar_resnet8 + cifar_resnet8" and found["teacher"]["method"] is None
    assert [each["method"]["model"] for each in found["teacher"]["members"]] == ["cifar_resnet8"] * 2
    table = pair_table(tmp_path / "student", folders[0], "both")
    assert re.search(r"size of the weights +0\.6 MB +0\.3 MB", table), table
    assert set(found["leakage"]) == {"teacher", "teacher 2"}
    card = (tmp_path / "student" / "README.md").read_text()
    assert "cifar_resnet8 + cifar_resnet8" in card
    (tmp_path / "two").rename(tmp_path / "moved")
    student.main([str(tmp_path / "moved") if word == folders[1] else word for word in words])  # finished: only shown


def test_weights_of_one_teacher_are_refused(tmp_path):
    with pytest.raises(SystemExit, match=r"ensemble_weights is \[2.0\] but there is no ensemble_with"):
        student.main(["--ensemble_weights", "2", "--output_dir", str(tmp_path / "x")])
