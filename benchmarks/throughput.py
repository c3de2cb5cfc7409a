r"""Images per second of training, ours against four other ways to do the same.

    pip install -e ".[bench]"
    python benchmarks/throughput.py --dataset uoft-cs/cifar100 --label_column fine_label --output runs/throughput
    python benchmarks/throughput.py --setting best --pair cifar_resnet32x4:cifar_resnet8x4 --batch_size 256 \
        --dataset uoft-cs/cifar100 --label_column fine_label --output runs/throughput
    python benchmarks/throughput.py --task teacher --dataset uoft-cs/cifar100 --label_column fine_label \
        --output runs/throughput
    python benchmarks/throughput.py --arms ours_replay ours bare trainer timm torchdistill --max_train_samples 10000 \
        --dataset uoft-cs/cifar100 --label_column fine_label --output runs/throughput

Arms (`benchmarks/arms/`): `ours`, a `bare` loop written by hand, plain transformers.`trainer`, `timm`'s tasks,
`torchdistill`; for students also `ours_replay`, with teacher outputs that are recorded before the first turn; for
teachers also `ours_intra` and `bare_intra`, with the intra-class term. The task `input` loads views and trains
nothing; with `--photos` (made by `benchmarks/photos.py`) there are also `ours_whole`, which decodes all pixels,
`ours_copies`, which trains on copies with a short side of 512 pixels, and `torchvision`'s decoder and transforms. All
train the same nets with the same batch, optimiser, augmentation and losses on the same images, in processes of their
own, and take turns for some rounds (`benchmarks/rounds.py`). The two settings:

- `equal`: float32 for everyone;
- `best`: what is fastest here out of float32 and bfloat16 (`--precisions`) and, if asked for, torch.compile.

First every arm is tried with what it may choose, for two turns each, and keeps what is fastest: the libraries choose
loading workers, memory layout and the system's allocator, as it is or tuned, in both settings. Ours has channels_last
and a tuned allocator, as it has by default, and chooses workers only where images are decoded as they are needed. The
bare loop gets what ours has chosen. In `OUTPUT` a JSON file with every turn and a bar chart are left; the exit code is
1 if an arm failed. A teacher's image counts once, though two views of it are trained on.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import signal
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # run as a program, a file has only its own folder on the path


from benchmarks.arms.common import Spec, device, load_pipeline  # noqa: E402
from benchmarks.report import chart, how, machine, table  # noqa: E402
from benchmarks.rounds import Arm, compare, run_rounds  # noqa: E402
from hf_icckd.utils.machine import cores  # noqa: E402

MODULES = {
    "ours": "ours",
    "ours_intra": "ours",
    "ours_replay": "ours",
    "ours_whole": "ours",
    "ours_copies": "ours",
    "bare": "bare",
    "bare_intra": "bare",
    "trainer": "trainer",
    "timm": "timm_task",
    "torchdistill": "torchdistill_kd",
    "torchvision": "torchvision_loader",
}
DEFAULT_ARMS = {
    "student": ["ours", "bare", "trainer", "timm", "torchdistill"],
    "teacher": ["ours", "ours_intra", "bare", "bare_intra", "trainer", "timm"],
    "input": ["ours", "trainer", "timm"],
}
PHOTO_ARMS = ["ours_whole", "ours_copies", "torchvision"]  # for the task input with large images
COPIES = 512  # short side of the copies
LEFT_OUT = {
    ("teacher", "ours_replay"): "teachers have no teacher",
    ("input", "torchdistill"): "its loader is torch's with torchvision's transforms, which `trainer` has too",
    ("input", "bare"): "its loader is that of ours",
    **{("input", name): "nothing is trained" for name in ("ours_intra", "ours_replay", "bare_intra")},
    ("student", "torchvision"): "it only loads",
    ("teacher", "torchvision"): "it only loads",
    ("teacher", "torchdistill"): "its data set wrappers and its training box hand over one view of an image",
    ("student", "ours_intra"): "the intra-class term is for teachers",
    ("student", "bare_intra"): "the intra-class term is for teachers",
}
SWEEP_ROUNDS = 2
# What tuning guides get from another allocator: no page is given back to the system within a step and mapped again.
KEEP_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**30), "MALLOC_TOP_PAD_": str(2**26),
}  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Measure, print a table, leave a record and a chart.

    Args:
        argv: Command line.

    Returns:
        0 if every arm ran to the end, else 1.
    """
    args = parse_arguments(argv)
    spec = spec_of(args)
    names, base = args.arms, args.base
    args.output.mkdir(parents=True, exist_ok=True)
    logs = args.output / "logs"
    resident = load_pipeline(spec).resident

    specs, sweeps = {}, {}
    for name in sorted(names, key=lambda name: name.startswith("bare")):  # which takes what ours has chosen
        own = replace(
            spec,
            intra_class=name.endswith("_intra"),
            replay=name.endswith("_replay"),
            decoding="whole" if name.endswith("_whole") else "scaled",
            image_cache=COPIES if name.endswith("_copies") else None,
        )
        if name.startswith("bare"):
            # Its precision, layout, compilation and workers are those of ours, or it would not be the limit of ours.
            model = specs.get(name.replace("bare", "ours"), specs.get("ours", own))
            specs[name] = replace(model, intra_class=own.intra_class, replay=False)
        else:
            specs[name], sweeps[name] = sweep(name, own, choices(name, args, resident), logs / f"sweep-{name}")
    arms = [make_arm(name, specs[name]) for name in names]
    records = run_rounds(arms, args.rounds, logs / "rounds", say=say, together=can_start_together(arms))

    record = {
        "setting": args.setting,
        "base": base,
        "rounds": args.rounds,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "spec": public(spec),
        "machine": machine(),
        "versions": merged_versions(records),
        "comparisons": compare(records, base),
        "further": [
            row for name in names if name.startswith("ours") and name != base for row in compare(records, name)
        ],
        "arms": [
            {**each, "spec": public(specs[each["name"]]), "sweep": sweeps.get(each["name"], [])} for each in records
        ],
        "left_out": args.left_out,
    }
    nets = f"{spec.teacher}-{spec.student}" if args.task == "student" else spec.teacher
    stem = args.output / f"{args.task}-{nets}-{args.batch_size}-{args.setting}"
    stem.with_suffix(".json").write_text(json.dumps(record, indent=2) + "\n")
    print(table(record))
    if any(any(each["rounds"]) for each in records):
        chart(record, stem.with_suffix(".png"))
    return 1 if any(each["error"] for each in records) else 0


