"""Progress bars on the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from tqdm.auto import tqdm

from hf_icckd.utils import distributed


def progress_bar(
    description: str | None = None, iterable: Iterable | None = None, *, hidden: bool = False, leave: bool = False,
    **options: Any,
) -> tqdm:  # fmt: skip
    """A bar of the first process, on the terminal: on stderr, or on stdout where only that is one.

    `accelerate launch` reads the stderr of what it starts from a pipe, from version 1.16 on. A bar there doesn't know
    how wide the terminal is, and lines that were printed after it may come before it.

    Args:
        description: What stands before the bar.
        iterable: What to go through; none: the bar is moved by `update`.
        hidden: Whether to show none at all.
        leave: Whether the bar stays when it is closed.
        options: Others of `tqdm.tqdm`.
    """
    elsewhere = sys.stdout is not None and sys.stdout.isatty() and not (sys.stderr is not None and sys.stderr.isatty())
    return tqdm(
        iterable, description, file=sys.stdout if elsewhere else None, dynamic_ncols=True, leave=leave,
        disable=hidden or distributed.rank() > 0, **options,
    )  # fmt: skip
