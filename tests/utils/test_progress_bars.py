"""Bars are drawn on the terminal."""

from __future__ import annotations

import io
import os
import termios

import pytest

from hf_icckd.utils.progress_bars import _is_pipe, progress_bar


def opened(kind, folder):
    """A stream, and the descriptor that reads what is written to it."""
    if kind == "file":
        path = folder / "file"
        return path.open("w"), os.open(path, os.O_RDONLY)
    reads, writes = os.openpty() if "terminal" in kind else os.pipe()
    if kind == "terminal":  # one of no columns otherwise
        termios.tcsetwinsize(writes, (24, 80))
    return os.fdopen(writes, "w"), reads


@pytest.mark.parametrize(
    ("stdout", "stderr", "drawn_on"),
    [
        ("terminal", "terminal", "stderr"),
        ("terminal", "pipe", "stdout"),
        ("terminal", "file", "stderr"),
        ("pipe", "pipe", "stderr"),
        ("file", "terminal", "stderr"),
        ("file", "terminal of no size", "stderr"),
    ],
)
def test_stdout_is_used_where_it_is_a_terminal_and_stderr_a_pipe(monkeypatch, tmp_path, stdout, stderr, drawn_on):
    """As under a launcher that reads stderr, where a bar would come late and not know the width."""
    files = {"stdout": opened(stdout, tmp_path), "stderr": opened(stderr, tmp_path)}
    for name, (stream, reads) in files.items():
        monkeypatch.setattr(f"sys.{name}", stream)
        os.set_blocking(reads, False)
    assert list(progress_bar("counting", range(3))) == [0, 1, 2]
    written = {}
    for name, (stream, reads) in files.items():
        stream.flush()
        try:
            written[name] = os.read(reads, 4096)
        except BlockingIOError:  # nothing came
            written[name] = b""
    monkeypatch.undo()
    for stream, reads in files.values():
        stream.close()
        os.close(reads)
    assert b"counting" in written.pop(drawn_on) and set(written.values()) == {b""}


@pytest.mark.parametrize("stderr", [None, io.StringIO()])
def test_streams_without_a_file_are_no_pipes(stderr):
    """As in a notebook; a program without a console has no stderr."""
    assert not _is_pipe(stderr)


def test_a_hidden_bar_only_counts(capsys):
    with progress_bar("counting", total=3, hidden=True) as bar:
        bar.update()
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_bars_of_other_processes_are_hidden(capsys, monkeypatch):
    monkeypatch.setattr("hf_icckd.utils.distributed.rank", lambda: 1)
    assert list(progress_bar("counting", range(3))) == [0, 1, 2]
    assert capsys.readouterr().err == ""
