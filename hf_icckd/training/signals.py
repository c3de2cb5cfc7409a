"""Signals that ask a run to stop: it ends after the current step instead of in the middle of it."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from hf_icckd.utils import distributed

_ALWAYS = (signal.SIGTERM, signal.SIGINT)
# A closed terminal, and the warning that SLURM sends before the time is up; Windows has neither.
_UNLESS_IGNORED = ("SIGHUP", "SIGUSR1")
_INSIST_AFTER = 2.0  # seconds; launchers forward a Ctrl-C that the terminal has already sent to every process


class StopOnSignal:
    """Context in which signals call a function instead of ending the program.

    They are SIGTERM, SIGINT (Ctrl-C), SIGHUP and SIGUSR1; the last two stay ignored where they are ignored already, as
    nohup does with SIGHUP. A second Ctrl-C two seconds or more after the first interrupts at once. Only the main
    thread can take signals; in any other thread the context does nothing.

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
        """128 plus the number of the signal, as shells report it: 130 for SIGINT, 143 for SIGTERM or none.

        The same for all processes, which call this together: a signal need not have reached each of them, and a
        launcher reports one code.
        """
        return 128 + (distributed.maximum_over_ranks(self.received or 0) or signal.SIGTERM)

    def __enter__(self) -> StopOnSignal:
        with contextlib.suppress(ValueError):  # not in the main thread
            for number in _signals():
                self._before[number] = signal.signal(number, self._handle)
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
        if signal.Signals(number).name == "SIGHUP":
            _leave_closed_terminal()


def _signals() -> list[signal.Signals]:
    """The signals that ask a run to stop."""
    known = [signal.Signals[name] for name in _UNLESS_IGNORED if name in signal.Signals.__members__]
    return [*_ALWAYS, *(number for number in known if signal.getsignal(number) != signal.SIG_IGN)]


def _leave_closed_terminal() -> None:
    """Discard further output to a terminal that is gone: an error of the progress bar would prevent the checkpoint."""
    for descriptor in (1, 2):
        try:
            os.write(descriptor, b"")
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, descriptor)
            os.close(nowhere)
