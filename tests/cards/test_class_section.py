"""What a card says about single classes, from made-up records of a committed run."""

from __future__ import annotations

import re

import pytest
import torch
from markdown_it import MarkdownIt

from hf_icckd.cards.card import CardData, render
from hf_icckd.metrics import classification_metrics
from hf_icckd.metrics.class_tables import class_table, image_table
from hf_icckd.runs.records import read_records
from tests import ROOT

NAMES = ["cat", "a|b", "<img src=x>", "fox", "gnu"]
# All of cat, half of a|b, nothing of <img src=x>; fox and gnu have no test image.
PREDICTED, LABELS = [0, 0, 0, 0, 1, 3, 0, 0, 0], [0, 0, 0, 0, 1, 1, 2, 2, 2]


def card(predicted=PREDICTED, labels=LABELS, train=(1400, 700, 100, 700, 700), names=NAMES) -> CardData:
    arguments, results = read_records(ROOT / "model_cards" / "digits-cifar_resnet20-teacher")
    assert "per_class" not in results  # it was made before they were measured
    logits, targets = torch.eye(len(names))[predicted], torch.tensor(labels)
    tables = {"test": class_table(logits, targets, names)}
    tables |= {} if train is None else {"train": image_table(train, names)}
    results["per_class"] = {"names": names, **tables}
    results["model"]["num_classes"] = len(names)
    results["test"] |= classification_metrics(logits, targets)
    return CardData(arguments, results)


def section(text: str) -> str:
    return text.partition("### Classes\n")[2].partition("### All metrics")[0]


def test_the_section_says_what_top1_hides():
    text = render(card())
    assert "**0 % recall for 1 of 3 classes:** no test image of these classes is recognised." in text
    said = section(text)
    assert "the mean recall of those 3 classes that have test images, is 50.00 %. Macro F1 is 34.85 %." in said
    assert r"the largest class has 1,400 images (cat), the smallest 100 (\<img src=x\>): a ratio of 14.0." in said
    assert [line for line in said.splitlines() if line.startswith("| ")] == [
        "| lowest recall | training images | test images | recall (%) |",
        "| --- | ---: | ---: | ---: |",
        r"| \<img src=x\> | 100 | 3 | 0.00 |",
        r"| a\|b | 700 | 2 | 50.00 |",
        "| most frequent mistakes | taken for | test images |",
        "| --- | --- | ---: |",
        r"| \<img src=x\> | cat | 3 of 3 |",
        r"| a\|b | fox | 1 of 2 |",
    ]
    assert "| balanced accuracy, mean recall of the classes | 50.00 % |" in text
    assert "| macro F1, mean F1 of the classes | 34.85 % |" in text


@pytest.mark.parametrize(
    ("largest", "options", "said"),
    [
        (1000, {}, True),
        (990, {}, False),
        (1000, {"class_weights": ["balanced"]}, False),
        (1000, {"logit_adjustment": 1.0}, False),
        (1000, {"sampling": "square_root"}, False),
    ],
)
def test_what_was_not_done_about_imbalance_is_said(largest, options, said):
    shown = card(train=(largest, 100, 700, 700, 700))
    shown.arguments.update(options)
    text = section(render(shown))
    assert (
        "Training did not make up for it: no class weights, logit adjustment or sampling by class.\n" in text
    ) == said


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"class_weights": ["1.0", "2.5"]}, "two views, class weights 1.0 2.5"),
        ({"logit_adjustment": 0.5}, "two views, logit adjustment 0.5"),
        ({"sampling": "square_root"}, "two views, square root sampling"),
    ],
)
def test_what_was_done_is_part_of_how_it_was_trained(options, words):
    shown = card()
    shown.arguments.update(options)
    text = render(shown)
    assert words in shown.how_trained and words in text
    assert ("arXiv 2007.07314" in text) == ("logit_adjustment" in options)


def test_names_reach_the_page_as_they_are():
    page = MarkdownIt("commonmark").enable("table").render(section(render(card())))
    cells = re.findall(r"<td.*?>(.*?)</td>", page)
    assert cells[:8] == ["&lt;img src=x&gt;", "100", "3", "0.00", "a|b", "700", "2", "50.00"]
    assert page.count("<table>") == 2 and page.count("<tr>") == 6


def test_training_images_that_were_not_counted_are_left_out():
    said = section(render(card(train=None)))
    assert "| lowest recall | test images | recall (%) |\n| --- | ---: | ---: |\n" in said
    assert r"| a\|b | 2 | 50.00 |" in said and "In training" not in said


def test_a_perfect_run_on_balanced_classes():
    labels = [0, 1, 2, 3, 4]
    text = render(card(labels, labels, train=(1200,) * 5))
    said = section(text)
    assert "the mean recall of the 5 classes, is 100.00 %. Macro F1 is 100.00 %." in said
    assert "Every class has 1,200 training images." in said and "Every class has 100 % recall." in said
    assert "0 % recall for" not in text and "| lowest recall |" not in said and "taken for" not in said


@pytest.mark.parametrize("classes", [11, 102])
def test_of_many_classes_the_worst_ten_are_shown(classes):
    names = [f"class {index:03}" for index in range(classes)]
    labels = [*range(classes), *range(classes), classes - 1]
    text = render(card([0] * len(labels), labels, train=(5,) * classes, names=names))
    assert f"**0 % recall for {classes - 1} of {classes} classes:**" in text
    shown = re.findall(r"^\| (class \d+) \| 5 \| (\d) \| 0\.00 \|$", section(text), re.MULTILINE)
    assert shown == [(names[-1], "3"), *((name, "2") for name in names[1:10])]
    assert section(text).count("| class 000 |") == 10


def test_a_record_without_classes_gives_the_card_that_it_had():
    arguments, results = read_records(ROOT / "model_cards" / "digits-cifar_resnet20-teacher")
    text = render(CardData(arguments, results))
    assert "### Classes" not in text and "balanced accuracy" not in text and "\n\n\n\n" not in text
