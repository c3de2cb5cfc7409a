"""A small study whose records are made up, for tests of what is made of records."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

from hf_icckd.study.parts import Comparison, Student, Sweep
from hf_icckd.study.plan import Plan
from hf_icckd.study.run import ALONE, Run
from hf_icckd.study.terms import meaning_of

EPOCHS = 30


def make_plan(**changes: Any) -> Plan:
    """Five teachers, a tuned and an untuned student, nets without a teacher, three sweeps, one pair."""
    values = {
        "title": "A study that was made up",
        "text": "Do teachers with the intra-class term make better students?",
        "seeds": [0, 1, 2, 3, 4],
        "options": {"dataset": "digits", "num_train_epochs": EPOCHS, "validation_fraction": 0.1},
        "pairs": {"small": {"teacher": "cifar_resnet20", "student": "cifar_resnet8"}},
        "teachers": {
            "ce": {"terms": "none"},
            "intra": {"terms": "intra_class:weight=0.05"},
            "one_view": {"terms": "none", "num_views": 1, "num_train_epochs": 2 * EPOCHS},
            "smooth": {"terms": "none", "label_smoothing": 0.1},
            "early": {"terms": "none", "num_train_epochs": EPOCHS // 3},
        },
        "students": {
            "kd": Student({"objectives": ["kd:temperature=4"]}, [{"ce_weight": 1.0}, {"ce_weight": 0.1}]),
            "rkd": Student({"objectives": ["kd", "rkd"]}, [{"ce_weight": 1.0}, {"ce_weight": 0.5}]),
        },
        "alone": {"ce": {}},
        "comparison": Comparison("intra", "ce", "kd"),
        "tuning_seeds": [100],
        "sweeps": {
            "weight": Sweep("intra", "intra_class.weight", [0, 0.01, 0.05, 0.5, 1.0], [0, 1], ["kd"], "weight"),
            "gate": Sweep("intra", "intra_class.gate", [True, False], [0, 1], ["kd"], "margin gate"),
            "cache": Sweep("intra", "intra_class.cache_size", [0, 8, 32], [0, 1], ["kd", "rkd"]),
        },
        "labels": {"ce": "cross-entropy", "intra": "intra-class", "one_view": "one view, twice as long", "kd": "KD"},
    }
    return Plan(**(values | changes))


def make_records(plan: Plan, effect: float = 0.4, fine: bool = False) -> dict[str, dict]:
    """Records of all runs of a plan, trials and those that follow from them too.

    Args:
        plan: The plan.
        effect: What soft-label information does to a student's top-1, in points per 0.1 nats.
        fine: Whether there are finer classes to probe.
    """
    records: dict[str, dict] = {}
    while missing := [run for run in plan.runs(records) if run.options is not None and run.name not in records]:
        records |= {run.name: make_record(run, plan, effect, fine) for run in missing}
    return records


def make_record(run: Run, plan: Plan, effect: float = 0.4, fine: bool = False) -> dict:
    """Metrics that look like those of real runs and depend on the run's name alone."""
    random = np.random.default_rng(zlib.crc32(run.name.encode()))
    teacher = _teacher(plan, run)
    if run.student is None:
        test, train = (
            teacher,
            teacher | {"top1": teacher["train_top1"], "nc1": teacher["nc1"] / 6, "unread_variance": 0.3},
        )
    else:
        gain = effect * 10 * (teacher["soft_label_information_matched"] - 0.45) if run.teacher != ALONE else -1.5
        top1 = 66.0 + gain + 0.3 * random.normal() - 0.3 * (run.trial or 0)
        test = teacher | {"top1": top1, "agreement": 72 + 3 * gain + random.normal(), "kl_to_teacher": 0.4}
        train = test | {"top1": top1 + 8}
    metrics = {
        "test": {"images": 1000} | test,
        "validation": {"images": 500} | test,
        "train": {"images": 4500} | train,
    }
    metrics["cost"] = {"parameters": 83892, "flops": 6263296, "latency_ms": 0.8}
    metrics["environment"] = {"hf_icckd": "0.1.0", "torch": "2.14.1", "timm": "1.0.31", "transformers": "5.23.0"}
    metrics["environment"] |= {"python": "3.11.7", "device": "CPU", "processes": 1, "threads": 2}
    if fine:
        probed = 38 + 30 * teacher["soft_label_information_matched"] + (0 if run.student is None else random.normal())
        metrics["fine_probe"] = {"embeddings": probed + 6, "soft_labels": probed, "chance": 20.0}
    epochs = run.options.get("num_train_epochs", EPOCHS)
    seconds = 8 * epochs * (0.55 if run.options.get("num_views") == 1 or run.student else 1)
    metrics["training"] = {"seconds_of_last_session": 0.9 * seconds, "first_step_of_last_session": 0}
    return {
        **{"run": run.name, "pair": run.pair, "teacher": run.teacher, "student": run.student, "seed": run.seed},
        **{"trial": run.trial, "status": "finished", "message": None, "options": run.options},
        **{"arguments": run.options | {"output_dir": run.name}, "metrics": metrics},
        "curve": _curve(epochs, test["top1"], _term(run.options).get("gate", True), random),
        "seconds": seconds * random.uniform(0.97, 1.05),
        "finished": "2026-11-24T18:00:00",
    }


