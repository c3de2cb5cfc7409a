"""Predictions are ordered and written as they are, without being kept in memory."""

from __future__ import annotations

import csv
import json
import math
import tracemalloc

import numpy as np
import pytest

from hf_icckd.prediction.predict import Prediction
from hf_icckd.prediction.results import Results, results_table, write_results
from hf_icckd.utils.text import columns

NAMES = ('a "quoted", class', "Käse", "深い", "x" * 50)


def random_predictions(count: int, seed: int = 0) -> list[Prediction]:
    rng = np.random.default_rng(seed)
    made = []
    for number in range(count):
        if number % 7 == 3:
            name = f"f{number}.png"
            made.append(Prediction(name, error=f"{name} cannot be read\\", readable=bool(number % 2)))
            continue
        order = rng.permutation(len(NAMES))
        shares = np.sort(rng.dirichlet(np.ones(len(NAMES))))[::-1].tolist()
        top = tuple((NAMES[label], share) for label, share in zip(order, shares, strict=True))
        made.append(Prediction(f"深/{number}, ünd.png" * (1 + 4 * (number % 2)), top[:3], shares[0] - shares[1]))
    return made


@pytest.fixture
def made():
    return random_predictions(60)


@pytest.fixture
def results(made):
    with Results() as kept:
        for each in made:
            kept.add(each)
        yield kept


def test_they_come_back_as_they_were_in_either_order(made, results):
    assert list(results.ordered("name")) == made and len(results) == 60
    key = [math.inf if each.margin is None else each.margin for each in made]
    assert list(results.ordered("margin")) == [made[number] for number in np.argsort(key, kind="stable")]
    assert results.errors == sum(each.error is not None for each in made)
    assert 0 < results.unreadable == sum(not each.readable for each in made) < results.errors
    assert sum(results.classes.values()) == 60 - results.errors and results.top_k == 3


def test_more_can_be_added_after_reading(made, results):
    assert next(results.ordered("margin")).margin == min(each.margin for each in made if each.margin is not None)
    results.add(Prediction("late.png", (("Käse", 0.5), ("深い", 0.5)), 0.0))
    assert next(results.ordered("margin")).image == "late.png"
    assert list(results.ordered("name"))[:60] == made


def test_csv_has_a_column_for_each_rank(made, results, tmp_path):
    write_results(tmp_path / "x.CSV", results, "name")
    with (tmp_path / "x.CSV").open(encoding="utf-8", newline="") as file:
        header, *rows = list(csv.reader(file))
    ranks = ["class_2", "probability_2", "class_3", "probability_3"]
    assert header == ["image", "class", "probability", *ranks, "margin", "error"]
    assert [file.name for file in tmp_path.iterdir()] == ["x.CSV"]
    for row, each in zip(rows, made, strict=True):
        found = dict(zip(header, row, strict=True))
        assert (found["image"], found["class"]) == (each.image, each.label or "")
        assert found["error"] == (each.error or "")
        if each.error is None:
            assert float(found["probability"]) == pytest.approx(each.probability, abs=1e-6)
            assert (found["class_3"], float(found["probability_3"])) == (
                each.top[2][0],
                pytest.approx(each.top[2][1], abs=1e-6),
            )
            assert float(found["margin"]) == pytest.approx(each.margin, abs=1e-6)
        else:
            assert row[1:-1] == [""] * 7


def test_json_has_an_object_for_each_image(made, results, tmp_path):
    write_results(tmp_path / "x.json", results, "margin")
    rows = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))
    for row, each in zip(rows, results.ordered("margin"), strict=True):
        if each.error is not None:
            assert row == {"image": each.image, "error": each.error}
            continue
        assert (row["image"], row["class"], row["top"][0]["class"]) == (each.image, each.label, each.label)
        assert [found["class"] for found in row["top"]] == [name for name, _ in each.top]
        assert [found["probability"] for found in row["top"]] == pytest.approx([p for _, p in each.top], abs=1e-6)
        assert row["probability"] == row["top"][0]["probability"]
        assert row["margin"] == pytest.approx(each.margin, abs=1e-6)
    with Results() as empty:
        write_results(tmp_path / "x.json", empty, "margin")
    assert json.loads((tmp_path / "x.json").read_text()) == []


def test_an_error_while_writing_leaves_the_old_file(results, tmp_path, monkeypatch):
    (tmp_path / "x.csv").write_text("old")
    monkeypatch.setattr(Results, "ordered", lambda *_: iter([None]))
    with pytest.raises(AttributeError):
        write_results(tmp_path / "x.csv", results, "name")
    assert (tmp_path / "x.csv").read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_the_table_fits_a_terminal(results):
    title, *lines = results_table(results, "margin", "a model", rows=20).splitlines()
    assert title == "a model" and len(lines) == 22 and max(columns(line) for line in lines) <= 100
    assert lines[1].split() == ["image", "class", "%", "then", "%"] and set(lines[0]) == {"-"}
    assert not any("f3.png" in line for line in lines)
    first = next(results.ordered("margin"))
    assert f"{100 * first.probability:.2f}" in lines[2] and f"{100 * first.top[1][1]:.2f}" in lines[2]
    with Results() as one:
        one.add(Prediction("a.png", (("cat", 1.0),), 1.0))
        assert results_table(one, "margin", "a model").splitlines()[3].split() == ["a.png", "cat", "100.00"]


def test_memory_holds_two_numbers_of_each():
    tracemalloc.start()
    with Results() as kept:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(5000):
            kept.add(Prediction(f"{'long' * 30}{number}.png", (("cat", 0.6), ("dog", 0.4)), 0.2))
        grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 5000 * 40
