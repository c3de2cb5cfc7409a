"""What the report on a data set says, what of it is published, and the command that prints it."""

from __future__ import annotations

import dataclasses
import json
import os

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Image
from PIL import Image as PILImage

from hf_icckd import Augmentation, ImageData, ImagePipeline, Sampling, evaluate, load_image_data, teacher
from hf_icckd.cards.card import CardData, render
from hf_icckd.data.__main__ import main
from hf_icckd.data.report import data_report, published_report, summarize_classes
from hf_icckd.data.report_text import class_rows, report_facts, report_table
from hf_icckd.data.sources.image_data import LeftOut
from hf_icckd.options.command_line import UserError, parse_command
from hf_icckd.runs.records import read_records

QUICK = ["--model", "cifar_resnet8", "--max_steps", "1", "--disable_tqdm", "true", "--num_threads", "1",
         "--use_cpu", "true", "--save_strategy", "no"]  # fmt: skip


def rows_of(counts: list[int], names: list[str], folder, size=(20, 10)) -> Dataset:
    """So many images of each class, which share one file a class."""
    paths = []
    for label in range(len(names)):
        paths.append(str(folder / f"secret-{label}.png"))
        PILImage.new("RGB", (size[0] + label, size[1]), (label % 256, 0, 0)).save(paths[-1])
    labels = np.repeat(np.arange(len(names)), counts)
    features = Features({"image": Image(decode=False), "label": ClassLabel(names=names)})
    images = [{"path": paths[label], "bytes": None} for label in labels]
    return Dataset.from_dict({"image": images, "label": labels.tolist()}, features=features)


@pytest.fixture
def data(tmp_path) -> ImageData:
    """Three classes, one of them rare, with all that a loader can record."""
    names = ["cat", "dog", "rare"]
    return ImageData(
        str(tmp_path / "zoo"),
        names,
        train=rows_of([40, 30, 1], names, tmp_path),
        test=rows_of([90, 20, 0], names, tmp_path),
        notes=["Somebody counted twice."],
        origins={"train": "folder train", "test": "folder val, the only one beside train"},
        label_origin="names of the folders, because there is no table",
        left_out=[LeftOut(3, "files that are not images", "train/cat/secret.txt"), LeftOut(1, "hidden file")],
    )


def image_folder(folder, classes=("a", "b"), images=5, size=(12, 8)):
    for name in classes:
        (folder / name).mkdir(parents=True)
        for number in range(images):
            PILImage.new("RGB", size, (40 * number, 0, 0)).save(folder / name / f"{number}.png")
    return folder


def test_a_report_is_plain_and_says_what_the_data_are(data):
    report = data_report(data)
    assert json.loads(json.dumps(report)) == report
    assert report["splits"] == {
        "train": {"images": 71, "origin": "folder train"},
        "test": {"images": 110, "origin": "folder val, the only one beside train"},
    }
    assert report["classes"]["images"] == {"train": [40, 30, 1], "test": [90, 20, 0]}
    assert report["pixels"] == {
        "images": 71, "modes": {"8-bit colour": 71}, "how": [], "width": [20, 20, 22], "height": [10, 10, 10],
    }  # fmt: skip
    assert report["duplicates"][0] == "Images of the train split that are copies of others in it: 68."
    assert report["warnings"] == [
        "Imbalanced: cat has 40 training images, rare 1. Top-1 says little about small classes. "
        "--class_weights balanced, --sampling balanced and --logit_adjustment 1 each make classes count alike "
        "in training.",
        "The class rare has only 1 training image.",
    ]
    assert report["mirrored"] == ""  # nobody said how the images will be augmented


