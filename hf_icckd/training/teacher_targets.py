"""Teacher targets: a teacher's outputs for every augmented image, recorded once and replayed for many students.

Augmentation is keyed, so (epoch, sample id) determines the pixels a student sees, in any order and with any number of
processes. A folder of targets holds `targets.json`, the identity of what was recorded, and blocks of rows as
safetensors files in half precision. Each block is written atomically, so an interrupted recording continues with the
next block.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from torch import Tensor

from hf_icckd.data import ImagePipeline
from hf_icckd.data.splits.fingerprint import split_fingerprint
from hf_icckd.models.classifier import ImageClassifier
from hf_icckd.models.pretrained import fingerprint
from hf_icckd.training.recorded_batches import Source, outputs_of, recordable
from hf_icckd.utils import distributed
from hf_icckd.utils.atomic_files import replace_file, replace_tensors, user_path

FORMAT = 1
IDENTITY_FILE, _LOCK_FILE = "targets.json", ".lock"
BLOCK_ROWS = 32_768  # an interruption loses at most this many
_LOCK_SECONDS = 5
_AGAIN = "move it away, and --teacher_targets auto records it again"

logger = logging.getLogger(__name__)


class TeacherTargets:
    """A folder of recorded teacher outputs for the training images of a run.

    Args:
        folder: Folder of the targets.
        teacher: The teacher.
        pipeline: The images, with their augmentation.
        outputs: Which outputs are needed: `logits`, `embeddings` or both. Logits are recorded in any case.
        precision: `float32` for the precision of the teacher's weights, `bf16` or `fp16` for autocast.
        create: Whether to make the folder if there are no targets in it.
        taught_by: (N,) number of the member of the teacher, an ensemble, that teaches each image; None for all.

    Attributes:
        taught_by: As given.
        dims: Length of each recorded output.
        block_rows: Rows in a block.

    Raises:
        ValueError: If the folder holds targets of something else, or an output can't be recorded.

    Example:
        >>> import tempfile
        >>> import hf_icckd
        >>> data = hf_icckd.load_image_data("digits", max_train_samples=64, max_eval_samples=64)
        >>> pipeline = hf_icckd.ImagePipeline(data)
        >>> teacher = hf_icckd.create_classifier("cifar_resnet8", data.label_names, image_size=8)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     targets = TeacherTargets(folder, teacher, pipeline)
        ...     targets.missing(range(2))
        [(0, 0), (1, 0)]
    """

    def __init__(
        self,
        folder: str | Path,
        teacher: ImageClassifier,
        pipeline: ImagePipeline,
        outputs: tuple[str, ...] = ("logits",),
        precision: str = "float32",
        create: bool = True,
        taught_by: Tensor | None = None,
    ):
        wanted = recordable(teacher, pipeline, outputs)
        self.taught_by = taught_by
        self.folder, self.precision = user_path(folder), precision
        self.num_rows = len(pipeline.data.trained)
        if taught_by is not None and len(taught_by) != self.num_rows:
            raise ValueError(
                f"taught_by names the teachers of {len(taught_by)} images, expected one for each of the "
                f"{self.num_rows} that are trained on"
            )

        def open_folder() -> dict[str, Any]:
            identity = _identity(teacher, pipeline, precision, taught_by)
            own = {"format": FORMAT, "block_rows": BLOCK_ROWS, "outputs": wanted, "identity": identity}
            return self._open_folder(json.loads(json.dumps(own)), create)  # as it comes back from the file

        found = distributed.on_first_rank(open_folder)
        if distributed.any_rank(not self._file_says(found)):
            raise ValueError(
                f"{str(self.folder / IDENTITY_FILE)!r} is not the same for all processes; give a folder that all "
                "machines share with --teacher_targets_dir"
            )
        self.dims: dict[str, int] = found["outputs"]
        self.block_rows: int = found["block_rows"]
        self._digest = hashlib.blake2b(json.dumps(found["identity"]).encode(), digest_size=16).hexdigest()
        self._constant = pipeline.constant  # then every epoch has the same images
        self._pin = pipeline.resident and torch.cuda.is_available()  # for other data the loader pins
        self._blocks: dict[tuple[int, int], dict[str, Tensor]] = {}

    def _file_says(self, expected: dict[str, Any]) -> bool:
        try:
            return json.loads((self.folder / IDENTITY_FILE).read_text(encoding="utf-8")) == expected
        except (OSError, ValueError):
            return False

    def _open_folder(self, own: dict[str, Any], create: bool) -> dict[str, Any]:
        """Identity of the folder, compared with what this run needs; a new folder is claimed for this run."""
        file = self.folder / IDENTITY_FILE
        if not file.is_file():
            if not create:
                raise ValueError(
                    f"there are no teacher targets in {str(self.folder)!r}; check --teacher_targets_dir, or take "
                    "--teacher_targets auto, which records them"
                )
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                with FileLock(self.folder / _LOCK_FILE):
                    self._claim(file, own)
            except OSError as error:
                raise self._cant_write(error) from error
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
            written_as, _ = int(found["format"]), int(found["block_rows"])
            outputs, identity = dict(found["outputs"]), dict(found["identity"])
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"{file} is damaged ({type(error).__name__}); choose another folder with --teacher_targets_dir"
            ) from error
        if written_as > FORMAT:
            raise ValueError(f"{file} has format {written_as}, expected at most {FORMAT}; use a later hf_icckd")
        differing = [
            f"{name} {identity.get(name)!r} -> {own['identity'].get(name)!r}"
            for name in sorted(identity.keys() | own["identity"].keys())
            if identity.get(name) != own["identity"].get(name)
        ]
        if differing:
            seed = (identity.get("augmentation") or {}).get("seed")
            hint = "" if seed is None else f" (--augmentation_seed {seed} keeps its pixels with any --seed)"
            raise ValueError(
                f"{str(self.folder)!r} holds the targets of something else; it differs in: {'; '.join(differing)}. "
                f"Choose another folder with --teacher_targets_dir, or restore the options that differ{hint}"
            )
        lacking = sorted(own["outputs"].keys() - outputs.keys())
        if lacking:
            raise ValueError(
                f"the teacher targets in {str(self.folder)!r} hold {' and '.join(outputs)}, but the objectives need "
                f"{' and '.join(lacking)} too; record into another folder with --teacher_targets_dir"
            )
        return found

    def _claim(self, file: Path, own: dict[str, Any]) -> None:
        if file.is_file():  # another run was faster
            return
        if any(not each.name.startswith(".") for each in self.folder.iterdir()):
            raise ValueError(
                f"{str(self.folder)!r} is not empty and holds no teacher targets; choose another folder with "
                "--teacher_targets_dir"
            )
        replace_file(file, lambda path: path.write_text(json.dumps(own, indent=2) + "\n", encoding="utf-8"))

    def recorded_epoch(self, epoch: int) -> int:
        """Epoch under which the images of an epoch are recorded: the first for all, if nothing is augmented."""
        return 0 if self._constant else epoch

    def missing(self, epochs: range) -> list[tuple[int, int]]:
        """Epoch and first row of every block that these epochs need and that is not recorded yet."""
        return distributed.on_first_rank(
            lambda: [
                (epoch, start)
                for epoch in sorted({self.recorded_epoch(epoch) for epoch in epochs})
                for start in range(0, self.num_rows, self.block_rows)
                if not self._file(epoch, start).is_file()
            ]
        )

    def rows_of(self, start: int) -> Tensor:
        """Rows of the block that begins with one."""
        return torch.arange(start, min(start + self.block_rows, self.num_rows))

    def check_space(self, blocks: list[tuple[int, int]]) -> int:
        """Bytes that blocks will take; ValueError if the disk has less. Called by one process."""
        rows = sum(min(self.block_rows, self.num_rows - start) for _, start in blocks)
        needed, free = 2 * sum(self.dims.values()) * rows, shutil.disk_usage(self.folder).free
        if needed > free:
            raise ValueError(
                f"the teacher targets take {needed / 1e6:,.1f} MB, {str(self.folder)!r} has {free / 1e6:,.1f} MB "
                "free; choose another folder with --teacher_targets_dir, or --teacher_targets live"
            )
        return needed

    def _file(self, epoch: int, start: int) -> Path:
        return self.folder / f"epoch{epoch:05d}-row{start:09d}.safetensors"

    # ---- record

    def record(self, epoch: int, start: int, *sources: Source) -> None:
        """Record a block, all processes together; nothing is done if another run has recorded it by then.

        Args:
            epoch: Epoch of the block.
            start: First row of the block.
            *sources: The teacher, or several that share the rows of the block.

        Raises:
            ValueError: If an output is not finite in half precision, or the block can't be written.
        """
        file, lock = self._file(epoch, start), FileLock(self.folder / _LOCK_FILE)
        # Polled, so that processes waiting for the first one don't time out.
        while (state := distributed.on_first_rank(lambda: self._try_lock(file, lock))) == "taken":
            logger.info("another run records into %s; waiting for it", self.folder)
        if state == "recorded":
            return
        try:
            parts = outputs_of(sources, list(self.dims), epoch, self.rows_of(start))
            distributed.on_first_rank(lambda: self._write(epoch, start, parts or {}))
        finally:
            lock.release()

    def _try_lock(self, file: Path, lock: FileLock) -> Literal["recorded", "taken", "ours"]:
        if file.is_file():
            return "recorded"
        try:
            lock.acquire(timeout=_LOCK_SECONDS)
        except Timeout:
            return "taken"
        except OSError as error:
            raise self._cant_write(error) from error
        if not file.is_file():
            return "ours"
        lock.release()
        return "recorded"

    def _write(self, epoch: int, start: int, parts: dict[str, list[Tensor]]) -> None:
        with torch.autocast("cpu", enabled=False):  # it would refuse float16, and the teacher may have run under it
            block = {name: torch.cat(values) for name, values in parts.items()}
        for name, values in block.items():
            if not values.isfinite().all():
                raise ValueError(
                    f"the teacher's {name} are not finite in half precision in epoch {epoch}, rows {start} on; take "
                    "--teacher_targets live, or another teacher"
                )
        try:
            replace_tensors(self._file(epoch, start), block, self._metadata(epoch, start))
        except OSError as error:
            raise self._cant_write(error) from error

    def _cant_write(self, error: OSError) -> ValueError:
        return ValueError(
            f"teacher targets can't be written to {str(self.folder)!r}: {' '.join(str(error).split())}; the blocks "
            "in it are intact; fix that, or choose another folder with --teacher_targets_dir"
        )

    # ---- replay

    def read(self, epoch: int, sample_ids: Tensor) -> dict[str, Tensor]:
        """Recorded outputs of images in an epoch.

        Args:
            epoch: Epoch.
            sample_ids: (B,) int64 on the CPU, rows that are trained on.

        Returns:
            `logits` (B, C) and `embeddings` (B, D) as far as they are recorded, float16 on the CPU.

        Raises:
            ValueError: If a block is missing, damaged, or belongs to other targets.
        """
        epoch = self.recorded_epoch(epoch)
        starts = sample_ids // self.block_rows * self.block_rows
        values = {name: torch.empty(len(sample_ids), dim, dtype=torch.float16) for name, dim in self.dims.items()}
        for start in starts.unique().tolist():
            there = starts == start
            block = self._block(epoch, start)
            for name in values:
                values[name][there] = block[name][sample_ids[there] - start]
        return {name: value.pin_memory() for name, value in values.items()} if self._pin else values

    def open_epoch(self, epoch: int) -> None:
        """Open every block of an epoch, to raise what `read` would raise before a loading worker does."""
        for start in range(0, self.num_rows, self.block_rows):
            self._block(self.recorded_epoch(epoch), start)

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
            raise ValueError(f"{file} is damaged ({error}); {_AGAIN}") from error
        if metadata != self._metadata(epoch, start):
            raise ValueError(f"{file} belongs to other targets; {_AGAIN}")
        return block

    def _metadata(self, epoch: int, start: int) -> dict[str, str]:
        return {"targets": self._digest, "epoch": str(epoch), "start": str(start)}


def _identity(
    teacher: ImageClassifier, pipeline: ImagePipeline, precision: str, taught_by: Tensor | None
) -> dict[str, Any]:
    """Everything that the recorded values depend on: the teacher, and the pixels that it sees."""
    spec, framing = asdict(teacher.spec), pipeline.framing_for(teacher.spec)
    augmentation = pipeline.augmentation_for(framing)
    return {
        "teacher": fingerprint(teacher),
        **{f"teacher_{name}": spec[name] for name in ("architecture", "image_size", "mean", "std", "model_args")},
        "training_images": split_fingerprint(pipeline.data.trained),
        **{"image_size": framing.size, "crop_pct": framing.crop_pct, "interpolation": framing.interpolation},
        "precision": precision,
        "augmentation": augmentation and augmentation.recorded(),
        **pipeline.uncommon_choices(framing),
        **({} if taught_by is None else {"taught_by": hashlib.sha256(taught_by.numpy().tobytes()).hexdigest()}),
    }
