"""Bars are drawn on the terminal."""

from __future__ import annotations

import io

import pytest

from hf_icckd.utils.progress_bars import progress_bar


class Stream(io.StringIO):
    """A file that says whether it is a terminal."""

    def __init__(self, terminal: bool):
        super().__init__()
        self.isatty = lambda: terminal


@pytest.mark.parametrize(
    ("stdout", "stderr", "drawn_on"),
    [(True, True, "stderr"), (False, True, "stderr"), (False, False, "stderr"), (True, False, "stdout")],
)
def test_stdout_is_used_where_only_that_is_a_terminal(monkeypatch, stdout, stderr, drawn_on):
    """As under a launcher that reads stderr from a pipe, where a bar would come late and not know the width."""
    streams = {"stdout": Stream(stdout), "stderr": Stream(stderr)}
    for name, stream in streams.items():
        monkeypatch.setattr(f"sys.{name}", stream)
    assert list(progress_bar("counting", range(3))) == [0, 1, 2]
    written = {name: stream.getvalue() for name, stream in streams.items()}
    assert "counting" in written.pop(drawn_on) and set(written.values()) == {""}


def test_a_hidden_bar_only_counts(capsys):
    with progress_bar("counting", total=3, hidden=True) as bar:
        bar.update()
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_bars_of_other_processes_are_hidden(capsys, monkeypatch):
    monkeypatch.setattr("hf_icckd.utils.distributed.rank", lambda: 1)
    assert list(progress_bar("counting", range(3))) == [0, 1, 2]
    assert capsys.readouterr().err == ""
