"""Cards of runs: every number comes from the records, what a person wrote stays, what stands there runs."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path
from types import SimpleNamespace

import datasets
import numpy as np
import PIL.Image
import pytest
import yaml
from datasets import Dataset
from huggingface_hub import ModelCard, ModelCardData

from hf_icckd import load_image_data, model_card, student, teacher
from hf_icckd.cards.card import (
    _INDEXED,
    _METRICS,
    PICTURES,
    CardData,
    render,
    write_card,
)
from hf_icckd.cards.content import hub_id, soft_label_series
from hf_icckd.cards.method import citations, how_trained
from hf_icckd.cards.regions import is_sealed, region, regions_of, seal
from hf_icckd.data.images import decode_image
from hf_icckd.losses import TEACHER_TERMS
from hf_icckd.metrics.catalogue import METRICS
from hf_icckd.options.checks import changed_options, check_licence
from hf_icckd.options.command_line import UserError, parse_arguments, parse_command
from hf_icckd.options.recipes import RECIPES
from hf_icckd.options.training import TeacherTrainingArguments
from hf_icckd.runs.records import read_control, read_records
from tests import ROOT

TEMPLATE = ROOT / "hf_icckd" / "cards" / "templates" / "model_card.md"
REAL_RUNS = sorted(path.parent for path in (ROOT / "model_cards").glob("*/metrics.json"))
QUICK = ["--max_train_samples", "160", "--max_eval_samples", "80", "--max_steps", "3", "--disable_tqdm", "true",
         "--model", "cifar_resnet8", "--num_threads", "1", "--use_cpu", "true", "--save_strategy", "no",
         "--logging_steps", "1"]  # fmt: skip
NAMES = ("control-teacher", "teacher", "control-student", "student")
ACCEPT = ["--accept_teacher", "true"]  # three steps leave a teacher at chance


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A teacher and a student, with a control each."""
    folder = tmp_path_factory.mktemp("runs")

    def train(recipe, name, *words):
        recipe.main([*QUICK, "--output_dir", f"{folder}/{name}", *words])

    train(teacher, "control-teacher")
    train(teacher, "teacher", "--terms", "intra_class", "--control", f"{folder}/control-teacher",
          "--license", "apache-2.0", "--seed", "1")  # fmt: skip
    train(student, "control-student", "--teacher", f"{folder}/control-teacher", *ACCEPT)
    train(student, "student", "--teacher", f"{folder}/teacher", "--control", f"{folder}/control-student", *ACCEPT,
          "--objectives", "kd:temperature=2", "rkd:weight=0.5")  # fmt: skip
    return folder


@pytest.fixture
def run(runs, tmp_path) -> Path:
    """A copy of the student, to be changed."""
    return Path(shutil.copytree(runs / "student", tmp_path / "run"))


def text_of(folder: Path) -> str:
    return (folder / "README.md").read_text(encoding="utf-8")


def blocks(folder: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text_of(folder), re.DOTALL)


# Figures


def leaves(value: object) -> list:
    if isinstance(value, dict):
        return [leaf for item in value.items() for part in item for leaf in leaves(part)]
    return [leaf for item in value for leaf in leaves(item)] if isinstance(value, list) else [value]


def numbers(text: str) -> list[str]:
    return re.findall(r"\d(?:[\d,]*\d)?(?:\.\d+)?", text)


def foreign_numbers(text: str, *records: dict) -> set[str]:
    """Numbers of a card that are neither of the records nor words of the template."""
    known = set(numbers(re.sub(r"{{.*?}}|{%.*?%}", "", TEMPLATE.read_text())))
    titles = [METRICS[name].full_title for name in _METRICS]
    known |= {number for title in [*titles, *(name for *_, name in _INDEXED)] for number in numbers(title)}
    for leaf in leaves(list(records)):
        if isinstance(leaf, str):
            known |= set(numbers(leaf))
        elif isinstance(leaf, (int, float)) and not isinstance(leaf, bool):
            forms = ("{}", "{:g}", "{:.1f}", "{:.2f}", "{:.4f}", "{:,}", "{:,.1f}")
            known |= {number for form in forms for number in numbers(form.format(leaf))}
            known |= {number for places in (2, 4) for number in numbers(str(round(leaf, places)))}
    return set(numbers(text)) - known


