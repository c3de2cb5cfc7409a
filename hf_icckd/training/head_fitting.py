"""A classification layer that no term of the loss trains: frozen, and fitted to labelled images as a linear probe."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from hf_icckd.evaluation.split import SplitOutputs
from hf_icckd.losses import WeightedObjectives
from hf_icckd.losses.objective import outputs_read
from hf_icckd.metrics.linear_probe import linear_probe
from hf_icckd.models.classifier import ImageClassifier
from hf_icckd.options.fine_tuning import FineTuning
from hf_icckd.utils import distributed


def trains_head(objectives: WeightedObjectives) -> bool:
    """Whether an objective reads the student's logits, and so trains its classification layer.

    Example:
        >>> from hf_icckd.losses import parse_objectives
        >>> trains_head(parse_objectives(["kd"])), trains_head(parse_objectives(["rkd", "kd:weight=0"]))
        (True, False)
    """
    weighted = {name for each in objectives for name in each.term_weights if objectives.term_weights[name]}
    return not weighted <= {*_without_logits(objectives)}


def refuse_idle(objectives: WeightedObjectives, args: FineTuning) -> None:
    """Raise if a backbone is frozen for good and an objective could train nothing else."""
    if args.freeze_backbone and (idle := _without_logits(objectives)):
        raise ValueError(
            f"freeze_backbone is true but {idle[0]} reads nothing of the classification layer, so it would train "
            "nothing of the student; choose objectives that do, such as --objectives kd"
        )


def _without_logits(objectives: WeightedObjectives) -> list[str]:
    """Weighted terms of objectives that don't read the student's logits."""
    without = [each for each in objectives if "logits" not in outputs_read(each, "student")]
    return [name for each in without for name in each.term_weights if objectives.term_weights[name]]


def freeze_head(classifier: ImageClassifier, images: Dataset | None, args: FineTuning) -> Dataset:
    """Keep the classification layer out of training, until `fit_head`; return the images to fit it on.

    Args:
        classifier: The classifier.
        images: Labelled images.
        args: Options; they must not freeze the backbone too.

    Raises:
        ValueError: If there are no images, the backbone is to be frozen too, or the layer is not one linear layer with
            a bias, whose weights a probe could give.
    """
    if args.freeze_backbone or args.freeze_epochs:
        raise ValueError(
            "the backbone is to be frozen, and no term of the loss trains the classification layer, expected one of "
            "them to be trained; leave --freeze_backbone and --freeze_epochs out, or give labels with --ce_weight"
        )
    if images is None:
        raise ValueError(
            "no term of the loss trains the student's classification layer, expected cross-entropy, kd or images to "
            "fit it on; give labeled_dataset=pipeline.dataset('train')"
        )
    layer = classifier.net.get_classifier() if classifier.head.single_layer else None
    if not isinstance(layer, nn.Linear) or layer.bias is None:
        raise ValueError(
            f"no term of the loss trains the classification layer of {classifier.spec.architecture}, and it can't be "
            "fitted afterwards: it is not one linear layer with a bias; take another --model, or add --objectives kd "
            "or labels with --ce_weight"
        )
    layer.requires_grad_(False)
    return images


def fit_head(classifier: ImageClassifier, outputs: SplitOutputs) -> str:
    """Put a linear probe on the embeddings into the classification layer; the same on every process.

    Args:
        classifier: After `freeze_head`.
        outputs: Its outputs for labelled images.

    Returns:
        A sentence for readers of the metrics.
    """
    assert outputs.embeddings is not None  # of a single layer
    embeddings, labels, classes = outputs.embeddings, outputs.labels, len(classifier.spec.label_names)
    weight, bias = distributed.on_first_rank(lambda: fitted_layer(embeddings, labels, classes))
    layer = cast("nn.Linear", classifier.net.get_classifier())
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    return (
        "No term of the loss trained the classification layer: after training it was fitted to the embeddings of the "
        f"{len(labels):,} labelled training images, as a linear probe."
    )


def fitted_layer(embeddings: Tensor, labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Weights (C, D) and bias (C,) of a linear probe that is fitted to standardised embeddings, for plain ones.

    Args:
        embeddings: (N, D).
        labels: (N,) class indices.
        num_classes: Number of classes C.

    Returns:
        Two tensors in float64, on the CPU.
    """
    features = embeddings.double()
    mean, std = features.mean(dim=0), features.std(dim=0, correction=0)
    std = torch.where(std > 1e-12 * (1 + mean.abs()), std, torch.inf)  # a constant feature says nothing
    weight, bias = linear_probe((features - mean) / std, labels, num_classes)
    weight = weight / std
    return weight.cpu(), (bias - weight @ mean).cpu()
