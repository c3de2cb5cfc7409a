"""Studies: grids of teachers, students and seeds that are run, recorded, tested and reported as a whole."""

from __future__ import annotations

from hf_icckd.study.plan import Comparison, Plan, Student, Sweep
from hf_icckd.study.plan_file import load_plan
from hf_icckd.study.records import Records
from hf_icckd.study.run import Run
from hf_icckd.study.runner import StudyRunner

__all__ = ["Comparison", "Plan", "Records", "Run", "Student", "StudyRunner", "Sweep", "load_plan"]
