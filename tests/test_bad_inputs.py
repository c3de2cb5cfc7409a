"""Whatever is wrong with what a user gives: one line that says what, what was expected, and how to fix it."""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Image, Value
from PIL import Image as PILImage

from hf_icckd import ClassEmbeddingCache, evaluate, student, teacher
from hf_icckd.options.command_line import UserError

QUICK = ["--model", "cifar_resnet8", "--max_steps", "2", "--disable_tqdm", "true", "--num_threads", "1",
         "--use_cpu", "true", "--save_strategy", "no"]  # fmt: skip
SMALL_DIGITS = ["--max_train_samples", "160", "--max_eval_samples", "40"]


def png(shade: int = 0, size: int = 8) -> bytes:
    import io

    buffer = io.BytesIO()
    PILImage.fromarray(np.full((size, size, 3), shade, dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def bomb() -> bytes:
    """A PNG of 200 bytes that says it has 2.5 gigapixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def image_folder(folder: Path, **files: bytes) -> Path:
    """Two classes of ten images, and files of other contents among those of class b."""
    for label in ("a", "b"):
        (folder / label).mkdir(parents=True)
        for index in range(10):
            (folder / label / f"{index}.png").write_bytes(png(10 * index))
    for name, content in files.items():
        (folder / "b" / name.replace("_", ".")).write_bytes(content)
    return folder


def table(folder: Path, labels: list, feature=None, images: list | None = None, **columns: list) -> Path:
    """Parquet file with images and labels."""
    folder.mkdir(parents=True)
    feature = feature or ClassLabel(names=["a", "b"])
    values = {"image": images or [{"bytes": png(i), "path": None} for i in range(len(labels))], "label": labels}
    features = Features({"image": Image(decode=False), "label": feature} | {name: Value("int64") for name in columns})
    Dataset.from_dict(values | columns, features=features).to_parquet(str(folder / "train.parquet"))
    return folder


BOTH = [0, 1] * 6
MISSING = r"1 of 13 rows .* have no label \(the first is row 12\)"
DATA = {
    "missing folder": (lambda f: f / "no", "dataset folder '.*no' does not exist; check the path"),
    "a file": (lambda f: (f / "x").write_text("") or f / "x", "x' holds 0 images; expected CLASS/IMAGE"),
    "empty folder": (lambda f: (f / "d").mkdir() or f / "d", "holds 0 images; expected CLASS/IMAGE, train"),
    "corrupt image": (lambda f: image_folder(f / "d", **{"3_png": os.urandom(300)}), r"b/3\.png\) cannot be read"),
    "truncated image": (lambda f: image_folder(f / "d", **{"3_png": png(9, 64)[:90]}), r"b/3\.png\) cannot be read"),
    "zero bytes": (lambda f: image_folder(f / "d", **{"3_png": b""}), r"b/3\.png\) cannot be read as an image"),
    "gigapixels": (lambda f: image_folder(f / "d", **{"3_png": bomb()}), r"b/3\.png\) .*DecompressionBomb"),
    "text named image": (lambda f: image_folder(f / "d", **{"3_png": b"hello"}), r"b/3\.png\) cannot be read"),
    "video named image": (
        lambda f: image_folder(f / "d", **{"3_png": b"\0\0\0\x18ftypmp42" + os.urandom(500)}),
        r"b/3\.png\) cannot be read as an image .*; repair or remove it, or leave out such images with --bad",
    ),
    "only videos": (
        lambda f: (f / "d").mkdir() or ((f / "d" / "a.mp4").write_bytes(b"\0\0\0\x18ftypmp42") and f / "d"),
        r"holds 0 images; a\.mp4 is a video, which is not read; save frames",
    ),
    "a folder whose name is not UTF-8": (
        lambda f: os.rename(os.fsencode(image_folder(f / "d") / "b"), os.fsencode(f / "d") + b"/caf\xe9") or f / "d",
        r"image 'caf\\udce9/\d.png' .* has a name that is not UTF-8; rename it",
    ),
    "one class": (lambda f: shutil.rmtree(image_folder(f / "d") / "b") or f / "d", "no folder per class .*'a'"),
    "labels out of range": (lambda f: _out_of_range(f / "d"), "row 12 of the train split has the label 7"),
    "negative labels": (lambda f: table(f / "d", [*BOTH, -1], Value("int64")), MISSING),
    "missing labels": (lambda f: table(f / "d", [*BOTH, None], Value("int64")), MISSING),
    "labels that are fractions": (
        lambda f: table(f / "d", [0.5, 1.0] * 6, Value("float64")),
        "label column 'label' can't be used: it holds numbers that are not whole, such as 0.5; expected class names",
    ),
    "several label columns": (
        lambda f: table(f / "d", BOTH, Value("int64"), target=sorted(BOTH)),
        "several columns may hold the labels: .*label.*; choose one with --label_column",
    ),
    "one image": (
        lambda f: (f / "d.png").write_bytes(png()) and f / "d.png",
        r"d\.png' is one image, expected a folder with a folder of images for each class; give the folder that",
    ),
    "missing image": (
        lambda f: table(f / "d", BOTH, images=[{"bytes": png(), "path": None}] * 11 + [None]),
        "cannot be read as an image .*the cell is empty",
    ),
}  # fmt: skip


def _out_of_range(folder: Path) -> Path:
    """A class label beyond the names, written past the checks of `datasets`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = table(folder, BOTH) / "train.parquet"
    content = pq.read_table(path)
    position = content.schema.get_field_index("label")
    more = pa.concat_tables([content, content.slice(0, 1).set_column(position, content.schema.field(position), [[7]])])
    pq.write_table(more.replace_schema_metadata(content.schema.metadata), path)
    return folder


@pytest.mark.parametrize("name", DATA)
def test_data(tmp_path, name):
    make, message = DATA[name]
    with pytest.raises(UserError, match=message) as caught:
        teacher.main([*QUICK, "--dataset", str(make(tmp_path)), "--output_dir", f"{tmp_path}/run"])
    if "seen was" not in str(caught.value):  # a tree of the folders follows
        one_line(caught)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--image_column", "picture"], "--image_column is 'picture', expected one of the columns: image"),
        (["--label_column", "breed"], "--label_column is 'breed', expected one of the columns: image"),
        (["--dataset", "no such thing!"], "does not exist; check the path"),
        (["--dataset", "nobody/nothing"], "could not be loaded from the Hub: .*; check the name"),
        (["--max_train_samples", "0"], "max_train_samples is 0, expected a number at least 1"),
        (["--image_size", "-8"], "image_size is -8, expected a number at least 1"),
        (["--model", "resnet81"], "unknown model 'resnet81'"),
        (["--model", "vgg11"], "vgg11"),
        (["--learnin_rate", "1"], r"unknown option --learnin_rate \(did you mean '--learning_rate'\?\)"),
        (["--learning_rate", "fast"], "invalid float value: 'fast'"),
        (["--terms", "intra_class:margin=2"], "margin is 2.0, expected a difference of probabilities between -1 and"),
        (["--terms", "intra_class:weigth=2"], r"cannot read 'weigth=2' .* weight, margin, .*did you mean 'weight'"),
        (["--terms", "intra_clas"], r"unknown teacher term 'intra_clas', .* \(did you mean 'intra_class'\?\)"),
        (["--terms", "none", "intra_class"], "terms are none intra_class, expected 'none' alone or without it"),
        (["--terms", "intra_class:cache_size=0,in_batch_negatives=false"], "leaves no negatives; allow one of them"),
        (["--terms", "intra_class:temperature=0"], "temperature is 0.0, expected a number above 0"),
        (["--intra_class_weight", "0.5"], "--intra_class_weight is now written --terms intra_class:weight=0.5"),
        (["--intra_class_weight=0"], "--intra_class_weight is now written --terms none"),
        (
            ["--intra_class_weight", "0", "--student_branches", "resnet18"],
            "--intra_class_weight, --student_branches are now written --terms sftn:student=resnet18",
        ),
        (["--cache_size_per_class", "8"], "is now written --terms intra_class:cache_size=8"),
        (["--in_batch_negatives", "false"], "is now written --terms intra_class:in_batch_negatives=false"),
        (["--student_branches", "resnet18"], "is now written --terms sftn:student=resnet18"),
        (
            ["--terms", "intra_class", "--num_views", "1"],
            "num_views is 1 but the term intra_class compares 2 views; set --num_views 2",
        ),
        (["--augmentation", "none", "--horizontal_flip", "true"], "'none' but horizontal_flip is True: nothing"),
        (["--augmentation", "none", "--crop_padding", "4"], "'none' but crop_padding is 4: nothing would be"),
        (
            ["--model", "resnet18", "--per_device_train_batch_size", "1", "--num_views", "1", "--terms", "none"],
            "a step has 1 image for this process, and BatchNorm needs two .*; take a --per_device_train_batch_size",
        ),
        (["--resume", "maybe"], "resume.*invalid choice: 'maybe'"),
        (["--save_total_limit", "0"], "save_total_limit is 0, expected a number at least 1"),
        (["--fsdp", "full_shard"], "fsdp is 'full_shard', expected it unset: .*; use recipes/acc"),
        (["--gradient_checkpointing", "true"], "checkpointing is True, expected it unset: BatchNorm would see"),
        (["--optim", "lomo"], "lomo"),
        (["--resume_from_checkpoint", "x"], "resume_from_checkpoint is 'x', expected it unset: --resume auto"),
    ],
)  # fmt: skip
def test_options(tmp_path, words, message):
    with pytest.raises(UserError, match=message) as caught:
        teacher.main([*QUICK, *SMALL_DIGITS, *words, "--output_dir", f"{tmp_path}/run"])
    one_line(caught)


