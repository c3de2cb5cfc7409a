"""Weighted sums: several objectives of a student, or several terms of a teacher, with a weight each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from hf_icckd.losses.objective import DistillationBatch, DistillationObjective, outputs_read
from hf_icckd.losses.teacher_term import TeacherTerm
from hf_icckd.models.outputs import OutputShapes
from hf_icckd.utils.keyed_random import generator_seed


class WeightedObjectives(nn.Module):
    """Several objectives with a weight each.

    Args:
        objectives: Pairs of an objective and its weight, which multiplies the objective's own `term_weights`.

    Attributes:
        term_weights: Weight of every term; the weighted sum is the distillation part of the loss.
        teacher_outputs: What any of them reads of the teacher.
        scheduled: Name of the class of one that may read how much of the run is done; None if none does.
        reads_teacher_layer: Whether any runs the teacher's classification layer.

    Raises:
        ValueError: If there is no objective, two objectives share the name of a term, or a weight is below 0 or not
            finite.

    Example:
        >>> from hf_icckd import KD, RKD, WeightedObjectives
        >>> WeightedObjectives([(KD(), 0.9), (RKD(), 0.5)]).term_weights
        {'kd': 0.9, 'rkd_distance': 12.5, 'rkd_angle': 25.0}
    """

    def __init__(self, objectives: list[tuple[DistillationObjective, float]]):
        super().__init__()
        if not objectives:
            raise ValueError("no objective given, expected at least one, for example [(KD(), 1.0)]")
        self.objectives = nn.ModuleList(objective for objective, _ in objectives)
        self.teacher_outputs = tuple(
            sorted({name for objective, _ in objectives for name in objective.teacher_outputs})
        )
        self.term_weights = _term_weights(objectives, "objectives")
        self.reads_teacher_layer = any(objective.reads_teacher_layer for objective, _ in objectives)
        self.scheduled = _first_scheduled(objective for objective, _ in objectives)

    def __iter__(self) -> Iterator[DistillationObjective]:
        return iter(cast("Iterable[DistillationObjective]", self.objectives))

    def build(self, student: OutputShapes, teacher: OutputShapes, seed: int, num_images: int | None = None) -> None:
        """Let each objective make its own parameters and buffers; the global generator stays as it is.

        Args:
            student: Shapes of what the student puts out.
            teacher: Shapes of what the teacher puts out.
            seed: Seed of the run.
            num_images: Number of training images; None for a stream.
        """
        for place, objective in enumerate(self):
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(generator_seed(seed, place))
                objective.build(student, teacher)
                objective.keep_images(num_images)

    def notes(self) -> list[str]:
        """Sentences of all objectives for the record of a finished run."""
        return [note for objective in self for note in objective.notes()]

    def reads_maps(self, role: str) -> bool:
        """Whether any objective reads feature maps of the `student` or the `teacher`."""
        return any("feature_maps" in outputs_read(objective, role) for objective in self)

    def forward(self, batch: DistillationBatch) -> dict[str, Tensor]:
        """Return the named, unweighted terms of all objectives."""
        return {name: term for objective in self.objectives for name, term in objective(batch).items()}


class WeightedTerms(nn.Module):
    """Several teacher terms with a weight each; without any, the teacher is trained by cross-entropy alone.

    Args:
        terms: Name of each term to the term and its weight, which multiplies the term's own `term_weights`.

    Attributes:
        terms: The terms by name.
        term_weights: Weight of every scalar that is part of the loss.
        scheduled: As of `WeightedObjectives`.

    Raises:
        ValueError: If two terms share the name of a scalar, or a weight is below 0 or not finite.

    Example:
        >>> from hf_icckd.losses import IntraClassTerm
        >>> WeightedTerms({"intra_class": (IntraClassTerm(margin=0.3), 0.5)}).term_weights
        {'intra_class': 0.5}
    """

    def __init__(self, terms: dict[str, tuple[TeacherTerm, float]]):
        super().__init__()
        self.terms = nn.ModuleDict({name: term for name, (term, _) in terms.items()})
        self.term_weights = _term_weights(list(terms.values()), "teacher terms")
        self.scheduled = _first_scheduled(term for term, _ in terms.values())

    def __getitem__(self, name: str) -> TeacherTerm:
        return cast(TeacherTerm, self.terms[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.terms)

    def items(self) -> list[tuple[str, TeacherTerm]]:
        """Names and terms."""
        return [(name, self[name]) for name in self]

    def logs(self) -> dict[str, float]:
        """Numbers of all terms that are read only when the training log is written."""
        return {name: value for _, term in self.items() for name, value in term.logs().items()}


def _first_scheduled(members: Iterable[DistillationObjective | TeacherTerm]) -> str | None:
    """Name of the class of the first that may read how much of the run is done."""
    return next((type(member).__name__ for member in members if member.reads_progress), None)


def _term_weights(members: Sequence[tuple[DistillationObjective | TeacherTerm, float]], kind: str) -> dict[str, float]:
    weights: dict[str, float] = {}
    for member, weight in members:
        if not 0 <= weight < math.inf:
            raise ValueError(f"{type(member).__name__} has weight {weight}, expected a finite number of at least 0")
        for term, term_weight in member.term_weights.items():
            if term in weights:
                raise ValueError(f"two {kind} have a term called {term!r}; name each of them once")
            weights[term] = weight * term_weight
    return weights
