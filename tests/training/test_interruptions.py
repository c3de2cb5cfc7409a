"""A run that is stopped, killed, starved or lied to goes on as if nothing had happened, or says what is wrong."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
import yaml
from filelock import FileLock
from packaging.version import Version
from transformers import TrainerCallback

from hf_icckd import TeacherTrainer, create_classifier, from_pretrained, session, teacher
from hf_icckd.options.command_line import UserError
from hf_icckd.runs import checkpoints as checkpointing
from hf_icckd.runs import folder
from hf_icckd.runs.checkpoints import checkpoints, newest_intact, staging_folder
from hf_icckd.training import resumable, trainer
from hf_icckd.training.signals import StopOnSignal
from hf_icckd.utils.atomic_files import replace_file
from tests import ROOT
from tests.conftest import deterministic_algorithms
from tests.training.test_trainers import assert_same_state, teacher_args, train_teacher

# Five steps in an epoch.
COMMAND = [
    "--max_train_samples", "160", "--max_eval_samples", "40", "--per_device_train_batch_size", "32",
    "--model", "cifar_resnet8", "--max_steps", "12", "--logging_steps", "3", "--disable_tqdm", "true",
    "--num_threads", "1", "--terms", "intra_class:gate=false", "--save_strategy", "steps", "--save_steps", "4",
    "--use_cpu", "true",
]  # fmt: skip
OPTIONS = {"max_steps": 12, "save_strategy": "steps", "save_steps": 4, "logging_steps": 3,
           "terms": ["intra_class:gate=false"], "eval_strategy": "epoch"}  # fmt: skip


class At(TrainerCallback):
    """Calls a function after a step, or before the first."""

    def __init__(self, step: int, function):
        self.step, self.function = step, function

    def on_train_begin(self, args, state, control, **kwargs):
        if self.step == 0:
            self.function()

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            self.function()


def figures(history: list[dict]) -> list[dict]:
    """Logs without what depends on the clock."""
    times = ("images_per_second", "runtime", "per_second")
    return [
        {name: value for name, value in entry.items() if not any(word in name for word in times)} for entry in history
    ]


class _Evil:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def evil(path: Path) -> bytes:
    """A pickle that makes a folder when it is loaded."""
    return pickle.dumps(_Evil(path))


def command(folder: Path, *more: str) -> list[str]:
    return [*COMMAND, "--output_dir", str(folder), *more]


def wait_for_training(program, log: Path) -> None:
    """Wait until a program has said how it computes, which it does before the first step, and a moment longer."""
    end = time.monotonic() + 60
    while "channels last, on" not in log.read_text():
        assert program.poll() is None and time.monotonic() < end, log.read_text()
        time.sleep(0.02)
    time.sleep(0.5)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing happens to, with its last checkpoint."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        report = session._report

        def keep(trainer, pipeline, owner, *rest):
            shutil.copytree(checkpoints(owner.path)[-1], folder.with_name("last"))
            return report(trainer, pipeline, owner, *rest)

        patch.setattr(session, "_report", keep)
        teacher.main(command(folder))
    return folder


def assert_same_run(folder: Path, whole: Path) -> None:
    assert (folder / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    one, other = (json.loads((each / "metrics.json").read_text()) for each in (folder, whole))
    assert figures(one["history"]) == figures(other["history"])
    assert one["test"] == other["test"]
    assert figures([one["training"]])[0].keys() == figures([other["training"]])[0].keys()


# Asked to stop


@pytest.fixture(scope="module")
def uncut(pipeline, tiny_classifier, tmp_path_factory):
    """The trainer of a run that nothing happened to."""
    with deterministic_algorithms():
        return train_teacher(pipeline, tiny_classifier(), tmp_path_factory.mktemp("uncut"), **OPTIONS)


def empty_cache(trainer):
    cache = trainer.terms["intra_class"].cache
    cache.load_state_dict(type(cache)(10, 32, cache.dim).state_dict())


@pytest.mark.parametrize("step", [0, 1, 4, 5, 7, 10, 11, 12])
def test_a_stopped_run_goes_on_as_if_never_stopped(deterministic, uncut, pipeline, tiny_classifier, tmp_path, step):
    """Also where steps, logs, checkpoints and epochs end together."""
    trainers, told = [], []

    class Told(TrainerCallback):
        def on_save(self, args, state, control, **kwargs):
            told.append(state.global_step)

    stop = At(step, lambda: trainers[0].request_stop())

    def trainer(*callbacks):
        args = teacher_args(tmp_path / "cut", **OPTIONS)
        data = pipeline.dataset("train", training=True, num_views=2)
        return TeacherTrainer(tiny_classifier(), args, data, pipeline.dataset("test"), callbacks=list(callbacks))

    trainers.append(trainer(stop, Told()))
    trainers[0].train()
    stopped_at = max(step, 1)
    assert trainers[0].state.global_step == stopped_at == told[-1] and trainers[0].stopped
    newest = newest_intact(tmp_path / "cut")
    assert newest.name == f"checkpoint-{stopped_at}"
    resumed = trainer()
    resumed.train(resume_from_checkpoint=str(newest))
    assert_same_state(uncut.model, resumed.model)
    assert_same_state(uncut.terms["intra_class"].cache, resumed.terms["intra_class"].cache)
    assert figures(uncut.state.log_history) == figures(resumed.state.log_history)


def test_a_stop_writes_no_checkpoint_that_is_there(pipeline, tiny_classifier, tmp_path, monkeypatch):
    train_teacher(pipeline, tiny_classifier(), tmp_path, **OPTIONS)
    made = []
    stop = At(0, lambda: made[0].request_stop())
    data = pipeline.dataset("train", training=True, num_views=2)
    made.append(TeacherTrainer(tiny_classifier(), teacher_args(tmp_path, **OPTIONS), data, callbacks=[stop],
                               eval_dataset=pipeline.dataset("test")))  # fmt: skip
    monkeypatch.setattr(made[0], "_save_checkpoint", lambda *_: pytest.fail("it was written again"))
    made[0].train(resume_from_checkpoint=True)
    assert made[0].stopped and made[0].ended


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129), (signal.SIGUSR1, 138)],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_signal_ends_the_program_behind_the_step(whole, tmp_path, monkeypatch, capfd, number, code):
    compute, calls = trainer.DistillationTrainer.compute_loss, []

    def interrupted(*args, **kwargs):
        calls.append(1)
        if len(calls) == 8:  # the first one is the rehearsal's
            os.kill(os.getpid(), number)
        return compute(*args, **kwargs)

    before = signal.getsignal(number)
    monkeypatch.setattr(trainer.DistillationTrainer, "compute_loss", interrupted)
    with pytest.raises(SystemExit) as ended:
        teacher.main(command(tmp_path / "run"))
    assert ended.value.code == code
    assert f"{number.name}: stopping after this step" in capfd.readouterr().err
    assert [path.name for path in checkpoints(tmp_path / "run")] == ["checkpoint-4", "checkpoint-7"]
    assert signal.getsignal(number) == before
    teacher.main(command(tmp_path / "run"))
    assert_same_run(tmp_path / "run", whole)


@pytest.mark.parametrize("save_strategy", ["steps", "no"])
def test_a_signal_in_the_last_evaluation_ends_the_program_before_it_measures(
    whole, tmp_path, monkeypatch, caplog, save_strategy
):
    """Measuring all splits may take longer than there is time. The checkpoint is written even where none is due."""
    evaluate = trainer.DistillationTrainer.evaluate

    def interrupted(made, *args, **kwargs):
        if made.state.global_step == 12:
            os.kill(os.getpid(), signal.SIGTERM)
        return evaluate(made, *args, **kwargs)

    folder = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(trainer.DistillationTrainer, "evaluate", interrupted)
        teacher.main(command(folder, "--save_strategy", save_strategy))
    assert ended.value.code == 143
    assert "stopped at step 12 of 12; the same command measures it" in caplog.text
    assert newest_intact(folder).name == "checkpoint-12" and not (folder / "model.safetensors").exists()
    with monkeypatch.context() as patch:
        patch.setattr(trainer.DistillationTrainer, "compute_loss", lambda *_, **__: pytest.fail("a step was done"))
        patch.setattr(session, "rehearse", lambda _: None)
        teacher.main(command(folder, "--save_strategy", save_strategy))
    assert_same_run(folder, whole)


def test_a_second_ctrl_c_interrupts_at_once(monkeypatch):
    asked = []
    with StopOnSignal(lambda: asked.append(1)) as stop:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)  # that of a launcher, which passes it on
        assert asked == [1]
        later = time.monotonic() + 3
        monkeypatch.setattr(time, "monotonic", lambda: later)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert stop.exit_code == 130


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_that_is_ignored_stays_ignored(number):
    """As nohup makes it; a batch system may do the same."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with StopOnSignal(lambda: pytest.fail("it was asked to stop")) as stop:
            signal.raise_signal(number)
        assert stop.received is None and signal.getsignal(number) == signal.SIG_IGN
    finally:
        signal.signal(number, before)


