"""Text for people."""

from __future__ import annotations

import io
import json
import sys

import pytest
from markdown_it import MarkdownIt

from hf_icckd.utils.text import columns, escape_markdown, format_table, json_text, name_encoding_hint, shorten, show

NAMES = [
    "a|b",
    "*x*",
    "_hidden_",
    "snake_case_name",
    "[x](y)",
    "`code`",
    "<b>&lt;",
    "# 1",
    "$5 {x}",
    "~~no~~",
    "a\\*b",
]


@pytest.mark.parametrize("name", NAMES)
def test_escaped_text_is_shown_as_it_is(name):
    page = (
        MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(f"| {escape_markdown(name)} |\n| --- |\n")
    )
    shown = name.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert f"<th>{shown}</th>" in page


def test_it_stands_on_one_line_and_words_keep_their_underscores():
    assert escape_markdown("one\n\ntwo") == "one two"
    assert escape_markdown("snake_case") == "snake_case"
    assert escape_markdown("{{ 7 * 7 }} $") == r"\{\{ 7 \* 7 \}\} \$"


def test_json_is_short_where_values_are_plain():
    value = {
        "test": {"top1": 1.5, "name": "a\nb"},
        "images": [1, 2, None],
        "rows": [{"a": 1, "b": True}, {"c": [1], "d": []}],
        "empty": {},
        "nothing": [],
    }
    assert (
        json_text(value)
        == """\
{
  "test": {
    "top1": 1.5,
    "name": "a\\nb"
  },
  "images": [1, 2, null],
  "rows": [
    {"a": 1, "b": true},
    {
      "c": [1],
      "d": []
    }
  ],
  "empty": {},
  "nothing": []
}
"""
    )
    assert json.loads(json_text(value)) == value
    assert json_text({}) == "{}\n"


@pytest.mark.parametrize("value", [1e-300, 0.1 + 0.2, -0.0, 2**60, "ü\u2028", float("inf")])
def test_json_keeps_every_value(value):
    assert json.loads(json_text({"x": value, "y": [value], "z": [[value], {"w": value}]})) == {
        "x": value,
        "y": [value],
        "z": [[value], {"w": value}],
    }


def test_a_table_is_aligned_for_names_in_any_script():
    lines = format_table([("猫", "1"), ("cat", "2"), ("café", "3"), ("नमस्ते", "")], "names").splitlines()
    assert [columns(line.rstrip("123")) for line in lines[2:5]] == [6, 6, 6]
    assert lines[5] == "नमस्ते"  # no spaces at the end
    assert lines[1] == "-" * 7


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cat", "cat"),
        ("a  b\nc", "a b c"),
        ("x" * 9, "xxxxxxx…"),
        ("犬" * 5, "犬犬犬…"),
        ("a\x1b[0m", "a?[0m"),
        ("", ""),
    ],
)
def test_a_name_is_cut_to_so_many_columns(name, expected):
    assert shorten(name, 8) == expected and columns(expected) <= 8


def test_what_standard_output_cannot_hold_is_escaped(monkeypatch):
    expected = {"ascii": b"K\\xe4se \\u72ac", "utf-8": "Käse 犬".encode(), "cp1252": b"K\xe4se \\u72ac"}
    for encoding, shown in expected.items():
        written = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))
        show("Käse 犬")
        assert written.getvalue().strip() == shown
    monkeypatch.setattr(sys, "stdout", io.StringIO())  # it has no encoding
    show("Käse 犬")
    assert sys.stdout.getvalue() == "\nKäse 犬\n\n"


def test_a_locale_that_hides_names_is_named(monkeypatch):
    assert name_encoding_hint() == ""
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "ascii")
    assert "as ascii, because of the locale; set PYTHONUTF8=1" in name_encoding_hint()
