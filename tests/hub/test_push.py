"""Runs are pushed over real HTTP by the real client to a server that speaks as the Hub does, and loaded from there."""

from __future__ import annotations

import hashlib
import json
import pickle
import re
import shlex
from pathlib import Path
from subprocess import PIPE

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from hf_icckd import create_classifier, from_pretrained, save_pretrained, teacher
from hf_icckd.cards.card import PICTURES
from hf_icckd.runs.layout import DATA_REPORT_FILE, IMAGES_FILE
from tests import ROOT
from tests.forks import Forks
from tests.hub.hub_server import CUT, GARBLED, LOST, READER, WRITER

QUICK = ["--max_train_samples", "160", "--max_eval_samples", "80", "--max_steps", "3", "--disable_tqdm", "true",
         "--model", "cifar_resnet8", "--num_threads", "1", "--use_cpu", "true"]  # fmt: skip
RUN = {"model.safetensors", "config.json", "README.md", "metrics.json", "all_args.yaml", *PICTURES}
PUBLISHED = RUN | {"picture.png", "idea.svg"}


class Worker:
    """A program that takes the server for the Hub and runs entry points."""

    def __init__(self, forks: Forks, home: Path):
        self.log = home / "log"
        with self.log.open("a") as log:
            self.process = forks.start(["-m", "tests.hub.push_worker"], cwd=ROOT, stdin=PIPE, stdout=PIPE, stderr=log)

    def __call__(self, *argv: object, token: str | None = WRITER) -> dict:
        """How an entry point ended: `error`, the client's `pauses`, and what was logged meanwhile."""
        begin = len(self.log.read_text())
        asked = json.dumps({"argv": [str(word) for word in argv], "token": token})
        self.process.stdin.write(f"{asked}\n".encode())
        self.process.stdin.flush()
        while not (line := self.process.stdout.readline().decode()).startswith('{"error"'):
            assert line, self.log.read_text()[begin:]
        return json.loads(line) | {"log": self.log.read_text()[begin:]}