def test_the_table(data):
    report = data_report(data, ImagePipeline(data))
    lines = report_table(report).splitlines()
    assert lines[0] == f"data set {data.name}" and set(lines[1]) == {"-"}
    assert [" ".join(line.split()) for line in lines[2:]] == [
        "training images 71 (folder train)",
        "test images 110 (folder val, the only one beside train)",
        "3 classes training test; 1 without test images",
        "cat 40 90",
        "dog 30 20",
        "rare 1 0",
        "labels names of the folders, because there is no table",
        "image size 20 to 22 wide, 10 high, median 20 x 10 pixels (71 evenly spaced training images)",
        "pixels 8-bit colour",
        "mirrored Half of the training images are mirrored, because no class name speaks against it.",
        "exact copies Images of the train split that are copies of others in it: 68. Images of the test",
        "split that are copies of others in it: 108. Images of the test split that the train",
        "split holds too: 110.",
        "left out files that are not images: 3, such as train/cat/secret.txt",
        "left out hidden file: 1",
        "warning Imbalanced: cat has 40 training images, rare 1. Top-1 says little about small",
        "classes. --class_weights balanced, --sampling balanced and --logit_adjustment 1",
        "each make classes count alike in training.",
        "warning The class rare has only 1 training image.",
        "note Somebody counted twice.",
    ]
    assert len({line.index(number) + len(number) for line, number in zip(lines[5:8], ("40", "30", "1 "), strict=True)
                if number in line}) <= 2  # fmt: skip


def test_long_words_are_wrapped_and_names_cut(data, tmp_path):
    names = ["犬" * 40, "two\nlines\x1b[31m", "z" * 300]
    long = dataclasses.replace(data, label_names=names, notes=["word " * 60], left_out=[])
    lines = report_table(data_report(long)).splitlines()
    assert max(len(line) for line in lines) < 140
    assert not any(character in "".join(lines) for character in "\x1b\r\t")
    assert any(line.startswith("  two lines?[31m ") for line in lines) and any("z…" in line for line in lines)


def test_of_many_classes_a_table_shows_the_first_the_last_and_the_extremes():
    names = [f"class {number}" for number in range(100)]
    counts = [50] * 100
    counts[40], counts[60] = 70, 2
    classes = {"names": names, "images": {"train": counts, "test": [0, *[5] * 99]}}
    summary = summarize_classes(classes, 20)
    assert [each["name"] for each in summary["first"] + summary["last"]] == [*names[:5], *names[-5:]]
    assert (summary["number"], summary["omitted"], summary["without"]) == (100, 90, {"test": 1})
    assert summary["largest"] == {"name": "class 40", "images": {"train": 70, "test": 5}}
    assert summary["smallest"] == {"name": "class 60", "images": {"train": 2, "test": 5}}
    assert [name for name, _ in class_rows(summary)][4:7] == ["class 4", "... 90 more", "class 95"]
    assert class_rows(summary)[-1] == ("smallest: class 60", ["2", "5"])
    assert len(summarize_classes(classes, None)["first"]) == 100
    same = summarize_classes({"names": names, "images": {"train": [50] * 100}}, 20)
    assert "largest" not in same  # they would be two of equals
    assert len(class_rows(summarize_classes({"names": names[:20], "images": {"train": counts[:20]}}, 20))) == 20


@pytest.mark.parametrize(
    ("trained", "tested", "expected"),
    [
        ([10] * 4, [30] * 4, []),
        ([49, 10], [60, 60], []),
        ([50, 10], [60, 60], ["Imbalanced: 0 has 50 training images, 1 10."]),
        ([100, 10], [60, 60], ["about small classes. --class_weights balanced, --sampling balanced and --logit_adj"]),
        ([4, 4, 1, 1, 0], [40] * 5, ["4 classes have fewer than 5 training images, 2 of them a single one: 0, 1, "]),
        ([9, 9], [40, 40], ["The test split is small: each of its 80 images is 1.2 points of top-1."]),
        ([9, 9], [96, 4], ["The class 1 has only 4 test images."]),
        ([9, 9], [0, 100], []),
    ],
)  # fmt: skip
def test_warnings_about_numbers(trained, tested, expected, tmp_path):
    names = [str(label) for label in range(len(trained))]
    data = ImageData("x", names, rows_of(trained, names, tmp_path), rows_of(tested, names, tmp_path))
    found = data_report(data)["warnings"]
    assert len(found) == len(expected)
    assert all(given in warning for given, warning in zip(expected, found, strict=True))