@pytest.mark.parametrize("name", NAMES)
def test_every_figure_is_of_the_records(runs, name):
    arguments, results = read_records(runs / name)
    text = re.sub(r"```bibtex.*?```|<!-- made by .*?-->|\[arXiv .*?\)", "", text_of(runs / name), flags=re.DOTALL)
    assert foreign_numbers(text, arguments, results) == set()
    assert foreign_numbers(f"{text} 12.345 %, 98,765 images", arguments, results) == {"12.345", "98,765"}


def test_the_table_compares_student_teacher_and_control(runs):
    rows = [line.strip("| ").split(" | ") for line in text_of(runs / "student").splitlines() if line.startswith("| ")]
    rows = {row[0].partition("<br>")[0]: [row[0].partition("<br>")[2], *row[1:]] for row in rows if len(row) == 8}
    metrics = {name: json.loads((runs / name / "metrics.json").read_text()) for name in NAMES}
    for title, name, key in (
        ("this student: cifar_resnet8", "student", "test"),
        ("its teacher: cifar_resnet8", "student", "teacher_test"),
        ("control: cifar_resnet8", "control-student", "test"),
        ("control's teacher: cifar_resnet8", "control-student", "teacher_test"),
    ):
        figures = metrics[name][key]
        assert rows[title][2:5] == [f"{figures['top1']:.2f}", f"{figures['top5']:.2f}", f"{figures['ece']:.4f}"]
        assert rows[title][5:7] == ["78,042", f"{metrics['student']['cost']['flops']:,}"]
        assert float(rows[title][7]) > 0
    assert metrics["student"]["teacher_test"]["top1"] == metrics["teacher"]["test"]["top1"]
    assert metrics["student"]["control"]["test"] == metrics["control-student"]["test"]
    assert [row[0] for row in rows.values()][2:] == [
        "1 x cross-entropy + `kd:temperature=2` + `rkd:weight=0.5`",
        "cross-entropy + 0.05 x intra-class term, two views",
        "1 x cross-entropy + `kd`",
        "cross-entropy, two views",
    ]
    assert [row[1] for row in rows.values()][2:] == ["0", "1", "0", "0"]


def test_latency_of_another_machine_is_not_shown(runs):
    arguments, results = read_records(runs / "teacher")
    results["control"]["machine"]["processor"] = "a faster one"
    rows = CardData(arguments, results).comparison
    assert float(rows[0][-1]) > 0 and rows[1][-1] == "another machine"


def test_what_is_kept_for_the_pictures(runs):
    metrics = json.loads((runs / "student" / "metrics.json").read_text())
    assert sum(row["count"] for row in metrics["calibration"]) == metrics["test"]["images"] == 80
    gaps = sum(row["count"] / 80 * abs(row["accuracy"] - row["confidence"]) for row in metrics["calibration"])
    assert gaps == pytest.approx(metrics["test"]["ece"])
    assert [row["step"] for row in metrics["losses"]] == [1, 2, 3]
    assert metrics["losses"][-1].keys() == {"epoch", "step", "loss", "ce", "kd", "rkd_distance", "rkd_angle"}
    images = metrics["soft_labels"]["images"]
    assert [each["label"] for each in images] == ["0", "4", "9"]
    for each in images:
        assert sum(each["model"].values()) == pytest.approx(1, abs=1e-4) and len(each["teacher"]) == 10
    series = soft_label_series(metrics)
    assert list(series) == ["teacher", "control's teacher", "student"]
    for index, each in enumerate(images):
        assert (
            len(series["teacher"][index]) == 5 and series["teacher"][index].keys() == series["student"][index].keys()
        )
        for name, value in series["teacher"][index].items():
            assert value == each["teacher"][name]
            assert series["student"][index][name] == each["model"][name]
            control = metrics["control"]["soft_labels"]["images"][index]
            assert series["control's teacher"][index][name] == control["teacher"][name]
    assert list(soft_label_series(json.loads((runs / "teacher" / "metrics.json").read_text()))) == [
        "teacher",
        "control",
    ]


# Metadata


