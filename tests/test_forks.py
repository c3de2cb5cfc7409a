"""What the tests fork behaves as if Python had been started."""

from __future__ import annotations

import signal
import subprocess
import time

import pytest


@pytest.mark.parametrize(
    ("code", "status", "said"),
    [
        ("print('done')", 0, ""),
        ("raise SystemExit(3)", 3, ""),
        ("raise SystemExit('error: no')", 1, "error: no\n"),
        ("1 / 0", 1, "ZeroDivisionError: division by zero\n"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -9, ""),
        ("import os, signal; os.kill(os.getpid(), signal.SIGINT)", -2, "KeyboardInterrupt\n"),
        ("import atexit, sys; atexit.register(lambda: sys.stderr.write('bye\\n'))", 0, "bye\n"),
        ("import os; os.fork() and os.wait()", 0, ""),
    ],
)
def test_how_it_ends(forks, code, status, said):
    done = forks.run(["-c", code])
    assert done.returncode == status and done.stderr.endswith(said) and bool(done.stderr) == bool(said)
    assert done.stdout == ("done\n" if "done" in code else "")


def test_what_it_is_given(forks, tmp_path):
    (tmp_path / "own.py").write_text("import os, sys\nprint(sys.argv, os.getcwd(), os.environ['WHAT'], __name__)")
    for words in (["-m", "own"], [tmp_path / "own.py"]):
        done = forks.run([*words, "a"], cwd=tmp_path, env={"WHAT": "this"})
        assert done.stdout == f"['{tmp_path}/own.py', 'a'] {tmp_path} this __main__\n", done.stderr
    program = forks.start(["-c", "print(input() + '!')"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with program.stdin as into, program.stdout as out:
        into.write(b"hello\n")
        into.flush()
        assert out.readline() == b"hello!\n"
    assert program.wait(10) == 0


def test_it_has_one_thread_and_computes_with_as_many_as_it_is_told(forks):
    """Others would not be there any more after a fork."""
    environment = {name: value for name, value in forks.environment.items() if name != "OMP_NUM_THREADS"}
    assert forks.run(["-c", "import os; print(len(os.listdir('/proc/self/task')))"], env=environment).stdout == "1\n"
    environment["OMP_NUM_THREADS"] = "3"
    assert forks.run(["-c", "import torch; print(torch.get_num_threads())"], env=environment).stdout == "3\n"


def test_signals_and_time(forks):
    code = (
        "import subprocess, sys; subprocess.Popen(['sleep', '60']); sys.stdout.write('x'); sys.stdout.flush(); input()"
    )
    program = forks.start(["-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with program.stdin, program.stdout as out:
        assert out.read(1) == b"x" and program.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            program.wait(0.05)
        program.kill()
        assert program.wait(10) == -signal.SIGKILL
        assert out.read() == b""  # what it had started is gone too
    begun = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        forks.run(["-c", "import time; time.sleep(60)"], timeout=0.2)
    assert time.monotonic() - begun < 20


def test_if_one_of_a_group_fails_the_others_are_told_why(forks):
    code = "import os, sys; sys.exit(7 if os.environ['RANK'] == '1' else 0)"
    assert [done.returncode for done in forks.run_processes(["-c", code], 3)] == [0, 7, 0]
