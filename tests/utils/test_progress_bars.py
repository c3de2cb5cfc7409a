"""Bars are drawn on the terminal."""

from __future__ import annotations

import io
import os
import termios

import pytest

from hf_icckd.utils.progress_bars import progress_bar


def opened(kind, folder):
    """A stream, and the descriptor that reads what is written to it."""
    if kind == "file":
        path = folder / "file"
        return path.open("w"), os.open(path, os.O_RDONLY)
    reads, writes = os.openpty() if "terminal" in kind else os.pipe()
    if kind == "terminal":  # one of no columns otherwise
        termios.tcsetwinsize(writes, (24, 80))
    return os.fdopen(writes, "w"), reads


def written(stream, reads):
    """What was written to an opened stream, which is closed."""
    stream.flush()
    os.set_blocking(reads, False)
    try:
        return os.read(reads, 4096)
    except BlockingIOError:  # nothing came
        return b""
    finally:
        stream.close()
        os.close(reads)


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
    for name, (stream, _) in files.items():
        monkeypatch.setattr(f"sys.{name}", stream)
    assert list(progress_bar("counting", range(3))) == [0, 1, 2]
    monkeypatch.undo()
    shown = {name: written(*file) for name, file in files.items()}
    assert b"counting" in shown.pop(drawn_on) and set(shown.values()) == {b""}


@pytest.mark.parametrize("stderr", [None, io.StringIO()])
def test_a_stderr_without_a_file_is_no_pipe(monkeypatch, tmp_path, stderr):
    """As in a notebook; where stderr is closed Python has none at all."""
    stdout = opened("terminal", tmp_path)
    monkeypatch.setattr("sys.stdout", stdout[0])
    monkeypatch.setattr("sys.stderr", stderr)
    assert list(progress_bar("counting", range(3))) == [0, 1, 2]
    monkeypatch.undo()
    assert written(*stdout) == b""
    assert stderr is None or "counting" in stderr.getvalue()


def test_a_hidden_bar_only_counts(capsys):
    with progress_bar("counting", total=3, hidden=True) as bar:
        bar.update()
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_bars_of_other_processes_are_hidden(capsys, monkeypatch):
    monkeypatch.setattr("hf_icckd.utils.distributed.rank", lambda: 1)
    assert list(progress_bar("counting", range(3))) == [0, 1, 2]
    assert capsys.readouterr().err == ""