@pytest.fixture(scope="module")
def worker(hub_forks, tmp_path_factory):
    """One program for all tests."""
    worker = Worker(hub_forks, tmp_path_factory.mktemp("worker"))
    yield worker
    worker.process.stdin.close()
    assert worker.process.wait(60) == 0


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A finished run, with pictures, and with much beside it that must stay."""
    folder = tmp_path_factory.mktemp("runs") / "my teacher"
    teacher.main([*QUICK, "--output_dir", str(folder), "--hub_model_id", "me/recorded", "--report_to", "tensorboard"])
    Image.new("RGB", (8, 8), "red").save(folder / "picture.png")
    (folder / "idea.svg").write_text("<svg/>")
    (folder / "training_args.bin").write_bytes(pickle.dumps({"hub_token": "secret"}))
    (folder / "checkpoint-3").mkdir()
    (folder / "checkpoint-3" / "optimizer.pt").write_bytes(b"state")
    for name in (".lock", ".hidden.png", "notes.txt", "model.onnx", "train.parquet"):
        (folder / name).write_text("x")
    return folder


def digests(folder: Path) -> dict[str, str]:
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def next_command(error: str) -> list[str]:
    """The command that an error suggests, as the worker takes it."""
    words = shlex.split(re.search(r"`(hf-icckd push [^`]*)`", error).group(1))
    return ["hub", *words[1:]]


def test_one_commit_of_what_belongs_there(hub, worker, run):
    before = digests(run)
    assert worker("hub", "push", run, "--repo_id", "me/whole")["error"] is None
    repo = hub.repos["me/whole"]
    assert [set(commit.changed) for commit in repo.commits] == [PUBLISHED] and not repo.private
    for name, content in repo.commits[0].files.items():
        assert content == (run / name).read_bytes()
    assert worker("hub", "push", run, "--repo_id", "me/whole")["error"] is None
    assert len(repo.commits) == 1  # nothing had changed
    assert digests(run) == before


def test_options_of_a_push(hub, worker, run):
    words = ["--private", "--revision", "v2/next", "--commit_message", "Second try"]
    assert worker("hub", "push", run, "--repo_id", "us/branch", *words)["error"] is None
    repo = hub.repos["us/branch"]
    assert repo.private and not repo.commits
    assert repo.branches["v2/next"][-1].message == "Second try" and set(repo.at("v2/next").files) == PUBLISHED
    assert worker("hub", "push", run, "--repo_id", "us/branch", "--create_pr")["error"] is None
    (pull,) = (name for name in repo.branches if name.startswith("refs/pr/"))
    assert set(repo.at(pull).changed) == PUBLISHED and not repo.commits


def test_a_push_finds_what_the_run_was_told(hub, worker, run):
    recorded = run / "all_args.yaml"
    text = recorded.read_text()
    recorded.write_text(yaml.safe_dump(yaml.safe_load(text) | {"hub_private_repo": True, "hub_revision": "dev"}))
    assert worker("hub", "push", run)["error"] is None
    recorded.write_text(text)
    repo = hub.repos["me/recorded"]
    assert repo.private and set(repo.at("dev").files) == PUBLISHED


WAITS = [1.0, 2.0, 4.0, 8.0, 8.0]
BROKEN = r"the connection to the Hub failed \((RemoteProtocol|Read|Write)Error"
FAULTS = {
    "unknown token": ("create", [], "hf_nobody", r"answers 401 .*not know the token; log in with `hf auth login`", []),
    "no token": ("create", [], None, r"answers 401 .*there is no token here; log in with `hf auth login`", []),
    "reader": ("create", [], READER, r"answers 403 .*the token may not write to me/reader; take one that may", []),
    "404": ("preupload", [404], WRITER, r"answers 404 .*check the namespace and name of me/404", []),
    "409": ("commit", [409], WRITER, r"answers 409 \(Another commit .*me/409 was changed by someone else", []),
    "412": ("commit", [412], WRITER, r"answers 412 .*was changed by someone else", []),
    "limit": (
        "preupload", [(429, {"Retry-After": "3"})] * 6, WRITER,
        r"answers 429 \(We had to rate limit you, asks to wait 3 s\): too many requests.*given up", [4.0] * 5,
    ),
    "limit of commits": ("commit", [(429, {"Retry-After": "60"})], WRITER, r"answers 429 .*asks to wait 60 s", []),
    "500": ("batch", [500] * 6, WRITER, r"answers 500 \(Internal Error\): an error on its side.*given up", WAITS),
    "500 of commits": ("commit", [500], WRITER, r"answers 500", []),
    "cut": (
        "upload", [CUT] * 6, WRITER, rf"Error while uploading 'model\.safetensors' to the Hub: {BROKEN}", WAITS,
    ),
    "cut commit": ("commit", [CUT], WRITER, BROKEN, []),
    "lost answer": ("commit", [LOST], WRITER, BROKEN, []),
    "hash": (
        "upload", [GARBLED], WRITER,
        r"uploading 'model\.safetensors' to the Hub: the Hub answers 400 \(BadDigest The sha256 is not", [],
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def plain(run, tmp_path_factory) -> Path:
    """A model alone: with one large file it is certain which one is being sent."""
    folder = tmp_path_factory.mktemp("plain")
    save_pretrained(folder, from_pretrained(run))
    return folder


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_said_in_one_line_and_the_second_try_completes(hub, worker, plain, name):
    operation, answers, token, message, pauses = FAULTS[name]
    repo_id = f"me/{name.replace(' ', '-')}"
    hub.faults[repo_id, operation] = list(answers)
    hub.stored.clear()  # so that the weights have to be sent
    before = digests(plain)
    done = worker("hub", "push", plain, "--repo_id", repo_id, token=token)
    assert re.search(message, done["error"]), done["error"]
    assert "\n" not in done["error"] and "Nothing here is lost; try again with `" in done["error"]
    assert done["pauses"] == pauses and not hub.faults[repo_id, operation]
    assert worker(*next_command(done["error"]))["error"] is None
    repo = hub.repos[repo_id]
    assert [set(commit.changed) for commit in repo.commits] == [{"config.json", "model.safetensors"}]
    assert repo.commits[0].files["model.safetensors"] == (plain / "model.safetensors").read_bytes()
    assert digests(plain) == before


def test_what_passes_by_itself_is_not_an_error(hub, worker, plain):
    hub.stored.clear()
    hub.faults |= {("me/lucky", "batch"): [500], ("me/lucky", "upload"): [CUT, (429, {"Retry-After": "2"})]}
    done = worker("hub", "push", plain, "--repo_id", "me/lucky")
    assert done["error"] is None and done["pauses"] == [1.0, 1.0, 3.0]
    assert len(hub.repos["me/lucky"].commits) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--repo_id", "nobody/model"], r"answers 404 .*check the namespace and name of nobody/model"),
        (["--repo_id", "a/b/c"], r"could not be pushed to a/b/c: HFValidationError: Repo id must"),
        ([], r"names no repository; give one with --repo_id"),
        (["--repo", "me/x"], r"unknown option --repo .did you mean .--repo_id"),
    ],
)
def test_wrong_requests_end_in_one_line(worker, plain, words, message):
    error = worker("hub", "push", plain, *words)["error"]
    assert re.search(message, error) and "\n" not in error


def test_the_command_has_exit_codes(hub_forks, plain, tmp_path):
    words = ["-m", "hf_icckd.hub", "push", plain, "--repo_id", "me/command"]
    done = hub_forks.run(words, cwd=tmp_path, env=hub_forks.environment | {"HF_TOKEN": "hf_nobody"})
    assert done.returncode == 1 and not done.stdout
    assert re.fullmatch(r"error: .*answers 401.*\n", done.stderr), done.stderr


# ---- runs that push


def test_a_run_is_pushed_in_one_commit_when_it_is_finished(hub, worker, tmp_path):
    words = [*QUICK, "--output_dir", f"{tmp_path}/run", "--push_to_hub", "true", "--hub_model_id", "me/run",
             "--save_strategy", "steps", "--save_steps", "1"]  # fmt: skip
    assert worker("teacher", *words)["error"] is None
    (commit,) = hub.repos["me/run"].commits
    assert set(commit.changed) == set(commit.files) == RUN
    for name, content in commit.files.items():
        assert content == (tmp_path / "run" / name).read_bytes()
    assert not list((tmp_path / "run").glob("checkpoint-*"))


@pytest.mark.parametrize("recipe", ["teacher", "student"])
def test_a_finished_run_that_was_not_pushed_is_pushed_by_the_same_command(hub, worker, run, tmp_path, recipe):
    words = [*QUICK, "--output_dir", f"{tmp_path}/run", "--push_to_hub", "true", "--hub_model_id", f"me/late-{recipe}",
             "--hub_token", WRITER]  # fmt: skip
    words += ["--teacher", str(run), "--accept_teacher", "true"] if recipe == "student" else []
    hub.faults[f"me/late-{recipe}", "commit"] = [500, 500]
    error = worker(recipe, *words, token=None)["error"]
    assert re.search(r"could not be pushed to me/late-.*answers 500.*Nothing here is lost", error)
    before = digests(tmp_path / "run")
    assert {Path(name).name for name in before} == RUN | {DATA_REPORT_FILE, IMAGES_FILE}
    assert not any(WRITER.encode() in path.read_bytes() for path in (tmp_path / "run").iterdir())
    assert worker(recipe, *words, token=None)["error"] == error
    done = worker(recipe, *words, token=None)
    assert done["error"] is None
    (commit,) = hub.repos[f"me/late-{recipe}"].commits
    assert set(commit.changed) == RUN
    assert digests(tmp_path / "run") == before


def test_a_run_that_may_not_push_says_so_before_it_trains(hub, worker, tmp_path):
    words = ["teacher", *QUICK, "--output_dir", f"{tmp_path}/run", "--push_to_hub", "true", "--hub_model_id"]
    error = worker(*words, "me/early", token="hf_nobody")["error"]
    assert re.search(r"nothing could be pushed to me/early: .*401.*Fix that, or train without --push_to_hub", error)
    assert not (tmp_path / "run").exists()
    worker("hub", "push", save_only(tmp_path / "model"), "--repo_id", "me/early")
    assert "answers 403" in worker(*words, "me/early", token=READER)["error"]  # it is there, and open for reading


@pytest.mark.parametrize(("fault", "said"), [(500, "the Hub answers 500"), (CUT, "the connection to the Hub failed")])
def test_a_hub_that_is_away_at_first_does_not_keep_a_run_from_training(hub, worker, tmp_path, fault, said):
    hub.faults[f"me/later-{fault}", "create"] = [fault]
    words = [*QUICK, "--output_dir", f"{tmp_path}/run", "--push_to_hub", "true", "--hub_model_id"]
    done = worker("teacher", *words, f"me/later-{fault}")
    assert done["error"] is None and f"the Hub can't be used now: {said}" in done["log"]
    assert len(hub.repos[f"me/later-{fault}"].commits) == 1


def save_only(folder: Path) -> Path:
    save_pretrained(folder, create_classifier("cifar_resnet8", ("a", "b"), image_size=8))
    return folder


def test_a_script_pushes_with_its_trainer(hub, worker, tmp_path):
    assert worker("script", f"{tmp_path}/run")["error"] is None
    (commit,) = hub.repos["me/script"].commits
    assert set(commit.changed) == {"config.json", "model.safetensors", "README.md"}
    assert commit.message == "From a script" and commit.files["README.md"].endswith(b"mine\n")
    assert list((tmp_path / "run").glob("checkpoint-*"))  # they stay, and stay here


# ---- models that are loaded from there

CONSUMER = """
import sys
repo, folder, ours = sys.argv[1:]
if ours == "True":
    import hf_icckd
