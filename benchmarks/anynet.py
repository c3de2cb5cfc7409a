"""One small net of every timm module, through all that a user does with it: does it end, and is it the same net?

    python benchmarks/anynet.py --output results/anynet-cpu            # about 80 nets; the same command resumes
    python benchmarks/anynet.py --output runs/anynet --quick           # kinds of nets that were once at fault

Each net is trained as a teacher and distilled into itself (KD, and KD with RKD), two steps each; measured by
`hf_icckd.evaluate`; loaded from its folder by this package, timm and transformers, whose logits are compared; and
exported to ONNX. A row of the table says `passed`, or `refused` before the first step with the reason, or what failed;
then the exit code is 1. A net that is refused at few pixels is tried with its own size.

Each net has a process of its own, forked from one that has imported everything and computed nothing.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a program, a file has only its own folder

import timm
import torch
from timm.models import list_models, list_modules
from transformers import AutoModelForImageClassification

from benchmarks.report import machine
from hf_icckd import evaluate, export, from_pretrained, session, student, teacher
from hf_icckd.models.architectures import default_cfg

LARGEST = 60e6  # parameters
SMALL = 128  # pixels, for nets that take any size: a third of the time of 224
TOLERANCE = 1e-5  # of logits, relative to the largest
# Shared weights, BatchNorm in the head, two heads, FLOPs that were not counted, strided 1x1 convolutions on three
# channels, another net when it is rebuilt, a token as head, LayerScale; and a plain one.
QUICK = (
    "coat_lite_tiny", "efficientvit_m0", "levit_128s", "deit_tiny_distilled_patch16_224", "pit_ti_224",
    "fastvit_t8", "repvgg_a0", "mobileone_s0", "fbnetc_100", "vit_tiny_patch16_224", "cait_xxs24_224",
    "convnext_atto", "resnet10t",
)  # fmt: skip
_COLUMNS = ("net", "module", "pixels", "parameters", "result", "seconds")


def main() -> None:
    """Try every net that has no record yet, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder for records.jsonl and README.md")
    parser.add_argument("--quick", action="store_true", help="a dozen nets, one of each kind of fault")
    parser.add_argument("--nets", nargs="+", help="names of timm instead, such as 'cifar_*'")
    parser.add_argument("--timeout", type=float, default=600, help="seconds for a net")
    parser.add_argument("--jobs", type=int, default=1, help="nets at a time")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    file = args.output / "records.jsonl"
    named = [net for pattern in args.nets or () for net in list_models(pattern)]
    if args.nets and not named:
        parser.error(f"timm has none of {' '.join(args.nets)}")
    nets = named or (QUICK if args.quick else smallest_nets(args.output / "nets.json"))
    done = {json.loads(line)["net"] for line in file.read_text().splitlines()} if file.exists() else set()
    waiting, running = [net for net in nets if net not in done], []
    while waiting or running:
        while waiting and len(running) < args.jobs:
            running.append(Trial(waiting.pop(0), args.timeout))
        time.sleep(0.2)
        for trial in [each for each in running if each.ended()]:
            running.remove(trial)
            record = trial.record()
            with file.open("a") as records:
                records.write(json.dumps(record) + "\n")
            print(f"{record['net']:<36} {record['seconds']:5.0f} s  {record['result']}", flush=True)
    records = [each for line in file.read_text().splitlines() if (each := json.loads(line))["net"] in nets]
    (args.output / "README.md").write_text(page(records))
    raise SystemExit(any(each["result"].startswith("FAILED") for each in records))


def smallest_nets(file: Path) -> list[str]:
    """Names of the smallest net of every module of timm, unless it is large.

    A file remembers them: counting takes minutes.
    """
    if not file.exists():
        found = {}
        for module in list_modules():
            sizes = {name: _parameters(name) for name in list_models(module=module) if not name.startswith("test_")}
            smallest = min(sizes, key=lambda name: sizes[name])
            if sizes[smallest] <= LARGEST:
                found[module] = smallest
        file.write_text(json.dumps(found, indent=1) + "\n")
    return list(json.loads(file.read_text()).values())


def _parameters(name: str) -> int:
    with torch.device("meta"):
        return sum(each.numel() for each in timm.create_model(name).parameters())


class Trial:
    """A net in a process of its own."""

    def __init__(self, net: str, timeout: float):
        self.net, self._deadline, self._begun = net, time.monotonic() + timeout, time.monotonic()
        self._folder = tempfile.TemporaryDirectory()
        context = multiprocessing.get_context("fork")
        self._process = context.Process(target=_run, args=(net, Path(self._folder.name)))
        self._process.start()

    def ended(self) -> bool:
        """Whether the process has left; it is killed after its time."""
        if self._process.is_alive() and time.monotonic() > self._deadline:
            self._process.kill()
            self._process.join()
        return not self._process.is_alive()

    def record(self) -> dict[str, Any]:
        """What became of the net."""
        told = json.loads((Path(self._folder.name) / "told.json").read_text())
        if "result" not in told:
            signal = -(self._process.exitcode or 0)
            late = time.monotonic() > self._deadline
            told["result"] = f"FAILED: {told.pop('stage')}: {'out of time' if late else f'ended by signal {signal}'}"
        self._folder.cleanup()
        return {"net": self.net, **told, "seconds": round(time.monotonic() - self._begun, 1)}


