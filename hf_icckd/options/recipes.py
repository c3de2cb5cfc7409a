"""Which groups of options each recipe takes."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from hf_icckd.options.checks import default_of
from hf_icckd.options.data import StudentDataArguments, TrainingDataArguments
from hf_icckd.options.nets import StudentModelArguments, TeacherModelArguments
from hf_icckd.options.training import StudentTrainingArguments, TeacherTrainingArguments

# In the order in which `--help` shows them.
RECIPES: dict[str, list[Any]] = {
    "teacher": [TrainingDataArguments, TeacherModelArguments, TeacherTrainingArguments],
    "student": [StudentDataArguments, StudentModelArguments, StudentTrainingArguments],
}


def defaults(recipe: str) -> dict[str, Any]:
    """Default of each option of a recipe."""
    return {each.name: default_of(each) for group in RECIPES[recipe] for each in fields(group)}