def test_what_is_not_installed_leaves_the_folder_free(tmp_path, monkeypatch):
    monkeypatch.setattr("transformers.integrations.integration_utils.is_wandb_available", lambda: False)
    for words in (["--optim", "lomo"], ["--report_to", "wandb"]):
        with pytest.raises(UserError, match="install") as caught:
            teacher.main([*QUICK, *SMALL_DIGITS, *words, "--output_dir", f"{tmp_path}/run"])
        one_line(caught)
        assert not list(tmp_path.glob("run/*"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "teacher"
    teacher.main([*QUICK, *SMALL_DIGITS, "--output_dir", str(folder)])
    return folder


def _pickle_only(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"weight": torch.zeros(1)}, folder / "pytorch_model.bin")


def _edit_config(folder: Path, **values) -> None:
    config = folder / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | values))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (shutil.rmtree, "teacher' is not a folder here"),
        (lambda f: (f / "config.json").unlink(), r"has no config\.json; expected a finished run"),
        (lambda f: (f / "config.json").write_text("{"), "can't be loaded: JSONDecodeError"),
        (lambda f: (f / "config.json").write_text("[]"), "can't be loaded"),
        (lambda f: os.truncate(f / "model.safetensors", 5000), "can't be loaded: SafetensorError"),
        (lambda f: (f / "model.safetensors").write_bytes(b""), "can't be loaded: SafetensorError"),
        (_pickle_only, r"has no model\.safetensors; expected a finished run with config and safetensors weights"),
        (lambda f: _edit_config(f, architecture="cifar_resnet20"), "can't be loaded: RuntimeError"),
        (lambda f: _edit_config(f, architecture="no_such_net"), "can't be loaded: RuntimeError: Unknown model"),
        (lambda f: _edit_config(f, label_names=["a", "b"]), "10 classes but there are 2 class names|can't be loaded"),
    ],
)  # fmt: skip
def test_teacher_folders(trained, tmp_path, spoil, message):
    folder = tmp_path / "teacher"
    shutil.copytree(trained, folder)
    spoil(folder)
    for main, option in ((student.main, "--teacher"), (evaluate.main, "--model")):
        words = [*QUICK, "--output_dir", f"{tmp_path}/run"] if main is student.main else []
        with pytest.raises(UserError, match=message) as caught:
            main([*words, option, str(folder)])
        one_line(caught)
    assert not (tmp_path / "run").exists()


