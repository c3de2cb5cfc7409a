"""Protocol of a study: what was run and how, what is missing, where, and by which commands."""

from __future__ import annotations

import shlex
from collections import Counter
from typing import Any

from hf_icckd.study.plan import Plan, best_trial
from hf_icckd.study.report.cells import code, escape, label, table
from hf_icckd.study.report.controls import keeps_best, option, teacher_options
from hf_icckd.study.run import ALONE, Run

# ---- protocol


def protocol_table(plan: Plan, records: dict[str, dict]) -> str:
    """Data, networks, epochs, seeds, tuning, and which metrics count."""
    validation = option(plan.options | plan.student_options, "validation_fraction")
    nets = [f"{escape(pair)}: {code(nets['teacher'])} to {code(nets['student'])}" for pair, nets in plan.pairs.items()]
    seeds = ", ".join(map(str, plan.seeds))
    by_seeds: dict[str, list[str]] = {}
    for sweep in plan.sweeps.values():
        by_seeds.setdefault(", ".join(map(str, sweep.seeds)), []).append(escape(sweep.title or sweep.option))
    swept = "".join(f"; of the sweep(s) over {', '.join(names)}: {which}" for which, names in by_seeds.items())
    rows = [
        ["data", code(option(plan.options, "dataset")) + _images(records)],
        ["networks (teacher to student)", "; ".join(nets)],
        ["epochs", _epochs(plan)],
        ["seeds", seeds + swept],
        ["tuning", _tuning(plan)],
        ["which epoch", _which_epoch(plan)],
    ]
    if validation:
        test = f"measured once, at the end; curves and choices use a validation split, {validation:.0%} of "
        test += "the training images (before any limit on their number)"
    else:
        test = "there is no validation split, so curves show the test split; nothing is chosen by them"
    return table(["what", "how"], [*rows, ["test split", test]], left=2)


def _which_epoch(plan: Plan) -> str:
    if keeps_best(plan):
        return "the best one on the validation split of runs with load_best_model_at_end, the last one of others"
    return "the last one of each run; none is chosen"


def _epochs(plan: Plan) -> str:
    shared = plan.options | plan.student_options
    groups = {
        "teachers": {name: teacher_options(plan, name) for name in plan.teachers},
        "students": {name: shared | student.options for name, student in plan.students.items()},
        "without a teacher": {name: plan.options | options for name, options in plan.alone.items()},
    }
    texts = []
    for group, variants in groups.items():
        by_count: dict[float, list[str]] = {}
        for name, options in variants.items():
            by_count.setdefault(option(options, "num_train_epochs"), []).append(label(plan, name))
        usual = max(by_count, key=lambda count: len(by_count[count]), default=None)
        others = "; ".join(f"{', '.join(names)}: {count:g}" for count, names in by_count.items() if count != usual)
        texts += [f"{group} {usual:g}" + (f" ({others})" if others else "")] if by_count else []
    if "max_steps" in plan.options:
        texts.append(f"**all cut off after {plan.options['max_steps']} steps: a trial of the study, not the study**")
    return "; ".join(texts)


def _images(records: dict[str, dict]) -> str:
    for record in records.values():
        metrics = record.get("metrics") or {}
        splits = [name for name in ("train", "validation", "test") if "images" in (metrics.get(name) or {})]
        if splits:
            return ", images: " + ", ".join(f"{metrics[name]['images']:,} {name}" for name in splits)
    return ""


def _tuning(plan: Plan) -> str:
    tuned = [name for name, student in plan.students.items() if student.trials]
    if not tuned:
        return "nothing is tuned: every student has fixed options"
    count, seeds = len(plan.students[tuned[0]].trials), ", ".join(map(str, plan.tuning_seeds))
    fixed = [label(plan, name) for name in plan.students if name not in tuned]
    own = f", with {options_text(plan.trial_options)}" if plan.trial_options else ""
    return (
        f"{', '.join(label(plan, name) for name in tuned)}: {count} trials for each teacher{own}, on seed(s) {seeds}, "
        f"the best by mean top-1 on the validation split; fixed: {', '.join(fixed) or 'none'}"
    )


