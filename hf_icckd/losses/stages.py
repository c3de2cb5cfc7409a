"""Which feature maps of student and teacher are compared, and at which size.

Maps are counted as timm's `forward_intermediates` returns them: 0 is the stem of a convolutional net, and each block
of a ViT is one map.
"""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from hf_icckd.losses.objective import DistillationBatch, OutputObjective
from hf_icckd.losses.projections import not_built
from hf_icckd.models.outputs import OutputShapes

ALL, HINT = "all", "hint"


def pair_stages(student: OutputShapes, teacher: OutputShapes, stages: str, objective: str) -> list[tuple[int, int]]:
    """Numbers of the maps to compare, the student's and the teacher's.

    With as many maps on both sides they are compared one by one. Otherwise the last is compared with the last, the
    first with the first, and those between at the same share of the way.

    Args:
        student: Shapes of the student's outputs.
        teacher: Shapes of the teacher's outputs.
        stages: The student's maps as numbers with slashes between, such as `2` or `1/2/3`; `all` but the first; or
            `hint`, the one at two thirds of the way: 2 of 3 stages.
        objective: Name of the objective, for messages.

    Raises:
        ValueError: If there is no such map, or one of the models has none.

    Example:
        >>> maps = [tuple((8, 4, 4) for _ in range(count)) for count in (4, 12)]
        >>> pair_stages(OutputShapes(10, 64, maps[0]), OutputShapes(10, 64, maps[1]), "all", "at")
        [(1, 4), (2, 7), (3, 11)]
    """
    counts = {}
    for role, shapes in (("student", student), ("teacher", teacher)):
        if not shapes.feature_maps:
            raise ValueError(f"the objective {objective} compares feature maps, but the {role} has none; take another")
        counts[role] = len(shapes.feature_maps)
    last, last_of_teacher = counts["student"] - 1, counts["teacher"] - 1
    named = {ALL: list(range(min(1, last), last + 1)), HINT: [round(2 * last / 3)]}
    chosen = named[stages] if stages in named else _numbers(stages, last, objective)
    # From the end, where both hold the most about classes.
    return [(each, last_of_teacher - round((last - each) * last_of_teacher / max(last, 1))) for each in chosen]


def _numbers(stages: str, last: int, objective: str) -> list[int]:
    found = [int(each) if each.isdigit() else -1 for each in stages.split("/")]
    if not all(0 <= each <= last for each in found) or len({*found}) != len(found):
        raise ValueError(
            f"stages is {stages!r} in the objective {objective}, expected {ALL}, {HINT}, or different numbers from 0 "
            f"to {last} with slashes between them, such as 2/3: the student's feature maps"
        )
    return found


class MapObjective(OutputObjective):
    """What objectives on feature maps share. Its one term has the name of the objective.

    Args:
        stages: As for `pair_stages`.
    """

    teacher_outputs: ClassVar[tuple[str, ...]] = ("feature_maps",)

    def __init__(self, stages: str = ALL):
        super().__init__()
        (self.name,) = self.term_weights
        self.stages = stages
        self.pairs: list[tuple[int, int]] = []

    def build(self, student: OutputShapes, teacher: OutputShapes) -> None:
        """Choose the maps. Raises ValueError if there are none."""
        self.pairs = pair_stages(student, teacher, self.stages, self.name)

    def maps_of(self, batch: DistillationBatch) -> list[tuple[Tensor, Tensor]]:
        """The maps of both models, each pair at the smaller of its two sizes.

        Raises:
            ValueError: If `build` was not called.
        """
        if not self.pairs:
            raise not_built(self.name)
        assert batch.student.feature_maps is not None and batch.teacher.feature_maps is not None
        return [
            at_one_size(batch.student.feature_maps[own], batch.teacher.feature_maps[given])
            for own, given in self.pairs
        ]


def at_one_size(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """(B, C, H, W) maps, the larger one pooled to the height and width of the smaller one."""
    height, width = (min(sides) for sides in zip(student.shape[2:], teacher.shape[2:], strict=True))
    pooled = [
        each if each.shape[2:] == (height, width) else F.adaptive_avg_pool2d(each, (height, width))
        for each in (student, teacher)
    ]
    return pooled[0], pooled[1]
