"""Paired rounds: several ways to do the same, in processes of their own, measured in turn, round after round.

`run_rounds` takes any programs that follow the protocol of `benchmarks/arms/meter.py`; what they train is up to them.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import signal
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
_TAIL = 15  # lines of an arm's errors that are shown
_GRACE = 30  # seconds an arm has to leave by itself


@dataclass(frozen=True)
class Arm:
    """A program to be measured.

    Attributes:
        name: What it is called; the same name twice is fine.
        command: Its command line, started in the repository root.
        environment: Variables on top of those of the driver.
    """

    name: str
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)


class ArmFailed(RuntimeError):
    """An arm ended, or went silent, before it was told to stop."""


def run_rounds(
    arms: list[Arm],
    rounds: int,
    logs: Path,
    timeout: float = 900.0,
    say: Callable[[str], None] = print,
    together: bool = False,
) -> list[dict[str, Any]]:
    """Start every arm once, one after the other, and give each a turn in every round.

    Only the arm whose turn it is may run: the process groups of all others are stopped (SIGSTOP). Loading workers that
    fill their queues ahead, and OpenMP threads that spin for a while before they sleep, would take time from the arm
    that is measured. Arms start and warm up one at a time for the same reason, unless told otherwise. Every round has
    another order, so that neither a place in it nor what the arm before leaves behind (caches, heat) favours anyone.

    Args:
        arms: What to measure.
        rounds: Turns of each.
        logs: Folder for what the arms write to their standard error.
        timeout: Seconds an arm may take to get ready, and for a turn.
        say: Gets a line about every turn.
        together: Start all arms at once: quicker where each has cores enough to warm up beside the others.

    Returns:
        For every arm a dict of `name`; `ready`, what it said of itself; `rounds`, one dict for each round with
        `images_per_second` and what the arm measured, or None where it was gone; and `error`, None if all went well.
        An arm that fails does not keep the others from going on.
    """
    logs.mkdir(parents=True, exist_ok=True)
    records = [{"name": arm.name, "ready": None, "rounds": [None] * rounds, "error": None} for arm in arms]
    running: dict[int, _Process] = {}
    try:
        for index in range(len(arms)):
            if index not in running:
                started = range(index, len(arms)) if together else [index]
                running |= {each: _Process(arms[each], logs / f"{each}-{arms[each].name}.log") for each in started}
            process = running[index]
            with _noting_failure(index, running, records, say):
                records[index]["ready"] = process.read(timeout)
                process.pause()
        for number in range(rounds):
            for index in order(len(arms), number):
                if index not in running:
                    continue
                with _noting_failure(index, running, records, say):
                    turn = running[index].turn(timeout)
                    turn["images_per_second"] = turn["images"] / turn["seconds"]
                    records[index]["rounds"][number] = turn
                    loss = "" if turn.get("loss") is None else f", loss {turn['loss']:.3f}"
                    say(f"round {number + 1}: {arms[index].name} {turn['images_per_second']:,.0f} images/s{loss}")
    finally:
        for process in running.values():
            process.close()
    return records


def order(count: int, number: int) -> list[int]:
    """The order of so many arms in a round, the same every time."""
    return random.Random(number).sample(range(count), count)


def compare(records: list[dict[str, Any]], base: str) -> list[dict[str, Any]]:
    """Ratios of the images per second of one arm to those of every other, round by round.

    Args:
        records: From `run_rounds`.
        base: Name of the one.

    Returns:
        For every other arm a dict of `base`, `other`, `ratios` (rounds in which both ran) and their `min`, `median`
        and `max`; above 1 where the base is faster. Arms without a common round are left out.
    """
    first = next(record for record in records if record["name"] == base)
    comparisons = []
    for record in records:
        pairs = [pair for pair in zip(first["rounds"], record["rounds"], strict=True) if None not in pair]
        ratios = [one["images_per_second"] / other["images_per_second"] for one, other in pairs]
        if record is not first and ratios:
            comparisons.append({"base": base, "other": record["name"], "ratios": ratios, **summary(ratios)})
    return comparisons


def summary(values: list[float]) -> dict[str, float]:
    """Minimum, median and maximum."""
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


@contextlib.contextmanager
def _noting_failure(
    index: int, running: dict[int, _Process], records: list[dict[str, Any]], say: Callable[[str], None]
):
    """Take an arm that fails out of the running ones and write down why."""
    try:
        yield
    except ArmFailed as error:
        running.pop(index).kill()
        records[index]["error"] = str(error)
        say(f"{records[index]['name']} failed: {error}")


class _Process:
    """An arm that runs, with its whole process group."""

    def __init__(self, arm: Arm, log: Path):
        self.log = log
        with log.open("w") as errors:
            self.process = subprocess.Popen(
                arm.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=ROOT,
                env=os.environ | arm.environment,
                start_new_session=True,  # a process group of its own, so that it can be stopped with its workers
            )
        self.pending = b""

    def turn(self, timeout: float) -> dict[str, Any]:
        """One turn: let it run, wait for its numbers, stop it again."""
        self._signal(signal.SIGCONT)
        self._write("go")
        measured = self.read(timeout)
        self.pause()
        return measured

    def pause(self) -> None:
        """Stop the whole group until its next turn."""
        self._signal(signal.SIGSTOP)

    def read(self, timeout: float) -> dict[str, Any]:
        """The next message; lines that are none are passed over."""
        deadline = time.monotonic() + timeout
        while True:
            line, newline, rest = self.pending.partition(b"\n")
            if newline:
                self.pending = rest
                with contextlib.suppress(ValueError):
                    message = json.loads(line)
                    if isinstance(message, dict):
                        return message
                continue
            if not select.select([self.process.stdout], [], [], max(0, deadline - time.monotonic()))[0]:
                raise ArmFailed(f"nothing heard for {timeout:.0f} seconds\n{self._tail()}")
            piece = os.read(self.process.stdout.fileno(), 65536)
            if not piece:
                raise self._gone()
            self.pending += piece

    def close(self) -> None:
        """Tell it to stop; what is left of it after a while is killed."""
        self._signal(signal.SIGCONT)
        with contextlib.suppress(ArmFailed, subprocess.TimeoutExpired):
            self._write("stop")
            self.process.wait(_GRACE)
        self.kill()

    def kill(self) -> None:
        """End the whole group."""
        self._signal(signal.SIGKILL)
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()

    def _write(self, word: str) -> None:
        try:
            self.process.stdin.write(f"{word}\n".encode())
            self.process.stdin.flush()
        except OSError as error:
            raise self._gone() from error

    def _gone(self) -> ArmFailed:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(_GRACE)
        return ArmFailed(f"ended by itself with exit code {self.process.returncode}\n{self._tail()}")

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):  # all of the group are gone
            os.killpg(self.process.pid, number)

    def _tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-_TAIL:]
        return "\n".join(lines).replace(str(ROOT), ".")  # where the repository lies is nobody's business