def test_what_to_do_is_said_from_ten_times_on(tmp_path):
    for largest, said in ((99, False), (100, True)):
        data = ImageData("x", ["a", "b"], *(rows_of([largest, 10], ["a", "b"], tmp_path) for _ in range(2)))
        (warning,) = data_report(data)["warnings"]
        assert ("--sampling balanced" in warning) == said


def test_what_an_epoch_shows_is_said(data):
    report = data_report(data, ImagePipeline(data, sampling=Sampling("balanced")))
    words = "balanced: an epoch of 71 images shows 'cat' 24 times (it has 40) and 'rare' 24 times (it has 1)"
    assert ("sampling", words) in report_facts(report)
    assert ("sampling", words) in report_facts(published_report(report))
    usual = data_report(data, ImagePipeline(data))
    assert "sampling" not in dict(report_facts(usual))
    assert "sampling" not in dict(report_facts({name: each for name, each in usual.items() if name != "sampled"}))


def test_what_is_published_names_no_file(data):
    (bad := data.train[0]["image"]["path"]) and open(bad, "w").close()
    report = data_report(data, ImagePipeline(data))
    assert "secret" in json.dumps(report) and "secret-0.png" in report_table(report)
    published = published_report(report)
    assert "secret" not in json.dumps(published) and data.name not in json.dumps(published)
    assert published["left_out"] == [
        {"count": 3, "reason": "files that are not images"},
        {"count": 1, "reason": "hidden file"},
    ]
    facts = dict(report_facts(published))
    assert facts["unreadable"] == "40 of these images" and facts["training images"] == "71 (folder train)"
    assert published["classes"]["first"][2] == {"name": "rare", "images": {"train": 1, "test": 0}}


def test_what_is_published_stays_small(data, tmp_path):
    names = [f"class {number}" for number in range(5000)]
    counts = {"train": [3] * 5000, "test": [1] * 5000}
    report = data_report(data) | {"classes": {"names": names, "images": counts}}
    assert len(json.dumps(published_report(report))) < 4000


def test_what_looks_wrong_is_a_warning(data):
    doubtful = dataclasses.replace(data, mirrored=False, mirroring_doubt="all classes are digits")
    report = data_report(doubtful, ImagePipeline(doubtful))
    assert report["mirrored"] == "Training images are not mirrored, because all classes are digits."
    assert "Give --horizontal_flip true to mirror training images" in report["warnings"][-1]
    decided = data_report(doubtful, ImagePipeline(doubtful, Augmentation(horizontal_flip=True)))
    assert not any("--horizontal_flip" in warning for warning in decided["warnings"])
    dark = np.full((8, 8), 4095, dtype=np.uint16)
    PILImage.fromarray(dark).save(data.train[0]["image"]["path"])
    deep = dataclasses.replace(data, train=data.train.select(range(40)), test=data.test)
    assert "give --pixel_range 0 4095." in data_report(deep)["warnings"][-1]


def test_a_stream_is_reported_as_far_as_it_is_known(tmp_path):
    digits = load_image_data("digits", max_train_samples=48, max_eval_samples=20)
    for name, rows in digits.splits().items():
        rows.select_columns(["image", "label"]).to_parquet(str(tmp_path / f"{name}.parquet"))
    data = load_image_data(str(tmp_path), streaming=True)
    report = data_report(data)
    assert report["streamed"] and report["classes"]["images"] == {}
    text = report_table(report)
    assert "read as a stream" in text and "10 classes" in text and "the first 48 training images" in text
    assert "training images  48" in text
    assert summarize_classes(report["classes"], 4)["omitted"] == 8
    assert "... 8 more" in report_table(report, classes=4)
    assert published_report(report)["classes"]["first"][3] == {"name": "3", "images": {}}


# Runs