@pytest.mark.parametrize("name", NAMES)
def test_metadata_goes_to_the_hub_and_back(runs, name):
    arguments, results = read_records(runs / name)
    card = ModelCard.load(runs / name / "README.md")
    data = card.data
    role = name.removeprefix("control-")
    assert data.license == {"teacher": "apache-2.0"}.get(name)
    assert (data.library_name, data.pipeline_tag) == ("timm", "image-classification")
    assert data.tags == ["image-classification", "timm", "transformers", "knowledge-distillation", "hf_icckd", role]
    assert data.datasets is None and data.base_model is None  # embedded images, a teacher that nobody pushed
    assert data.model_name == f"cifar_resnet8-{role}"
    values = {each.metric_type: each.metric_value for each in data.eval_results}
    assert values == {
        "accuracy": round(results["test"]["top1"], 2),
        "top_5_accuracy": round(results["test"]["top5"], 2),
        "expected_calibration_error": round(results["test"]["ece"], 4),
    }
    for each in data.eval_results:
        assert (each.dataset_type, each.dataset_name, each.dataset_split) == ("digits", "digits", "test")
        assert each.task_type == "image-classification"
    header = yaml.safe_load(text_of(runs / name).split("---")[1])
    assert ModelCardData(**header).to_dict() == data.to_dict() == CardData(arguments, results).metadata.to_dict()
    assert ("license" in header) == (name == "teacher")
    assert str(card) == text_of(runs / name)


def test_a_model_of_the_hub_and_its_data_are_named(runs):
    arguments, results = read_records(runs / "student")
    arguments |= {"dataset_config_name": "cropped", "hub_model_id": "me/mine"}
    results["data"] |= {"name": "me/cats", "hub_id": "me/cats", "revision": "0" * 40}
    results["model"]["base_models"] = ["me/teacher", "timm/resnet18.a1_in1k"]
    metadata = CardData(arguments, results).metadata
    assert (metadata.datasets, metadata.base_model) == (["me/cats"], ["me/teacher", "timm/resnet18.a1_in1k"])
    assert metadata.model_name == "mine"
    found = metadata.eval_results[0]
    assert (found.dataset_type, found.dataset_config, found.dataset_revision) == ("me/cats", "cropped", "0" * 40)
    text = render(CardData(arguments, results))
    assert f"me/cats at revision `{'0' * 40}`" in text and 'snapshot_download("me/mine")' in text


def test_without_a_licence_the_card_says_so(runs):
    for name in NAMES:
        text = text_of(runs / name)
        assert ("Licence: not stated by its maker." in text) == (name != "teacher"), name
        assert ("may forbid commercial use" in text) == (name != "teacher"), name
    assert "> **Licence: not stated by its maker.** The licences of its teacher and its training data" in text_of(
        runs / "student"
    )
    assert "`apache-2.0`, as stated by its maker." in text_of(runs / "teacher")


@pytest.mark.parametrize(
    ("given", "hint"),
    [("Apache-2.0", "perhaps 'apache-2.0'"), ("CC BY 4.0", "perhaps 'cc-by-4.0'"), ("", "or other$")],
)
def test_a_licence_that_the_hub_would_not_know(given, hint, capsys):
    with pytest.raises(ValueError, match=f"license is '{given}', expected an identifier as the Hub spells it.*{hint}"):
        check_licence(given)
    with pytest.raises(UserError, match="license is"):
        parse_arguments(RECIPES["teacher"], "", ["--license", given])


def test_which_base_model(runs, tmp_path):
    assert hub_id("me/teacher") == "me/teacher"
    assert hub_id("resnet18.a1_in1k") == "timm/resnet18.a1_in1k"
    assert hub_id(str(runs / "teacher")) is None
    pushed = tmp_path / "pushed"
    pushed.mkdir()
    assert hub_id(str(pushed)) is None
    for options, expected in (
        ({"push_to_hub": True, "hub_model_id": "me/teacher"}, "me/teacher"),
        ({"push_to_hub": False, "hub_model_id": "me/teacher"}, None),
        ({"push_to_hub": True, "hub_model_id": "teacher"}, None),
        ({"push_to_hub": True, "hub_model_id": None}, None),
    ):
        (pushed / "all_args.yaml").write_text(yaml.safe_dump(options))
        assert hub_id(str(pushed)) == expected


