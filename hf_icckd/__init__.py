"""Teachers that teach: classification teachers with rich soft labels, and small students distilled from them."""

from __future__ import annotations

__version__ = "0.1.0"

import hf_icckd.models  # noqa: F401  registers the cifar_* architectures in timm
from hf_icckd.class_cache import ClassEmbeddingCache
from hf_icckd.data import ImageData, ImagePipeline, load_image_data
from hf_icckd.evaluation import predict_split, split_metrics
from hf_icckd.hub import from_pretrained, push_to_hub, save_pretrained
from hf_icckd.losses import (
    KD,
    OBJECTIVES,
    RKD,
    DistillationObjective,
    IntraClassContrastiveLoss,
    WeightedObjectives,
    intra_class_contrastive_loss,
    knowledge_distillation_loss,
    margin_gate,
)
from hf_icckd.modeling import ClassifierSpec, ImageClassifier, create_classifier
from hf_icckd.onnx_export import export_onnx
from hf_icckd.outputs import ClassifierOutput, DistillationBatch
from hf_icckd.student_trainer import StudentTrainer
from hf_icckd.teacher_targets import TeacherTargets
from hf_icckd.teacher_trainer import TeacherTrainer
from hf_icckd.training_args import StudentTrainingArguments, TeacherTrainingArguments

__all__ = [
    "KD",
    "OBJECTIVES",
    "RKD",
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
    "TeacherTargets",
    "TeacherTrainer",
    "TeacherTrainingArguments",
    "WeightedObjectives",
    "create_classifier",
    "export_onnx",
    "from_pretrained",
    "intra_class_contrastive_loss",
    "knowledge_distillation_loss",
    "load_image_data",
    "margin_gate",
    "predict_split",
    "push_to_hub",
    "save_pretrained",
    "split_metrics",
]
