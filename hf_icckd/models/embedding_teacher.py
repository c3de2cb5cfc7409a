"""Teachers that teach by their embeddings alone: nets with other classes, or without a classification layer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from hf_icckd.models.classifier import ImageClassifier, check_same_classes
from hf_icckd.models.outputs import ClassifierOutput, OutputShapes

BY_EMBEDDINGS = "--teacher_head false --objectives embedding"  # the way out for a teacher whose classes don't fit


class EmbeddingNet(nn.Module):
    """The net of a classifier whose logits are not used: its output are embeddings, and logits of no class."""

    num_classes = 0

    def __init__(self, classifier: ImageClassifier):
        super().__init__()
        self.classifier, self.embedding_dim = classifier, classifier.embedding_dim

    @property
    def forward_intermediates(self) -> Any:
        """That of the net, so that a net without feature maps has none here either."""
        return self.classifier.net.forward_intermediates

    def classifier_outputs(self, images: Tensor, feature_maps: bool = False) -> ClassifierOutput:
        """Embed normalised images."""
        output = self.classifier.outputs(images, feature_maps)
        return output._replace(logits=output.logits[:, :0])


def by_embeddings(classifier: ImageClassifier) -> ImageClassifier:
    """The same net as a teacher by its embeddings: its logits are not used, whatever its classes are.

    Raises:
        ValueError: If it has no embeddings.

    Example:
        >>> import torch
        >>> from hf_icckd import create_classifier
        >>> teacher = by_embeddings(create_classifier("cifar_resnet8", ["cat", "dog"], image_size=8).eval())
        >>> output = teacher(torch.zeros(4, 3, 8, 8, dtype=torch.uint8))
        >>> output.logits.shape, output.embeddings.shape
        (torch.Size([4, 0]), torch.Size([4, 64]))
    """
    if not has_head(classifier):
        return classifier
    spec = classifier.spec
    if classifier.embedding_dim is None:
        raise ValueError(f"the teacher {spec.architecture} has no embeddings to teach by; take another teacher")
    return ImageClassifier(EmbeddingNet(classifier), replace(spec, label_names=())).eval()


def has_head(classifier: ImageClassifier) -> bool:
    """Whether a classifier has classes; one that has none can only teach by its embeddings."""
    return len(classifier.spec.label_names) > 0


def check_teacher_classes(teacher: ImageClassifier, label_names: tuple[str, ...]) -> None:
    """Raise ValueError unless a teacher has these classes in this order, or none because it teaches by embeddings."""
    if not has_head(teacher):
        return
    try:
        check_same_classes(teacher.spec.label_names, label_names)
    except ValueError as error:
        raise ValueError(f"{error}; or let it teach by its embeddings alone: {BY_EMBEDDINGS}") from error


@torch.no_grad()
def output_shapes(classifier: ImageClassifier, feature_maps: bool = False) -> OutputShapes:
    """Shapes of what a classifier puts out.

    Args:
        feature_maps: Whether to run it on one image, in evaluation mode, for the shapes of its feature maps.

    Example:
        >>> from hf_icckd import create_classifier
        >>> output_shapes(create_classifier("cifar_resnet8", ["cat", "dog"], image_size=8))
        OutputShapes(num_classes=2, embedding_dim=64, feature_maps=None)
    """
    maps = None
    if feature_maps:
        training, size = classifier.training, classifier.spec.image_size
        image = torch.zeros(1, 3, size, size, dtype=torch.uint8, device=classifier.scale.device)
        found = classifier.eval()(image, feature_maps=True).feature_maps or ()
        classifier.train(training)
        maps = tuple(tuple(each.shape[1:]) for each in found)
    return OutputShapes(len(classifier.spec.label_names), classifier.embedding_dim, maps)
