"""From options to what makes classes of different sizes count in the cross-entropy of a run."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from hf_icckd.data.sampling import BatchDataset
from hf_icckd.losses import ClassBalance, inverse_weights, prior_offsets, scaled_weights
from hf_icckd.options.imbalance import KINDS, check_one_remedy
from hf_icckd.options.training import DistillationTrainingArguments
from hf_icckd.utils.text import listed

_POWERS = dict(zip(KINDS, (1.0, 0.5), strict=True))


def class_balance(
    args: DistillationTrainingArguments, dataset: BatchDataset, label_names: Sequence[str]
) -> ClassBalance:
    """Weights of the classes and offsets of the logits that the options ask for, on the device of the run.

    Args:
        args: Options.
        dataset: Training images, whose classes are counted.
        label_names: Names of the classes.

    Raises:
        ValueError: If the options contradict each other or the classes, or the classes are not known.
    """
    if not args.class_weights and not args.logit_adjustment:
        return ClassBalance()
    check_one_remedy(args.class_weights, args.logit_adjustment, "by the data set" if dataset.resampled else "all")
    images = _images_of_classes(args, dataset, label_names)
    if args.class_weights:
        return ClassBalance(weights=_tensor(_weights(args.class_weights, images, label_names), args))
    missing = [name for name, count in zip(label_names, images, strict=True) if count == 0]
    if missing:
        raise ValueError(
            f"logit_adjustment is {args.logit_adjustment} but there is no training image of {listed(missing)}, "
            "expected one of every class: the log of its share would be infinite; leave these classes out with "
            "--classes, or take --class_weights balanced"
        )
    return ClassBalance(offsets=_tensor(prior_offsets(images, args.logit_adjustment), args))


def _images_of_classes(
    args: DistillationTrainingArguments, dataset: BatchDataset, label_names: Sequence[str]
) -> list[int]:
    labels = dataset.class_labels()
    if labels is None:
        name = "class_weights" if args.class_weights else "logit_adjustment"
        raise ValueError(
            f"{name} is given but the classes of the training images are not known before they are read, expected a "
            f"data set that is stored and loaded by load_image_data; leave --streaming out, or do without {name}"
        )
    if not (labels >= 0).any():
        raise ValueError("class_weights or logit_adjustment is given but no training image has a label; leave it out")
    return labels[labels >= 0].bincount(minlength=len(label_names)).tolist()


def _weights(words: list[str], images: list[int], label_names: Sequence[str]) -> list[float]:
    if words[0] in _POWERS:
        return inverse_weights(images, _POWERS[words[0]])
    if len(words) != len(label_names):
        raise ValueError(
            f"class_weights holds {len(words)} number{'s' if len(words) > 1 else ''}, expected one for each of the "
            f"{len(label_names)} classes, in this order: {listed(label_names)}"
        )
    return scaled_weights([float(word) for word in words], images)


def _tensor(values: list[float], args: DistillationTrainingArguments) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32, device=args.device)
