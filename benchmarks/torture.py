"""Kill a run many times, restart it each time, and compare the result with a run that was left alone.

    python benchmarks/torture.py --kills 20 --seed 0
    python benchmarks/torture.py --recipe student --workers 2 --decoded
    python benchmarks/torture.py --launcher torchrun --processes 2 --kills 4
    python benchmarks/torture.py --recipe student --targets
    python benchmarks/torture.py --kept

First every named point of a checkpoint write and of a step is hit once, then random moments follow until `--kills`
runs were killed. Model, optimiser, schedule, cache and metrics must be the same bit for bit; times and the command are
left out. Runs on the CPU in float32; without a launcher, attempts are forks of a process with everything imported.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a program, a file has only its own folder

from benchmarks.same_run import differences

# Where a run is killed on purpose; see `arm`.
POINTS = (
    "first micro-batch", "mid-file", "before fsync", "before rename", "before pruning", "mid-pruning", "mid-card",
)  # fmt: skip
# The average of the best weights, with evaluations between checkpoints, and a stop before the last step.
KEPT = [
    "--validation_fraction", "0.2", "--model_ema", "true", "--model_ema_decay", "0.8", "--eval_strategy", "steps",
    "--eval_steps", "3", "--load_best_model_at_end", "true", "--metric_for_best_model", "nll",
    "--early_stopping_patience", "2", "--early_stopping_threshold", "0.1",
]  # fmt: skip


def options(arguments: argparse.Namespace, output_dir: Path, teacher: str) -> list[str]:
    """Command line of the run: five steps of two micro-batches in an epoch, the last ones uneven."""
    words = (
        "--max_train_samples 151 --max_eval_samples 40 --model cifar_resnet8 --num_train_epochs 3 "
        "--save_strategy steps --save_steps 2 --save_total_limit 2 --logging_steps 3 --disable_tqdm true "
        "--gradient_accumulation_steps 2 --num_threads 1 --use_cpu true "
        f"--per_device_train_batch_size {16 // arguments.processes} "
        f"--dataloader_num_workers {arguments.workers} --output_dir {output_dir}"
    ).split()
    words += ["--resident_max_bytes", "0"] if arguments.decoded else []
    words += KEPT if arguments.kept else []
    if arguments.recipe == "student":
        if arguments.targets:
            words += ["--teacher_targets", "auto", "--teacher_targets_dir", f"{output_dir}-targets"]
        return [*words, "--teacher", teacher, "--accept_teacher", "true", "--objectives", "kd", "rkd:weight=0.1"]
    return [*words, "--terms", "intra_class:weight=0.5,gate=false,cache_size=8"]


def arm(point: str, hits: int) -> None:
    """Have this process killed when it comes to a named point for the n-th time."""
    from hf_icckd import session
    from hf_icckd.runs import checkpoints
    from hf_icckd.training import resumable, trainer
    from hf_icckd.utils import atomic_files

    left = [hits]

    def kill_at(where: object, name: str, is_it=lambda *args: True, before=lambda *args: None) -> None:
        original = getattr(where, name)

        def replaced(*args, **kwargs):
            if is_it(*args):
                left[0] -= 1
                if left[0] == 0:
                    before(*args)
                    os.kill(os.getpid(), signal.SIGKILL)
            return original(*args, **kwargs)

        setattr(where, name, replaced)

    calls = itertools.count(1)

    def is_second(*args) -> bool:
        return next(calls) % 2 == 0

    def is_checkpoint(path, *rest) -> bool:
        return Path(path).name.startswith("checkpoint-") and Path(path).is_dir()

    def is_block(state, path, *rest) -> bool:
        return Path(path).name.startswith(".epoch")

    def write_half(state, path, *rest) -> None:
        Path(path).write_bytes(os.urandom(4000))

    def remove_half(path, *rest) -> None:
        (Path(path) / "model.safetensors").unlink()

    places = {
        "first micro-batch": (trainer.DistillationTrainer, "compute_loss", is_second),
        "mid-file": (resumable, "save_file", lambda *args: True, write_half),
        "mid-recording": (atomic_files, "save_file", is_block, write_half),
        "before fsync": (checkpoints, "sync"),
        "before rename": (Path, "rename", is_checkpoint),
        "before pruning": (shutil, "rmtree", is_checkpoint),
        "mid-pruning": (shutil, "rmtree", is_checkpoint, remove_half),
        "mid-card": (session, "write_card"),
    }
    kill_at(*places[point])


def train(recipe: str, words: list[str], point: str = "", hits: int = 1) -> None:
    """Run a recipe in this process; with a point, until it comes there."""
    from hf_icckd import session, student, teacher
    from hf_icckd.runs import checkpoints

    if point:
        arm(point, hits)
    # Checkpoints go when a run is finished; the last one is compared, so it is copied first.
    report = session._report

    def keep_last_checkpoint(trainer, pipeline, folder, *rest):
        if trainer.is_world_process_zero():
            kept = folder.path.with_name(f"{folder.path.name}-last")
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(checkpoints.checkpoints(folder.path)[-1], kept)
        return report(trainer, pipeline, folder, *rest)

    session._report = keep_last_checkpoint
    {"teacher": teacher, "student": student}[recipe].main(words)


class Attempt:
    """A started run: a fork of this process, or a launcher with processes of its own."""

    def __init__(self, arguments: argparse.Namespace, words: list[str], log: Path, point: str = "", hits: int = 1):
        self.process, self.folder = None, Path(words[words.index("--output_dir") + 1])
        if arguments.launcher == "none":
            self.pid = os.fork()
            if self.pid == 0:
                with log.open("ab") as file:
                    os.dup2(file.fileno(), 1)
                    os.dup2(file.fileno(), 2)
                code = 1
                try:
                    os.setsid()
                    train(arguments.recipe, words, point, hits)
                    code = 0
                except SystemExit as end:
                    sys.stderr.write(f"{end}\n")
                    code = end.code if isinstance(end.code, int) else 1
                finally:
                    sys.stderr.flush()
                    os._exit(code)
            return
        launchers = {
            "python": [sys.executable],
            "accelerate": [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "1"],
            "torchrun": [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node",
                         str(arguments.processes)],
        }  # fmt: skip
        own = [__file__, "--child", json.dumps([arguments.recipe, words, point, hits])]
        with log.open("ab") as file:
            self.process = subprocess.Popen(
                [*launchers[arguments.launcher], *own], stdout=file, stderr=file, start_new_session=True
            )
        self.pid = self.process.pid

    def wait(self, timeout: float = 1e9) -> int | None:
        """Exit status (negative for a signal), or None when the time is over."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if self.process is not None:
                if self.process.poll() is not None:
                    return self.process.returncode
            else:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    return os.waitstatus_to_exitcode(status)
            time.sleep(0.02)
        return None

    def wait_for_training(self) -> int | None:
        """Wait until the folder is this run's, which is when training begins; exit status if it ends before."""
        if self.process is None:
            return None  # a fork is there at once
        begun = time.time()
        record = self.folder / "all_args.yaml"
        while not record.exists() or record.stat().st_mtime < begun:
            if (status := self.wait(0.05)) is not None:
                return status
        return None

    def kill(self, everyone: bool) -> None:
        """SIGKILL for the first process alone, or for all that it has started."""
        os.kill(self.pid, signal.SIGKILL)
        self.wait()
        if everyone:
            self.kill_rest()

    def kill_rest(self) -> None:
        """SIGKILL for what lives on: loading workers of a fork, or processes of a launcher, each its own group."""
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                same_session = os.getsid(int(process.name)) == self.pid
                own_words = str(self.folder) in (process / "cmdline").read_text() and int(process.name) != os.getpid()
                if same_session or (self.process is not None and own_words):
                    os.kill(int(process.name), signal.SIGKILL)


