"""The page of an evaluation: its numbers are scikit-learn's, its pictures are inside, and names can't break it."""

from __future__ import annotations

import base64
import io
import json
import re

import numpy as np
import PIL.Image
import pytest
import torch
from sklearn import metrics as sklearn

from hf_icckd import create_classifier, evaluate, load_image_data, save_pretrained
from hf_icckd.cards.evaluation_page import Measured, Mistake, comparison_table, write_page
from hf_icckd.metrics import class_table, classification_metrics, reliability_table, worst_mistakes
from hf_icckd.options.command_line import UserError
from hf_icckd.utils.text import columns

NAMES = ["cat", "<b>dog</b>", "a | b", "emu"]


def outputs(rows=60):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(rows) % len(NAMES)
    return torch.randn(rows, len(NAMES), generator=generator) + torch.nn.functional.one_hot(labels), labels


def measured(name="runs/student", mistakes=True):
    logits, labels = outputs()
    table = class_table(logits, labels, NAMES)
    found = [[Mistake(np.full((8, 8, 3), 77, dtype=np.uint8), "<i>.png", 0.75)] for _ in table["confusions"]]
    results = {
        "test": {"images": len(labels), **classification_metrics(logits, labels)},
        "per_class": {"names": NAMES, "test": table},
        "cost": {"parameters": 12345, "latency_ms": 1.5},
    }
    columns_of = {key: value.tolist() for key, value in reliability_table(logits, labels).items()}
    calibration = [dict(zip(columns_of, row, strict=True)) for row in zip(*columns_of.values(), strict=True)]
    return Measured(name, results, calibration, None, found if mistakes else None)


def test_numbers_are_those_of_scikit_learn(tmp_path):
    write_page(tmp_path, [measured()], "test", "animals")
    logits, labels = outputs()
    predicted, true = logits.argmax(dim=1).numpy(), labels.numpy()
    page = (tmp_path / "report.md").read_text()
    assert f"recall of the classes, is {100 * sklearn.balanced_accuracy_score(true, predicted):.2f} %" in page
    assert f"top-1 is {100 * sklearn.accuracy_score(true, predicted):.2f} %" in page
    scores = sklearn.precision_recall_fscore_support(true, predicted, zero_division=0)
    for number, name in enumerate(["cat", r"\<b\>dog\</b\>", r"a \| b", "emu"]):
        precision, recall, f1, support = (column[number] for column in scores)
        assert f"| {name} | {support} | {100 * recall:.2f} | {100 * precision:.2f} | {100 * f1:.2f} |" in page
    matrix = sklearn.confusion_matrix(true, predicted)
    np.fill_diagonal(matrix, 0)
    most = re.search(r"\*\*(.+)\*\* taken for \*\*(.+)\*\*: (\d+) of 15 images", page)
    assert int(most[3]) == matrix.max()


def test_the_file_of_html_holds_its_pictures_and_no_foreign_markup(tmp_path):
    write_page(tmp_path, [measured(), measured("runs/<other>")], "test", "animals & co")
    page = (tmp_path / "report.html").read_text()
    sources = re.findall(r'src="([^"]*)"', page)
    assert sources and all(source.startswith("data:image/png;base64,") for source in sources)
    picture = PIL.Image.open(io.BytesIO(base64.b64decode(sources[0].partition(",")[2])))
    assert picture.size == (112, 112)  # 8 pixels, doubled until they can be seen
    assert "<b>dog</b>" not in page and "&lt;b&gt;dog&lt;/b&gt;" in page and "animals &amp; co" in page
    assert "<i>.png" not in page and "runs/&lt;other&gt;" in page
    markdown = (tmp_path / "report.md").read_text()
    files = re.findall(r"\]\((pictures/[^)]*)\)", markdown)
    assert files and all((tmp_path / file).is_file() for file in files)


def test_images_that_cannot_be_read_again_are_left_out(tmp_path):
    write_page(tmp_path, [measured(mistakes=False)], "test", "stream")
    assert "can't be shown" in (tmp_path / "report.html").read_text()
    assert "top-5" not in (tmp_path / "report.html").read_text()  # of four classes


def test_the_table_in_a_terminal_fits_100_columns():
    table = comparison_table([measured("runs/a-rather-long-name/of-a-folder/student"), measured("b")], "test", "x")
    assert max(map(columns, table.splitlines())) <= 100
    assert "12,345" in table and "macro" not in table


def test_the_worst_mistakes_are_the_surest():
    logits, labels = outputs()
    found = worst_mistakes(logits, labels, 0, 1, limit=3)
    chosen = ((labels == 0) & (logits.argmax(dim=1) == 1)).nonzero()[:, 0]
    probabilities = logits[chosen].softmax(dim=1)[:, 1]
    assert [probability for _, probability in found] == pytest.approx(
        probabilities.sort(descending=True)[0][:3].tolist()
    )
    assert all(labels[row] == 0 and logits[row].argmax() == 1 for row, _ in found)


@pytest.fixture
def models(tmp_path):
    names = load_image_data("digits", max_train_samples=20, max_eval_samples=20).label_names
    for number in range(2):
        torch.manual_seed(number)
        save_pretrained(tmp_path / f"m{number}", create_classifier("cifar_resnet8", names, image_size=8, crop_pct=1.0))
    return [f"{tmp_path}/m0", f"{tmp_path}/m1"]


FEW = ["--dataset", "digits", "--max_train_samples", "20", "--max_eval_samples", "40"]


def test_several_models_are_measured_on_the_same_images(models, tmp_path, capsys):
    words = [*models, *FEW, "--report", f"{tmp_path}/page", "--output_file", f"{tmp_path}/both.json"]
    evaluate.main(words)
    assert "digits: 40 images of the test split" in capsys.readouterr().out
    both = json.loads((tmp_path / "both.json").read_text())
    assert list(both) == models
    evaluate.main([models[1], *FEW, "--output_file", f"{tmp_path}/one.json"])
    assert json.loads((tmp_path / "one.json").read_text())["test"] == both[models[1]]["test"]
    page = (tmp_path / "page" / "report.md").read_text()
    assert f"{both[models[0]]['test']['nll']:.4f}" in page and "Map of the embeddings" in page and "row " in page
    evaluate.main(words)  # a page may be written again


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--report", "{folder}/notes"], "a folder that holds other files"),
        (["--report", "{folder}/notes/mine.txt"], "which is a file, expected a folder"),
        (["--teacher", "x"], r"teacher is 'x' but there are 2 models; give one model"),
    ],
)
def test_wrong_places_are_refused_before_anything_is_measured(models, tmp_path, words, message):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match=message):
        evaluate.main([*models, *FEW, *(word.format(folder=tmp_path) for word in words)])
    assert [each.name for each in (tmp_path / "notes").iterdir()] == ["mine.txt"]


def test_a_model_cannot_be_named_twice(models):
    with pytest.raises(UserError, match=r"twice, expected different models"):
        evaluate.main([models[0], models[0], *FEW])
