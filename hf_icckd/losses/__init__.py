"""Losses: one paper a file. `OBJECTIVES` and `TEACHER_TERMS` are the two tables of names, both in registry.py."""

from __future__ import annotations

from hf_icckd.losses.at import AT, attention_transfer_loss
from hf_icckd.losses.bce_kd import BCEKD, binary_distillation_loss
from hf_icckd.losses.cc import CC, correlation_congruence_loss
from hf_icckd.losses.ckd import CKD, sample_contrastive_loss
from hf_icckd.losses.class_balance import ClassBalance, inverse_weights, prior_offsets, scaled_weights
from hf_icckd.losses.class_cache import CachedNegatives, ClassEmbeddingCache
from hf_icckd.losses.cmi import CMI, class_divergence
from hf_icckd.losses.crd import CRD, contrastive_estimation_loss
from hf_icckd.losses.ctkd import CTKD, curriculum_strength, curriculum_temperature
from hf_icckd.losses.dist import DIST, correlation_loss
from hf_icckd.losses.dkd import DKD, decoupled_distillation_losses
from hf_icckd.losses.embedding import EmbeddingRegression, embedding_loss
from hf_icckd.losses.fitnet import FitNet, hint_loss
from hf_icckd.losses.hard_label import HardLabel, hard_label_loss
from hf_icckd.losses.intra_class import (
    IntraClassContrastiveLoss,
    IntraClassTerm,
    intra_class_contrastive_loss,
    margin_gate,
)
from hf_icckd.losses.kd import KD, knowledge_distillation_loss
from hf_icckd.losses.mlkd import MLKD, correlation_losses
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
from hf_icckd.losses.review_kd import ReviewKD, hierarchical_context_loss
from hf_icckd.losses.rkd import RKD, rkd_angle_loss, rkd_distance_loss
from hf_icckd.losses.sftn import SFTN
from hf_icckd.losses.soft_targets import cross_entropy, labeled_cross_entropy, mixed_targets, targets_of
from hf_icckd.losses.sp import SP, similarity_preserving_loss
from hf_icckd.losses.srrl import SRRL
from hf_icckd.losses.standardisation import standardised
from hf_icckd.losses.subclass import Subclass, class_directions, subclass_log_probs, subclass_loss
from hf_icckd.losses.teacher_term import TeacherBatch, TeacherTerm
from hf_icckd.losses.tfkd import TfKD, virtual_teacher_loss
from hf_icckd.losses.vid import VID, variational_information_loss
from hf_icckd.losses.weighted import WeightedObjectives, WeightedTerms
from hf_icckd.losses.wsld import WSLD, soft_label_weights, weighted_soft_label_loss

__all__ = [
    "AT",
    "BCEKD",
    "CC",
    "CKD",
    "CMI",
    "CRD",
    "CTKD",
    "DIST",
    "DKD",
    "KD",
    "MLKD",
    "NST",
    "OBJECTIVES",
    "PKT",
    "RKD",
    "SFTN",
    "SP",
    "SRRL",
    "TEACHER_TERMS",
    "VID",
    "WSLD",
    "CachedNegatives",
    "ClassBalance",
    "ClassEmbeddingCache",
    "DistillationBatch",
    "DistillationObjective",
    "EmbeddingRegression",
    "FitNet",
    "HardLabel",
    "IntraClassContrastiveLoss",
    "IntraClassTerm",
    "ReviewKD",
    "Subclass",
    "TeacherBatch",
    "TeacherTerm",
    "TfKD",
    "WeightedObjectives",
    "WeightedTerms",
    "attention_transfer_loss",
    "binary_distillation_loss",
    "check_outputs",
    "class_directions",
    "class_divergence",
    "contrastive_estimation_loss",
    "correlation_congruence_loss",
    "correlation_loss",
    "correlation_losses",
    "cross_entropy",
    "curriculum_strength",
    "curriculum_temperature",
    "decoupled_distillation_losses",
    "describe_terms",
    "embedding_loss",
    "full_specs",
    "hard_label_loss",
    "hierarchical_context_loss",
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
    "sample_contrastive_loss",
    "scaled_weights",
    "selectivity_transfer_loss",
    "set_term_argument",
    "similarity_preserving_loss",
    "soft_label_weights",
    "standardised",
    "subclass_log_probs",
    "subclass_loss",
    "targets_of",
    "term_arguments",
    "variational_information_loss",
    "virtual_teacher_loss",
    "weighted_soft_label_loss",
]
