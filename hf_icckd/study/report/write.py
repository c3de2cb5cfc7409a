"""Report of a study as one HTML file and as Markdown: the verdict first, then everything needed to judge it."""

from __future__ import annotations

import base64
import html
import math
import re
from functools import partial
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markdown_it import MarkdownIt

from hf_icckd.study.parts import Sweep
from hf_icckd.study.plan import Plan
from hf_icckd.study.report import captions, cells, controls, protocol, tables
from hf_icckd.study.report.captions import Picture
from hf_icckd.study.report.frames import (
    COMPARED,
    all_runs,
    check_comparison,
    curves,
    main_runs,
    run_metrics,
    smallest_effect,
)
from hf_icckd.study.report.statistics import differences, family_names
from hf_icckd.utils.atomic_files import replace_file


def write_report(plan: Plan, records: dict[str, dict], folder: str | Path, command: str) -> Path:
    """Write report.html (one file with its pictures inside), report.md and plots/*.png.

    Args:
        records: Record of each run that ended, by its name; the study need not be finished.
        folder: Folder to write to; pictures that this report does not have are removed from it.
        command: Command line that resumes the study.

    Returns:
        Path of report.html.

    Raises:
        ValueError: If the metric of the comparison is unknown, or has no smallest effect.
    """
    check_comparison(plan.comparison)
    folder = Path(folder)
    context = _context(plan, records, command)
    drawn = [*context["pictures"], *(sweep["picture"] for sweep in context["sweeps"])]
    data = {f"plots/{picture.file}": picture.data for picture in drawn if picture.data}
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("hf_icckd.study.report"),
        autoescape=jinja2.select_autoescape(["html"]),
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    text = environment.get_template("report.md").render(context, escape=cells.escape)
    text = re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"
    page = environment.get_template("page.html").render(title=plan.title, body=_html(text, data))

    (folder / "plots").mkdir(parents=True, exist_ok=True)
    for old in (folder / "plots").glob("*.png"):
        if f"plots/{old.name}" not in data:
            old.unlink()
    for name, content in data.items():
        replace_file(folder / name, partial(_write_bytes, content=content))
    for name, said in (("report.md", text), ("report.html", page)):
        replace_file(folder / name, partial(_write_bytes, content=said.encode()))
    return folder / "report.html"


def _write_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)


# ---- what the template shows


def _context(plan: Plan, records: dict[str, dict], command: str) -> dict[str, Any]:
    runs = plan.runs(records)
    known = {run.name: records[run.name] for run in runs if run.name in records}
    frame = run_metrics(known)
    rows, main = all_runs(plan, frame), main_runs(plan, frame)
    found = differences(plan, main)
    primary = list(found[found.primary.astype(bool)].itertuples())
    drawn = captions.pictures(plan, rows, main, curves(known))
    return {
        "plan": plan,
        "control": cells.label(plan, plan.comparison.claim_and_control[1]),
        "control_teacher": cells.label(plan, plan.comparison.control),
        "effect": _effect(plan),
        "epoch": "epoch chosen on the validation split" if controls.keeps_best(plan) else "last epoch",
        "answers": [_answer(plan, row) for row in primary],
        "needed": [_needed(plan, row) for row in primary],
        "done": len(known),
        "planned": len(runs),
        "strangers": len(records) - len(known),
        "protocol": protocol.protocol_table(plan, known),
        "chosen": protocol.chosen_table(plan, records),
        "pairs": [_pair(plan, rows, main, found, pair) for pair in plan.pairs],
        "pictures": drawn,
        "absent": _absent(drawn),
        "sweeps": [_sweep(plan, rows, records, pair, name) for name in plan.sweeps for pair in plan.pairs],
        "controls": controls.controls_table(plan, main),
        "missing": protocol.missing_table(plan, records),
        "diverged": protocol.diverged_table(known),
        "diverged_count": int((frame.status == "diverged").sum()),
        "environment": protocol.environment_table(known),
        "time": cells.duration(frame.seconds.sum()),
        "command": command,
        "commands": protocol.commands({name: known[name] for name in rows.run}),
    }


def _effect(plan: Plan) -> str:
    return f"{smallest_effect(plan.comparison):g} {COMPARED[plan.comparison.metric].difference_unit}".strip()


def _answer(plan: Plan, row: Any) -> str:
    """The primary comparison in one sentence, with its numbers."""
    comparison, metric = plan.comparison, COMPARED[plan.comparison.metric]
    student, teacher, control = (
        cells.label(plan, name) for name in (comparison.student, comparison.teacher, comparison.claim_and_control[1])
    )
    sides = f"{student} students of {teacher}, against those of {control}"
    if comparison.of_students:
        sides = f"{student} against {control}, students of {teacher}"
    head = f"**{cells.escape(row.pair)}: {sides}: {row.verdict}.**"
    facts = []
    if row.n:
        facts.append(f"Difference in {metric.title}, test split: {cells.signed(row.mean, metric.decimals)}")
    if not math.isnan(row.low):
        facts.append(f"95 % interval {cells.interval(row.low, row.high, metric.decimals)}")
        facts.append(f"p {cells.equals(row.p)}")
    facts.append(f"{row.n} of {len(plan.seeds)} planned pairs of runs")
    if row.diverged:
        facts.append(f"runs of {row.diverged} seed(s) diverged and are left out")
    return f"{head} {', '.join(facts)}; the smallest effect that matters was set to {_effect(plan)}."