def test_data_of_the_hub_have_a_revision(tmp_path, monkeypatch):
    from hf_icckd.data.sources import hub

    digits = load_image_data("digits", max_train_samples=20, max_eval_samples=20)
    splits = {}
    for name, rows in digits.splits().items():
        folder = tmp_path / "me___digits" / "0.0.0" / ("ab" * 20)
        rows.select_columns(["image", "label"]).save_to_disk(str(tmp_path / name))
        folder.mkdir(parents=True, exist_ok=True)
        arrow = next((tmp_path / name).glob("*.arrow")).rename(folder / f"digits-{name}.arrow")
        splits[name] = Dataset.from_file(str(arrow))
    builder = SimpleNamespace(info=SimpleNamespace(download_size=1, dataset_size=1), cache_dir=str(tmp_path))
    monkeypatch.setattr(hub, "load_dataset_builder", lambda *args: builder)
    monkeypatch.setattr(hub, "load_dataset", lambda *args, **options: splits)
    data = load_image_data("me/digits")
    assert (data.hub_id, data.revision) == ("me/digits", "ab" * 20)
    assert (digits.hub_id, digits.revision) == (None, None)


# What stands in it


@pytest.mark.parametrize("folder", [*NAMES, *REAL_RUNS], ids=lambda folder: Path(folder).name)
def test_no_link_is_broken_and_pictures_are_small(runs, folder):
    folder = runs / folder
    targets = re.findall(r"\]\(([^)]+)\)", text_of(folder))
    pictures = re.findall(r"!\[([^\]]+)\]\(([^)]+)\)", text_of(folder))
    assert [target for _, target in pictures] == list(PICTURES)
    for target in targets:
        assert target.startswith("https://") or (folder / target).is_file(), target
    for text, target in pictures:
        assert len(text) > 40 and (folder / target).stat().st_size < 200_000
    assert {path.name for path in folder.glob("*.png")} == set(PICTURES)


@pytest.mark.parametrize("name", ["teacher", "student"])
def test_snippets_run(runs, name, monkeypatch, capsys):
    monkeypatch.chdir(runs / name)
    snippets = blocks(runs / name, "python")
    assert len(snippets) == 3
    for code in snippets:
        exec(compile(code, "README.md", "exec"), {})
    said = capsys.readouterr().out.splitlines()
    assert said[0].split()[0] in map(str, range(10)) and "'label'" in said[1]


def pictures() -> dict[str, tuple[PIL.Image.Image, str, dict]]:
    """Pictures that a plain `Image.open(...).convert("RGB")` shows differently, with format and options."""
    noise = np.random.default_rng(0).integers(0, 256, (12, 8, 4), dtype=np.uint8)
    colours = PIL.Image.fromarray(noise[..., :3].copy())
    deep = np.linspace(0, 65535, 96).astype(np.uint16).reshape(12, 8)
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    return {
        "turned": (colours, "JPEG", {"exif": exif}),
        "transparent": (PIL.Image.fromarray(noise), "PNG", {}),
        "transparent grey": (PIL.Image.fromarray(noise).convert("LA"), "PNG", {}),
        "transparent palette": (colours.convert("P", palette=PIL.Image.Palette.ADAPTIVE), "PNG", {"transparency": 3}),
        "one transparent colour": (colours, "PNG", {"transparency": tuple(noise[0, 0, :3].tolist())}),
        "16-bit PNG": (PIL.Image.fromarray(deep), "PNG", {}),
        "16-bit TIFF": (PIL.Image.fromarray(deep), "TIFF", {}),
        "16-bit PGM": (PIL.Image.fromarray(deep), "PPM", {}),
        "floats": (PIL.Image.fromarray((deep / 65535).astype(np.float32)), "TIFF", {}),
        "plain": (colours, "PNG", {}),
    }


@pytest.mark.parametrize("name", pictures())
@pytest.mark.parametrize("pixel_range", [None, [-5.0, 70000.0]])
def test_the_snippet_reads_pictures_as_training_does(name, pixel_range, tmp_path):
    arguments, results = read_records(REAL_RUNS[0])
    text = render(CardData(arguments | {"pixel_range": pixel_range}, results))
    snippet = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0]
    assert "hf_icckd" not in snippet
    picture, kind, options = pictures()[name]
    picture.save(tmp_path / "picture", kind, **options)
    exec(compile(snippet, "README.md", "exec"), namespace := {})
    found = np.asarray(namespace["load"](tmp_path / "picture"))
    expected = decode_image({"path": str(tmp_path / "picture")}, name, pixel_range=pixel_range)
    assert np.array_equal(found, expected)
    plain = np.asarray(PIL.Image.open(tmp_path / "picture").convert("RGB"))
    assert (name == "plain") == np.array_equal(plain, expected)


