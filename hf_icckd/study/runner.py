"""Do the missing runs of a study, each in a process of its own, and record each.

A study's folder holds `study.yaml`, `records.jsonl` with a line for each run that ended, `logs/` and `runs/`. Runs
resume exactly, so a study may be stopped at any moment and resumed by the same command.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from hf_icckd.options.command_line import DIVERGED
from hf_icckd.options.recipes import defaults
from hf_icckd.runs.layout import METRICS_FILE
from hf_icckd.study.plan import Plan
from hf_icckd.study.records import RECORDS_FILE, Records, make_record
from hf_icckd.study.run import TARGETS, Run
from hf_icckd.study.terms import OLD_OPTIONS, meaning_of, short_specs
from hf_icckd.utils.machine import cores

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.2
_SITTING = re.compile(r"^== (\d+\.\d) s ==$", re.MULTILINE)  # appended to the log after each session
# 0 without results has been seen on a GPU shared by several processes.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
_STOPPED = (0, *(code for number in _SIGNALS for code in (128 + number, -number)))


@dataclasses.dataclass
class _Job:
    run: Run
    process: subprocess.Popen
    log: Path
    slot: int
    start: float


class StudyRunner:
    """Runs what is left of a study.

    Args:
        folder: Folder of the study.
        jobs: Number of runs at a time. Each gets its share of the cores; GPUs are assigned in turn, and several runs
            may share one, because small networks leave most of it idle.
        here: Options that only say where things are on this machine, such as `dataset`; they are not recorded.
        show: Called with a line for each run that ended.

    Raises:
        ValueError: If there are fewer cores than jobs, another process works in the folder, or a record there has
            other options than the plan.
    """

    def __init__(
        self,
        plan: Plan,
        folder: str | Path,
        jobs: int = 1,
        here: dict[str, Any] | None = None,
        show: Callable[[str], object] = logger.info,
    ):
        if not 1 <= jobs <= cores():
            raise ValueError(f"jobs is {jobs}, expected 1 to {cores()}: each needs a core of its own")
        self.plan, self.folder, self.jobs, self.here, self.show = plan, Path(folder), jobs, here or {}, show
        self.environments = [_environment(slot, jobs, torch.cuda.device_count()) for slot in range(jobs)]
        self.lock = FileLock(self.folder / ".lock")
        self.failed: dict[str, str] = {}
        self._stopping = False
        with self.owned():
            pass  # raises early if the folder is in use or its records do not fit

    def _read_records(self) -> None:
        self.records = Records(self.folder / RECORDS_FILE)
        for run in self.plan.runs(self.records.by_name):
            if run.options is not None and run.name in self.records.by_name:
                self._check_options(run)
                self._check_kin(self.records.by_name[run.name])

    def _check_options(self, run: Run) -> None:
        """Raise ValueError if a record has other options than the plan."""
        record = self.records.by_name[run.name]
        asked, now = record["options"], json.loads(json.dumps(run.options))
        if old := OLD_OPTIONS.keys() & (asked | record["arguments"]).keys():
            raise ValueError(
                f"{self.records.path} has a record with {min(old)}, an option of an earlier version; run python -m "
                f"hf_icckd.study.convert {self.records.path}"
            )
        # Naming an option or leaving it at its default is the same; what counts is its value then and now.
        was, would_be = (defaults(run.recipe) | options for options in (record["arguments"] | asked, now))
        if "terms" in was:  # the arguments of a record have them in full, as they were then
            was["terms"] = meaning_of(record["arguments"].get("terms", was["terms"]))
            would_be["terms"] = meaning_of(would_be["terms"])
        # Terms count even where neither names them: their default was another one.
        named = asked.keys() | now.keys() | (was.keys() & {"terms"})
        names = sorted(name for name in named if was.get(name) != would_be.get(name))
        if names:
            if "terms" in names:
                was["terms"], would_be["terms"] = (short_specs(each["terms"]) for each in (was, would_be))
            differing = "; ".join(f"{name} {was.get(name)!r} -> {would_be.get(name)!r}" for name in names)
            raise ValueError(
                f"{self.records.path} has a record of {run.name} with other options ({differing}); choose another "
                "--output_dir"
            )

    def _check_kin(self, record: dict[str, Any]) -> None:
        """Raise ValueError if a run had other images than the rest, or another teacher than the recorded one."""
        data = record["arguments"].get("data_fingerprint")
        for other in self.records.by_name.values():
            if data and other["arguments"].get("data_fingerprint", data) != data:
                raise ValueError(
                    f"{record['run']} was trained on other images than {other['run']}; give --dataset as before, or "
                    "choose another --output_dir"
                )
        needed = Run.of(record).needed_run
        if needed is None:
            return
        used = record["arguments"].get("teacher_fingerprint") or record["arguments"].get("start_fingerprint")
        recorded = self.records.by_name.get(needed.name, {}).get("weights")
        if used and recorded and used != recorded:
            raise ValueError(
                f"{record['run']} used another teacher than the recorded {needed.name}; choose another --output_dir, "
                "or restore the folder of that teacher"
            )

    def pending(self) -> list[Run]:
        """Runs without a record, in the order of the plan."""
        return [run for run in self.plan.runs(self.records.by_name) if run.name not in self.records.by_name]

    def run(self, seconds: float | None = None) -> bool:
        """Do runs until none is left, time is up or a signal asks to stop.

        Args:
            seconds: Time after which to stop; active runs write a checkpoint first.

        Returns:
            Whether all runs have ended.

        Raises:
            ValueError: If another process works in the folder, or, after everything else is done, if runs failed.
        """
        with self.owned():
            asking = [signal.SIGINT, signal.SIGTERM]
            if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup: outlive the terminal
                asking.append(signal.SIGHUP)
            handlers = {each: signal.signal(each, self._ask_to_stop) for each in asking}
            try:
                self._loop(None if seconds is None else time.monotonic() + seconds)
            finally:
                for each, handler in handlers.items():
                    signal.signal(each, handler)
        if self.failed:
            name, message = next(iter(self.failed.items()))
            raise ValueError(
                f"{len(self.failed)} run(s) failed, the first of them {name}: {message}; see "
                f"{self.folder / 'logs'}; the same command tries them again"
            )
        return not self.pending()

    @contextlib.contextmanager
    def owned(self) -> Iterator[None]:
        """Context manager that holds the folder's lock; it can be nested.

        Raises:
            ValueError: If another process holds the lock.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self.lock.acquire(timeout=0)
        except Timeout:
            raise ValueError(
                f"another process is working on the study in {str(self.folder)!r}; wait for it to end, or stop it"
            ) from None
        try:
            if self.lock.lock_counter == 1:  # only now: the previous owner may have added records
                self._read_records()
            yield
        finally:
            self.lock.release()

    def _ask_to_stop(self, *_: object) -> None:
        self._stopping = True

    def _loop(self, deadline: float | None) -> None:
        jobs: list[_Job] = []
        asked = False
        try:
            while True:
                if deadline is not None and time.monotonic() > deadline:
                    self._stopping = True
                while not self._stopping and len(jobs) < self.jobs:
                    run = self._next({job.run.name for job in jobs})
                    if run is None:
                        break
                    taken = {job.slot for job in jobs}
                    jobs.append(self._start(run, next(slot for slot in range(self.jobs) if slot not in taken)))
                if not jobs:
                    return
                if self._stopping and not asked:
                    _terminate(jobs)  # only once: a second signal makes a run quit without a checkpoint
                    asked = True
                time.sleep(_POLL_SECONDS)
                for job in [job for job in jobs if job.process.poll() is not None]:
                    jobs.remove(job)
                    self._end(job)
        finally:
            if not asked:
                _terminate(jobs)

    def _next(self, busy: set[str]) -> Run | None:
        """The first pending run whose teacher is finished, or that teacher if its folder is gone."""
        records = self.records.by_name
        for run in self.pending():
            if run.options is None or run.name in busy or run.name in self.failed:
                continue
            needed = run.needed_run
            if needed is None:
                return run
            if needed.name not in records or needed.name in busy or needed.name in self.failed:
                continue
            if records[needed.name]["status"] == "diverged":
                what = "its teacher" if run.teacher_run else "the teacher it starts from"
                self._keep(self._record(run, "diverged", 0.0, f"{what} diverged"))
                return self._next(busy)  # its end may have made more runs pending
            run = self._made_again(needed) or run
            if run.name not in busy and run.name not in self.failed:
                return run
        return None

    def _made_again(self, run: Run) -> Run | None:
        """The run to repeat first because the folder of a recorded run is gone; None if it is still there."""
        if (self.run_folder(run) / METRICS_FILE).is_file():
            return None
        run = self.plan.teacher(run.pair, run.teacher, run.seed)
        return run if run.needed_run is None else self._made_again(run.needed_run) or run

    def run_folder(self, run: Run) -> Path:
        """Folder of a run."""
        return self.folder / "runs" / run.name

    def _start(self, run: Run, slot: int) -> _Job:
        here = self.here | {"num_threads": int(self.environments[slot]["OMP_NUM_THREADS"]), "disable_tqdm": True}
        command = [sys.executable, "-m", *run.words(self.folder / "runs", here)]
        log = self.folder / "logs" / f"{run.name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as file:
            # In a process session of its own; otherwise Ctrl-C would reach it too and count twice.
            process = subprocess.Popen(
                command,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=os.environ | self.environments[slot],
                start_new_session=True,
            )
        return _Job(run, process, log, slot, time.monotonic())

    def _end(self, job: _Job) -> None:
        run, code = job.run, job.process.returncode
        *earlier, said = _SITTING.split(job.log.read_text(encoding="utf-8", errors="replace"))
        seconds = time.monotonic() - job.start
        with job.log.open("a", encoding="utf-8") as file:
            file.write(f"\n== {seconds:.1f} s ==\n")
        seconds += sum(map(float, earlier[1::2]))  # of earlier sessions
        if code == 0 and (self.run_folder(run) / METRICS_FILE).is_file():
            self._keep(self._record(run, "finished", seconds))
            return
        if self._stopping and code in _STOPPED:
            return
        lines = said.strip().splitlines()
        message = lines[-1] if lines else "it printed nothing"
        if code == DIVERGED:
            self._keep(self._record(run, "diverged", seconds, message))
        else:
            self._fail(
                run.name, message if message.startswith("error:") else f"ended with {code}; last line: {message}"
            )

    def _fail(self, name: str, message: str) -> None:
        self.failed[name] = message
        self.show(f"{name}: {message}")

    def _keep(self, record: dict[str, Any]) -> None:
        """Add a record. For a repeated teacher only if its weights changed and no recorded run used the old ones."""
        name, before = record["run"], self.records.by_name.get(record["run"])
        try:
            self._check_kin(record)
        except ValueError as error:
            self._fail(name, str(error))
            return
        if before is None:
            self.records.add(record)
        elif before.get("weights", record["weights"]) != record["weights"]:
            needed = [Run.of(other).needed_run for other in self.records.by_name.values()]
            if any(run is not None and run.name == name for run in needed):
                self._fail(
                    name,
                    "trained again, with other weights than its recorded students were taught by; restore the "
                    "folder of that teacher, or choose another --output_dir",
                )
                return
            self.records.add(record)  # the last line of a run counts
        if record["status"] == "finished":
            again = "" if before is None else " again"
            self.show(f"{name}: {record['metrics']['test']['top1']:.2f} % top-1 in {record['seconds']:.0f} s{again}")
        else:
            self.show(f"{name}: {record['message']}")
        self._drop_targets(Run.of(record))

    def _record(self, run: Run, status: str, seconds: float, message: str | None = None) -> dict[str, Any]:
        return make_record(run, self.run_folder(run), status, seconds, message)

    def _drop_targets(self, run: Run) -> None:
        """Remove a teacher's recorded outputs, which take the most space, once all its students are done."""
        if run.teacher_run is None or any(left.teacher_run == run.teacher_run for left in self.pending()):
            return
        for folder in self.run_folder(run.teacher_run).parent.glob(f"{TARGETS}*"):
            shutil.rmtree(folder)


def _environment(slot: int, jobs: int, gpus: int) -> dict[str, str]:
    environment = {"OMP_NUM_THREADS": str(cores() // jobs)}
    if gpus:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(gpus)))).split(",")
        environment["CUDA_VISIBLE_DEVICES"] = visible[slot % gpus]
    return environment


def _terminate(jobs: list[_Job]) -> None:
    for job in jobs:
        if job.process.poll() is None:
            job.process.terminate()