def kill_once(
    arguments: argparse.Namespace, words: list[str], log: Path, draw: random.Random, seconds: float, planned: str
) -> str | None:
    """Start the run and kill it, at a named point or at a random moment of so many seconds of training.

    Returns:
        What was killed; None if the run ended before.
    """
    hits = draw.randint(1, 2) if planned != "mid-card" else 1
    attempt = Attempt(arguments, words, log, planned, hits)
    if planned:
        status = attempt.wait()
        what = planned
        # A launcher has a status of its own for a process of it that was killed.
        killed = status == -signal.SIGKILL if arguments.launcher in ("none", "python") else status != 0
    else:
        what, killed = "random moment", False
        status = attempt.wait_for_training()
        if status is None:
            status = attempt.wait(draw.uniform(0.1, 0.8) * seconds)
    if status is None:
        killed = True
        first_only = draw.random() < 0.5
        attempt.kill(everyone=not first_only)
        if first_only and arguments.launcher not in ("none", "python"):
            what = "launcher"  # what it had started may still write: a second start is refused, or waits for its lock
            log.write_bytes(b"")
            code = Attempt(arguments, words, log).wait()
            refused = "another process is writing" in log.read_text()
            print(f"  launcher killed; second start {'refused' if refused else f'ended with {code}'}")
            attempt.kill_rest()
    elif status != 0 and not killed:
        raise SystemExit(f"ended with {status} at {what!r}:\n{log.read_text()[-3000:]}")
    return what if killed else None


