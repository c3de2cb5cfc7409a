"""What a finished run records."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch

from hf_icckd.evaluation.split import SplitOutputs
from hf_icckd.session import _per_class

NAMES = ["cat", "dog", "emu"]


def outputs(labels: list[int]) -> SplitOutputs:
    return SplitOutputs(torch.eye(3)[labels], torch.zeros(len(labels), 2), torch.tensor(labels))


def data(streamed: bool = False) -> SimpleNamespace:
    return SimpleNamespace(
        label_names=NAMES, streamed=streamed, labels={"train": np.array([0, 0, 0, 0, 1, 1])}.__getitem__
    )


def test_every_split_that_was_measured_has_a_table_of_classes():
    found = _per_class(data(), {"test": outputs([0, 1, 2]), "train": outputs([0, 0, 0, 0, 1, 1])})
    assert list(found) == ["names", "test", "train"] and found["names"] == NAMES
    assert found["test"]["images"] == [1, 1, 1] and found["train"]["recall"] == [100, 100, None]


def test_training_images_are_counted_where_their_split_was_not_measured():
    found = _per_class(data(), {"test": outputs([0, 1, 2])})
    assert found["train"]["images"] == [4, 2, 0] and found["train"]["ratio"] == 2
    assert "recall" not in found["train"]


def test_of_a_stream_that_was_not_measured_nothing_is_counted():
    assert list(_per_class(data(streamed=True), {"test": outputs([0, 1, 2])})) == ["names", "test"]
