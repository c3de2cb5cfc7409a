"""Studies: run a grid of teachers, students and seeds, record every run, and report the result."""

from __future__ import annotations

from hf_icckd.study.parts import Comparison, Student, Sweep
from hf_icckd.study.plan import Plan
from hf_icckd.study.plan_file import load_plan
from hf_icckd.study.records import Records
from hf_icckd.study.run import Run
from hf_icckd.study.runner import StudyRunner

__all__ = ["Comparison", "Plan", "Records", "Run", "Student", "StudyRunner", "Sweep", "load_plan"]