CLOSED_TERMINAL = """
import os, signal
from hf_icckd.training.signals import StopOnSignal

with StopOnSignal(lambda: None) as stop:
    while stop.received is None:
        signal.pause()
    for descriptor in (1, 2):
        os.write(descriptor, b"still writing")  # an error at a terminal that is gone
raise SystemExit(stop.exit_code)
"""


def test_a_closed_terminal_asks_to_stop_and_takes_no_more_text(forks):
    terminal, other_end = os.openpty()
    process = forks.start(["-c", CLOSED_TERMINAL], stdout=other_end, stderr=other_end)
    os.close(other_end)
    time.sleep(0.5)
    os.close(terminal)
    os.kill(process.pid, signal.SIGHUP)  # it leads no session of this terminal
    assert process.wait(timeout=20) == 129


LOADING_WORKERS = """
import subprocess
from hf_icckd import ImagePipeline, load_image_data
from hf_icckd.data.loading import make_loader

data = load_image_data("digits", max_train_samples=160, max_eval_samples=80)
decoded = ImagePipeline(data, resident_max_bytes=0).dataset("train", training=True)
loader = make_loader(decoded, decoded.batch_sampler(8, seed=0), num_workers=1)
batches = iter(loader)
next(batches)
(worker,) = batches._workers
for number in ("INT", "TERM", "HUP", "USR1"):
    subprocess.run(["kill", f"-{number}", str(worker.pid)], check=True)
assert len(list(batches)) == 19
batches = iter(loader)
next(batches)
(worker,) = batches._workers
worker.terminate()  # as at the end of the program, which then waits for it
worker.join(timeout=20)
assert not worker.is_alive() and worker.exitcode == 0, worker.exitcode
print("all 20 batches came")
"""