def torture(arguments: argparse.Namespace, folder: Path) -> list[str]:
    """Compare a run that is killed `arguments.kills` times with one that is not.

    Returns:
        Names of what differs.
    """
    draw = random.Random(arguments.seed)
    log, teacher = folder / "log", f"{folder}/teacher"
    if arguments.recipe == "student":
        alone = argparse.Namespace(**vars(arguments) | {"recipe": "teacher"})
        assert Attempt(alone, options(alone, Path(teacher), ""), log).wait() == 0, log.read_text()
    start = time.monotonic()
    whole = Attempt(arguments, options(arguments, folder / "whole", teacher), log)
    whole.wait_for_training()
    training = time.monotonic()
    assert whole.wait() == 0, log.read_text()
    seconds, training_seconds = time.monotonic() - start, time.monotonic() - training
    words = options(arguments, folder / "cut", teacher)
    points = ["mid-recording", *POINTS] if arguments.targets else list(POINTS)
    kills, resumed = Counter(), set()
    while kills.total() < arguments.kills:
        log.write_bytes(b"")
        what = kill_once(arguments, words, log, draw, training_seconds, points.pop(0) if points else "")
        resumed |= {int(step) for step in re.findall(r"resuming from .*checkpoint-(\d+)", log.read_text())}
        if what is not None:
            kills[what] += 1
            continue
        print("  finished before it was killed; compared, and started over")
        if different := differences(folder / "whole", folder / "cut"):
            return different
        for path in folder.glob("cut*"):
            shutil.rmtree(path)
    log.write_bytes(b"")
    assert Attempt(arguments, words, log).wait() == 0, log.read_text()
    print(f"{kills.total()} kills: {', '.join(f'{count} {name}' for name, count in kills.items())}")
    print(f"went on from steps {', '.join(map(str, sorted(resumed))) or 'none'}; one run takes {seconds:.1f} s")
    return differences(folder / "whole", folder / "cut")


def main() -> int:
    """Torture one kind of run; the exit status is 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--recipe", choices=["teacher", "student"], default="teacher")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--decoded", action="store_true", help="decode images as they are needed")
    parser.add_argument("--targets", action="store_true", help="a student of recorded teacher outputs")
    parser.add_argument(
        "--kept", action="store_true", help="an average of the weights, the best of them, an early stop"
    )
    parser.add_argument("--launcher", choices=["none", "python", "accelerate", "torchrun"], default="none")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        train(*json.loads(arguments.child))
        return 0

    import hf_icckd.student
    import hf_icckd.teacher  # noqa: F401  (forks find it imported)

    with tempfile.TemporaryDirectory() as folder:
        different = torture(arguments, Path(folder))
    print(f"DIFFERENT: {', '.join(different)}" if different else "the same, bit for bit")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