def test_the_snippet_refuses_what_training_refuses(tmp_path):
    arguments, results = read_records(REAL_RUNS[0])
    text = render(CardData(arguments | {"pixel_range": [0.0, 9.0]}, results))
    exec(re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0], namespace := {})
    for value in (10, np.nan):
        PIL.Image.fromarray(np.full((2, 2), value, np.float32)).save(tmp_path / "a.tif")
        with pytest.raises(ValueError, match=r"a\.tif has values .*, expected 0\.0 to 9\.0"):
            namespace["load"](tmp_path / "a.tif")


def test_what_is_done_to_pixels_stands_in_the_card(runs):
    arguments, results = read_records(runs / "teacher")
    told = "Training images are not mirrored, because a mirrored image of this data set is another class."
    assert results["data"]["report"]["mirrored"] == told
    assert f"| mirrored | {told} |" in text_of(runs / "teacher")
    results["data"]["report"]["mirrored"] = "the class 'a|b' says left"
    assert r"| mirrored | the class 'a\|b' says left |" in render(CardData(arguments, results))
    del results["data"]["report"]  # of an older version
    assert "| mirrored |" not in render(CardData(arguments, results))


def test_snippets_of_a_stock_architecture_need_nothing_of_ours(runs):
    arguments, results = read_records(runs / "student")
    results["model"]["architecture"] = "resnet18"
    assert "import hf_icckd" not in render(CardData(arguments, results))


@pytest.mark.parametrize("name", NAMES)
def test_options_can_be_given_back(runs, tmp_path, name):
    arguments, results = read_records(runs / name)
    (block,) = blocks(runs / name, "yaml")
    (tmp_path / "again.yaml").write_text(block)
    groups = parse_arguments(RECIPES[arguments["recipe"]], "", [str(tmp_path / "again.yaml")])
    again = {key: value for group in groups for key, value in (getattr(group, "changed", None) or
                                                               changed_options(group)).items()}  # fmt: skip
    assert again == results["options"]
    assert {"max_steps", "use_cpu", "num_threads"} <= again.keys()
    assert not {"lr_scheduler_type", "output_dir", "logging_nan_inf_filter"} & again.keys()


def test_defaults_are_not_listed(runs):
    assert TeacherTrainingArguments().changed == {}
    arguments, results = read_records(runs / "control-teacher")
    text = render(CardData(arguments, results | {"options": {}}))
    assert "All options have their default values." in text and "```yaml" not in text


def test_citations_are_of_the_methods_that_were_used(runs):
    cited = {name: set(re.findall(r"@\w+{(\w+),", text_of(runs / name))) for name in NAMES}
    assert cited == {
        "control-teacher": set(),
        "teacher": {"yuan2025enriching"},
        "control-student": {"hinton2015distilling"},
        "student": {"hinton2015distilling", "park2019relational", "yuan2025enriching"},
    }
    assert "[arXiv 2509.22053](https://arxiv.org/abs/2509.22053)" in text_of(runs / "teacher")
    assert "no method to cite" in text_of(runs / "control-teacher")


def test_a_card_names_terms_that_were_the_default(runs):
    arguments, results = read_records(runs / "teacher")
    then = {name: value for name, value in results["options"].items() if name != "terms"}
    assert yaml.safe_load(CardData(arguments, results | {"options": then}).options)["terms"] == arguments["terms"]
    arguments, results = read_records(runs / "control-teacher")
    assert "terms" not in yaml.safe_load(CardData(arguments, results).options)


def test_a_teachers_card_says_what_its_terms_are_for(runs):
    arguments, results = read_records(runs / "teacher")
    assert TEACHER_TERMS["intra_class"].purpose in text_of(runs / "teacher")
    both = render(CardData(arguments | {"terms": ["intra_class", "sftn:student=cifar_resnet8", "cmi"]}, results))
    assert all(term.purpose and term.purpose in both for term in TEACHER_TERMS.values())
    assert "0.05 x intra-class term + branches of cifar_resnet8 (SFTN) + -0.15" in both and "park2021learning" in both


