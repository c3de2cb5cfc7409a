"""Signals that ask a run to stop: it ends after the current step instead of in the middle of it."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_INSIST_AFTER = 2.0  # seconds; launchers forward a Ctrl-C that the terminal has already sent to every process


class StopOnSignal:
    """Context in which SIGTERM and SIGINT (Ctrl-C) call a function instead of ending the program.

    A second Ctrl-C two seconds or more after the first interrupts at once. Only the main thread can take signals; in
    any other thread the context does nothing.

    Args:
        request_stop: Called, in the main thread, when a signal arrives.

    Attributes:
        received: The first signal that arrived.
    """

    def __init__(self, request_stop: Callable[[], object]):
        self.request_stop = request_stop
        self.received: signal.Signals | None = None
        self._when = 0.0
        self._before: dict[int, Any] = {}

    @property
    def exit_code(self) -> int:
        """128 plus the number of the signal, as shells report it: 130 for SIGINT, 143 for SIGTERM or none here."""
        return 128 + (self.received or signal.SIGTERM)

    def __enter__(self) -> StopOnSignal:
        try:
            self._before = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        except ValueError:  # not in the main thread
            self._before = {}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            if handler is not None:  # a handler that was not set from Python can't be restored
                signal.signal(number, handler)

    def _handle(self, number: int, frame: object) -> None:
        now = time.monotonic()
        if self.received is None:
            self.received, self._when = signal.Signals(number), now
            self.request_stop()
            # Not through sys.stderr, which may be in use; and a Ctrl-C may have ended whoever reads from us.
            with contextlib.suppress(OSError):
                os.write(2, f"\n{self.received.name}: stopping after this step, with a checkpoint\n".encode())
        elif number == signal.SIGINT and now - self._when > _INSIST_AFTER:
            raise KeyboardInterrupt
