"""benchmarks/: the protocol between driver and arms, and what is made of the measurements. No test judges a speed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import timm

from benchmarks import anynet, decoding, pair, throughput
from benchmarks.arms.common import Spec
from benchmarks.photos import make_photos
from benchmarks.report import chart, table
from benchmarks.rounds import ROOT, Arm, compare, order, run_rounds
from hf_icckd.models.pretrained import save_pretrained
from tests.data.test_stored_image import photo

# Two steps of warm-up, turns of one step of lead and three that are timed.
DUMMY = """
import os, sys, time
from benchmarks.arms.meter import Meter, Stopped
name, trace, fails_at = sys.argv[1], sys.argv[2], int(sys.argv[3])
meter = Meter(2, 3, 1, facts={"pid": os.getpid()})
print('{"what libraries print": "is no message"}')
step = 0
try:
    while True:
        step += 1
        if step == fails_at:
            raise RuntimeError("broken on purpose")
        with open(trace, "a") as file:
            file.write(name)
        time.sleep(0.001)
        meter.step(8, step)
except Stopped:
    pass
"""


@pytest.fixture
def dummy(tmp_path):
    """Makes arms that train nothing; they leave a trace of their steps."""
    script, trace = tmp_path / "dummy.py", tmp_path / "trace"
    script.write_text(DUMMY)

    def make(name: str, fails_at: int = 0) -> Arm:
        places = {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ["PYTHONPATH"]])}
        return Arm(name, [sys.executable, str(script), name, str(trace), str(fails_at)], places)

    return make


def test_arms_take_turns(dummy, tmp_path):
    records = run_rounds([dummy("a"), dummy("b")], 3, tmp_path / "logs", say=lambda line: None)
    rounds = "".join("ab"[arm] * 4 for number in range(3) for arm in order(2, number))
    assert (tmp_path / "trace").read_text() == "aa" + "bb" + rounds
    assert {tuple(order(2, number)) for number in range(7)} == {(0, 1), (1, 0)}
    for name, record in zip("ab", records, strict=True):
        assert record["name"] == name and record["error"] is None and record["ready"]["ready"]
        # Neither warm-up nor lead are counted; the loss is that of the last step.
        assert [turn["images"] for turn in record["rounds"]] == [24, 24, 24]
        assert [turn["loss"] for turn in record["rounds"]] == [6, 10, 14]
        assert all(turn["images_per_second"] == turn["images"] / turn["seconds"] for turn in record["rounds"])
        if sys.platform == "linux":
            assert all(turn["peak_memory_bytes"] > 2**20 for turn in record["rounds"])


def test_arms_that_start_together_take_turns_too(dummy, tmp_path):
    arms = [dummy("a"), dummy("b", fails_at=1), dummy("c")]
    good, never, other = run_rounds(arms, 2, tmp_path / "logs", say=lambda line: None, together=True)
    assert all(good["rounds"]) and all(other["rounds"]) and "broken on purpose" in never["error"]
    warm, turns = (tmp_path / "trace").read_text()[:4], (tmp_path / "trace").read_text()[4:]
    assert sorted(warm) == list("aacc")
    assert turns == "".join("abc"[arm] * 4 for number in range(2) for arm in order(3, number) if arm != 1)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_an_arm_out_of_turn_stands_still(dummy, tmp_path):
    stopped = []

    def look(line: str) -> None:
        """Between two turns nobody may run."""
        deadline = time.monotonic() + 5
        states = []
        while time.monotonic() < deadline and set(states) != {"T"}:
            states = [_state(pid) for pid in _children_of_this_process()]
        stopped.append(states)

    run_rounds([dummy("a"), dummy("b")], 2, tmp_path / "logs", say=look)
    assert stopped == [["T", "T"]] * 4
    assert not list(_children_of_this_process())  # and nothing is left behind


def _children_of_this_process():
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
            command = (status.parent / "cmdline").read_text()
        except OSError:  # ended meanwhile
            continue
        if int(fields[1]) == os.getpid() and "dummy.py" in command:
            yield int(status.parent.name)


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_others_go_on_without_an_arm_that_fails(dummy, tmp_path):
    arms = [dummy("a"), dummy("b", fails_at=2 + 4 + 2), dummy("c", fails_at=1)]
    good, later, never = run_rounds(arms, 3, tmp_path / "logs", say=lambda line: None)
    assert good["error"] is None and all(good["rounds"])
    assert "exit code 1" in later["error"] and "RuntimeError: broken on purpose" in later["error"]
    assert later["rounds"][0] and later["rounds"][1:] == [None, None]
    assert "broken on purpose" in never["error"] and never["rounds"] == [None] * 3
    (comparison,) = compare([good, later, never], "a")
    assert comparison["other"] == "b" and len(comparison["ratios"]) == 1


def test_an_arm_that_hangs_fails(tmp_path):
    arm = Arm("hangs", [sys.executable, "-c", "import time; time.sleep(60)"])
    (record,) = run_rounds([arm], 1, tmp_path / "logs", timeout=0.5, say=lambda line: None)
    assert "nothing heard" in record["error"]


def test_ratios_are_those_of_rounds_in_common():
    records = [_record("ours", [100, 200, 400]), _record("bare", [200, None, 100]), _record("timm", [None] * 3)]
    assert compare(records, "ours") == [
        {"base": "ours", "other": "bare", "ratios": [0.5, 4.0], "min": 0.5, "median": 2.25, "max": 4.0}
    ]


def _record(name: str, speeds: list[float | None], error: str | None = None) -> dict:
    turn = {"seconds": 1.0, "loss": 4.6, "peak_memory_bytes": 300 * 2**20, "peak_device_memory_bytes": None}
    rounds = [None if speed is None else {**turn, "images": speed, "images_per_second": speed} for speed in speeds]
    return {"name": name, "ready": {"versions": {}}, "rounds": rounds, "error": error}


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """What the driver writes if arms report the given numbers; with None they fail."""

    def measure(speed_of, *options: str) -> tuple[int, dict]:
        def fake_rounds(arms, rounds, logs, say, together):
            records = []
            for arm in arms:
                speed = speed_of(arm.name, Spec(**json.loads(arm.command[-1])))
                records.append(_record(arm.name, [speed] * rounds, "out of luck" if speed is None else None))
            return records

        monkeypatch.setattr(throughput, "run_rounds", fake_rounds)
        code = throughput.main(["--dataset", "digits", "--output", str(tmp_path), "--rounds", "3", *options])
        (file,) = tmp_path.glob("*.json")
        return code, json.loads(file.read_text())

    return measure


def test_driver_keeps_what_is_fastest(measured, capsys):

    def speed(name: str, spec: Spec) -> float:
        return {"ours": 700, "bare": 720, "timm": 500}[name] + (
            100 * (spec.precision == "float32") - 50 * spec.channels_last - 10 * abs(spec.workers - 1)
        )

    code, record = measured(speed, "--setting", "best", "--arms", "ours", "bare", "timm")
    ours, bare, timm = (arm["spec"] for arm in record["arms"])
    assert code == 0
    assert (ours["precision"], ours["channels_last"], ours["workers"]) == ("float32", True, 0)  # images in memory
    assert (timm["precision"], timm["channels_last"], timm["workers"]) == ("float32", False, 1)
    assert bare == ours  # also where it would be faster otherwise
    tried = {trial["option"] for trial in record["arms"][2]["sweep"]}
    assert tried == {"precision", "channels_last", "keep_memory", "workers"}
    assert [row["other"] for row in record["comparisons"]] == ["bare", "timm"]
    assert "ours / arm" in capsys.readouterr().out


def test_driver_names_what_failed_and_what_is_left_out(measured, capsys):
    code, record = measured(
        lambda name, spec: None if name == "trainer" else 100.0,
        *("--task", "teacher", "--workers", "0", "--arms", "ours", "ours_intra", "bare_intra", "trainer"),
        "torchdistill",
    )
    assert code == 1
    intra = {arm["name"]: arm["spec"]["intra_class"] for arm in record["arms"]}
    assert intra == {"ours": False, "ours_intra": True, "bare_intra": True, "trainer": False}
    output = capsys.readouterr().out
    assert "trainer failed: out of luck" in output and "torchdistill left out: " in output


def test_table_and_chart(tmp_path):
    records = [_record("ours", [1200, 1000, 1100]), _record("bare", [1000, 1000, 1000]), _record("timm", [None] * 3)]
    record = {
        "setting": "equal",
        "base": "ours",
        "date": "2026-01-01T00:00:00+00:00",
        "spec": vars(Spec()),
        "machine": {"device": "some CPU", "cores": 4},
        "comparisons": compare(records, "ours"),
        "further": compare(records, "bare"),
        "arms": [{**each, "spec": vars(Spec())} for each in records],
        "left_out": {},
    }
    lines = table(record).splitlines()
    assert lines[0] == "student, cifar_resnet20 to cifar_resnet8, digits, batch 64, setting equal"
    rows = {line.split()[0]: line for line in lines[4:7] if line}
    assert "1,100 (1,000 to 1,200)" in rows["ours"] and "300 MiB" in rows["ours"] and "4.600" in rows["ours"]
    assert "1.10 (1.00 to 1.20)" in rows["bare"] and "failed" in rows["timm"]
    assert "bare / ours  0.909 (0.833 to 1.000)" in lines
    assert "The bare loop is no limit: ours is 1.10 times as fast" in lines[-1]
    chart(record, tmp_path / "chart.png")
    assert 1_000 < (tmp_path / "chart.png").stat().st_size < 200_000


@pytest.fixture
def forked_arms(forks, monkeypatch):
    """Has arms forked. What a process is to the driver stays the same: files, a group that stops, an exit code."""

    def start(command, *, stdin, stdout, stderr, cwd, env, start_new_session):
        assert command[0] == sys.executable and start_new_session
        return forks.start(command[1:], cwd=cwd, env=env, stdin=stdin, stdout=stdout, stderr=stderr)

    stand_in = SimpleNamespace(Popen=start, PIPE=subprocess.PIPE, TimeoutExpired=subprocess.TimeoutExpired)
    monkeypatch.setattr("benchmarks.rounds.subprocess", stand_in)


@pytest.mark.usefixtures("forked_arms")
def test_our_arms_and_the_bare_loop_do_the_same(tmp_path):
    spec = Spec(warmup_steps=1, segment_steps=2, lead_steps=1, rounds=1, threads=1, max_train_samples=192)
    arms = [throughput.make_arm(name, spec) for name in ("ours", "bare")]
    arms.append(throughput.make_arm("ours_replay", replace(spec, replay=True)))
    records = run_rounds(arms, 1, tmp_path, say=lambda line: None)
    for record in records:
        assert record["error"] is None
        assert record["rounds"][0]["images"] == 2 * spec.batch_size
        assert record["rounds"][0]["loss"] == pytest.approx(records[0]["rounds"][0]["loss"], rel=1e-3)


@pytest.mark.usefixtures("forked_arms")
def test_loading_alone(tmp_path):
    spec = Spec(task="input", warmup_steps=1, segment_steps=2, lead_steps=1, threads=1, max_train_samples=160)
    arms = [throughput.make_arm(name, spec) for name in throughput.DEFAULT_ARMS["input"]]
    for record in run_rounds(arms, 1, tmp_path, say=lambda line: None):
        assert record["error"] is None, record["name"]
        assert record["rounds"][0]["images"] in (64 + 32, 32 + 64, 128)  # 160 images are two batches and a half


@pytest.fixture
def photographs(tmp_path) -> Path:
    """Twelve, of 400 x 300 pixels, scaled down from larger ones."""
    (tmp_path / "large").mkdir()
    for number in range(12):
        photo(800, 600).rotate(30 * number).save(tmp_path / "large" / f"{number}.jpg")
    photo(300, 300).save(tmp_path / "large" / "small.jpg")
    count, bits = make_photos(tmp_path / "large", 0.12, tmp_path / "photos")
    assert count == 12 and 0.1 < bits < 10
    make_photos(tmp_path / "large", 0.12, tmp_path / "repeated", files=25)
    repeated = {file.name: file.read_bytes() for file in (tmp_path / "repeated").rglob("*.jpg")}
    assert len(repeated) == 25 and len(set(repeated.values())) == 12 and repeated["024.jpg"] == repeated["000.jpg"]
    with pytest.raises(ValueError, match=r"holds 0 RGB JPEGs of 2 megapixels or more, expected 8 at least"):
        make_photos(tmp_path / "large", 2, tmp_path / "none")
    return tmp_path / "photos"


@pytest.mark.usefixtures("forked_arms")
def test_loading_photographs(photographs, tmp_path, monkeypatch):
    spec = Spec(task="input", dataset=str(photographs), image_size=32, batch_size=3, views=2, threads=1)
    spec = replace(spec, warmup_steps=1, segment_steps=2, lead_steps=1)
    variants = {"ours": spec, "ours_whole": replace(spec, decoding="whole"), "torchvision": spec}
    variants["ours_copies"] = replace(spec, image_cache=64)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    arms = [throughput.make_arm(name, each) for name, each in variants.items()]
    for record in run_rounds(arms, 1, tmp_path, say=lambda line: None):
        assert record["error"] is None, record["name"]
        assert record["rounds"][0]["images"] == 6


def test_photo_arms_are_what_they_say(measured):
    _, record = measured(lambda name, spec: 1.0, "--task", "input", "--photos", "--views", "1", "--workers", "0")
    specs = {arm["name"]: arm["spec"] for arm in record["arms"]}
    assert specs["ours_whole"]["decoding"] == "whole" and specs["ours"]["decoding"] == "scaled"
    assert {name for name, spec in specs.items() if spec["image_cache"]} == {"ours_copies"}
    assert {"trainer", "timm", "torchvision"} < specs.keys() and all(spec["views"] == 1 for spec in specs.values())


def test_ways_of_decoding_are_timed_on_the_same_crops(photographs):
    measured = decoding.measure(photographs, rounds=1, most=4)
    assert measured["whole"]["difference"] == 0 and all(each["ms"]["median"] > 0 for each in measured.values())
    assert measured["torchvision"]["difference"] < 1 and measured["scaled"]["difference"] < 8
    assert re.fullmatch(r"photos: 1/1 \d.* ms, 1/2 .* ms, 1/4 .* ms, 1/8 .* ms", decoding.scales(photographs, 1, 2))


def test_the_table_of_nets_puts_those_that_fail_first():
    records = [
        {"net": "a", "module": "x", "pixels": 64, "parameters": 12345, "result": "passed", "seconds": 3.2},
        {"net": "b", "module": "y", "pixels": 64, "result": "refused: no | head", "seconds": 1.0},
        {"net": "c", "module": "z", "pixels": 64, "result": "FAILED: onnx: ValueError: no", "seconds": 56.0},
    ]
    lines = anynet.page(records).splitlines()
    assert lines[0] == "# 3 nets: 1 passed, 1 refused before the first step, 1 failed"
    rows = [line for line in lines if line.startswith("| ")][2:]
    assert [row.split(" | ")[0] for row in rows] == ["| b", "| c", "| a"]
    assert "no / head" in rows[0] and "12,345" in rows[2]


def test_the_loaders_of_a_net_are_compared(tiny_classifier, tmp_path):
    save_pretrained(tmp_path, tiny_classifier())
    anynet.compare_loaders(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["model_args"] = {"block": "other"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises((ValueError, TypeError)):
        anynet.compare_loaders(tmp_path)


def test_every_quick_net_is_one_of_timm():
    assert set(anynet.QUICK) <= set(timm.list_models())


def test_a_row_of_a_pair_stands_alone_after_a_short_schedule(tmp_path, monkeypatch, capsys):
    commands = []

    def train(role, folder, *words):
        commands.append([role, folder.name, *map(str, words)])
        return 50.0 + len(commands)

    monkeypatch.setattr(pair, "train", train)
    words = ["pair.py", "--pair", "vgg13-vgg8", "--dataset", "here", "--output", str(tmp_path), "--seeds", "2"]
    monkeypatch.setattr("sys.argv", [*words, "--epochs", "3"])
    pair.main()
    short = capsys.readouterr().out
    assert "3 epochs: a short schedule" in short and "RepDistiller" not in short and "± " in short
    assert [name for _, name, *_ in commands[:5]] == ["labels", "teacher-ce", "kd-ce", "teacher-term", "kd-term"]
    assert commands[2][0] == "student" and f"{tmp_path}/seed-0/teacher-ce" in commands[2]
    assert json.loads((tmp_path / "row.json").read_text())["top1"]["labels"] == [51.0, 56.0]
    monkeypatch.setattr("sys.argv", words)
    pair.main()
    assert "| RepDistiller's table | 70.36 | 74.64 | 72.98 |  |  |" in capsys.readouterr().out