def test_a_teacher_without_a_record(runs):
    """One that was not made here: how it was trained is not known, and nothing is made up."""
    arguments, results = read_records(runs / "student")
    results["teacher"]["method"] = None
    row = CardData(arguments, results).comparison[1]
    assert row[:2] == ["its teacher: cifar_resnet8<br>not recorded", "not recorded"]
    assert len(citations(arguments)) == 2
    assert how_trained(None) == "not recorded"


def test_records_of_version_0_1_give_the_same_card(runs, tmp_path):
    """They name the options that `terms` replaced."""
    for name in ("teacher", "student"):
        folder = Path(shutil.copytree(runs / name, tmp_path / name))
        arguments, results = read_records(folder)
        for method in (arguments, results.get("teacher", {}).get("method"), results.get("control", {}).get("method")):
            if method and method.get("terms"):
                weight = 0 if method.pop("terms") == ["none"] else 0.05
                method |= {"intra_class_weight": weight, "student_branches": None}
        assert "intra_class_weight" in json.dumps([arguments, results])
        (folder / "all_args.yaml").write_text(yaml.safe_dump(arguments))
        (folder / "metrics.json").write_text(json.dumps(results))
        before = text_of(folder)
        model_card.main([str(folder)])
        assert text_of(folder) == before


def test_names_are_not_markdown(runs):
    arguments, results = read_records(runs / "student")
    results["model"]["class_names"] = ["a|b", "<img src=x>", "*", "[x](y)", "{{ 7 * 7 }}", "`", "$$", "&lt;b&gt;"]
    text = render(CardData(arguments, results))
    assert r"Classes: a\|b, \<img src=x\>, \*, \[x\](y), \{\{ 7 \* 7 \}\}, \`, \$\$, \&lt;b\&gt;" in text


# Written again


@pytest.mark.parametrize("name", NAMES)
def test_written_again_it_is_the_same(runs, name):
    before = {path: path.read_bytes() for path in (runs / name).rglob("*") if path.is_file()}
    model_card.main([str(runs / name)])
    assert before == {path: path.read_bytes() for path in (runs / name).rglob("*") if path.is_file()}


def test_a_picture_that_was_deleted_is_not_shown(run):
    (run / "soft_labels.png").unlink()  # its images should not be published, say
    model_card.main([str(run)])
    assert "soft_labels" not in text_of(run).replace("soft_label_", "") and "reliability.png" in text_of(run)


def test_a_licence_can_be_given_later(run):
    model_card.main(["--license", "cc-by-4.0", str(run)])
    assert ModelCard.load(run / "README.md").data.license == "cc-by-4.0"
    model_card.main([str(run)])  # it is recorded
    assert "`cc-by-4.0`, as stated by its maker" in text_of(run)
    assert not list(run.glob("*.bak*"))


MINE = "\nFor `cats`.\r\n\r\n{{ 7 * 7 }} {% raw %} \\1 \\g<0> $& ünï ---\n```python\nx = 1\n```\n  "


