"""Parts of a plan: a student, a sweep, the primary comparison."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Student:
    """A way to distil.

    Attributes:
        options: Options of the student recipe.
        trials: Sets of further options; the best on the validation split is used. Empty if nothing is tuned.
    """

    options: dict[str, Any] = field(default_factory=dict)
    trials: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Sweep:
    """Teachers that differ in one option.

    Attributes:
        base: Teacher that supplies all other options.
        option: The option that varies; `term.argument`, such as `intra_class.weight`, for an argument of a teacher
            term.
        values: Its values. For an option that takes lists, name the teachers under `teachers` instead.
        seeds: Seeds of these teachers and their students.
        students: Names of the students each of them gets.
        title: What the report calls the option.
    """

    base: str
    option: str
    values: list[str | float | bool]
    seeds: list[int]
    students: list[str]
    title: str | None = None


@dataclass
class Comparison:
    """The primary comparison, named beforehand; the p values of all others are corrected for their number.

    It is of two teachers by one student or, with `control_student`, of two students of one teacher.

    Attributes:
        teacher: Name of the teacher that is claimed to be better; of two students, their teacher.
        control: Name of the teacher it is compared with; of two students, their teacher again.
        student: Name of the student whose metric counts, or that is claimed to be better.
        metric: The metric, on the test split.
        smallest_effect: Smallest difference that matters, in the metric's units; 0.5 points if left out for top-1.
        control_student: Name of the student that another of the same teacher is compared with; None for two teachers.
    """

    teacher: str
    control: str
    student: str
    metric: str = "top1"
    smallest_effect: float | None = None
    control_student: str | None = None

    @property
    def of_students(self) -> bool:
        """Whether students of one teacher are compared, and not teachers."""
        return self.control_student is not None

    @property
    def claim_and_control(self) -> tuple[str, str]:
        """Names of what is claimed to be better and of its control: two teachers, or two students of one."""
        if self.control_student is None:
            return self.teacher, self.control
        return self.student, self.control_student

    def __post_init__(self):
        if self.smallest_effect is None and self.metric == "top1":
            self.smallest_effect = 0.5
        if self.control_student is None:
            if self.teacher == self.control:
                raise ValueError(
                    f"the comparison is of {self.control!r} with itself; expected two teachers, or a "
                    "control_student for two students of one teacher"
                )
        elif self.teacher != self.control or self.control_student == self.student:
            raise ValueError(
                f"the comparison has control_student {self.control_student!r}, student {self.student!r}, "
                f"teacher {self.teacher!r} and control {self.control!r}; expected two students of one teacher"
            )
        if self.smallest_effect is not None and not self.smallest_effect > 0:
            raise ValueError(
                f"smallest_effect is {self.smallest_effect}, expected a number above 0: the smallest difference "
                "that would matter"
            )