def _needed(plan: Plan, row: Any) -> str:
    head = f"{cells.escape(row.pair)}, primary comparison:"
    if math.isnan(row.seeds_needed):
        return f"{head} not known yet; that takes two seeds with both runs, and a spread between them."
    return (
        f"{head} the differences have a standard deviation of {row.sd:.{COMPARED[plan.comparison.metric].decimals}f}, "
        f"so finding an effect of {_effect(plan)} with 80 % power takes {row.seeds_needed:.0f} seeds (two-sided "
        f"paired t-test at 5 %); this study plans {len(plan.seeds)}. The deviation of few seeds is itself uncertain."
    )


def _pair(plan: Plan, rows: pd.DataFrame, main: pd.DataFrame, found: pd.DataFrame, pair: str) -> dict[str, Any]:
    return {
        "name": pair,
        "students": tables.students_table(plan, main, pair, plan.comparison.metric),
        "differences": [
            (cells.label(plan, name), tables.differences_table(plan, found, pair, name)) for name in family_names(plan)
        ],
        "further": [tables.students_table(plan, main, pair, name) for name in tables.further_metrics(plan, main)],
        "further_differences": tables.further_differences_table(plan, main, pair),
        "teachers": tables.teachers_table(plan, main, pair),
        "teacher_differences": tables.teacher_differences_table(plan, main, pair),
        "terminal": "" if plan.comparison.of_students else _terminal(plan, main, pair),
        "correlations": tables.correlations_table(plan, rows, pair),
    }


def _terminal(plan: Plan, main: pd.DataFrame, pair: str) -> str:
    top1, nc1 = controls.terminal_phase(plan, main, pair)
    control, limit = cells.label(plan, plan.comparison.control), controls.TERMINAL_TOP1
    phase = f"the terminal phase (train top-1 of at least {limit:g} %)"
    if math.isnan(top1):
        return f"Whether the control, {control}, reached {phase} is not measured yet."
    measured = f"train top-1 {top1:.2f} %, NC1 {cells.number(nc1, 3)}"
    if top1 >= limit:
        return f"The control, {control}, reached {phase}: {measured}."
    return f"The control, {control}, did not reach {phase}, which is what the method's claim is about: {measured}."


def _sweep(plan: Plan, rows: pd.DataFrame, records: dict[str, dict], pair: str, name: str) -> dict[str, Any]:
    sweep = plan.sweeps[name]
    seeds = ", ".join(map(str, sweep.seeds))
    base = cells.label(plan, sweep.base)
    return {
        "picture": captions.ablation(plan, rows, name, pair),
        "text": f"{base} with other values of `{sweep.option}`, seeds {seeds}. Nothing is tested here, so differences "
        f"may be chance. Students use the options chosen for {base}, except those of a teacher in the tables above, "
        "which keep their own." + _mixed(plan, records, pair, sweep),
        "table": tables.sweep_table(plan, rows, pair, sweep),
    }


def _mixed(plan: Plan, records: dict[str, dict], pair: str, sweep: Sweep) -> str:
    """Warning if students of a sweep differ in more than their teachers, with their options; else empty."""
    text = ""
    for student in sweep.students:
        values: dict[str, list[str]] = {}
        for value, teacher in plan.sweep_teachers(sweep).items():
            chosen = plan.chosen(pair, teacher, student, records)
            if chosen is not None:
                values.setdefault(protocol.options_text(chosen), []).append(cells.value_label(value))
        if len(values) > 1:
            which = "; ".join(f"{options} at {', '.join(at)}" for options, at in values.items())
            name = cells.label(plan, student)
            text += f" **So {name} students of this sweep differ in more than their teachers**: {which}."
    return text


def _absent(drawn: list[Picture]) -> dict[str, list[str]]:
    """Titles of missing pictures, by reason."""
    found: dict[str, list[str]] = {}
    for picture in drawn:
        if not picture.data:
            found.setdefault(picture.absent, []).append(picture.title)
    return found


# ---- HTML


def _html(text: str, data: dict[str, bytes]) -> str:
    """Markdown as HTML with the pictures inside; other images are left out, so that nothing is fetched."""
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    parser.add_render_rule("image", _image)
    body = parser.render(text, {"pictures": data})
    body = re.sub(r"<table>.*?</table>", r'<div class="wide">\g<0></div>', body, flags=re.DOTALL)
    return re.sub(r"<h2>(\w+)</h2>", lambda found: f'<h2 id="{found[1].lower()}">{found[1]}</h2>', body)


def _image(renderer, tokens, index, options, env) -> str:
    token = tokens[index]
    text = html.escape(renderer.renderInlineAsText(token.children, options, env))
    data = env["pictures"].get(token.attrs["src"])
    if data is None:
        return text
    return (
        f'<span class="wide"><img alt="{text}" src="data:image/png;base64,{base64.b64encode(data).decode()}"></span>'
    )
