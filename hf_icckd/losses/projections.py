"""Linear layers between the embeddings of two models; they are trained with the student and not exported."""

from __future__ import annotations

from typing import TypeVar

from torch import nn

from hf_icckd.models.outputs import OutputShapes

Module = TypeVar("Module", bound=nn.Module)


def embedding_dims(student: OutputShapes, teacher: OutputShapes, objective: str) -> tuple[int, int]:
    """Lengths of both models' embeddings. Raises ValueError if one of them has none."""
    if student.embedding_dim is None or teacher.embedding_dim is None:
        lacking = "student" if student.embedding_dim is None else "teacher"
        raise ValueError(
            f"the objective {objective} compares embeddings, but the {lacking} has none; take --objectives kd"
        )
    return student.embedding_dim, teacher.embedding_dim


def projection(student: OutputShapes, teacher: OutputShapes, objective: str) -> nn.Linear:
    """A layer from the student's embeddings to the teacher's. Raises ValueError if one of the models has none."""
    return nn.Linear(*embedding_dims(student, teacher, objective))


def built(module: Module | None, objective: str) -> Module:
    """What `build` made. Raises ValueError if it was not called."""
    if module is None:
        raise not_built(objective)
    return module


def not_built(objective: str) -> ValueError:
    """The error of an objective whose `build` was not called."""
    return ValueError(
        f"the objective {objective} knows no shapes yet; call build(student_shapes, teacher_shapes) first, as "
        "StudentTrainer does"
    )
