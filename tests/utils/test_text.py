"""Text for people."""

from __future__ import annotations

import pytest
from markdown_it import MarkdownIt

from hf_icckd.utils.text import escape_markdown

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