def chosen_table(plan: Plan, records: dict[str, dict]) -> str:
    """The best trial for each teacher; empty if nothing is tuned."""
    tuned = [name for name, student in plan.students.items() if student.trials]
    if not tuned:
        return ""
    rows = []
    for pair in plan.pairs:
        for teacher in plan.teachers:
            cells = []
            for student in tuned:
                cells.append(_choice(plan, pair, teacher, student, records))
            rows.append([escape(pair), label(plan, teacher), *cells])
    return table(["pair", "teacher", *(label(plan, name) for name in tuned)], rows, left=2 + len(tuned))


def _choice(plan: Plan, pair: str, teacher: str, student: str, records: dict[str, dict]) -> str:
    scores = plan.trial_scores(pair, teacher, student, records)
    if scores is None:
        runs = [run for trial in plan.trials(pair, teacher, student) for run in trial]
        return f"{sum(run.name in records for run in runs)} of {len(runs)} trial runs done"
    best = best_trial(scores)
    text = options_text(plan.students[student].trials[best or 0])
    return f"{text} (not chosen: all trials diverged)" if best is None else text


def options_text(options: dict[str, Any]) -> str:
    """Options as code, separated by commas."""
    return ", ".join(code(f"{name} {_words(value)}") for name, value in options.items()) or "no further options"


def _words(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


# ---- what is missing


def missing_table(plan: Plan, records: dict[str, dict]) -> str:
    """Planned runs that have not ended, by teacher, seeds and reason; empty if there are none."""
    seeds: dict[tuple[str, str, str, str], list[int]] = {}
    for run in plan.runs(records):
        if run.name not in records:
            above = records.get(run.needed_run.name, {}) if run.needed_run else {}
            why = "waits for its trials" if run.options is None else "not run yet"
            if above.get("status") == "diverged":
                why = "its teacher diverged" if run.teacher_run else "the teacher it starts from diverged"
            teacher = "none" if run.teacher == ALONE else label(plan, run.teacher)
            what = "teacher" if run.student is None else label(plan, run.student)
            what += "" if run.trial is None else " (trials)"
            seeds.setdefault((escape(run.pair), teacher, why, what), []).append(run.seed)
    runs: dict[tuple[str, ...], list[str]] = {}
    for (*where, what), values in seeds.items():
        runs.setdefault((*where, ", ".join(map(str, dict.fromkeys(values)))), []).append(what)
    rows = [[pair, teacher, "; ".join(names), when, why] for (pair, teacher, why, when), names in runs.items()]
    return table(["pair", "teacher", "runs", "seeds", "why"], rows, left=5) if rows else ""


def diverged_table(records: dict[str, dict]) -> str:
    """Diverged runs with their messages; empty if there are none."""
    rows = [
        [code(name), code(record.get("message") or "no message")]
        for name, record in records.items()
        if record.get("status") == "diverged"
    ]
    return table(["run", "message"], rows, left=2) if rows else ""


# ---- environment and commands


def environment_table(records: dict[str, dict]) -> str:
    """Machines and versions, with the number of runs of each; empty if nothing is recorded."""
    names = ("device", "processor", "processes", "threads", "hf_icckd", "torch", "timm", "transformers", "python")
    environments = [(record.get("metrics") or {}).get("environment") for record in records.values()]
    counts = Counter(tuple(escape(each.get(name) or "") for name in names) for each in environments if each)
    rows = [[*key, str(count)] for key, count in counts.items()]
    if not rows:
        return ""
    mixed = (
        "\n\nRuns were done on different machines or with different versions, so the two runs of a pair may differ in "
        "these."
    )
    return table([*names, "runs"], rows, left=len(names)) + (mixed if len(rows) > 1 else "")


def command_of(record: dict) -> str:
    """Command line that repeats one run."""
    return shlex.join(["python", "-m", *Run.of(record).words("runs")])


def commands(records: dict[str, dict]) -> list[str]:
    """A command for each row of the tables, with its first recorded seed; trials are left out."""
    first: dict[tuple[str, str, str | None], str] = {}
    for record in records.values():
        if record.get("trial") is None:
            first.setdefault((record["pair"], record["teacher"], record["student"]), command_of(record))
    return list(first.values())
