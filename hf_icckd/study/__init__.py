"""Studies: grids of teachers, students and seeds that are run, recorded, tested and reported as a whole."""

from __future__ import annotations

from hf_icckd.study.plan import Comparison, Plan, Run, Student, Sweep
from hf_icckd.study.plan_file import load_plan
from hf_icckd.study.runner import Records, StudyRunner

__all__ = ["Comparison", "Plan", "Records", "Run", "Student", "StudyRunner", "Sweep", "load_plan"]
