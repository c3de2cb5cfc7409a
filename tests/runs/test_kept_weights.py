"""The words for the weights that were kept."""

from __future__ import annotations

import pytest

from hf_icckd.cards.card import how_trained
from hf_icckd.runs.kept_weights import kept_in_words, kept_rows
from hf_icckd.runs.records import method_of

AVERAGE = {"decay": 0.999, "warmup": True}
BEST = {"metric": "nll", "value": 0.31234, "step": 30, "epoch": 6.0, "evaluations": 10, "stopped_after": None}
LAST = {"epoch": 10.0, "epochs": 10.0}


def kept(**parts) -> dict:
    return {"kept_weights": {**LAST, **parts}}


@pytest.mark.parametrize(
    ("results", "words"),
    [
        ({}, None),
        (kept(average=AVERAGE), "the moving average of the weights (EMA, decay 0.999 after a warm-up) after the last "
         "epoch"),
        (kept(best=BEST), "the weights of epoch 6, the best of 10 on the validation split (NLL 0.3123)"),
        (kept(best=BEST | {"stopped_after": 1, "epoch": 2.5}, epochs=20.0), "the weights of epoch 2.5, the best of 10 "
         "on the validation split (NLL 0.3123). Training stopped early, after one evaluation without a better one, at "
         "epoch 10 of 20"),
    ],
)  # fmt: skip
def test_a_card_says_which_weights_were_measured(results, words):
    assert kept_in_words(results) == words


def test_the_table_has_a_row_for_each_choice():
    assert kept_rows({}) == []
    assert kept_rows(kept(average=AVERAGE | {"warmup": False}, best=BEST | {"stopped_after": 3})) == [
        ("weights", "moving average (EMA, decay 0.999)"),
        ("epoch that is kept", "6 of 10, best validation NLL of 10 evaluations"),
        ("stopped early", "after 3 evaluations without a better one, at epoch 10 of 10"),
    ]


def test_a_method_has_the_options_only_where_they_are_used():
    plain = {"recipe": "teacher", "terms": [], "num_views": 1, "label_smoothing": 0.0, "pretrained": False}
    unused = {"model_ema": False, "model_ema_decay": 0.9998, "load_best_model_at_end": False,
              "metric_for_best_model": None}  # fmt: skip
    assert method_of(plain | unused) == plain
    used = {"model_ema": True, "model_ema_decay": 0.99, "load_best_model_at_end": True, "metric_for_best_model": "nll"}
    method = method_of(plain | used)
    assert method == plain | used
    assert how_trained(method) == (
        "cross-entropy, one view, moving average of the weights (EMA, decay 0.99), best epoch by validation NLL"
    )
