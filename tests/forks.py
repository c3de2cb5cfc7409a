"""Programs forked from a server that has imported the package: each takes milliseconds to start instead of seconds.

The server is started once a session and never computes anything: after a parallel operation of torch its forks would
hang in OpenMP. A fork takes the environment, folder and files it is given, leads a session of its own, so that it can
be signalled and killed with all it has started, and then runs what `python` would run with the same words. What
libraries read while they are imported stays as the server found it: only OMP_NUM_THREADS is applied again, and there
is no GPU.

Some tests start Python in earnest all the same:
- `python recipes/teacher.py`: test_entry_points.py, test_recipes_are_the_entry_points
- `python -m hf_icckd.teacher`: training/test_interruptions.py, test_a_read_only_output_folder_ends_in_one_line
- a file with loading workers that are not forked: training/test_interruptions.py,
  test_workers_end_with_any_start_method_and_outlive_signals
- `torchrun` and `accelerate launch`, with all they start: distributed/test_two_hosts.py
- what these two start, themselves forked: test_entry_points.py, test_accelerate_configs; distributed/test_fsdp2.py;
  training/test_interruptions.py, test_launchers_pass_a_signal_on
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, NoReturn

ROOT = Path(__file__).parents[1]
_MESSAGE = 2**17  # bytes of a request at most
# What takes longest and reads nothing of the Hub's environment; then what forks use, also late in a run.
LIBRARIES = (
    "torch", "torch.distributed.tensor", "torchvision", "torch.utils.tensorboard", "pandas", "scipy.stats",
    "matplotlib.figure", "matplotlib.backends.backend_agg",
)  # fmt: skip
PACKAGE = (
    "hf_icckd.student", "hf_icckd.teacher", "hf_icckd.evaluate", "hf_icckd.export", "hf_icckd.model_card",
    "hf_icckd.study.__main__", "hf_icckd.hub.__main__", "hf_icckd.demo.__main__", "hf_icckd.cards.pictures",
)  # fmt: skip


class Program:
    """A fork, with as much of `subprocess.Popen` as the tests need."""

    def __init__(self, words: list[str], pid: int, status: socket.socket, stdin: IO | None, stdout: IO | None):
        self.args, self.pid, self.returncode = words, pid, None
        self.stdin, self.stdout, self._status = stdin, stdout, status

    def poll(self) -> int | None:
        """Exit status, negative for a signal, or None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def wait(self, timeout: float | None = None) -> int:
        """Exit status, negative for a signal; raises subprocess.TimeoutExpired if it still runs."""
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout)
            answer = self._status.recv(64)
            assert answer, "the server of the forks is gone"
            self.returncode = int(answer)
            self._status.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Signal the first process alone."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to stop."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL for it and for all that is in its process group, also if it has ended before them."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


class Forks:
    """A server and what is asked of it.

    Args:
        modules: What it imports before the first fork.
        environment: What it is started with, and what its forks get if they are given none.
        within: Another server that this one is forked from, with what that has imported; none: a start of Python.
    """

    def __init__(self, modules: Iterable[str], environment: dict[str, str] | None = None, within: Forks | None = None):
        self.environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""} if environment is None else environment
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        words = ["-m", "tests.forks", *modules]
        with theirs:
            if within is not None:
                self.process = within.start(words, cwd=ROOT, env=self.environment, stdin=theirs)
            else:
                self.process = subprocess.Popen(
                    [sys.executable, *words], cwd=ROOT, env=self.environment, stdin=theirs, start_new_session=True
                )

    def start(
        self, words: Iterable[object], *, cwd: Path | None = None, env: dict[str, str] | None = None,
        stdin: Any = None, stdout: Any = None, stderr: Any = None,
    ) -> Program:  # fmt: skip
        """Start what `python WORDS` would run: a module after -m, code after -c, or a script.

        Files are those of this process unless others are given; there is nothing to read. As for Popen, standard input
        and output may be pipes, which carry bytes.
        """
        words = [str(word) for word in words]
        request = {"words": words, "cwd": str(cwd or Path.cwd()), "environment": env or self.environment}
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        into = out = None
        with contextlib.ExitStack() as given:
            given.enter_context(theirs)
            if stdin == subprocess.PIPE:
                stdin, into = _pipe(given, 0)
            if stdout == subprocess.PIPE:
                stdout, out = _pipe(given, 1)
            files = [stdin or given.enter_context(open(os.devnull)), stdout or 1, stderr or 2, theirs]
            numbers = [file if isinstance(file, int) else file.fileno() for file in files]
            data = json.dumps(request).encode()
            assert len(data) <= _MESSAGE, "more than the server reads at once"
            socket.send_fds(self._socket, [data], numbers)
            pid = self._socket.recv(64)
        assert pid, "the server of the forks is gone"
        return Program(words, int(pid), ours, into, out)

    def run(
        self, words: Iterable[object], *, cwd: Path | None = None, env: dict[str, str] | None = None,
        timeout: float = 300,
    ) -> subprocess.CompletedProcess:  # fmt: skip
        """Run to the end, as `subprocess.run([sys.executable, *words], capture_output=True, text=True)` does."""
        (done,) = self.run_group(words, [{}], cwd=cwd, env=env, timeout=timeout)
        return done

    def run_processes(
        self, words: Iterable[object], processes: int, *, cwd: Path | None = None, env: dict[str, str] | None = None,
        timeout: float = 300,
    ) -> list[subprocess.CompletedProcess]:  # fmt: skip
        """Run processes that find each other, as torchrun starts them; if one fails the others are told to stop."""
        return self.run_group(words, group(processes), cwd=cwd, env=env, timeout=timeout)

    def run_group(
        self, words: Iterable[object], each: list[dict[str, str]], *, cwd: Path | None, env: dict[str, str] | None,
        timeout: float,
    ) -> list[subprocess.CompletedProcess]:  # fmt: skip
        """Run a program once for each of some additions to the environment, all at the same time."""
        words = list(words)
        with contextlib.ExitStack() as stack:
            files = [[stack.enter_context(tempfile.TemporaryFile()) for _ in range(2)] for _ in each]
            programs = []
            try:
                for more, (stdout, stderr) in zip(each, files, strict=True):
                    environment = (self.environment if env is None else env) | more
                    programs.append(self.start(words, cwd=cwd, env=environment, stdout=stdout, stderr=stderr))
                _wait_for_all(programs, timeout)
            finally:
                for program in programs:
                    program.kill()
            done = zip(programs, files, strict=True)
            return [
                subprocess.CompletedProcess(program.args, program.wait(), _text(out), _text(err))
                for program, (out, err) in done
            ]

    def close(self) -> None:
        """End the server and all that it has forked."""
        self._socket.close()
        assert self.process.wait(30) == 0