STARTED_WORKERS = """
import os, signal, subprocess, sys
from hf_icckd.data.loading import make_loader
from hf_icckd.data.sampling import BatchDataset, KeyedBatchSampler

class Rows(BatchDataset):
    def __len__(self):
        return 40
    def __getitems__(self, key):
        return key.indices

if __name__ == "__main__":
    loader = make_loader(
        Rows(), KeyedBatchSampler(40, 2, seed=0), num_workers=1, multiprocessing_context=sys.argv[1], prefetch_factor=1
    )
    batches = iter(loader)
    next(batches)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):  # to all processes of the run
        signal.signal(number, lambda *_: None)
        subprocess.run(["kill", f"-{number.value}", "--", f"-{os.getpgid(0)}"], check=False)
    assert len(list(batches)) == 19
    print("all 19 batches came", flush=True)
"""


def test_loading_workers_leave_signals_to_their_parent(forks, tmp_path):
    """In a program of its own: torch's handler for lost workers raises wherever the process is."""
    done = forks.run(["-c", LOADING_WORKERS], cwd=tmp_path)
    assert done.returncode == 0 and "all 20 batches came" in done.stdout, done.stderr


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_workers_end_with_any_start_method_and_outlive_signals(tmp_path, method):
    """A program of its own in earnest: such workers start Python, and a fork of the tests' server has no main file."""
    file = tmp_path / "loads.py"
    file.write_text(STARTED_WORKERS)
    words = [sys.executable, str(file), method]
    process = subprocess.Popen(
        words, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        said, _ = process.communicate(timeout=240)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0 and "all 19 batches came" in said, said


@pytest.mark.parametrize("launcher", ["accelerate launch", "torchrun"])
def test_launchers_pass_a_signal_on(forks, tmp_path, launcher):
    """SIGTERM to the process group under accelerate, which passes on nothing before 1.16; to torchrun alone."""
    module = {
        "accelerate launch": ["accelerate.commands.launch", "--num_processes", "1"],
        "torchrun": ["torch.distributed.run", "--standalone", "--nproc_per_node", "2"],
    }[launcher]
    log, said = tmp_path / "log", tmp_path / "said"
    said.touch()
    # Its own file: accelerate 1.16 loses what it has read of standard error and not written when the signal comes.
    program = ["sh", "-c", 'exec "$@" 2>> "$0"', said, sys.executable, ROOT / "recipes" / "teacher.py"]
    words = command(tmp_path / "run", "--max_steps", "100000", "--eval_strategy", "no", "--save_strategy", "no")
    with log.open("w") as file:
        process = forks.start(["-m", *module, "--no_python", *program, *words], stdout=file, stderr=file)
    try:
        wait_for_training(process, said)
        if launcher == "torchrun":
            os.kill(process.pid, signal.SIGTERM)
        else:
            os.killpg(process.pid, signal.SIGTERM)
        code = process.wait(timeout=60)
        for _ in range(100):  # the launcher may be gone before what it has started
            if checkpoints(tmp_path / "run"):
                break
            time.sleep(0.1)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    by_accelerate = 143 if Version(version("accelerate")) >= Version("1.16") else -signal.SIGTERM
    assert code == {"accelerate launch": by_accelerate, "torchrun": 1}[launcher], log.read_text()
    assert "SIGTERM: stopping after this step" in said.read_text()
    assert newest_intact(tmp_path / "run") is not None


# Killed


@pytest.mark.parametrize(
    "options",
    [
        ["--kills", "10"],
        ["--kills", "5", "--recipe", "student", "--decoded", "--workers", "2"],
        ["--kills", "7", "--kept"],
    ],
)
def test_a_killed_run_goes_on_as_if_never_killed(forks, options):
    done = forks.run([ROOT / "benchmarks" / "torture.py", *options])
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert "the same, bit for bit" in done.stdout
    assert int(done.stdout.split("went on from steps ")[1].split(",")[0].split(";")[0]) > 0


def test_dropout_does_not_depend_on_what_was_drawn_before(deterministic, pipeline, tmp_path):
    import timm

    from hf_icckd import ClassifierSpec, ImageClassifier

    def model():
        torch.manual_seed(0)
        net = timm.create_model("test_convnext", num_classes=10, drop_rate=0.3, drop_path_rate=0.3)
        spec = ClassifierSpec("test_convnext", tuple(pipeline.data.label_names), (0.5,) * 3, (0.5,) * 3, 32)
        return ImageClassifier(net, spec)

    options = OPTIONS | {"max_steps": 6, "save_steps": 3}
    one = train_teacher(pipeline, model(), tmp_path, **options)
    torch.manual_seed(77)
    other = train_teacher(pipeline, model(), tmp_path, resume=str(checkpoints(tmp_path)[0]), **options)
    assert_same_state(one.model, other.model)
    without = model()
    without.net.drop_rate = 0.0
    for module in without.net.modules():
        if isinstance(module, (torch.nn.Dropout, timm.layers.DropPath)):
            module.p = module.drop_prob = 0.0
    plain = train_teacher(pipeline, without, tmp_path / "plain", **options)
    assert not torch.equal(plain.model.net.head.fc.weight, one.model.net.head.fc.weight)


# Damaged checkpoints


def _truncate(folder: Path) -> None:
    file = folder / "optimizer.pt"
    file.write_bytes(file.read_bytes()[:-7])


def _flip(folder: Path) -> None:
    file = folder / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)


