"""`hf-icckd predict`: what it prints and writes, and how it ends."""

from __future__ import annotations

import csv
import json

import pytest
import torch
from PIL import Image

from hf_icckd import create_classifier, predict, save_pretrained
from hf_icckd.options.command_line import UserError
from hf_icckd.prediction.predict import Prediction


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a model, photos, one of them broken, and other files."""
    torch.manual_seed(0)
    save_pretrained(tmp_path / "model", create_classifier("cifar_resnet8", ["cat", "dog", "fish"], image_size=16))
    (tmp_path / "photos").mkdir()
    for number in range(45):
        Image.new("RGB", (20, 16), (5 * number, 255 - 3 * number, 90)).save(tmp_path / "photos" / f"{number}.png")
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    (tmp_path / "photos" / "notes.txt").write_text("nothing")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_least_sure_ones_come_first(here, capsys, caplog):
    predict.main(["model", "photos", "--output_file", "x.csv"])
    out = capsys.readouterr().out
    assert "model: 45 images, the least sure ones first" in out and "and 5 more" in out
    assert "x.csv holds all of them" in out and "images of each class: " in out
    assert max(map(len, out.splitlines())) <= 100
    assert "1 of 46 files could not be read:\n  photos/broken.jpg cannot be read" in caplog.text
    rows = list(csv.DictReader((here / "x.csv").open(encoding="utf-8", newline="")))
    margins = [float(row["margin"]) for row in rows[:-1]]
    assert len(rows) == 46 and margins == sorted(margins) and len(set(margins)) > 20
    assert rows[-1]["image"] == "photos/broken.jpg" and "cannot be read" in rows[-1]["error"]
    shown = [line.split()[0] for line in out.splitlines() if line.startswith("photos/")]
    assert shown == [row["image"] for row in rows[:40]]


def test_by_name_as_json(here, capsys):
    predict.main(
        ["model", "photos/*.png", "photos/1.png", "--sort", "name", "--output_file", "x.JSON", "--top_k", "1"]
    )
    rows = json.loads((here / "x.JSON").read_text())
    assert [row["image"] for row in rows] == [f"photos/{number}.png" for number in [*range(45), 1]]
    assert {len(row["top"]) for row in rows} == {1} and rows[1] == rows[-1]
    assert "first" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere", "photos"], "model 'nowhere' is not a folder here"),
        (["none.onnx", "photos"], "model 'none.onnx' is not a file here"),
        (["model", "photos/notes.txt"], "'photos/notes.txt' is a text file"),
        (["model", "empty"], "folder 'empty' holds no images"),
        (["model", "nothing"], "'nothing' is neither a file nor a folder here"),
        (["model"], "arguments are required: --images"),
        (["model", "photos", "--output_file", "x.txt"], r"output_file is 'x.txt', expected a name that ends in \.csv"),
        (["model", "photos", "--output_file", "no/x.csv"], "'no/x.csv', whose folder does not exist; create it first"),
        (["model", "photos", "--top_k", "0"], "top_k is 0, expected a number at least 1"),
        (["model", "photos", "--top_k", "4"], "top_k is 4, expected at most 3, the number of classes"),
        (["model", "photos", "--sort", "size"], "sort.*invalid choice: 'size'"),
        (["model", "photos", "--pixel_range", "5"], "pixel_range is .5.0., expected the values of black and of white"),
        (["model", "photos/broken.jpg", "--output_file", "bad.json"], "no file could be read as an image"),
    ],
)
def test_errors_are_one_line(here, words, message):
    with pytest.raises(UserError, match=f"^error: .*{message}.*$"):
        predict.main(words)
    # What could not be read is written all the same.
    assert (here / "bad.json").exists() == ("bad.json" in words)


def test_a_model_without_finite_logits_is_not_taken_for_broken_files(here, monkeypatch, caplog):
    model = create_classifier("cifar_resnet8", ["cat", "dog", "fish"], image_size=16)
    torch.nn.init.constant_(model.net.fc.bias, torch.nan)
    save_pretrained("nan", model)
    with pytest.raises(
        UserError, match=r"^error: the model's logits are not finite for any image; check its weights$"
    ):
        predict.main(["nan", "photos"])
    assert "1 of 46 files could not be read:\n  photos/broken.jpg cannot be read" in caplog.text
    assert "45 of 46 images have no class, because the model's logits are not finite; check its" in caplog.text
    assert "weights:\n  photos/0.png\n  photos/1.png\n" in caplog.text


def test_an_interrupted_one_keeps_what_it_has(here, monkeypatch, caplog):
    def interrupted(*args, **options):
        yield Prediction("a.png", (("cat", 0.9), ("dog", 0.1)), 0.8)
        raise KeyboardInterrupt

    monkeypatch.setattr(predict, "predict_images", interrupted)
    with pytest.raises(SystemExit, match="130"):
        predict.main(["model", "photos", "--output_file", "x.json"])
    assert [row["class"] for row in json.loads((here / "x.json").read_text())] == ["cat"]
    assert "images predicted so far: 1" in caplog.text
