"""A run records its images, lists copies, and resumes after an unreadable file was removed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import yaml

from hf_icckd import teacher
from hf_icckd.data import load_image_data, pipeline
from hf_icckd.data.splits import fingerprint
from hf_icckd.hub.published import published_files
from hf_icckd.options.command_line import UserError
from hf_icckd.runs.checkpoints import checkpoints
from hf_icckd.runs.images import read_images
from hf_icckd.training import resumable
from hf_icckd.utils.keyed_random import permutation

SIDE = 100  # decoded as needed
EPOCH = ["--num_train_epochs", "2", "--per_device_train_batch_size", "4", "--model", "cifar_resnet8",
         "--image_size", "16", "--disable_tqdm", "true", "--num_threads", "1", "--use_cpu", "true",
         "--eval_strategy", "no"]  # fmt: skip


@pytest.fixture(autouse=True)
def few_statistics(monkeypatch):
    """Channel means from the first and the last image, so that training finds out about an unreadable one."""
    monkeypatch.setattr(pipeline, "_STATISTICS_IMAGES", 2)


def make(folder: Path) -> Path:
    noise = np.random.default_rng(0)
    for label in ("a", "b"):
        (folder / label).mkdir(parents=True)
        for number in range(12):
            pixels = noise.integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)
            PIL.Image.fromarray(pixels).save(folder / label / f"{number:02}.png")
    return folder


def last_file(folder: Path) -> Path:
    """The file that the first epoch reads last."""
    train = load_image_data(str(folder)).train
    row = int(permutation(0, 0, len(train))[-1])
    return Path(train[row]["image"]["path"])


def run(data: Path, output: Path, *words: str) -> dict:
    teacher.main([*EPOCH, "--dataset", str(data), "--output_dir", str(output), *words])
    return json.loads((output / "metrics.json").read_text())


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def fail(data: Path, output: Path, *words: str) -> Path:
    """Run into an unreadable file, and remove it as the error advises."""
    broken = last_file(data)
    broken.write_bytes(broken.read_bytes()[:2000])
    assert last_file(data) == broken
    with pytest.raises(UserError, match=rf"{broken.name}\) cannot be read as an image"):
        run(data, output, *words)
    broken.unlink()
    return broken


def test_a_run_resumes_without_a_removed_image_as_if_another_were_in_its_place(tmp_path, caplog):
    words = ["--save_strategy", "steps", "--save_steps", "1"]
    data = make(tmp_path / "data")
    broken = fail(data, tmp_path / "run", *words)
    begun = read_images(tmp_path / "run")
    step = len(checkpoints(tmp_path / "run"))
    assert step >= 1
    metrics = run(data, tmp_path / "run", *words)
    assert metrics["training"]["first_step_of_last_session"] >= step
    note = (
        "Images have been removed from the data set since this run was begun: 1 of the train split. In place of each"
    )
    assert any(text.startswith(note) for text in metrics["notes"])
    assert note in caplog.text
    assert broken.name not in json.dumps(metrics["notes"])
    assert (
        metrics["train"]["images"] == len(begun.hashes["train"]) == len(read_images(tmp_path / "run").hashes["train"])
    )

    # The same run on a folder in which the neighbour stands in the file's place.
    other = make(tmp_path / "other")
    content = {int(value): row for row, value in enumerate(begun.hashes["train"])}
    train = load_image_data(str(other)).train
    paths = [Path(row["image"]["path"]) for row in train]
    place = paths.index(other / broken.relative_to(data))
    assert len(content) == len(train)
    same = [row for row, path in enumerate(paths) if path.parent == paths[place].parent and row != place]
    nearest = min(same, key=lambda row: (abs(row - place), row))
    shutil.copyfile(paths[nearest], paths[place])
    run(other, tmp_path / "whole", "--save_strategy", "no")
    assert weights(tmp_path / "run") == weights(tmp_path / "whole")


def test_a_run_without_a_checkpoint_starts_over_with_the_others(tmp_path, caplog):
    data = make(tmp_path / "data")
    fail(data, tmp_path / "run")
    metrics = run(data, tmp_path / "run")
    assert "it has no checkpoint yet, so it starts over with the others" in caplog.text
    run(data, tmp_path / "new")
    assert weights(tmp_path / "run") == weights(tmp_path / "new")
    assert not [note for note in metrics["notes"] if "have been removed" in note]
    for name, values in read_images(tmp_path / "new").hashes.items():
        assert np.array_equal(read_images(tmp_path / "run").hashes[name], values)


def test_other_changes_are_still_another_run(tmp_path):
    data = make(tmp_path / "data")
    fail(data, tmp_path / "run", "--save_strategy", "steps", "--save_steps", "1")
    PIL.Image.new("RGB", (SIDE, SIDE), (1, 2, 3)).save(data / "a" / "new.png")
    with pytest.raises(UserError, match="holds another run; it differs in: data_fingerprint"):
        run(data, tmp_path / "run", "--save_strategy", "steps", "--save_steps", "1")


def test_hashes_and_copies_stay_in_the_folder(tmp_path, caplog):
    data = tmp_path / "data"
    for label, red in (("a", 0), ("b", 200)):
        (data / label).mkdir(parents=True)
        for number in range(8):
            PIL.Image.new("RGB", (8, 8), (red, number, 0)).save(data / label / f"{number}.png")
    shutil.copyfile(data / "a" / "3.png", data / "a" / "secret name.png")
    metrics = run(data, tmp_path / "run", "--max_steps", "1", "--image_size", "8")
    lines = (tmp_path / "run" / "duplicates.csv").read_text().splitlines()
    assert lines[0] == "content,split,row,label,file"
    assert sorted(Path(line.rpartition(",")[2]).name for line in lines[1:]) == ["3.png", "secret name.png"]
    assert "that are copies of others in it: 1." in caplog.text
    assert sum(len(values) for values in read_images(tmp_path / "run").hashes.values()) == 17
    names = {path.name for path in published_files(tmp_path / "run")}
    assert {"metrics.json", "README.md"} <= names
    assert not {"duplicates.csv", "image_hashes.npz"} & names
    assert "secret name" not in json.dumps(metrics) + (tmp_path / "run" / "README.md").read_text()


def test_the_data_set_may_be_spelled_in_another_way(tmp_path, monkeypatch, capsys):
    data = make(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    words = ["--output_dir", "out", "--max_steps", "1"]
    teacher.main([*EPOCH, "--dataset", "data", *words])
    before = weights(tmp_path / "out")
    monkeypatch.setenv("HOME", str(tmp_path))
    for spelled in (str(data), "~/data", "./data/"):
        capsys.readouterr()
        teacher.main([*EPOCH, "--dataset", spelled, *words])
        assert "out is finished" in capsys.readouterr().out
    assert weights(tmp_path / "out") == before
    copied = make(tmp_path / "other")
    capsys.readouterr()
    teacher.main([*EPOCH, "--dataset", "other", *words])  # the images decide, not where they are
    assert "out is finished" in capsys.readouterr().out
    PIL.Image.new("RGB", (SIDE, SIDE), (1, 2, 3)).save(copied / "a" / "new.png")
    with pytest.raises(UserError, match=r"differs in: data_fingerprint '\w+' -> '\w+'; dataset 'data' -> 'other'"):
        teacher.main([*EPOCH, "--dataset", "other", *words])


def interrupted_after(step: int, monkeypatch, *words: str) -> None:
    """A run that is killed after the checkpoint of a step."""
    save = resumable.ResumableTrainer._save_checkpoint

    def save_and_stop(trainer, *args):
        save(trainer, *args)
        if trainer.state.global_step == step:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(resumable.ResumableTrainer, "_save_checkpoint", save_and_stop)
        with pytest.raises(SystemExit):
            teacher.main([*EPOCH, *words, "--save_strategy", "steps", "--save_steps", "1"])


def labelled_files(folder: Path) -> Path:
    """Images that two tables beside them give labels and groups."""
    pictures = make(folder / "pictures")
    files = sorted(str(path.relative_to(pictures)) for path in pictures.rglob("*.png"))
    rows = [f"{name},{'cdef'[number % 4]}" for number, name in enumerate(files)]
    (folder / "labels.csv").write_text("\n".join(["file_name,label", *rows]))
    (folder / "groups.yaml").write_text("one: [c, d]\ntwo: [e, f]\n")
    return folder


def test_a_run_goes_on_where_data_labels_and_groups_have_moved(tmp_path, monkeypatch, caplog):
    def words(place: Path) -> list[str]:
        return ["--dataset", f"{place}/pictures", "--labels", f"{place}/labels.csv", "--label_groups",
                f"{place}/groups.yaml", "--output_dir", f"{tmp_path}/run"]  # fmt: skip

    interrupted_after(2, monkeypatch, *words(labelled_files(tmp_path / "here")))
    (tmp_path / "here").rename(tmp_path / "there")
    caplog.clear()
    teacher.main([*EPOCH, *words(tmp_path / "there"), "--max_train_samples", "1000"])  # more than there are
    assert f"dataset '{tmp_path}/here/pictures' -> '{tmp_path}/there/pictures': the content is the same" in caplog.text
    assert yaml.safe_load((tmp_path / "run" / "all_args.yaml").read_text())["labels"] == f"{tmp_path}/there/labels.csv"
    teacher.main([*EPOCH, *words(tmp_path / "there"), "--output_dir", f"{tmp_path}/whole"])
    assert weights(tmp_path / "run") == weights(tmp_path / "whole")
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["training"]["first_step_of_last_session"] == 2


def test_images_that_the_fingerprint_does_not_read_are_compared_after_a_move(tmp_path, monkeypatch):
    monkeypatch.setattr(fingerprint, "_SAMPLED_ROWS", 1)
    for split in ("train", "test"):
        make(tmp_path / "data" / split)
    words = ["--output_dir", f"{tmp_path}/run"]
    interrupted_after(2, monkeypatch, "--dataset", f"{tmp_path}/data", *words)
    shutil.copytree(tmp_path / "data", tmp_path / "moved")
    changed = tmp_path / "moved" / "train" / "b" / "11.png"
    changed.write_bytes(changed.read_bytes() + b" ")
    with pytest.raises(UserError, match=r"dataset .* -> .*: 1 images of the train split differ from those of the run"):
        teacher.main([*EPOCH, "--dataset", f"{tmp_path}/moved", *words])


def test_images_that_an_option_leaves_out_have_not_been_removed(tmp_path, monkeypatch):
    data = make(tmp_path / "data")
    shutil.copyfile(data / "a" / "00.png", data / "a" / "99.png")
    words = ["--dataset", f"{data}", "--output_dir", f"{tmp_path}/run"]
    interrupted_after(2, monkeypatch, *words)
    with pytest.raises(UserError, match=r"holds another run; it differs in: data_fingerprint .*duplicates .* 'drop'"):
        teacher.main([*EPOCH, *words, "--duplicates", "drop"])
