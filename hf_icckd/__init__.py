"""Teachers that teach: classification teachers with rich soft labels, and small students distilled from them."""

from __future__ import annotations

import hf_icckd.models  # noqa: F401  registers the cifar_* architectures in timm
from hf_icckd._version import __version__
from hf_icckd.data import Augmentation, ImageData, ImagePipeline, load_image_data
from hf_icckd.evaluation.split import predict_split, split_metrics
from hf_icckd.hub.push import push_to_hub
from hf_icckd.losses import (
    KD,
    OBJECTIVES,
    RKD,
    TEACHER_TERMS,
    DistillationObjective,
    IntraClassContrastiveLoss,
    TeacherBatch,
    TeacherTerm,
    WeightedObjectives,
    WeightedTerms,
    intra_class_contrastive_loss,
    knowledge_distillation_loss,
    margin_gate,
)
from hf_icckd.losses.class_cache import ClassEmbeddingCache
from hf_icckd.losses.objective import DistillationBatch
from hf_icckd.models.classifier import ClassifierSpec, ImageClassifier, create_classifier
from hf_icckd.models.foreign import as_teacher
from hf_icckd.models.from_weights import WeightsFile
from hf_icckd.models.onnx import export_onnx
from hf_icckd.models.outputs import ClassifierOutput
from hf_icckd.models.pretrained import from_pretrained, save_pretrained
from hf_icckd.models.state_dicts import read_state_dict
from hf_icckd.options.training import StudentTrainingArguments, TeacherTrainingArguments
from hf_icckd.training.student_trainer import StudentTrainer
from hf_icckd.training.teacher_targets import TeacherTargets
from hf_icckd.training.teacher_trainer import TeacherTrainer

__all__ = [
    "KD",
    "OBJECTIVES",
    "RKD",
    "TEACHER_TERMS",
    "Augmentation",
    "ClassEmbeddingCache",
    "ClassifierOutput",
    "ClassifierSpec",
    "DistillationBatch",
    "DistillationObjective",
    "ImageClassifier",
    "ImageData",
    "ImagePipeline",
    "IntraClassContrastiveLoss",
    "StudentTrainer",
    "StudentTrainingArguments",
    "TeacherBatch",
    "TeacherTargets",
    "TeacherTerm",
    "TeacherTrainer",
    "TeacherTrainingArguments",
    "WeightedObjectives",
    "WeightedTerms",
    "WeightsFile",
    "__version__",
    "as_teacher",
    "create_classifier",
    "export_onnx",
    "from_pretrained",
    "intra_class_contrastive_loss",
    "knowledge_distillation_loss",
    "load_image_data",
    "margin_gate",
    "predict_split",
    "push_to_hub",
    "read_state_dict",
    "save_pretrained",
    "split_metrics",
]
