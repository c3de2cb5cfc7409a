"""Losses: one paper a file. `OBJECTIVES` and `TEACHER_TERMS` are the two tables of names, both in registry.py."""

from __future__ import annotations

from hf_icckd.losses.at import AT, attention_transfer_loss
from hf_icckd.losses.class_balance import ClassBalance, inverse_weights, prior_offsets, scaled_weights
from hf_icckd.losses.class_cache import CachedNegatives, ClassEmbeddingCache
from hf_icckd.losses.dist import DIST, correlation_loss
from hf_icckd.losses.dkd import DKD, decoupled_distillation_losses
from hf_icckd.losses.embedding import EmbeddingRegression, embedding_loss
from hf_icckd.losses.fitnet import FitNet, hint_loss
from hf_icckd.losses.intra_class import (
    IntraClassContrastiveLoss,
    IntraClassTerm,
    intra_class_contrastive_loss,
    margin_gate,
)
from hf_icckd.losses.kd import KD, knowledge_distillation_loss
from hf_icckd.losses.nst import NST, selectivity_transfer_loss
from hf_icckd.losses.objective import DistillationBatch, DistillationObjective
from hf_icckd.losses.pkt import PKT, probabilistic_transfer_loss
from hf_icckd.losses.registry import (
    OBJECTIVES,
    TEACHER_TERMS,
    check_outputs,
    describe_terms,
    full_specs,
    parse_objectives,
    parse_terms,
    refuse_mixed,
    refuse_unlabeled,
    set_term_argument,
    term_arguments,
)
from hf_icckd.losses.rkd import RKD, rkd_angle_loss, rkd_distance_loss
from hf_icckd.losses.sftn import SFTN
from hf_icckd.losses.soft_targets import cross_entropy, labeled_cross_entropy, mixed_targets, targets_of
from hf_icckd.losses.sp import SP, similarity_preserving_loss
from hf_icckd.losses.standardisation import standardised
from hf_icckd.losses.teacher_term import TeacherBatch, TeacherTerm
from hf_icckd.losses.vid import VID, variational_information_loss
from hf_icckd.losses.weighted import WeightedObjectives, WeightedTerms

__all__ = [
    "AT",
    "DIST",
    "DKD",
    "KD",
    "NST",
    "OBJECTIVES",
    "PKT",
    "RKD",
    "SFTN",
    "SP",
    "TEACHER_TERMS",
    "VID",
    "CachedNegatives",
    "ClassBalance",
    "ClassEmbeddingCache",
    "DistillationBatch",
    "DistillationObjective",
    "EmbeddingRegression",
    "FitNet",
    "IntraClassContrastiveLoss",
    "IntraClassTerm",
    "TeacherBatch",
    "TeacherTerm",
    "WeightedObjectives",
    "WeightedTerms",
    "attention_transfer_loss",
    "check_outputs",
    "correlation_loss",
    "cross_entropy",
    "decoupled_distillation_losses",
    "describe_terms",
    "embedding_loss",
    "full_specs",
    "hint_loss",
    "intra_class_contrastive_loss",
    "inverse_weights",
    "knowledge_distillation_loss",
    "labeled_cross_entropy",
    "margin_gate",
    "mixed_targets",
    "parse_objectives",
    "parse_terms",
    "prior_offsets",
    "probabilistic_transfer_loss",
    "refuse_mixed",
    "refuse_unlabeled",
    "rkd_angle_loss",
    "rkd_distance_loss",
    "scaled_weights",
    "selectivity_transfer_loss",
    "set_term_argument",
    "similarity_preserving_loss",
    "standardised",
    "targets_of",
    "term_arguments",
    "variational_information_loss",
]