@pytest.fixture(scope="module")
def unreported(tmp_path_factory):
    """Folder of a run that was interrupted between its last step and its report."""
    folder = tmp_path_factory.mktemp("unreported") / "run"

    def fail(*args):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "_report", fail)
        with pytest.raises(SystemExit):
            teacher.main(command(folder, "--save_total_limit", "2"))
    return folder


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_truncate, "optimizer.pt is not what was written"),
        (_flip, "model.safetensors is not what was written"),
        (lambda folder: (folder / "trainer_state.json").unlink(), "trainer_state.json can't be read"),
        (lambda folder: (folder / "manifest.json").unlink(), "manifest.json is missing or damaged"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "manifest.json is missing or damaged"),
        (lambda folder: (folder / "manifest.json").write_text("[]"), "manifest.json is missing or damaged"),
        (lambda folder: (folder / "manifest.json").write_bytes(b'{"\xff": 1}'), "manifest.json is missing or damaged"),
    ],
)
def test_a_damaged_checkpoint_is_named_and_passed_over(whole, unreported, tmp_path, caplog, damage, message):
    folder = tmp_path / "run"
    shutil.copytree(unreported, folder)
    assert [path.name for path in checkpoints(folder)] == ["checkpoint-8", "checkpoint-12"]
    damage(folder / "checkpoint-12")
    with caplog.at_level(logging.INFO, "hf_icckd"):
        teacher.main(command(folder, "--save_total_limit", "1"))
    assert f"checkpoint-12 is damaged: {message}" in caplog.text
    assert f"resuming from {folder}/checkpoint-8" in caplog.text
    assert_same_run(folder, whole)


