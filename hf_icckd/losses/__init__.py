"""Losses: one paper a file. `OBJECTIVES` and `TEACHER_TERMS` are the two tables of names, both in registry.py."""

from __future__ import annotations

from hf_icckd.losses.class_cache import CachedNegatives, ClassEmbeddingCache
from hf_icckd.losses.intra_class import (
    IntraClassContrastiveLoss,
    IntraClassTerm,
    intra_class_contrastive_loss,
    margin_gate,
)
from hf_icckd.losses.kd import KD, knowledge_distillation_loss
from hf_icckd.losses.objective import DistillationBatch, DistillationObjective
from hf_icckd.losses.registry import (
    OBJECTIVES,
    TEACHER_TERMS,
    check_outputs,
    describe_terms,
    full_specs,
    parse_objectives,
    parse_terms,
    refuse_mixed,
    set_term_argument,
    term_arguments,
)
from hf_icckd.losses.rkd import RKD, rkd_angle_loss, rkd_distance_loss
from hf_icckd.losses.sftn import SFTN
from hf_icckd.losses.soft_targets import cross_entropy, mixed_targets, targets_of
from hf_icckd.losses.teacher_term import TeacherBatch, TeacherTerm
from hf_icckd.losses.weighted import WeightedObjectives, WeightedTerms

__all__ = [
    "KD",
    "OBJECTIVES",
    "RKD",
    "SFTN",
    "TEACHER_TERMS",
    "CachedNegatives",
    "ClassEmbeddingCache",
    "DistillationBatch",
    "DistillationObjective",
    "IntraClassContrastiveLoss",
    "IntraClassTerm",
    "TeacherBatch",
    "TeacherTerm",
    "WeightedObjectives",
    "WeightedTerms",
    "check_outputs",
    "cross_entropy",
    "describe_terms",
    "full_specs",
    "intra_class_contrastive_loss",
    "knowledge_distillation_loss",
    "margin_gate",
    "mixed_targets",
    "parse_objectives",
    "parse_terms",
    "refuse_mixed",
    "rkd_angle_loss",
    "rkd_distance_loss",
    "set_term_argument",
    "targets_of",
    "term_arguments",
]