def test_what_a_person_wrote_stays_to_the_last_blank(run):
    text = text_of(run)
    names = list(regions_of(text))
    assert names == ["about", "limits", "licence", "more"]
    for name in names:
        text = text.replace(region(name, regions_of(text)[name]), region(name, f"{MINE}{name}"))
    (run / "README.md").write_bytes(text.encode())
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["test"]["top1"] = 12.34
    (run / "metrics.json").write_text(json.dumps(metrics))
    model_card.main([str(run)])
    new = (run / "README.md").read_bytes().decode()
    assert regions_of(new) == {name: f"{MINE}{name}" for name in names}
    assert "12.34 %" in new and not list(run.glob("*.bak*"))
    assert is_sealed(new)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text.replace("<!-- yours: end about -->", ""),
        lambda text: text.replace("<!-- yours: begin about -->", ""),
        lambda text: text.replace("<!-- yours: end about -->", "<!-- yours: end abuot -->"),
        lambda text: text.replace("<!-- yours: begin limits -->", "<!-- yours: begin about -->"),
        lambda text: text + region("more", "twice"),
        lambda text: text.replace("<!-- yours: begin about -->", "<!-- yours begin about -->"),
        lambda text: re.sub("<!-- yours.*?-->", "", text),
        lambda text: text.replace("## Results", "## My results"),
        lambda text: text.replace("library_name: timm", "library_name: mine"),
        lambda text: text + "and a last word\n",
        lambda text: "something else altogether",
        lambda text: b"\xff\xfe no text",
    ],
)
def test_a_damaged_card_is_kept_aside(run, damage, caplog):
    changed = damage(text_of(run).replace("<!-- What it is meant for", "MY WORDS <!-- What it is meant for"))
    changed = changed if isinstance(changed, bytes) else changed.encode()
    (run / "README.md").write_bytes(changed)
    model_card.main([str(run)])
    assert (run / "README.md.bak").read_bytes() == changed
    assert re.search(r"README\.md is kept as README\.md\.bak: (its regions can't be read|it was changed)", caplog.text)
    assert is_sealed(text_of(run)) and list(regions_of(text_of(run))) == ["about", "limits", "licence", "more"]
    # Another one does not take its place, and the same one twice is kept once.
    for content in (changed, changed + b"more"):
        (run / "README.md").write_bytes(content)
        model_card.main([str(run)])
    assert (run / "README.md.bak").read_bytes() == changed
    assert (run / "README.md.bak2").read_bytes() == changed + b"more"
    assert not (run / "README.md.bak3").exists()


def test_regions_outlive_changes_around_them(run):
    """Also one that the template does not know, of another version."""
    text = text_of(run).replace("## Results", region("mine", "my own region") + "\n\n## Results")
    text = text.replace("<!-- Anything else.", "and this <!-- Anything else.")
    (run / "README.md").write_text(text)
    model_card.main([str(run)])
    regions = regions_of(text_of(run))
    assert regions["mine"] == "my own region" and "and this" in regions["more"]
    assert (run / "README.md.bak").read_text() == text
    model_card.main([str(run)])  # from now on it belongs to the card
    assert regions_of(text_of(run)) == regions and not (run / "README.md.bak2").exists()


def test_line_ends_of_another_system_are_no_change(run):
    (run / "README.md").write_bytes(text_of(run).replace("\n", "\r\n").encode())
    model_card.main([str(run)])
    assert not list(run.glob("*.bak*"))


def test_errors_of_regions_name_the_line():
    with pytest.raises(ValueError, match="region 'a' does not end"):
        regions_of("<!-- yours: begin a -->")
    with pytest.raises(ValueError, match="region 'b' begins on line 2, before region 'a' has ended"):
        regions_of("<!-- yours: begin a -->\n<!-- yours: begin b -->")
    with pytest.raises(ValueError, match="region 'a' ends on line 3 without having begun"):
        regions_of("\n\n<!-- yours: end a -->")
    with pytest.raises(ValueError, match="region 'a' begins a second time on line 2"):
        regions_of(region("a", "") + "\n" + region("a", ""))
    assert is_sealed(seal(region("a", "x"))) and not is_sealed(seal("x").replace("x", "y", 1))


def test_a_run_that_is_not_finished_has_no_card(run, tmp_path):
    with pytest.raises(SystemExit, match=r"^error: '.*nowhere' is not a finished run: it has no all_args.yaml"):
        model_card.main([str(tmp_path / "nowhere")])
    (run / "metrics.json").write_text("{")
    with pytest.raises(SystemExit, match=r"^error: .*metrics.json is damaged"):
        model_card.main([str(run)])
    with pytest.raises(SystemExit, match=r"^error: license is 'MIT'.*perhaps 'mit'"):
        model_card.main([str(run), "--license", "MIT"])
    (run / "metrics.json").write_text(json.dumps({"test": {}, "cost": {}, "environment": {}}))
    with pytest.raises(SystemExit, match="made by an earlier version"):
        model_card.main([str(run)])


# The control


