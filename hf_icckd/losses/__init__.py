"""Losses: one paper a file. `OBJECTIVES` is the only table of names; a new objective is one file and one line here."""

from __future__ import annotations

from hf_icckd.losses.intra_class import (
    CachedNegatives,
    IntraClassContrastiveLoss,
    intra_class_contrastive_loss,
    margin_gate,
)
from hf_icckd.losses.kd import KD, knowledge_distillation_loss
from hf_icckd.losses.objective import DistillationObjective
from hf_icckd.losses.rkd import RKD, rkd_angle_loss, rkd_distance_loss
from hf_icckd.losses.weighted import WeightedObjectives, parse_objectives

OBJECTIVES: dict[str, type[DistillationObjective]] = {
    "kd": KD,
    "rkd": RKD,
}

__all__ = [
    "KD",
    "OBJECTIVES",
    "RKD",
    "CachedNegatives",
    "DistillationObjective",
    "IntraClassContrastiveLoss",
    "WeightedObjectives",
    "intra_class_contrastive_loss",
    "knowledge_distillation_loss",
    "margin_gate",
    "parse_objectives",
    "rkd_angle_loss",
    "rkd_distance_loss",
]
