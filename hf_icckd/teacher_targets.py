"""What a teacher says about every augmented image, recorded once and replayed for many students.

Augmentation is keyed, so the image that a student sees is known by (epoch, sample id), whatever its order, batches or
processes. A folder of targets holds `targets.json`, which says what was recorded of what, and blocks of rows as
safetensors files in half precision, each whole or not there at all: an interrupted recording goes on with the next.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.utils.data import Dataset

from hf_icckd import distributed
from hf_icckd.data import ImagePipeline
from hf_icckd.data.fingerprint import split_fingerprint
from hf_icckd.data.sampling import BatchKey
from hf_icckd.evaluation import SplitOutputs
from hf_icckd.files import replace_file, replace_tensors
from hf_icckd.hub import fingerprint
from hf_icckd.modeling import ImageClassifier

FORMAT = 1
IDENTITY_FILE, _LOCK_FILE = "targets.json", ".lock"
BLOCK_ROWS = 32_768  # what an interruption loses at most
_RECORDABLE = ("logits", "embeddings")


class TeacherTargets:
    """A folder of recorded teacher outputs for the training images of a run.

    Args:
        folder: Where they are, or will be.
        teacher: The teacher.
        pipeline: Where the images come from, with their augmentation.
        outputs: What is needed of the teacher: `logits`, `embeddings` or both. Logits are always kept.
        precision: What the teacher computes in: its weights' type, or that of autocast.
        create: Whether an empty folder, or none, becomes a new one.

    Attributes:
        dims: Length of each output that is recorded.

    Raises:
        ValueError: If the folder holds other targets, or outputs can't be recorded.
    """

    def __init__(
        self,
        folder: str | Path,
        teacher: ImageClassifier,
        pipeline: ImagePipeline,
        outputs: tuple[str, ...] = ("logits",),
        precision: str = "float32",
        create: bool = True,
    ):
        if pipeline.data.streamed:
            raise ValueError(
                "teacher_targets can't be recorded of a stream, whose images have no row numbers; leave --streaming "
                "out, or take --teacher_targets live"
            )
        too_large = sorted(set(outputs) - set(_RECORDABLE))
        if too_large:
            raise ValueError(
                f"an objective compares {' and '.join(too_large)}, which are too large to record for every image and "
                "epoch; take --teacher_targets live, which runs the teacher in every step"
            )
        self.folder = Path(folder)
        self.num_rows = len(pipeline.data.train)
        dims = {"logits": len(teacher.spec.label_names), "embeddings": teacher.embedding_dim}
        wanted = {name: dims[name] for name in _RECORDABLE if name in {"logits", *outputs}}
        own = {"format": FORMAT, "outputs": wanted, "identity": _identity(teacher, pipeline, precision)}
        own = json.loads(json.dumps(own))  # what is compared is what a file would give
        found = distributed.on_first_rank(lambda: self._open_folder(own, create))
        self.dims: dict[str, int] = found["outputs"]
        self._digest = hashlib.blake2b(json.dumps(found["identity"]).encode(), digest_size=16).hexdigest()
        self._constant = pipeline.augmentation is None  # then every epoch has the same images
        self._blocks: dict[tuple[int, int], dict[str, Tensor]] = {}

    def _open_folder(self, own: dict[str, Any], create: bool) -> dict[str, Any]:
        """What the folder holds, after a comparison with what this run needs; a new one is claimed for it."""
        file = self.folder / IDENTITY_FILE
        if not file.is_file():
            if not create:
                raise ValueError(
                    f"there are no teacher targets in {str(self.folder)!r}; check --teacher_targets_dir, or take "
                    "--teacher_targets auto, which records them"
                )
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / _LOCK_FILE):
                self._claim(file, own)
        try:
            found = json.loads(file.read_text())
            written_as, outputs, identity = int(found["format"]), dict(found["outputs"]), dict(found["identity"])
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"{file} is damaged ({type(error).__name__}); delete the folder, or choose another with "
                "--teacher_targets_dir"
            ) from error
        if written_as > FORMAT:
            raise ValueError(f"{file} has format {written_as}, expected at most {FORMAT}; use a later hf_icckd")
        differing = [
            f"{name} {identity.get(name)!r} -> {own['identity'].get(name)!r}"
            for name in sorted(identity.keys() | own["identity"].keys())
            if identity.get(name) != own["identity"].get(name)
        ]
        if differing:
            raise ValueError(
                f"{str(self.folder)!r} holds the targets of something else; it differs in: {'; '.join(differing)}. "
                "Choose another folder with --teacher_targets_dir, or set what differs as it was (pixels depend on "
                "--augmentation_seed, not on --seed, if both are given)"
            )
        lacking = sorted(own["outputs"].keys() - outputs.keys())
        if lacking:
            raise ValueError(
                f"the teacher targets in {str(self.folder)!r} hold {' and '.join(outputs)}, but the objectives need "
                f"{' and '.join(lacking)} too; record into another folder with --teacher_targets_dir"
            )
        return found

    def _claim(self, file: Path, own: dict[str, Any]) -> None:
        if file.is_file():  # another run was quicker
            return
        if any(not each.name.startswith(".") for each in self.folder.iterdir()):
            raise ValueError(
                f"{str(self.folder)!r} is not empty and holds no teacher targets; choose another folder with "
                "--teacher_targets_dir"
            )
        replace_file(file, lambda path: path.write_text(json.dumps(own, indent=2) + "\n"))

    # ---- which blocks there are

    def missing(self, epochs: range) -> list[tuple[int, int]]:
        """Epoch and first row of every block that these epochs need and that is not recorded."""
        return distributed.on_first_rank(
            lambda: [
                (epoch, start)
                for epoch in (range(min(len(epochs), 1)) if self._constant else epochs)
                for start in range(0, self.num_rows, BLOCK_ROWS)
                if not self._file(epoch, start).is_file()
            ]
        )

    def check_space(self, blocks: list[tuple[int, int]]) -> int:
        """Bytes that blocks will take; raises ValueError unless the disk has them."""
        rows = sum(min(BLOCK_ROWS, self.num_rows - start) for _, start in blocks)
        needed, free = 2 * sum(self.dims.values()) * rows, shutil.disk_usage(self.folder).free
        if needed > free:
            raise ValueError(
                f"the teacher targets take {needed / 1e9:.1f} GB, {str(self.folder)!r} has {free / 1e9:.1f} GB free; "
                "choose another folder with --teacher_targets_dir, or --teacher_targets live"
            )
        return needed

    def _file(self, epoch: int, start: int) -> Path:
        return self.folder / f"epoch{epoch:05d}-row{start:09d}.safetensors"

    # ---- record

    def record(self, epoch: int, start: int, dataset: Dataset, predict: Callable[[Dataset], SplitOutputs]) -> None:
        """Run the teacher over a block, all processes together; nothing is done if another run has it by then.

        Args:
            epoch: Epoch of the block.
            start: Its first row.
            dataset: Training data set with one view, as the student gets it.
            predict: Runs the teacher over a data set; see `hf_icckd.evaluation.predict_split`.

        Raises:
            FloatingPointError: If an output is not finite in half precision.
        """
        with self._lock():
            if distributed.on_first_rank(self._file(epoch, start).is_file):
                return
            rows = range(start, min(start + BLOCK_ROWS, self.num_rows))
            outputs = predict(EpochRows(dataset, epoch, rows))
            block = {name: getattr(outputs, name).half().cpu().contiguous() for name in self.dims}
            for name, values in block.items():
                if not values.isfinite().all():
                    raise FloatingPointError(
                        f"the teacher's {name} are not finite in half precision in epoch {epoch}, rows {start} on; "
                        "take --teacher_targets live, or another teacher"
                    )
            distributed.on_first_rank(
                lambda: replace_tensors(self._file(epoch, start), block, self._metadata(epoch, start))
            )

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """Two runs that need the same block take turns; the second then finds it."""
        lock = FileLock(self.folder / _LOCK_FILE)
        if distributed.rank() == 0:  # the others wait for what it finds
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    # ---- replay

    def read(self, epoch: int, sample_ids: Tensor) -> dict[str, Tensor]:
        """Recorded outputs of images in an epoch.

        Args:
            epoch: Epoch.
            sample_ids: (B,) int64 on the CPU, rows of the training split.

        Returns:
            `logits` (B, C) and, where recorded, `embeddings` (B, D), float16 on the CPU.

        Raises:
            ValueError: If a block is missing, damaged, or belongs to other targets.
        """
        epoch = 0 if self._constant else epoch
        starts = sample_ids // BLOCK_ROWS * BLOCK_ROWS
        values = {name: torch.empty(len(sample_ids), dim, dtype=torch.float16) for name, dim in self.dims.items()}
        for start in starts.unique().tolist():
            there = starts == start
            block = self._block(epoch, start)
            for name in values:
                values[name][there] = block[name][sample_ids[there] - start]
        return values

    def _block(self, epoch: int, start: int) -> dict[str, Tensor]:
        if (epoch, start) not in self._blocks:
            if any(opened != epoch for opened, _ in self._blocks):
                self._blocks.clear()
            self._blocks[epoch, start] = self._open_block(epoch, start)
        return self._blocks[epoch, start]

    def _open_block(self, epoch: int, start: int) -> dict[str, Tensor]:
        file = self._file(epoch, start)
        if not file.is_file():
            raise ValueError(
                f"{file} is missing: nothing is recorded of epoch {epoch}, rows {start} on; take --teacher_targets "
                "auto, which records it"
            )
        try:
            with safe_open(file, "pt") as opened:
                metadata = opened.metadata() or {}
                block = {name: opened.get_tensor(name) for name in self.dims}  # mapped, not read
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{file} is damaged ({error}); delete it, and it is recorded again") from error
        if metadata != self._metadata(epoch, start):
            raise ValueError(f"{file} belongs to other targets; delete it, and it is recorded again")
        return block

    def _metadata(self, epoch: int, start: int) -> dict[str, str]:
        return {"targets": self._digest, "epoch": str(epoch), "start": str(start)}


def _identity(teacher: ImageClassifier, pipeline: ImagePipeline, precision: str) -> dict[str, Any]:
    """All that the recorded values depend on."""
    augmentation, spec = pipeline.augmentation, asdict(teacher.spec)
    return {
        "teacher": fingerprint(teacher),
        **{f"teacher_{name}": spec[name] for name in ("architecture", "image_size", "mean", "std", "model_args")},
        "training_images": split_fingerprint(pipeline.data.train),
        "image_size": pipeline.image_size,
        "crop_pct": pipeline.crop_pct,
        "interpolation": pipeline.interpolation,
        "precision": precision,
        "augmentation": None if augmentation is None else asdict(augmentation),
    }


class EpochRows(Dataset):
    """Consecutive rows of a data set as they look in an epoch.

    Args:
        dataset: Data set whose `__getitems__` takes a `BatchKey`.
        epoch: Epoch.
        rows: Which rows.
    """

    def __init__(self, dataset: Dataset, epoch: int, rows: range):
        self.dataset, self.epoch, self.rows = dataset, epoch, rows
        self.resident = getattr(dataset, "resident", False)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, key: BatchKey) -> dict:
        """The batch of the data set, `key.indices` counted from the first row."""
        return self.dataset.__getitems__(key._replace(epoch=self.epoch, indices=key.indices + self.rows.start))


class WithTargets(Dataset):
    """A training data set whose batches bring the teacher's recorded outputs along.

    Args:
        dataset: Data set whose `__getitems__` takes a `BatchKey`.
        targets: Recorded outputs for its images.
    """

    def __init__(self, dataset: Dataset, targets: TeacherTargets):
        self.dataset, self.targets = dataset, targets
        self.resident = getattr(dataset, "resident", False)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, key: BatchKey) -> dict:
        """The batch of the data set and `teacher`, what `TeacherTargets.read` returns."""
        return self.dataset.__getitems__(key) | {"teacher": self.targets.read(key.epoch, key.indices)}
