"""Ask classifiers about one picture: soft labels, agreement of two, latency and nearest classes."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import numpy as np
import PIL.Image
import torch
import torch.nn.functional as F
from datasets import Dataset
from torch import Tensor

from hf_icckd import metrics
from hf_icckd.data.decoded import DecodedImages
from hf_icckd.data.depth import Range
from hf_icckd.data.framing import evaluation_framing
from hf_icckd.data.images import upright_rgb
from hf_icckd.evaluation.cost import latency_ms
from hf_icckd.evaluation.split import predict_split
from hf_icckd.models.classifier import ClassifierSpec, ImageClassifier, is_unnamed

_NEIGHBOURS = 3  # nearest classes shown
_TIMED_RUNS = 20
_TIMED_SECONDS = 0.5


class Answer(NamedTuple):
    """Output of one classifier for one picture.

    Attributes:
        logits: (C,) float32 on the CPU.
        latency_ms: Median time of one forward pass; the picture is on the device already.
        neighbours: Class index and cosine distance (0 to 2), nearest first; None without class means.
    """

    logits: Tensor
    latency_ms: float
    neighbours: list[tuple[int, float]] | None


def prepare(image: PIL.Image.Image, spec: ClassifierSpec) -> Tensor:
    """Turn, resize and crop a picture as evaluation does: (1, 3, S, S) uint8.

    Args:
        image: A picture of any size and mode; EXIF orientation is applied.
        spec: The net it is meant for.
    """
    return torch.from_numpy(np.array(evaluation_framing(spec)(upright_rgb(image)))).permute(2, 0, 1)[None]


def class_means(
    model: ImageClassifier,
    split: Dataset,
    labels: np.ndarray,
    description: str | None = None,
    pixel_range: Range | None = None,
) -> Tensor | None:
    """Mean of the unit-length embeddings of each class: (C, D) float32 on the CPU, zeros for a class without images.

    None for a model without embeddings.

    Args:
        model: The classifier.
        split: Data set with an undecoded `image` column.
        labels: (N,) class indices.
        description: Text before the progress bar; None for no bar.
        pixel_range: Values of black and white in deep images; None for the range of their type.
    """
    if model.embedding_dim is None:
        return None
    spec, classes = model.spec, torch.from_numpy(labels)
    images = DecodedImages(split, classes, evaluation_framing(spec), pixel_range=pixel_range)
    embeddings = cast(Tensor, predict_split(model, images, batch_size=64, description=description).embeddings).cpu()
    sums = torch.zeros(len(spec.label_names), embeddings.shape[1])
    sums.index_add_(0, classes, F.normalize(embeddings, dim=1))
    return sums / classes.bincount(minlength=len(sums)).clamp(min=1)[:, None]


@torch.no_grad()
def ask(model: ImageClassifier, image: PIL.Image.Image, means: Tensor | None = None) -> Answer:
    """Run a classifier on a picture, on the classifier's device.

    Args:
        model: The classifier; its training mode is restored.
        image: A picture of any size and mode.
        means: (C, D) class means from `class_means`, for neighbours.
    """
    training = model.training
    model.eval()
    images = prepare(image, model.spec).to(next(model.parameters()).device)
    output = model(images)
    # A large net on a slow machine runs only a few times: someone is waiting for the answer.
    once = latency_ms(model, images, repeats=1)
    repeats = int(np.clip(1000 * _TIMED_SECONDS / once, 1, _TIMED_RUNS))
    latency = latency_ms(model, images, repeats) if repeats > 1 else once
    model.train(training)
    neighbours = None
    if means is not None and output.embeddings is not None:
        distances = 1 - F.normalize(means, dim=1) @ F.normalize(output.embeddings[0].float().cpu(), dim=0)
        present = means.norm(dim=1) > 0
        nearest = distances.masked_fill(~present, torch.inf).argsort(stable=True)[: min(_NEIGHBOURS, present.sum())]
        neighbours = [(index, distances[index].item()) for index in nearest.tolist()]
    return Answer(output.logits[0].float().cpu(), latency, neighbours)


def relate(
    teacher: Answer, student: Answer, label_names: tuple[str, ...], temperature: float = 1.0, top: int = 5
) -> dict[str, Any]:
    """Compare the answers of teacher and student to the same picture.

    Args:
        teacher: Answer of the teacher.
        student: Answer of the student.
        label_names: Names of the classes, which both share.
        temperature: Softmax temperature of both.
        top: How many classes to return.

    Returns:
        `temperature`; `same_class`, whether both rank the same class first; `kl`, KL(teacher || student) in nats at
        that temperature, without the T^2 factor of the distillation loss; and for each of `teacher` and `student` what
        `describe` returns.
    """
    pair = student.logits[None], teacher.logits[None]
    found: dict[str, Any] = {
        "temperature": temperature,
        "same_class": metrics.agreement(*pair).item() == 1,
        "kl": max(0.0, metrics.kl_divergence(*pair, temperature).item()),  # rounding may make it slightly negative
    }
    return found | {
        role: describe(answer, label_names, temperature, top)
        for role, answer in (("teacher", teacher), ("student", student))
    }


def describe(answer: Answer, label_names: tuple[str, ...], temperature: float = 1.0, top: int = 5) -> dict[str, Any]:
    """Put one classifier's answer into words and numbers.

    Args:
        answer: The answer.
        label_names: Names of the classes.
        temperature: Softmax temperature.
        top: How many classes to return.

    Returns:
        `soft_label` and `neighbours` (lists of name and probability or distance) and `latency_ms`.
    """
    soft_label = (answer.logits / temperature).softmax(dim=0)
    # Sorted by logits, because at a small temperature many probabilities are exactly 0.
    order = answer.logits.argsort(descending=True, stable=True)[:top].tolist()
    return {
        "soft_label": [(label_names[index], soft_label[index].item()) for index in order],
        "latency_ms": answer.latency_ms,
        "neighbours": answer.neighbours and [(label_names[index], far) for index, far in answer.neighbours],
    }


def compare(
    teacher: ImageClassifier,
    student: ImageClassifier,
    image: PIL.Image.Image,
    temperature: float = 1.0,
    *,
    teacher_means: Tensor | None = None,
    student_means: Tensor | None = None,
) -> dict[str, Any]:
    """Run a teacher and its student on a picture and compare what they say; returns what `relate` returns.

    Args:
        teacher: The teacher.
        student: The student, with the same classes.
        image: A picture of any size and mode.
        temperature: Softmax temperature of both.
        teacher_means: (C, D) class means of the teacher, for neighbours.
        student_means: (C, D') class means of the student, for neighbours.

    Example:
        >>> import torch
        >>> from PIL import Image
        >>> from hf_icckd import create_classifier
        >>> torch.manual_seed(0)  # doctest: +ELLIPSIS
        <torch...>
        >>> teacher, student = (create_classifier("cifar_resnet8", ("cat", "dog"), image_size=8) for _ in range(2))
        >>> found = compare(teacher, student, Image.new("RGB", (30, 20), "red"), temperature=4)
        >>> sorted(found)
        ['kl', 'same_class', 'student', 'teacher', 'temperature']
    """
    answers = ask(teacher, image, teacher_means), ask(student, image, student_means)
    return relate(*answers, shared_names(teacher, student), temperature)


def shared_names(*models: ImageClassifier) -> tuple[str, ...]:
    """Class names of the first model that has some; made up ones if none has."""
    names = [model.spec.label_names for model in models]
    return next((each for each in names if not is_unnamed(each)), names[0])
