"""Run a study: `hf-icckd study STUDY.yaml --output_dir FOLDER [--option value ...]`."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable
from pathlib import Path

import yaml
from tqdm.auto import tqdm

from hf_icckd.options.command_line import parse_command, readable_errors, set_up_logging
from hf_icckd.options.commands import StudyArguments
from hf_icckd.study import Plan, StudyRunner, load_plan
from hf_icckd.study.parts import Comparison
from hf_icckd.utils.atomic_files import write_text
from hf_icckd.utils.text import show

PLAN_FILE = "study.yaml"
STOPPED = 143  # exit code while runs are left, as of an interrupted run that can resume


def main(argv: list[str] | None = None) -> None:
    """Do the remaining runs of a study, or as many as there is time for, and write the report."""
    (args,) = parse_command("study", argv)
    set_up_logging()
    with readable_errors():
        plan = load_plan(args.study)
        write_report = _report_writer(plan.comparison)
        if args.max_steps is not None:
            plan.options["max_steps"] = args.max_steps
        folder = Path(args.output_dir)
        here = {"dataset": args.dataset, "label_column": args.label_column}
        runner = StudyRunner(plan, folder, args.jobs, {name: value for name, value in here.items() if value})
        total = len(plan.runs({}))
        # Only the process that owns the folder may write the plan and the report.
        with runner.owned(), tqdm(total=total, initial=total - len(runner.pending()), unit="run", smoothing=0) as bar:

            def show_line(text: str) -> None:
                bar.write(text)
                bar.update(total - len(runner.pending()) - bar.n)

            runner.show = show_line
            if runner.records.by_name:
                _check_question(folder / PLAN_FILE, plan)
            write_text(folder / PLAN_FILE, yaml.safe_dump(dataclasses.asdict(plan), sort_keys=False, width=120))
            try:
                done = runner.run(None if args.minutes is None else 60 * args.minutes)
            finally:
                report = write_report(plan, runner.records.by_name, folder, _command(args))
        show(f"the report is {report}")
        if not done:
            show(f"{len(runner.pending())} of {total} runs are left; the same command resumes the study")
            raise SystemExit(STOPPED)


def _check_question(path: Path, plan: Plan) -> None:
    """Raise ValueError if the comparison has changed since the study began; it must be named beforehand."""
    before = yaml.safe_load(path.read_text(encoding="utf-8")).get("comparison") if path.is_file() else None
    now = dataclasses.asdict(plan.comparison)
    # A study that was begun before an attribute existed has it at its default.
    before = before and dict.fromkeys(now) | before
    if before not in (None, now):
        differing = [name for name in now if before.get(name) != now[name]]
        changes = "; ".join(f"{name} {before.get(name)!r} -> {now[name]!r}" for name in differing)
        raise ValueError(
            f"the comparison differs from the one in {path} ({changes}), and runs have ended since; restore it, or "
            "choose another --output_dir"
        )


def _command(args: StudyArguments) -> str:
    """Command line for the report; absolute paths are cut to their last part."""
    words = ["python", "recipes/study.py"]
    for name in ("study", "output_dir"):
        path = Path(getattr(args, name))
        words += ["--output_dir"] if name == "output_dir" else []
        words.append(path.name if path.is_absolute() else str(path))
    words += [] if args.max_steps is None else ["--max_steps", str(args.max_steps)]
    return shlex.join(words)


def _report_writer(comparison: Comparison) -> Callable[..., Path]:
    """The function that writes the report; loaded before the first run, so that a missing package is noticed then."""
    try:
        from hf_icckd.study.report.frames import check_comparison
        from hf_icckd.study.report.write import write_report
    except ImportError as error:
        raise ValueError(
            f"a study's report needs {error.name}, which is not installed; pip install 'hf-icckd[study]'"
        ) from error
    check_comparison(comparison)
    return write_report


if __name__ == "__main__":
    main()