def test_teacher_with_another_number_of_classes(trained, tmp_path):
    data = image_folder(tmp_path / "data")
    with pytest.raises(UserError, match="the teacher has 10 classes, the data set 2; take a teacher trained on this"):
        student.main([*QUICK, "--dataset", str(data), "--teacher", str(trained), "--output_dir", f"{tmp_path}/run"])


def test_embeddings_of_another_size_than_the_cache():
    cache = ClassEmbeddingCache(num_classes=3, rows_per_class=2, dim=8)
    with pytest.raises(ValueError, match="embeddings have length 7, expected 8, the cache's dim"):
        cache.update(torch.zeros(2, 7), torch.tensor([0, 1]), torch.tensor([0, 1]))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seed", "5"], "holds another run; it differs in: seed 0 -> 5"),
        (
            ["--max_train_samples", "150"],
            "it differs in: data_fingerprint .*; max_train_samples 160 -> 150",
        ),
        (["--learning_rate", "0.2"], "it differs in: learning_rate 0.05 -> 0.2"),
        (["--trivial_augment", "true"], "it differs in: trivial_augment False -> True"),
        (["--resume", "never"], "holds a run and resume is 'never'"),
    ],
)
def test_another_run_in_the_folder(trained, words, message):
    before = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=message) as caught:
        teacher.main([*QUICK, *SMALL_DIGITS, *words, "--output_dir", str(trained)])
    one_line(caught)
    assert before == {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("differing", "message"),
    [
        ("--seed $RANK", "process 1 has seed 1, process 0 0; start all processes with the same command"),
        ("--dataset .", "process 1 has data_fingerprint '.*', process 0 '.*'; start all processes with"),
    ],
)
def test_processes_that_differ_fail_at_once(forks, tmp_path, differing, message):
    """A real pair each; the second see a data set of one name with an image that differs."""
    for rank in ("0", "1"):
        image_folder(tmp_path / rank, **{"0_png": png(int(rank) + 100)})
    words = [*QUICK, "--output_dir", f"{tmp_path}/run", *(SMALL_DIGITS if "seed" in differing else [])]
    code = f"""
import os
from hf_icckd import teacher
os.chdir({str(tmp_path)!r} + "/" + os.environ["RANK"])
teacher.main({words!r} + os.path.expandvars({differing!r}).split())
"""
    both = forks.run_processes(["-c", code], 2, timeout=120)
    assert all(done.returncode != 0 for done in both)
    assert any(re.search(f"error: {message}", done.stderr) for done in both), both
    assert not (tmp_path / "run" / "metrics.json").exists()


def one_line(caught) -> None:
    text = str(caught.value)
    assert text.startswith("error: ") and "\n" not in text, text