def spec_of(args: argparse.Namespace) -> Spec:
    """What every arm trains on what, before its own choices."""
    teacher, _, student = args.pair.partition(":")
    return Spec(
        task=args.task,
        teacher=teacher,
        student=student or teacher,
        dataset=str(Path(args.dataset).resolve()) if Path(args.dataset).exists() else args.dataset,
        label_column=args.label_column,
        max_train_samples=args.max_train_samples,
        image_size=args.image_size,
        batch_size=args.batch_size,
        views=args.views,
        threads=args.threads,
        warmup_steps=args.warmup_steps,
        segment_steps=args.segment_steps,
        lead_steps=args.lead_steps,
        rounds=max(args.rounds, SWEEP_ROUNDS),
    )


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=list(DEFAULT_ARMS), default="student")
    parser.add_argument("--pair", default="cifar_resnet20:cifar_resnet8", help="TEACHER:STUDENT, names of timm")
    parser.add_argument("--dataset", required=True, help="folder, Hub id, digits or synthetic")
    parser.add_argument("--label_column")
    parser.add_argument("--max_train_samples", type=int, help="default: all")
    parser.add_argument("--image_size", type=int, help="default: small images as they are, others at 128 pixels")
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--views", type=int, choices=[1, 2], help="default: 1 for students, else 2")
    parser.add_argument(
        "--photos",
        action="store_true",
        help="input: the images are photographs; compare with decoding all pixels, with copies, with torchvision too",
    )
    parser.add_argument("--setting", choices=["equal", "best"], default="equal")
    parser.add_argument("--arms", nargs="+", choices=list(MODULES), help="default: all that the task has")
    parser.add_argument("--base", help="the arm all others are compared with; default: the first")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2], help="loading workers to try")
    parser.add_argument(
        "--precisions", nargs="+", choices=["float32", "bf16"], default=["bf16", "float32"], help="to try in `best`"
    )
    parser.add_argument(
        "--torch_compile",
        nargs="*",
        choices=["default", "reduce-overhead"],
        default=[],
        help="modes of torch.compile to try too in `best`; reduce-overhead has CUDA graphs",
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--segment_steps", type=int, default=50, help="steps of a turn that are timed")
    parser.add_argument("--warmup_steps", type=int, default=10, help="steps before the first turn")
    parser.add_argument("--lead_steps", type=int, default=6, help="steps of a turn before the clock starts")
    parser.add_argument("--threads", type=int, default=cores(), help="threads of torch in every arm")
    parser.add_argument("--output", type=Path, required=True, help="folder of the record")
    args = parser.parse_args(argv)
    if args.lead_steps <= 2 * max(args.workers):
        parser.error(f"--lead_steps must be above {2 * max(args.workers)}: workers load that many batches ahead")
    args.views = args.views or (1 if args.task == "student" else 2)
    if args.photos and args.task != "input":
        parser.error(f"--photos is for the task input, not {args.task}")
    args.arms = args.arms or DEFAULT_ARMS[args.task] + (PHOTO_ARMS if args.photos else [])
    args.left_out = {name: LEFT_OUT[args.task, name] for name in args.arms if (args.task, name) in LEFT_OUT}
    args.arms = [name for name in args.arms if name not in args.left_out]
    if not args.arms:
        parser.error(f"--arms leaves none for the task {args.task}; it has {', '.join(DEFAULT_ARMS[args.task])}")
    args.base = args.base or args.arms[0]
    if args.base not in args.arms:
        parser.error(f"--base is {args.base}, which is not among the arms: {', '.join(args.arms)}")
    return args


def choices(name: str, args: argparse.Namespace, resident: bool) -> dict[str, list[Any]]:
    """What an arm may choose, in the order in which it does; the first of each is where it starts.

    Workers come last: how many are of use depends on how long a step computes.
    """
    ours, best = name.startswith("ours"), args.setting == "best"
    computes = args.task != "input"
    return {
        "precision": args.precisions if best and computes else ["float32"],
        "channels_last": [True, False] if computes and not ours else [True],
        "compile": ["", *args.torch_compile] if best and computes else [""],
        # On a GPU the nets' memory is not the C library's.
        "keep_memory": [True] if ours or device().type == "cuda" else [False, True],
        "workers": [0] if ours and resident else args.workers,
    }


def sweep(name: str, spec: Spec, options: dict[str, list[Any]], logs: Path) -> tuple[Spec, list[dict[str, Any]]]:
    """Try one option after the other and keep what is fastest.

    Args:
        name: The arm.
        spec: What it trains.
        options: From `choices`.
        logs: Folder for its errors.

    Returns:
        The specification with the fastest choices, and a dict of `option`, `value` and the turns of every trial.
    """
    spec = replace(spec, **{option: values[0] for option, values in options.items()})
    trials = []
    for option, values in options.items():
        if len(values) == 1:
            continue
        variants = [replace(spec, **{option: value}) for value in values]
        say(f"{name}: trying {option} {', '.join(map(str, values))}")
        tried = [make_arm(name, each) for each in variants]
        records = run_rounds(tried, SWEEP_ROUNDS, logs / option, say=say, together=can_start_together(tried))
        trials += [{"option": option, "value": value, **record} for value, record in zip(values, records, strict=True)]
        # The faster turn: what disturbs a short trial makes it slower, hardly ever faster.
        speeds = [
            max((turn["images_per_second"] for turn in record["rounds"] if turn), default=0.0) for record in records
        ]
        # If all fail, the first is kept, and fails again where it is seen.
        spec = variants[speeds.index(max(speeds))]
    say(f"{name}: {how(asdict(spec))}")
    return spec, trials


def make_arm(name: str, spec: Spec) -> Arm:
    """The process of an arm."""
    # OpenMP reads this before torch.set_num_threads is called; both must say the same.
    environment = {"OMP_NUM_THREADS": str(spec.threads), "MKL_NUM_THREADS": str(spec.threads)}
    if spec.keep_memory and MODULES[name] not in ("ours", "bare"):
        environment |= KEEP_MEMORY
    command = [sys.executable, "-m", f"benchmarks.arms.{MODULES[name]}", json.dumps(asdict(spec))]
    return Arm(name, command, environment)


def can_start_together(arms: list[Arm]) -> bool:
    """Whether arms can warm up side by side: on a CPU their threads would take each other's cores."""
    return device().type == "cuda" and cores() >= 2 * len(arms)


def public(spec: Spec) -> dict[str, Any]:
    """A specification for the record, without where the data set lies on this machine."""
    return asdict(replace(spec, dataset=Path(spec.dataset).name if Path(spec.dataset).exists() else spec.dataset))


def merged_versions(records: list[dict[str, Any]]) -> dict[str, str]:
    """Versions of all libraries that took part."""
    ready = [record["ready"] for record in records if record["ready"]]
    return {"python": platform.python_version()} | {k: v for each in ready for k, v in each["versions"].items()}


def say(line: str) -> None:
    """Progress goes to the standard error, the table to the standard output."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    # Stopped arms could not end by themselves: whatever ends the driver has to go through its cleaning up.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, frame: sys.exit(128 + number))
    sys.exit(main())