def group(processes: int) -> list[dict[str, str]]:
    """What torchrun adds to the environment of so many processes on this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes), "OMP_NUM_THREADS": "1"}
    common |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [common | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)]


def _pipe(given: contextlib.ExitStack, end: int) -> tuple[int, IO[bytes]]:
    """A pipe: its reading (0) or writing (1) end to give away, closed here with the stack, and the other to keep."""
    ends = os.pipe()
    given.callback(os.close, ends[end])
    return ends[end], os.fdopen(ends[1 - end], "rb" if end else "wb")


def _wait_for_all(programs: list[Program], timeout: float) -> None:
    """Wait until all have ended; where one fails the others get a moment to end by themselves, then a signal."""
    left = list(programs)
    while left:
        by_status = {program._status: program for program in left}
        ended = select.select(list(by_status), [], [], timeout)[0]
        if not ended and len(left) == len(programs):
            raise subprocess.TimeoutExpired(programs[0].args, timeout)
        if not ended:
            for program in left:
                program.kill()
            return
        for status in ended:
            left.remove(by_status[status])
            if by_status[status].wait() != 0:
                timeout = min(timeout, 30)


def _text(file: IO[bytes]) -> str:
    """What was written, with one kind of line end, as Popen's `text=True` gives it."""
    file.seek(0)
    return file.read().decode(errors="replace").replace("\r\n", "\n").replace("\r", "\n")


# ---- in the server and its forks


def _serve(requests: socket.socket) -> dict[str, Any]:
    """Fork what is asked for, until nobody is left to ask; only forks return, with what they are to run."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    running: dict[int, socket.socket] = {}
    while True:
        ready = select.select([requests, woken], [], [])[0]
        if woken in ready:
            os.read(woken, 4096)
        for pid in list(running):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                # Whoever asked may have lost patience.
                with running.pop(pid) as asked, contextlib.suppress(BrokenPipeError):
                    asked.send(str(os.waitstatus_to_exitcode(status)).encode())
        if requests not in ready:
            continue
        data, numbers, _, _ = socket.recv_fds(requests, _MESSAGE, 4)
        if not data:
            for pid in running:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
            os._exit(0)
        status = socket.socket(fileno=numbers.pop())
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for each in (requests, status, *running.values()):
                each.close()
            for each in (woken, wake):
                os.close(each)
            return json.loads(data) | {"files": numbers}
        for number in numbers:
            os.close(number)
        running[pid] = status
        requests.send(str(pid).encode())


def _become(request: dict[str, Any]) -> None:
    """Take over environment, folder and files."""
    os.setsid()
    for place, number in enumerate(request["files"]):
        os.dup2(number, place)
        os.close(number)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    added = [place for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place and place not in sys.path]
    sys.path[1:1] = added
    if "OMP_NUM_THREADS" in os.environ and "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


def _run(words: list[str]) -> None:
    """Run what Python would run with these words."""
    kind, *rest = words
    if kind == "-m":
        sys.argv, sys.path[0] = rest, os.getcwd()
        name = rest[0]
        # An entry point that the server has imported is run once more, as a program.
        for each in (name, f"{name}.__main__"):
            sys.modules.pop(each, None) if not hasattr(sys.modules.get(each), "__path__") else None
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    elif kind == "-c":
        sys.argv, sys.path[0] = ["-c", *rest[1:]], ""
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv, sys.path[0] = words, str(Path(kind).resolve().parent)
        runpy.run_path(kind, run_name="__main__")


def _end(words: list[str]) -> NoReturn:
    """Run, and end as Python does, but for taking apart what was imported: that takes longer than many a test."""
    code, interrupted = 1, False
    try:
        _run(words)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
    except BaseException as error:  # as the interpreter: whatever it is, it is shown
        traceback.print_exception(error)
        sys.last_value = error
        interrupted = isinstance(error, KeyboardInterrupt)
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # nobody reads it any more
            stream.flush()
    if interrupted:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(code)


if __name__ == "__main__":
    for module in sys.argv[1:]:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # forks share what is there now: their collector need not look at it, which would copy it
    asked_for = socket.socket(fileno=os.dup(0))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    request = _serve(asked_for)
    _become(request)
    _end(request["words"])
