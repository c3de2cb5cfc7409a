"""Cross-fitted teachers: each training image is taught by a teacher that was not trained on it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from hf_icckd.data import ImageData
from hf_icckd.data.sources.image_data import UNLABELED
from hf_icckd.models.classifier import ImageClassifier
from hf_icckd.models.ensemble import members_of
from hf_icckd.runs.images import read_images


def cross_fit(teachers: Sequence[str], data: ImageData) -> Tensor:
    """Number of the teacher of each training image, those without labels last; notes in the data that it was so.

    Args:
        teachers: Folders of their runs.
        data: The images of the student.

    Raises:
        ValueError: As for `unseen_by`.
    """
    hashes = data.hashes()
    assert hashes is not None  # of a stream nothing is recorded
    splits = [UNLABELED] if data.unlabeled_only else ["train", *([UNLABELED] if UNLABELED in hashes else [])]
    chosen = unseen_by(teachers, np.concatenate([hashes[split] for split in splits]))
    data.notes.append(
        "Each training image was taught by a teacher that was not trained on it. Metrics of the teacher are those of "
        "the mean of all."
    )
    return chosen


def unseen_by(teachers: Sequence[str], hashes: np.ndarray) -> Tensor:
    """Number of the first teacher that was not trained on an image, for each image.

    Args:
        teachers: Folders of their runs, which say what they, and models that they come from, were trained on.
        hashes: (N,) hashes of the images.

    Returns:
        (N,) int64.

    Raises:
        ValueError: If a teacher has no complete record of its images, every teacher knows some image, or one teaches
            none.
    """
    known = np.empty((len(teachers), len(hashes)), dtype=bool)
    for row, name in zip(known, teachers, strict=True):
        recorded = read_images(name)
        if recorded is None or not recorded.complete:
            raise ValueError(
                f"the teacher {name!r} has no complete record of the images that it, or a model it comes from, was "
                "trained on, so nobody knows which ones it has not seen; take teachers that were trained here from "
                "scratch, without --pretrained"
            )
        row[:] = np.isin(hashes, recorded.trained)
    seen = known.all(axis=0)
    if seen.any():
        raise ValueError(
            f"{int(seen.sum()):,} of {len(hashes):,} training images were trained on by every teacher, expected one "
            "for each image that was not; train teacher K of N with --fold K/N, and give all the same data options, "
            "with --duplicates drop where copies of an image are in several groups"
        )
    chosen = known.argmin(axis=0)  # the first that is False
    if idle := [name for number, name in enumerate(teachers) if not (chosen == number).any()]:
        raise ValueError(
            f"the teacher {idle[0]!r} would teach no image: all that it has not seen are taught by those before it; "
            "leave it out"
        )
    return torch.from_numpy(chosen.astype(np.int64))


def shared_out(
    teacher: ImageClassifier, rows: Tensor, taught_by: Tensor | None
) -> list[tuple[ImageClassifier, Tensor]]:
    """Who is asked about which of these rows: the teacher about all, or each member of it about its own.

    Args:
        teacher: The teacher; an ensemble if there is more than one.
        rows: (M,) numbers of training images.
        taught_by: (N,) number of the member that teaches each training image; None for the teacher as a whole.
    """
    if taught_by is None:
        return [(teacher, rows)]
    shares = [(member, rows[taught_by[rows] == number]) for number, member in enumerate(members_of(teacher))]
    return [(member, own) for member, own in shares if len(own)]