def test_without_a_whole_checkpoint_a_run_starts_anew(whole, tmp_path, monkeypatch, caplog):
    folder = tmp_path / "run"
    (folder / "checkpoint-4").mkdir(parents=True)
    shutil.copy(whole / "all_args.yaml", folder)
    teacher.main(command(folder))
    assert "checkpoint-4 is damaged: manifest.json is missing" in caplog.text
    assert "no checkpoint in " in caplog.text and "is intact: training starts from the beginning" in caplog.text
    assert_same_run(folder, whole)


def test_checkpoints_ahead_of_the_run_neither_count_nor_go(pipeline, tiny_classifier, tmp_path):
    """A damaged one must not push out the only intact one; intact ones of another session are not ours to remove."""
    (tmp_path / "checkpoint-11").mkdir()
    options = OPTIONS | {"save_total_limit": 1}
    train_teacher(pipeline, tiny_classifier(), tmp_path, **options | {"max_steps": 4})
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-4", "checkpoint-11"]
    assert newest_intact(tmp_path).name == "checkpoint-4"
    train_teacher(pipeline, tiny_classifier(), tmp_path, **options | {"max_steps": 3, "save_steps": 1})
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-3", "checkpoint-4", "checkpoint-11"]


def test_copies_of_checkpoints_are_not_ours(pipeline, tiny_classifier, tmp_path):
    copies = ["checkpoint-best-4", "checkpoint-keep", "checkpoint-²", "checkpoint-4.old"]
    for name in copies:
        (tmp_path / name).mkdir()
    train_teacher(pipeline, tiny_classifier(), tmp_path, **OPTIONS | {"max_steps": 4, "save_total_limit": 1})
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-4"]
    assert all((tmp_path / name).is_dir() for name in copies)


def test_the_newest_intact_checkpoint_by_the_trainer_itself(pipeline, tiny_classifier, tmp_path):
    with pytest.raises(ValueError, match="there is no intact checkpoint in"):
        train_teacher(pipeline, tiny_classifier(), tmp_path, resume=True, **OPTIONS)
    whole = train_teacher(pipeline, tiny_classifier(), tmp_path, **OPTIONS)
    _flip(checkpoints(tmp_path)[-1])
    with pytest.raises(ValueError, match=r"model\.safetensors is not what was written"):
        train_teacher(pipeline, tiny_classifier(), tmp_path, resume=str(checkpoints(tmp_path)[-1]), **OPTIONS)
    resumed = train_teacher(pipeline, tiny_classifier(seed=3), tmp_path, resume=True, **OPTIONS)
    assert_same_state(whole.model, resumed.model)
    assert_same_state(whole.terms["intra_class"].cache, resumed.terms["intra_class"].cache)


def test_a_trainer_can_be_used_again(deterministic, pipeline, tiny_classifier, tmp_path):
    """What a resume, a stop or an error left in it does not reach into the next training."""
    trainer = train_teacher(pipeline, tiny_classifier(), tmp_path / "a", **OPTIONS)
    first = figures(trainer.state.log_history)
    again = train_teacher(pipeline, tiny_classifier(), tmp_path / "a", resume=True, **OPTIONS)
    again.request_stop()
    again.classifier.load_state_dict(tiny_classifier().state_dict())
    empty_cache(again)
    again.optimizer = again.lr_scheduler = None
    again.train()
    assert again.state.global_step == 1  # it was asked to stop
    again.classifier.load_state_dict(tiny_classifier().state_dict())
    empty_cache(again)
    again.optimizer = again.lr_scheduler = None
    again.train()
    assert figures(again.state.log_history) == first