else:
    sys.modules["hf_icckd"] = None  # any import of it fails
import numpy as np
import timm
import torch
import torch.nn.functional as F
from PIL import Image
from transformers import AutoImageProcessor, AutoModel, AutoModelForImageClassification, pipeline

expected = dict(np.load(f"{folder}/expected.npz"))
pixels, logits, embeddings = (torch.from_numpy(expected[name]) for name in ("pixels", "logits", "embeddings"))
names = list(expected["names"])

def close(found, wanted):
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)

with torch.no_grad():
    model = timm.create_model(f"hf-hub:{repo}", pretrained=True).eval()
    close(model(pixels), logits)
    wrapped = AutoModelForImageClassification.from_pretrained(repo).eval()
    close(wrapped(pixels).logits, logits)
    close(AutoModel.from_pretrained(repo).eval()(pixels).pooler_output, embeddings)
    if ours == "True":
        images = torch.from_numpy(expected["images"])
        close(hf_icckd.from_pretrained(repo)(images).logits, logits)
assert [wrapped.config.id2label[index] for index in range(len(names))] == names
picture = Image.new("RGB", (80, 60), "green")
processed = AutoImageProcessor.from_pretrained(repo)(picture, return_tensors="pt")["pixel_values"]
assert processed.shape[1:] == pixels.shape[1:]
assert pipeline("image-classification", repo)(picture)[0]["label"] in names

