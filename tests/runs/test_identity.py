"""What makes another run, and what is only in another place."""

from __future__ import annotations

from hf_icckd.runs.identity import compare, moved_data

BEFORE = {
    "recipe": "student", "seed": 0, "dataset": "/old/data", "labels": None, "image_size": None, "teacher": "runs/t",
    "data_fingerprint": "d", "teacher_fingerprint": "t", "num_train_epochs": 2.0, "max_steps": -1,
}  # fmt: skip


def now(**changes) -> dict:
    return {name: value for name, value in (BEFORE | changes).items() if value != "unknown"}


def names(changes) -> list[str]:
    return [each.name for each in changes]


def test_a_place_does_not_matter_where_the_content_is_the_same():
    changed = compare(BEFORE, now(dataset="/new/data", labels="a.csv", teacher="me/teacher"))
    assert not changed.differing
    assert names(changed.moved) == ["dataset", "labels", "teacher"]
    assert names(moved_data(changed)) == ["dataset", "labels"]


def test_other_content_is_named_with_its_place():
    changed = compare(BEFORE, now(dataset="/new/data", data_fingerprint="e"))
    assert names(changed.differing) == ["data_fingerprint", "dataset"] and not changed.moved
    changed = compare(BEFORE, now(teacher="me/teacher", teacher_fingerprint="u"))
    assert names(changed.differing) == ["teacher", "teacher_fingerprint"]


def test_data_that_has_not_been_read_counts_as_the_same_for_now():
    changed = compare(BEFORE, now(dataset="/new/data", data_fingerprint="unknown"))
    assert not changed.differing and names(changed.moved) == ["dataset"]


def test_how_pixels_are_read_is_not_covered_by_a_fingerprint():
    assert names(compare(BEFORE, now(image_size=32)).differing) == ["image_size"]


def test_a_run_that_starts_over_may_have_other_data():
    changed = compare(BEFORE, now(dataset="/new/data", data_fingerprint="e"), any_data=True)
    assert not changed.differing


def test_places_without_a_fingerprint_are_compared(tmp_path):
    before = BEFORE | {"start_from": str(tmp_path)}
    assert names(compare(before, now(start_from="other")).differing) == ["start_from"]
    assert not compare(before, now(start_from=f"{tmp_path}/.")).differing


def test_lengths_are_apart():
    changed = compare(BEFORE, now(num_train_epochs=3.0, max_steps=8))
    assert names(changed.length) == ["max_steps", "num_train_epochs"] and not changed.differing


def test_options_of_kept_weights_that_an_earlier_version_lacked_are_at_their_default():
    assert not compare(BEFORE, now(model_ema=False, model_ema_decay=0.9998, early_stopping_threshold=0.0)).differing
    assert names(compare(BEFORE, now(model_ema=True)).differing) == ["model_ema"]


def test_when_to_evaluate_matters_where_the_best_evaluation_is_kept():
    for keeps, differing in ((False, []), (True, ["eval_steps"])):
        options = {"load_best_model_at_end": keeps, "save_steps": 1}
        before = BEFORE | options | {"eval_steps": 2}
        assert names(compare(before, BEFORE | options | {"eval_steps": 3, "save_steps": 4}).differing) == differing


def test_options_of_a_later_version_were_at_their_defaults():
    later = {"aa": None, "mixup": 0.0, "cutmix": 0.0, "mixup_prob": 1.0, "mixup_switch_prob": 0.5}
    assert not compare(BEFORE, now(**later)).differing
    assert names(compare(BEFORE, now(**later | {"mixup": 0.2})).differing) == ["mixup"]
    balanced = {"class_weights": None, "logit_adjustment": 0.0, "sampling": "all"}
    assert not compare(BEFORE, now(**balanced)).differing
    for name, value in (("class_weights", ["balanced"]), ("logit_adjustment", 1.0), ("sampling", "balanced")):
        assert names(compare(BEFORE, now(**balanced | {name: value})).differing) == [name]