@pytest.mark.parametrize("late", [False, True])
def test_callbacks_of_others_fit_in(deterministic, pipeline, tiny_classifier, tmp_path, late):
    """One that stops in the middle of an epoch, and one that saves at the end of one, added early or late."""
    options = OPTIONS | {"save_total_limit": None}
    uncut = train_teacher(pipeline, tiny_classifier(), tmp_path / "whole", **options)

    class Stop(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            control.should_save = state.global_step == 5
            control.should_training_stop = state.global_step == 7

    def trainer(*callbacks):
        args = teacher_args(tmp_path / "cut", **options)
        data = pipeline.dataset("train", training=True, num_views=2)
        made = TeacherTrainer(
            tiny_classifier(), args, data, pipeline.dataset("test"), callbacks=None if late else list(callbacks)
        )
        for callback in callbacks if late else ():
            made.add_callback(callback)
        return made

    trainer(Stop()).train()
    assert [path.name for path in checkpoints(tmp_path / "cut")] == ["checkpoint-5", "checkpoint-7"]
    for checkpoint in (7, 5):
        resumed = trainer()
        resumed.train(resume_from_checkpoint=str(tmp_path / "cut" / f"checkpoint-{checkpoint}"))
        assert_same_state(uncut.model, resumed.model)
        assert figures(resumed.state.log_history) == figures(uncut.state.log_history)


def test_a_net_that_shares_weights_goes_on(deterministic, pipeline, tmp_path):
    """Its checkpoint holds each shared weight under all of its names; the optimiser sees it once."""
    options = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1, "per_device_train_batch_size": 4}

    def net():
        torch.manual_seed(0)
        return create_classifier("coat_lite_tiny", pipeline.data.label_names, image_size=32)

    whole = train_teacher(pipeline, net(), tmp_path, **options)
    resumed = train_teacher(pipeline, net(), tmp_path, resume=str(tmp_path / "checkpoint-1"), **options)
    assert_same_state(whole.model, resumed.model)
    groups = resumed.optimizer.param_groups
    assert sum(len(group["params"]) for group in groups) == len(list(resumed.model.parameters()))