def test_a_control_must_be_a_finished_run_of_the_same_images(runs, tmp_path):
    words = [*QUICK, "--output_dir", f"{tmp_path}/run"]

    def refused(control, message, recipe=teacher, *more):
        with pytest.raises(UserError, match=message):
            recipe.main([*words, "--control", str(control), *more])
        assert not (tmp_path / "run" / "model.safetensors").exists()

    refused(tmp_path / "nowhere", "error: control '.*nowhere' is not a finished run: it has no all_args.yaml")
    refused(tmp_path / "run", "control '.*run' is not a finished run: it has no metrics.json")  # its own folder
    refused(runs / "student", "is a run of the recipe 'student', expected 'teacher'")
    other = Path(shutil.copytree(runs / "control-teacher", tmp_path / "other"))
    options = yaml.safe_load((other / "all_args.yaml").read_text())
    (other / "all_args.yaml").write_text(yaml.safe_dump(options | {"data_fingerprint": "abc"}))
    refused(other, r"on other images \(fingerprint abc, 80 test images\), expected those of this run \(\w+, 80\)")
    (other / "metrics.json").write_text("[]")
    refused(other, "control .*metrics.json is damaged, expected the record of a finished run")
    # Nothing of that is in the way of the right one.
    teacher.main([*words, "--control", str(runs / "control-teacher")])
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["control"]["name"] == "control-teacher"


def test_a_control_of_an_earlier_version_is_read(runs, tmp_path):
    control = Path(shutil.copytree(runs / "control-student", tmp_path / "control"))
    metrics = json.loads((control / "metrics.json").read_text())
    for name in ("teacher", "soft_labels", "data", "model"):
        del metrics[name]
    (control / "metrics.json").write_text(json.dumps(metrics))
    arguments, results = read_records(runs / "student")
    results["control"] = read_control(str(control), "student", arguments["data_fingerprint"], 80)
    assert len(CardData(arguments, results).comparison) == 3
    assert list(soft_label_series(results)) == ["teacher", "student"]


# Other data


def test_a_stream_shows_its_first_images(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0.1)  # 5 seconds an epoch
    digits = load_image_data("digits", max_train_samples=48, max_eval_samples=20)
    for name, rows in digits.splits().items():
        rows.select_columns(["image", "label"]).to_parquet(str(tmp_path / "data" / f"{name}.parquet"))
    teacher.main(["--dataset", f"{tmp_path}/data", "--streaming", "true", "--max_steps", "2", "--disable_tqdm", "true",
                  "--model", "cifar_resnet8", "--num_threads", "1", "--use_cpu", "true", "--save_strategy", "no",
                  "--output_dir", f"{tmp_path}/run"])  # fmt: skip
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    shown = metrics["soft_labels"]["images"]
    assert [each["row"] for each in shown] == [0, 1, 2]
    assert [int(each["label"]) for each in shown] == digits.labels("test")[:3].tolist()
    report = metrics["data"].pop("report")
    assert report["streamed"] and report["classes"]["number"] == 10
    assert metrics["data"] == {
        "name": "data",
        "hub_id": None,
        "revision": None,
        "streamed": True,
        "images": {"train": 48, "test": 20},
    }
    text = text_of(tmp_path / "run")
    assert "the first test images" in text and "of the first rows of the stream" in text
    assert (tmp_path / "run" / "soft_labels.png").is_file()


# Golden files


@pytest.mark.parametrize("folder", REAL_RUNS, ids=lambda folder: folder.name)
def test_cards_of_real_runs_are_what_the_renderer_writes(folder):
    arguments, results = read_records(folder)
    text = text_of(folder)
    assert is_sealed(text)
    pictures = tuple(name for name in PICTURES if (folder / name).is_file())
    assert (
        render(CardData(arguments, results, pictures), regions_of(text)).encode()
        == (folder / "README.md").read_bytes()
    )
    command = shlex.split(results["environment"]["command"])
    recipe = arguments["recipe"]
    begins = ["python", "-m", f"hf_icckd.{recipe}"] if command[0] == "python" else ["hf-icckd", recipe]
    assert command[: len(begins)] == begins
    parse_command(recipe, command[len(begins) :], RECIPES[recipe])


def test_there_are_cards_of_a_teacher_and_of_a_student():
    assert {read_records(folder)[0]["recipe"] for folder in REAL_RUNS} == {"teacher", "student"}


def test_a_card_is_written_whole_or_not_at_all(run, monkeypatch):
    before = (run / "README.md").read_bytes()
    monkeypatch.setattr(Path, "write_bytes", lambda *args: (_ for _ in ()).throw(OSError("No space left on device")))
    with pytest.raises(OSError, match="No space"):
        write_card(run, *read_records(run))
    assert (run / "README.md").read_bytes() == before and not list(run.glob(".*unfinished"))
