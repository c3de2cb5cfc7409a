"""Progress bars on the terminal."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Iterable
from typing import Any

from tqdm.auto import tqdm

from hf_icckd.utils import distributed

_USUAL_SIZE = {"ncols": 80, "nrows": 24}


def progress_bar(
    description: str | None = None, iterable: Iterable | None = None, *, hidden: bool = False, leave: bool = False,
    **options: Any,
) -> tqdm:  # fmt: skip
    """A bar of the first process, on stderr; on stdout where that is a terminal and stderr is a pipe.

    `accelerate launch` reads the stderr of what it starts from a pipe, from version 1.16 on. A bar there doesn't know
    how wide the terminal is, and lines that were printed after it may come before it. Whoever sends stderr to a file
    or to nowhere has said where bars go, and where stderr is closed there are none.

    Args:
        description: What stands before the bar.
        iterable: What to go through; none: the bar is moved by `update`.
        hidden: Whether to show none at all.
        leave: Whether the bar stays when it is closed.
        options: Others of `tqdm.tqdm`.
    """
    on_stdout = sys.stdout is not None and sys.stdout.isatty() and _is_pipe(sys.stderr)
    stream = sys.stdout if on_stdout else sys.stderr
    size = _USUAL_SIZE if _has_no_columns(stream) else {"dynamic_ncols": True}
    hidden = hidden or stream is None or distributed.rank() > 0
    return tqdm(iterable, description, file=stream, leave=leave, disable=hidden, **size, **options)


def _is_pipe(stream: Any) -> bool:
    with _without_file():
        return stat.S_ISFIFO(os.fstat(stream.fileno()).st_mode)
    return False


def _has_no_columns(stream: Any) -> bool:
    """Whether it is a terminal that says it has no columns, as in some containers: there tqdm would draw nothing."""
    with _without_file():
        return os.get_terminal_size(stream.fileno()).columns == 0
    return False


def _without_file() -> contextlib.suppress:
    """A stream may have no file, as in a notebook, or be none at all, and most files are no terminal."""
    return contextlib.suppress(OSError, ValueError, AttributeError)