def test_an_epoch_can_not_be_cut_short(pipeline, tiny_classifier, tmp_path):
    class Skip(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            control.should_epoch_stop = state.global_step == 3

    with pytest.raises(ValueError, match="a callback set should_epoch_stop, expected should_training_stop"):
        train_teacher(pipeline, tiny_classifier(), tmp_path, callbacks=[Skip()], **OPTIONS)


def test_intervals_may_change_when_a_run_goes_on(pipeline, tiny_classifier, tmp_path):
    train_teacher(pipeline, tiny_classifier(), tmp_path, **OPTIONS)
    more = OPTIONS | {"save_steps": 1, "logging_steps": 1, "save_total_limit": 9}
    resumed = train_teacher(pipeline, tiny_classifier(), tmp_path, resume=str(tmp_path / "checkpoint-8"), **more)
    assert [path.name for path in checkpoints(tmp_path)][-4:] == [f"checkpoint-{step}" for step in (9, 10, 11, 12)]
    steps = [entry["step"] for entry in resumed.state.log_history if "loss" in entry]
    assert steps[-4:] == [9, 10, 11, 12]


def test_a_closed_pipe_does_not_cost_the_checkpoint(forks, tmp_path):
    """A Ctrl-C ends `tee` too."""
    words = command(tmp_path / "run", "--max_steps", "100000", "--disable_tqdm", "false", "--save_strategy", "no")
    tee = subprocess.Popen(["tee", tmp_path / "log"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    with tee.stdin as pipe:
        program = forks.start(["-m", "hf_icckd.teacher", *words], stdout=pipe, stderr=pipe)
    try:
        wait_for_training(program, tmp_path / "log")
        for process in (tee, program):
            process.send_signal(signal.SIGINT)
        tee.wait(10)
        assert program.wait(30) == 130
    finally:
        program.kill()
    assert newest_intact(tmp_path / "run") is not None


@pytest.mark.parametrize(("written_as", "version"), [(99, "9.0"), (1, "0.1.0")])
def test_a_checkpoint_of_another_format_is_refused(whole, tmp_path, written_as, version):
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(whole / "all_args.yaml", folder)
    shutil.copytree(whole.with_name("last"), folder / "checkpoint-12")
    manifest = folder / "checkpoint-12" / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format": written_as, "version": version}))
    message = f"checkpoint-12 has format {written_as} of hf_icckd {version}, expected 2; resume with that version, or"
    with pytest.raises(UserError, match=message):
        teacher.main(command(folder))


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "model.safetensors", "training_state.safetensors"])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_code_in_a_checkpoint_is_not_run(whole, tmp_path, name):
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(whole / "all_args.yaml", folder)
    shutil.copytree(whole.with_name("last"), folder / "checkpoint-12")
    (folder / "checkpoint-12" / name).write_bytes(evil(tmp_path / "pwned"))
    manifest = folder / "checkpoint-12" / "manifest.json"
    values = json.loads(manifest.read_text())
    values["files"][name] = checkpointing._digest(folder / "checkpoint-12" / name)
    manifest.write_text(json.dumps(values))
    with pytest.raises(UserError, match=r"checkpoint-12 holds more than plain data .*; none of it was run"):
        teacher.main(command(folder))
    assert not (tmp_path / "pwned").exists()


def test_code_in_other_files_is_not_run(whole, tmp_path):
    (tmp_path / "run").mkdir()
    tag = f"seed: !!python/object/apply:os.mkdir ['{tmp_path}/pwned']\n"
    (tmp_path / "run" / "all_args.yaml").write_text(tag)
    with pytest.raises(UserError, match=r"all_args\.yaml is damaged"):
        teacher.main(command(tmp_path / "run"))
    (tmp_path / "config.yaml").write_text(tag)
    with pytest.raises(UserError, match="is not valid YAML"):
        teacher.main([f"{tmp_path}/config.yaml"])
    shutil.copytree(whole, tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").write_bytes(evil(tmp_path / "pwned"))
    with pytest.raises(ValueError, match="can't be loaded: SafetensorError"):
        from_pretrained(tmp_path / "model")
    assert not (tmp_path / "pwned").exists()


def test_weights_that_are_not_finite_are_never_saved(pipeline, tiny_classifier, tmp_path):
    model = tiny_classifier()

    def poison():
        with torch.no_grad():
            model.net.get_classifier().weight[3, 2] = torch.inf

    with pytest.raises(FloatingPointError, match=r"net\..*weight is not finite after step 8, so it is not saved"):
        train_teacher(pipeline, model, tmp_path, callbacks=[At(8, poison)], **OPTIONS)
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-4"]
    trainer = train_teacher(pipeline, model, tmp_path / "other", max_steps=0, terms=["none"])
    with pytest.raises(FloatingPointError, match="is not finite"):
        trainer.save_model()
    assert not (tmp_path / "other" / "model.safetensors").exists()


# Disks and folders


def test_a_full_disk_leaves_the_last_checkpoint_as_it_was(whole, tmp_path, monkeypatch):
    """A limit to the size of files, which the second checkpoint meets."""
    save, limits = resumable.ResumableTrainer._save_checkpoint, resource.getrlimit(resource.RLIMIT_FSIZE)

    def save_on_a_full_disk(trainer, *args):
        if trainer.state.global_step == 8:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
        save(trainer, *args)

    with monkeypatch.context() as patch:
        patch.setattr(resumable.ResumableTrainer, "_save_checkpoint", save_on_a_full_disk)
        try:
            with pytest.raises(
                UserError, match=r"checkpoint of step 8 can't be written to .* earlier checkpoints are"
            ):
                teacher.main(command(tmp_path / "run"))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert newest_intact(tmp_path / "run").name == "checkpoint-4"
    assert not staging_folder(tmp_path / "run").exists()
    teacher.main(command(tmp_path / "run"))
    assert_same_run(tmp_path / "run", whole)


def test_an_output_folder_that_vanishes_is_an_error(pipeline, tiny_classifier, tmp_path):
    vanish = At(6, lambda: shutil.rmtree(tmp_path / "run"))
    with pytest.raises(OSError, match=r"checkpoint of step 8 can't be written to .*No such file or directory"):
        train_teacher(pipeline, tiny_classifier(), tmp_path / "run", callbacks=[vanish], **OPTIONS)
    assert not (tmp_path / "run").exists()


def test_a_read_only_output_folder_ends_in_one_line(tmp_path):
    """In a mount namespace of its own: the superuser may write to any folder otherwise."""
    inside = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    mount = f"mount -t tmpfs -o ro none {tmp_path}"
    if shutil.which("unshare") is None or subprocess.run([*inside, mount], capture_output=True).returncode:
        pytest.skip("mount namespaces can't be made here")
    words = " ".join(command(tmp_path / "run"))
    done = subprocess.run(
        [*inside, f"{mount} && {sys.executable} -m hf_icckd.teacher {words}"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 1
    assert "Read-only file system" in done.stderr.splitlines()[-1], done.stderr
    assert "choose another folder with --output_dir" in done.stderr.splitlines()[-1]


def test_files_are_replaced_whole_or_not_at_all(tmp_path):
    file = tmp_path / "a.txt"
    replace_file(file, lambda path: path.write_text("one"))

    def fail(path):
        path.write_text("tw")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        replace_file(file, fail)
    assert file.read_text() == "one"
    assert list(tmp_path.iterdir()) == [file]


# Whose folder it is


def test_a_folder_belongs_to_one_process_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "_LOCK_SECONDS", 0.1)
    (tmp_path / "run").mkdir()
    with (
        FileLock(tmp_path / "run" / ".lock"),
        pytest.raises(UserError, match=r"another process is writing to output folder .*wait for it to end, stop it"),
    ):
        teacher.main(command(tmp_path / "run"))
    teacher.main(command(tmp_path / "run", "--max_steps", "1"))
    assert not (tmp_path / "run" / ".lock").exists()


def test_other_images_of_the_same_name_are_another_run(tmp_path, monkeypatch):
    from PIL import Image

    def make(shade):
        for label in ("a", "b"):
            (tmp_path / "data" / label).mkdir(parents=True, exist_ok=True)
            for index in range(10):
                Image.new("RGB", (8, 8), (shade, index, 0)).save(tmp_path / "data" / label / f"{index}.bmp")

    words = ["--dataset", f"{tmp_path}/data", "--model", "cifar_resnet8", "--max_steps", "4", "--disable_tqdm", "true",
             "--num_threads", "1", "--save_strategy", "steps", "--save_steps", "1", "--use_cpu", "true",
             "--output_dir", f"{tmp_path}/run"]  # fmt: skip
    make(1)
    save = resumable.ResumableTrainer._save_checkpoint

    def save_and_stop(trainer, *args):
        save(trainer, *args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(resumable.ResumableTrainer, "_save_checkpoint", save_and_stop)
        with pytest.raises(SystemExit):
            teacher.main(words)
    make(2)
    with pytest.raises(UserError, match=r"holds another run; it differs in: data_fingerprint '\w+' -> '\w+'"):
        teacher.main(words)
    make(1)  # written again, but the same
    teacher.main(words)


def stopped(folder: Path, monkeypatch, *words: str) -> None:
    """A run of eight steps that is killed after its checkpoint of step 4."""
    save = resumable.ResumableTrainer._save_checkpoint

    def save_and_stop(trainer, *args):
        save(trainer, *args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(resumable.ResumableTrainer, "_save_checkpoint", save_and_stop)
        with pytest.raises(SystemExit):
            teacher.main(command(folder, "--max_steps", "8", *words))


def test_a_run_becomes_longer_as_if_begun_so(tmp_path, monkeypatch, caplog):
    constant = ["--lr_scheduler_type", "constant_with_warmup", "--warmup_steps", "2"]
    stopped(tmp_path / "run", monkeypatch, *constant)
    caplog.clear()
    teacher.main(command(tmp_path / "run", *constant))
    assert "max_steps 8 -> 12: no step done so far depends on it" in caplog.text
    teacher.main(command(tmp_path / "whole", *constant))
    assert_same_run(tmp_path / "run", tmp_path / "whole")


def test_a_drop_of_the_learning_rate_that_moves_is_not_taken_over(tmp_path, monkeypatch):
    """The checkpoint holds the learning rate of the next step, which is that of the shorter run."""
    drops = ["--lr_milestones", "0.5"]  # of 8 steps, right after the checkpoint of step 4
    stopped(tmp_path / "run", monkeypatch, *drops)
    teacher.main(command(tmp_path / "run", *drops))
    teacher.main(command(tmp_path / "whole", *drops))
    assert_same_run(tmp_path / "run", tmp_path / "whole")


def test_another_length_of_another_schedule_is_refused_with_the_way(whole, tmp_path, monkeypatch):
    stopped(tmp_path / "run", monkeypatch)
    with pytest.raises(UserError, match=r"learning rate from step 2 on .*--start_from .* another --output_dir"):
        teacher.main(command(tmp_path / "run"))
    with pytest.raises(UserError, match=r"is finished \(max_steps 12 -> 20\); .*--start_from .*another --output_dir"):
        teacher.main(command(whole, "--max_steps", "20"))


def test_resume_never_refuses_a_folder_with_a_run(whole, tmp_path):
    with pytest.raises(UserError, match="holds a run and resume is 'never'; choose another"):
        teacher.main(command(whole, "--resume", "never"))


def test_a_damaged_record_of_options_is_an_error(tmp_path):
    for content in (b"", b"a: [", b"\xff\xfe\x00"):
        (tmp_path / "all_args.yaml").write_bytes(content)
        with pytest.raises(UserError, match=r"all_args\.yaml is damaged; restore it, or"):
            teacher.main(command(tmp_path))


def test_free_options_may_change(whole, unreported, tmp_path):
    """Logging, workers and the place may change when a run goes on; what an interrupted start left doesn't matter."""
    shutil.copytree(unreported, tmp_path / "moved")
    (tmp_path / "moved" / ".all_args.yaml.unfinished").write_text("half")
    teacher.main(command(tmp_path / "moved", "--logging_steps", "1", "--dataloader_num_workers", "2"))
    assert (tmp_path / "moved" / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert yaml.safe_load((tmp_path / "moved" / "all_args.yaml").read_text())["logging_steps"] == 1