def test_a_run_logs_the_report_once_and_keeps_it(tmp_path, caplog):
    folder = image_folder(tmp_path / "zoo", images=10)
    (folder / "a" / "secret.txt").write_text("x")
    words = ["--dataset", str(folder), *QUICK, "--output_dir", f"{tmp_path}/run"]
    teacher.main(words)
    tables = [record.message for record in caplog.records if "data set " in record.message]
    assert len(tables) == 1 and len(tables[0].strip().splitlines()) <= 25
    assert "2 classes" in tables[0] and "all 12 x 8 pixels" in tables[0] and "cut off the training images" in tables[0]
    assert sum("cut off the training images" in record.message for record in caplog.records) == 1
    kept = (tmp_path / "run" / "data_report.txt").read_text()
    assert kept.strip() == tables[0].strip()
    arguments, results = read_records(tmp_path / "run")
    report = results["data"]["report"]
    assert report["classes"]["first"][0] == {"name": "a", "images": {"train": 9, "test": 1}}
    assert report["mirrored"].startswith("Training images are not mirrored")
    card = (tmp_path / "run" / "README.md").read_text()
    for text in (json.dumps(results["data"]), card):
        assert "secret" not in text
    assert "## Data" in card and "| a | 9 | 1 |" in card and "| mirrored | Training images are not mirrored" in card
    del results["data"]["report"]  # as an earlier version recorded it
    assert "## Data" not in render(CardData(arguments, results))


def test_the_file_of_a_run_has_all_classes(tmp_path):
    names = [f"class_{number:02}" for number in range(24)]
    folder = image_folder(tmp_path / "zoo", names, images=3)
    teacher.main(["--dataset", str(folder), *QUICK, "--output_dir", f"{tmp_path}/run"])
    kept = (tmp_path / "run" / "data_report.txt").read_text()
    assert all(f"  {name} " in kept for name in names)
    _, results = read_records(tmp_path / "run")
    assert results["data"]["report"]["classes"]["omitted"] == 14
    assert "| ... 14 more |  |  |" in (tmp_path / "run" / "README.md").read_text()


def test_an_evaluation_shows_it(tmp_path, caplog, monkeypatch, tiny_classifier):
    from hf_icckd import save_pretrained

    save_pretrained(tmp_path / "model", tiny_classifier())
    evaluate.main(
        [
            "--model",
            f"{tmp_path}/model",
            "--dataset",
            "digits",
            "--max_train_samples",
            "20",
            "--max_eval_samples",
            "40",
        ]
    )
    (table,) = [record.message for record in caplog.records if "data set digits" in record.message]
    assert "10 classes" in table and "mirrored" not in table  # nothing is trained


# The command