def _run(net: str, folder: Path) -> None:
    """Take a net through all stages, and tell a file where it is and how it ended."""
    log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    cfg = default_cfg(net)
    own = cfg.input_size[-1]
    told: dict[str, Any] = {"module": _module(net), "pixels": own if cfg.fixed_input_size else min(own, SMALL)}
    steps: list[int] = []
    note_begin = session.Stopwatch.on_train_begin

    def begins(self: Any, *args: Any, **options: Any) -> None:
        steps.append(1)
        note_begin(self, *args, **options)

    session.Stopwatch.on_train_begin = begins  # type: ignore[method-assign]

    def tell(**values: Any) -> None:
        told.update(values)
        (folder / "told.json").write_text(json.dumps(told))

    def attempt() -> str:
        try:
            for stage, run in _stages(net, told["pixels"], folder, told):
                tell(stage=stage)
                steps.clear()
                run()
            return "passed"
        except BaseException as error:
            traceback.print_exc()
            reason = " ".join(str(error).split()).removeprefix("error: ")
            if isinstance(error, SystemExit) and not steps and told["stage"] == "teacher":
                return f"refused: {reason}"
            return f"FAILED: {told['stage']}: {type(error).__name__}: {reason[:300]}"

    result = attempt()
    if result.startswith("refused") and told["pixels"] != own:  # too few pixels for its layers, perhaps
        told["pixels"] = own
        result = attempt()
    told.pop("stage")
    tell(result=result)
    os._exit(0)


def _module(net: str) -> str:
    return next(module for module in list_modules() if timm.models.is_model_in_modules(net, [module]))


def _stages(net: str, size: int, folder: Path, told: dict[str, Any]) -> list[tuple[str, Callable[[], object]]]:
    """Names of the stages, and what they do."""
    training = (
        f"--model {net} --dataset synthetic --image_size {size} --max_train_samples 16 --max_eval_samples 16 "
        "--per_device_train_batch_size 8 --per_device_eval_batch_size 8 --max_steps 2 --learning_rate 0.001 "
        "--disable_tqdm true"
    ).split()
    distilling = [*training, "--teacher", f"{folder}/teacher", "--accept_teacher", "true"]
    kd = folder / "kd"

    def measure() -> None:
        words = ["--model", str(kd), "--dataset", "synthetic", "--image_size", str(size), "--max_eval_samples", "16"]
        evaluate.main([*words, "--batch_size", "8", "--output_file", f"{folder}/measured.json"])
        told["parameters"] = json.loads((kd / "metrics.json").read_text())["cost"]["parameters"]
        reported, measured = (
            json.loads(Path(file).read_text())["test"]["nll"]
            for file in (kd / "metrics.json", folder / "measured.json")
        )
        if abs(reported - measured) > TOLERANCE * max(abs(reported), 1):
            raise AssertionError(f"the run says NLL {reported}, the folder that it wrote has {measured}")

    return [
        ("teacher", lambda: teacher.main([*training, "--output_dir", f"{folder}/teacher"])),
        ("student, kd", lambda: student.main([*distilling, "--output_dir", str(kd)])),
        (
            "student, kd and rkd",
            lambda: student.main([*distilling, "--objectives", "kd", "rkd", "--output_dir", f"{folder}/rkd"]),
        ),
        ("evaluate", measure),
        ("reload", lambda: compare_loaders(kd)),
        ("onnx", lambda: export.main([str(kd), "--num_images", "16"])),
    ]


@torch.no_grad()
def compare_loaders(folder: Path) -> None:
    """Load a folder with this package, timm and transformers, and compare the logits of random images.

    Raises:
        AssertionError: If they differ by more than `TOLERANCE`.
    """
    ours = from_pretrained(folder)
    images = torch.randint(0, 256, (2, 3, *[ours.spec.image_size] * 2), generator=torch.Generator().manual_seed(0))
    images = images.to(torch.uint8)
    pixels, expected = ours.preprocess(images), ours(images).logits
    timms = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()(pixels)
    theirs = AutoModelForImageClassification.from_pretrained(folder).eval()(pixels).logits
    for name, found in (("timm", timms), ("transformers", theirs)):
        difference = ((found - expected).abs().max() / expected.abs().max().clamp(min=1e-6)).item()
        if not difference <= TOLERANCE:
            raise AssertionError(f"logits of {name} differ by {difference:.2g}")


def page(records: list[dict[str, Any]]) -> str:
    """The table as Markdown."""
    where = machine()
    passed = sum(each["result"] == "passed" for each in records)
    refused = sum(each["result"].startswith("refused") for each in records)
    lines = [
        f"# {len(records)} nets: {passed} passed, {refused} refused before the first step, "
        f"{len(records) - passed - refused} failed",
        "",
        f"`python benchmarks/anynet.py`, {where['device']}, {where['cores']} cores, torch "
        f"{torch.__version__}, timm {timm.__version__}; {sum(each['seconds'] for each in records) / 60:.0f} minutes.",
        "",
        f"| {' | '.join(_COLUMNS)} |",
        f"|{' --- |' * len(_COLUMNS)}",
    ]
    for each in sorted(records, key=lambda record: (record["result"] == "passed", record["module"])):
        cells = [each["net"], each["module"], each["pixels"], f"{each.get('parameters', 0):,}", each["result"]]
        lines.append(f"| {' | '.join(str(cell).replace('|', '/') for cell in cells)} | {each['seconds']:.0f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