# Other classes on the same body: weights as they were, and a step that lowers the loss.
fine = timm.create_model(f"hf-hub:{repo}", pretrained=True, num_classes=7)
for name, value in fine.state_dict().items():
    assert value.shape != model.state_dict()[name].shape or torch.equal(value, model.state_dict()[name]), name
tuned = AutoModelForImageClassification.from_pretrained(repo, num_labels=7, ignore_mismatched_sizes=True)
labels = torch.arange(len(pixels)) % 7
for net, outputs in ((fine, lambda: fine(pixels)), (tuned, lambda: tuned(pixels).logits)):
    net.train()
    optimizer, losses = torch.optim.SGD(net.parameters(), lr=0.01), []
    for _ in range(3):
        loss = F.cross_entropy(outputs(), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert outputs().shape == (len(pixels), 7) and losses[-1] < losses[0], losses
print("loaded")
"""


@pytest.mark.parametrize("architecture", ["cifar_resnet8", "test_efficientnet"])
def test_everyone_loads_it_from_there(hub, hub_libraries, worker, tmp_path, architecture):
    torch.manual_seed(0)
    names, size = tuple(f"class {index}" for index in range(5)), 32
    model = create_classifier(architecture, names, image_size=size, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    images = torch.randint(256, (14, 3, size, size), dtype=torch.uint8)
    with torch.no_grad():
        model.train()(images)  # BatchNorm statistics that are not the initial ones
        output = model.eval()(images)
    save_pretrained(tmp_path / "model", model)
    assert worker("hub", "push", tmp_path / "model", "--repo_id", f"us/{architecture}")["error"] is None
    arrays = {
        "pixels": model.preprocess(images),
        "logits": output.logits,
        "embeddings": output.embeddings,
        "images": images,
    }
    np.savez(tmp_path / "expected.npz", names=names, **{name: array.numpy() for name, array in arrays.items()})
    words = ["-c", CONSUMER, f"us/{architecture}", tmp_path, str(architecture.startswith("cifar_"))]
    done = hub_libraries.run(words, cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.endswith("loaded\n"), done.stderr
    assert ("resolve", f"us/{architecture}") in hub.requests
