"""Predictions for image files: read by threads, framed as in evaluation, classified in batches."""

from __future__ import annotations

import functools
import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from hf_icckd.data.depth import Range
from hf_icckd.data.framing import Framing
from hf_icckd.data.images import UnreadableImageError, decode_image
from hf_icckd.models.classifier import ImageClassifier
from hf_icckd.options.checks import check_number
from hf_icckd.prediction.classifier import Classifier, load_classifier, recorded_pixel_range
from hf_icckd.prediction.files import ImageFiles
from hf_icckd.utils.machine import cores
from hf_icckd.utils.progress_bars import progress_bar

_TOP_K = 5
_MAX_THREADS = 8
_AHEAD = 2  # batches that are read while the model runs on one


@dataclass(frozen=True)
class Prediction:
    """What a model says of one image file.

    Example:
        >>> found = Prediction("a.png", (("cat", 0.7), ("dog", 0.3)), 0.4)
        >>> found.label, found.probability, found.error is None
        ('cat', 0.7, True)

    Attributes:
        image: Path of the file.
        top: The most probable classes, and the probability of each.
        margin: By how much the most probable class is ahead of the second, 0 to 1: small where the model is unsure.
        error: Why there is no prediction; None if there is one.
        readable: Whether the file could be read as an image.
    """

    image: str
    top: tuple[tuple[str, float], ...] = ()
    margin: float | None = None
    error: str | None = None
    readable: bool = True

    @property
    def label(self) -> str | None:
        """The most probable class; None without a prediction."""
        return self.top[0][0] if self.top else None

    @property
    def probability(self) -> float | None:
        """Probability of that class."""
        return self.top[0][1] if self.top else None


def predict_images(
    model: ImageClassifier | str | Path,
    paths: str | Path | Iterable[str | Path],
    *,
    top_k: int | None = None,
    batch_size: int = 64,
    num_workers: int | None = None,
    pixel_range: Range | None = None,
    progress: bool = False,
) -> Iterator[Prediction]:
    """Predict the classes of image files, one by one in natural order; files that can't be read come with an error.

    Each image is read, scaled and cropped as in evaluation. Only a few batches are in memory.

    Args:
        model: A classifier, anything that `from_pretrained` loads, or an ONNX file of `export_onnx`.
        paths: Files, folders and patterns, see `ImageFiles`.
        top_k: Classes to return for an image; None for 5, or all if there are fewer.
        batch_size: Images per step.
        num_workers: Threads that read images; None for one per core, up to 8.
        pixel_range: Values of black and white in deep images; None for those of the model's run, else of their type.
        progress: Whether to show a progress bar.

    Raises:
        ValueError: At once, if the model can't be loaded, there are no images, or an argument is out of range.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> from hf_icckd import create_classifier
        >>> model = create_classifier("cifar_resnet8", ["cat", "dog"], image_size=32)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.new("RGB", (40, 30), "red").save(Path(folder, "a.png"))
        ...     Path(folder, "b.png").write_text("no image")
        ...     for found in predict_images(model, folder):
        ...         print(Path(found.image).name, len(found.top), found.error is None)
        8
        a.png 2 True
        b.png 0 False
    """
    check_number("top_k", top_k, 1)
    check_number("batch_size", batch_size, 1)
    check_number("num_workers", num_workers, 1)
    files = ImageFiles([paths] if isinstance(paths, str | Path) else list(paths))
    classifier = load_classifier(model)
    num_classes = len(classifier.label_names)
    if top_k is not None and top_k > num_classes:
        raise ValueError(f"top_k is {top_k}, expected at most {num_classes}, the number of classes")
    read = functools.partial(_read, framing=classifier.framing, pixel_range=pixel_range or recorded_pixel_range(model))
    batches = _batches(files, read, batch_size, num_workers or min(cores(), _MAX_THREADS))
    return _predict(classifier, batches, top_k or min(_TOP_K, num_classes), len(files), progress)


_Read = tuple[str, np.ndarray | str]  # a file and its pixels (S, S, 3) uint8, or why there are none


def _read(path: str, framing: Framing, pixel_range: Range | None) -> _Read:
    """Read and frame one image, so that its full size is not kept."""
    name = path.encode("utf-8", "backslashreplace").decode()
    if name != path:
        return name, f"{name} has a name that is not UTF-8; rename it"
    try:
        return name, np.asarray(framing(decode_image({"path": path}, path, pixel_range=pixel_range)))
    except UnreadableImageError as error:
        return name, " ".join(str(error).split())
    except MemoryError:  # a picture of one row is scaled to millions of columns
        return name, f"{name} takes more memory than there is, once it is scaled to {framing.size} pixels"


def _batches(
    files: Iterable[str], read: functools.partial[_Read], batch_size: int, num_workers: int
) -> Iterator[list[_Read]]:
    """Images in the order of the files, a few batches read ahead."""
    threads = ThreadPoolExecutor(num_workers)
    waiting: deque[list[Future[_Read]]] = deque()
    left = iter(files)
    try:
        while True:
            while len(waiting) < _AHEAD and (names := list(itertools.islice(left, batch_size))):
                waiting.append([threads.submit(read, name) for name in names])
            if not waiting:
                return
            yield [each.result() for each in waiting.popleft()]
    finally:
        threads.shutdown(cancel_futures=True)


def _predict(
    classifier: Classifier, batches: Iterator[list[_Read]], top_k: int, count: int, progress: bool
) -> Iterator[Prediction]:
    with progress_bar("predicting", total=count, unit="img", hidden=not progress, delay=1) as bar:
        for batch in batches:
            pixels = [each for _, each in batch if not isinstance(each, str)]
            found = iter(_answers(classifier, pixels, top_k) if pixels else ())
            for name, each in batch:
                if isinstance(each, str):
                    yield Prediction(name, error=each, readable=False)
                    continue
                top, margin = next(found)
                error = None if top else "the model's logits are not finite; check its weights"
                yield Prediction(name, top, margin, error)
            bar.update(len(batch))


_Answer = tuple[tuple[tuple[str, float], ...], float | None]


def _answers(classifier: Classifier, pixels: list[np.ndarray], top_k: int) -> Iterator[_Answer]:
    """The most probable classes of each image and the margin; neither where logits are not finite."""
    logits = classifier.logits(torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2))
    # Sorted by logits, because many probabilities may be exactly 0.
    order = logits.argsort(dim=1, descending=True, stable=True)
    shares = logits.double().softmax(dim=1).gather(1, order)
    finite = logits.isfinite().all(dim=1).tolist()
    rows = zip(finite, order[:, :top_k].tolist(), shares[:, : max(top_k, 2)].tolist(), strict=True)
    for usable, labels, own in rows:
        if usable:
            top = tuple((classifier.label_names[label], share) for label, share in zip(labels, own, strict=False))
            yield top, own[0] - own[1] if len(own) > 1 else 1.0
        else:
            yield (), None