def diverge(record: dict) -> dict:
    """The record of the same run, had it diverged."""
    return record | {"status": "diverged", "message": "loss is nan at step 12, expected a finite one", "metrics": {}}


def _teacher(plan: Plan, run: Run) -> dict[str, float]:
    """Metrics of the teacher of a run, or of a student of that name if it has none."""
    random = np.random.default_rng(zlib.crc32(f"{run.pair}{run.teacher}{run.seed}".encode()))
    options = {} if run.teacher == ALONE else plan.teacher_variants()[run.teacher]
    weight, epochs = _term(options).get("weight", 0.0), options.get("num_train_epochs", EPOCHS)
    ratio = 0.42 + 0.25 * weight + 0.01 * random.normal() + (0.1 if epochs < EPOCHS else 0)
    matched = 0.46 + 0.25 * (ratio - 0.42) + 0.01 * random.normal()
    matched -= 0.06 if options.get("label_smoothing") else 0
    return {
        "top1": 71.5 - 2 * weight + 0.25 * random.normal() - (5 if epochs < EPOCHS else 0),
        "train_top1": 99.6 - 2 * weight - (20 if epochs < EPOCHS else 0),
        **{"top5": 92.0, "nll": 1.1, "ece": 0.07, "effective_rank": 60.0, "matched_temperature": 2.4},
        **{"intra_class_distance": 0.4 * ratio, "inter_class_distance": 0.4, "distance_ratio": ratio},
        **{"nc1": 3 + 8 * (ratio - 0.4), "soft_label_information": 1.6 * matched, "non_target_entropy": 1.2},
        "soft_label_information_t4": 0.5 * matched,
        "soft_label_information_matched": matched,
        "mean_entropy": 0.6 + 0.2 * weight,
    }


def _term(options: dict[str, Any]) -> dict[str, Any]:
    return meaning_of(options.get("terms", "none")).get("intra_class", {})


def _curve(epochs: int, top1: float, gate: bool, random: np.random.Generator) -> list[dict[str, float]]:
    noise = 0.6 if gate else 4.0
    return [
        {
            "epoch": float(epoch),
            "eval_top1": top1 * (1 - 0.8 * np.exp(-5 * epoch / epochs))
            + noise * random.normal() * (1 - epoch / epochs),
            "loss": (loss := 0.1 + 4 * np.exp(-5 * epoch / epochs) + 0.1 * noise * abs(random.normal())),
            "loss/ce": 0.9 * loss,
        }
        for epoch in range(1, epochs + 1)
    ]