def test_the_command_prints_the_report_and_draws_the_sheet(tmp_path, monkeypatch, capsys):
    folder = image_folder(tmp_path / "zoo")
    monkeypatch.chdir(tmp_path)
    before = sorted(path.name for path in tmp_path.rglob("*"))
    main(["zoo", "--test_fraction", "0.4"])
    out = capsys.readouterr().out
    assert "data set zoo" in out and "training images  " in out and "contact_sheet.png shows" in out
    assert (tmp_path / "contact_sheet.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.rglob("*")) == sorted([*before, "contact_sheet.png"])
    main(["--dataset", str(folder), "--horizontal_flip", "false", "--contact_sheet", "other.png"])
    assert (
        "mirrored         Training images are not mirrored, because horizontal_flip is false."
        in capsys.readouterr().out
    )
    assert (tmp_path / "other.png").is_file()


def test_the_data_set_comes_first_or_after_a_config(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text("dataset: digits\ntest_fraction: 0.3\n")
    assert parse_command("data", ["zoo"])[0].dataset == "zoo"
    assert parse_command("data", [])[0].dataset == "digits"
    data_args, args = parse_command("data", [str(config), "zoo", "--contact_sheet", "x.png"])
    assert (data_args.dataset, data_args.test_fraction, args.contact_sheet) == ("zoo", 0.3, "x.png")
    assert parse_command("data", [str(config), "--validation_fraction", "0.1"])[0].dataset == "digits"


def test_the_command_refuses_what_a_run_refuses(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    image_folder(tmp_path / "zoo")
    (tmp_path / "empty").mkdir()
    for words, message in (
        (["no/such/folder"], "dataset folder 'no/such/folder' does not exist; check the path"),
        (["empty"], "holds 0 images"),
        (["zoo", "--tset_fraction", "0.3"], "unknown option --tset_fraction .*test_fraction"),
        (["zoo", "other"], "'other' is one word too many"),
        (["zoo", "--contact_sheet", "no/x.png"], "contact_sheet is 'no/x.png', whose folder does not exist; create"),
        (["zoo", "--contact_sheet", "x.jpg"], "contact_sheet is 'x.jpg', expected a PNG file; give a name that ends"),
        (
            ["zoo", "--contact_sheet", "zoo/a/x.png"],
            "would lie in the data set .*; choose a file elsewhere with --con",
        ),
    ):
        with pytest.raises(UserError, match=f"^error: .*{message}") as caught:
            main(words)
        assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("contact_sheet.png")) and not capsys.readouterr().out


def test_a_sheet_of_the_usual_name_is_no_image(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(image_folder(tmp_path / "zoo"))
    tables = []
    for _ in range(2):
        main(["."])
        tables.append(capsys.readouterr().out)
    assert "2 classes" in tables[1] and (tmp_path / "zoo" / "contact_sheet.png").is_file()


@pytest.mark.parametrize("kept", [0, 90])
def test_an_unreadable_image_is_shown_before_it_is_refused(tmp_path, monkeypatch, capsys, kept):
    """Without a header, or with one and too few pixels: that is only seen when it is drawn."""
    monkeypatch.chdir(tmp_path)
    folder = image_folder(tmp_path / "zoo", size=(64, 64))
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    for path in (folder / "b").iterdir():
        PILImage.fromarray(noise).save(path)
        path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match=r"can't be read. The first: train split: row \d .*b/\d\.png.* cannot be"):
        main(["zoo"])
    out = capsys.readouterr().out
    assert "2 classes" in out and (tmp_path / "contact_sheet.png").is_file()
    assert "unreadable" in out


def test_a_broken_test_image_is_refused_too(tmp_path, monkeypatch, capsys):
    """A run would end there only when it has trained."""
    monkeypatch.chdir(tmp_path)
    image_folder(tmp_path / "zoo" / "train")
    broken = image_folder(tmp_path / "zoo" / "test", size=(64, 64)) / "a" / "3.png"
    broken.write_bytes(broken.read_bytes()[:60])
    with pytest.raises(UserError, match=r"1 of 10 test images can't be read\. The first: test split: row 3 .*3\.png"):
        main(["zoo"])
    assert "all 10 train images can be read" in capsys.readouterr().out
    main(["zoo", "--bad_images", "skip"])
    assert "all 9 test images can be read" in capsys.readouterr().out


def test_pixels_of_several_kinds_are_followed_by_sentences(data):
    report = data_report(data)
    report["pixels"] |= {"modes": {"8-bit colour": 2, "16-bit grey": 1}, "how": ["1 is turned."]}
    assert ("pixels", "2 8-bit colour, 1 16-bit grey. 1 is turned.") in report_facts(report)
    report["pixels"] |= {"modes": {"8-bit colour": 3}, "how": []}
    assert ("pixels", "8-bit colour") in report_facts(report)


def test_the_folder_of_a_table_is_not_published(tmp_path):
    images = image_folder(tmp_path / "zoo")
    table = tmp_path / "tables" / "kinds.csv"
    table.parent.mkdir()
    rows = [f"{name}/{number}.png,{'xy'[number % 2]}\n" for name in "ab" for number in range(5)]
    table.write_text("id,label\n" + "".join(rows))
    report = data_report(load_image_data(str(images), labels=str(table)))
    assert report["labels"] == "column 'label' of kinds.csv: its name says so"
    assert str(tmp_path) not in str(published_report(report))


def test_it_is_a_program(forks, tmp_path):
    done = forks.run(["-m", "hf_icckd.data", "digits", "--max_train_samples", "20"], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "data set digits" in done.stdout and (tmp_path / "contact_sheet.png").is_file()
    done = forks.run(["-m", "hf_icckd.data", os.fspath(tmp_path)], cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.splitlines()[-1].startswith("error: ")
