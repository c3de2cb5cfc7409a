"""What `import hf_icckd` offers, and where it is: read by type checkers, and by `__init__.py` at run time."""

from . import data as data
from . import evaluation as evaluation
from . import losses as losses
from . import metrics as metrics
from . import models as models
from . import training as training
from ._version import __version__ as __version__
from .data import (
    Augmentation as Augmentation,
)
from .data import (
    ImageData as ImageData,
)
from .data import (
    ImagePipeline as ImagePipeline,
)
from .data import (
    Sampling as Sampling,
)
from .data import (
    load_image_data as load_image_data,
)
from .evaluation.split import (
    predict_split as predict_split,
)
from .evaluation.split import (
    split_metrics as split_metrics,
)
from .hub.push import push_to_hub as push_to_hub
from .losses import (
    AT as AT,
)
from .losses import (
    BCEKD as BCEKD,
)
from .losses import (
    CC as CC,
)
from .losses import (
    CKD as CKD,
)
from .losses import (
    CMI as CMI,
)
from .losses import (
    CRD as CRD,
)
from .losses import (
    CTKD as CTKD,
)
from .losses import (
    DIST as DIST,
)
from .losses import (
    DKD as DKD,
)
from .losses import (
    KD as KD,
)
from .losses import (
    MLKD as MLKD,
)
from .losses import (
    NST as NST,
)
from .losses import (
    OBJECTIVES as OBJECTIVES,
)
from .losses import (
    PKT as PKT,
)
from .losses import (
    RKD as RKD,
)
from .losses import (
    SP as SP,
)
from .losses import (
    SRRL as SRRL,
)
from .losses import (
    TEACHER_TERMS as TEACHER_TERMS,
)
from .losses import (
    VID as VID,
)
from .losses import (
    WSLD as WSLD,
)
from .losses import (
    DistillationObjective as DistillationObjective,
)
from .losses import (
    EmbeddingRegression as EmbeddingRegression,
)
from .losses import (
    FitNet as FitNet,
)
from .losses import (
    HardLabel as HardLabel,
)
from .losses import (
    IntraClassContrastiveLoss as IntraClassContrastiveLoss,
)
from .losses import (
    ReviewKD as ReviewKD,
)
from .losses import (
    Subclass as Subclass,
)
from .losses import (
    TeacherBatch as TeacherBatch,
)
from .losses import (
    TeacherTerm as TeacherTerm,
)
from .losses import (
    TfKD as TfKD,
)
from .losses import (
    WeightedObjectives as WeightedObjectives,
)
from .losses import (
    WeightedTerms as WeightedTerms,
)
from .losses import (
    intra_class_contrastive_loss as intra_class_contrastive_loss,
)
from .losses import (
    knowledge_distillation_loss as knowledge_distillation_loss,
)
from .losses import (
    margin_gate as margin_gate,
)
from .losses.class_cache import ClassEmbeddingCache as ClassEmbeddingCache
from .losses.objective import DistillationBatch as DistillationBatch
from .models.classifier import (
    ClassifierSpec as ClassifierSpec,
)
from .models.classifier import (
    ImageClassifier as ImageClassifier,
)
from .models.classifier import (
    create_classifier as create_classifier,
)
from .models.ensemble import ensemble as ensemble
from .models.foreign import as_teacher as as_teacher
from .models.from_weights import WeightsFile as WeightsFile
from .models.onnx import export_onnx as export_onnx
from .models.openvino import export_openvino as export_openvino
from .models.outputs import ClassifierOutput as ClassifierOutput
from .models.pretrained import (
    from_pretrained as from_pretrained,
)
from .models.pretrained import (
    save_pretrained as save_pretrained,
)
from .models.quantise import quantise_onnx as quantise_onnx
from .models.state_dicts import read_state_dict as read_state_dict
from .options.training import (
    StudentTrainingArguments as StudentTrainingArguments,
)
from .options.training import (
    TeacherTrainingArguments as TeacherTrainingArguments,
)
from .prediction.predict import (
    Prediction as Prediction,
)
from .prediction.predict import (
    predict_images as predict_images,
)
from .training.student_trainer import StudentTrainer as StudentTrainer
from .training.teacher_targets import TeacherTargets as TeacherTargets
from .training.teacher_trainer import TeacherTrainer as TeacherTrainer
