"""The folder of a Space runs without this package, and says what the model says."""

from __future__ import annotations

import ast
import configparser
import importlib.util
import sys
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import PIL.Image
import pytest
import torch
import yaml

from hf_icckd import create_classifier, from_pretrained, save_pretrained
from hf_icckd.data.images import decode_image
from hf_icckd.demo import __main__ as demo
from hf_icckd.demo import space
from hf_icckd.demo.comparison import ask
from hf_icckd.demo.page import Net
from hf_icckd.options.command_line import UserError
from tests import ROOT

NAMES = ("cat", "dog", 'a "fish"')


def make(architecture: str = "cifar_resnet8", seed: int = 0, names=NAMES, **options):
    torch.manual_seed(seed)
    model = create_classifier(
        architecture, names, image_size=32, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4), **options
    ).eval()
    # Logits of a new net hardly differ between pictures.
    torch.nn.init.normal_(model.net.get_classifier().weight, std=0.5 if architecture.startswith("cifar") else 8)
    return model


@pytest.fixture
def pictures(tmp_path):
    """Files of many kinds."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number, mode in enumerate(["RGB", "L", "CMYK", "P", "RGBA"]):
        image = PIL.Image.fromarray(rng.integers(256, size=(5, 4, 4), dtype=np.uint8), "RGBA")
        image = image.resize((70 + 9 * number, 45 + 20 * number)).convert(mode)
        exif = PIL.Image.Exif()
        exif[0x0112] = 6 if mode == "L" else 1
        image.save(folder / f"{number}.{'jpg' if mode in ('L', 'CMYK') else 'png'}", exif=exif)
    PIL.Image.fromarray(rng.integers(65536, size=(40, 50), dtype=np.uint16)).save(folder / "deep.png")
    return sorted(folder.iterdir())


def start(folder, monkeypatch):
    """Import app.py with a Gradio that shows nothing; this package can't be imported meanwhile."""
    gradio = MagicMock()
    gradio.Error = ValueError
    monkeypatch.setitem(sys.modules, "gradio", gradio)
    found = importlib.util.spec_from_file_location("app", folder / "app.py")
    app = importlib.util.module_from_spec(found)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "hf_icckd", None)
        found.loader.exec_module(app)
    return SimpleNamespace(predict=app.predict, interface=gradio.Interface.call_args)


def said(model, path, pixel_range=None) -> dict[str, float]:
    answer = ask(model, decode_image({"path": str(path)}, "it", pixel_range=pixel_range))
    return dict(zip(NAMES, answer.logits.double().softmax(dim=0).tolist(), strict=True))


@pytest.mark.parametrize(
    ("architecture", "runtime"), [("mobilenetv3_small_050", "timm"), ("cifar_resnet8", "onnx")], ids=["timm", "onnx"]
)
@pytest.mark.parametrize(
    "options",
    [
        {"crop_pct": 0.8, "interpolation": "bicubic", "crop_mode": "center"},
        {"crop_pct": 1.0, "crop_mode": "border"},
        {"crop_pct": 0.9, "crop_mode": "squash"},
    ],
    ids=["center", "border", "squash"],
)
def test_it_says_what_the_model_says(pictures, tmp_path, monkeypatch, architecture, runtime, options):
    model = make(architecture, **options)
    folder = tmp_path / "space"
    assert space.write_space(folder, [Net("model", "runs/small", model)], pictures[:2]) == runtime
    app = start(folder, monkeypatch)
    shares = [app.predict(str(path)) for path in pictures]
    assert np.std([each["cat"] for each in shares]) > 0.01
    for found, path in zip(shares, pictures, strict=True):
        assert found == pytest.approx(said(model, path), abs=2e-4), path.name
    assert app.predict(None) is None
    files = {"model.onnx"} if runtime == "onnx" else {"model/config.json", "model/model.safetensors"}
    files |= {"app.py", "README.md", "requirements.txt", *(f"examples/{path.name}" for path in pictures[:2])}
    there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {name for name in there if not name.startswith("__pycache__")} == files  # Python leaves it or not
    assert app.interface.kwargs["examples"] == [str(folder / "examples" / path.name) for path in pictures[:2]
                                                if path.suffix == ".png"]  # fmt: skip


def test_two_models_share_a_page(pictures, tmp_path, monkeypatch):
    nets = [Net("teacher", "a", make()), Net("student", "b", make("mobilenetv3_small_050", seed=1))]
    assert space.write_space(tmp_path / "space", nets) == "onnx"  # one of them is none of timm's
    app = start(tmp_path / "space", monkeypatch)
    found = app.predict(str(pictures[0]))
    assert [*found] == [pytest.approx(said(net.model, pictures[0]), abs=2e-4) for net in nets]
    assert app.predict(None) == [None, None] and app.interface.kwargs["examples"] is None


def test_the_range_of_deep_pictures_is_kept(tmp_path, monkeypatch):
    PIL.Image.fromarray(np.arange(4096, dtype=np.uint16).reshape(64, 64)).save(tmp_path / "deep.png")
    model = make()
    space.write_space(tmp_path / "space", [Net("model", "a", model)], pixel_range=(0, 4095))
    app = start(tmp_path / "space", monkeypatch)
    found = app.predict(str(tmp_path / "deep.png"))
    assert found == pytest.approx(said(model, tmp_path / "deep.png", (0, 4095)), abs=2e-4)
    PIL.Image.fromarray(np.full((9, 9), 5000, dtype=np.uint16)).save(tmp_path / "wrong.png")
    with pytest.raises(ValueError, match="has values 5000 to 5000, expected 0 to 4095"):
        app.predict(str(tmp_path / "wrong.png"))


def header_of(folder) -> dict:
    return yaml.safe_load((folder / "README.md").read_text(encoding="utf-8").split("---")[1])


def test_a_model_on_the_hub_is_loaded_from_there(tmp_path, monkeypatch):
    model = make("mobilenetv3_small_050")
    space.write_space(tmp_path / "space", [Net("model", "runs/x", model)], repo_ids=["me/small"], licence="mit")
    assert sorted(path.name for path in (tmp_path / "space").iterdir()) == ["README.md", "app.py", "requirements.txt"]
    timm = MagicMock()
    monkeypatch.setitem(sys.modules, "timm", timm)
    start(tmp_path / "space", monkeypatch)
    timm.create_model.assert_called_once_with("hf-hub:me/small", pretrained=True)
    found = header_of(tmp_path / "space")
    assert (found["title"], found["license"], found["models"]) == ("Small", "mit", ["me/small"])
    with pytest.raises(ValueError, match="cifar_resnet8 is no architecture of timm, so a Space can't load it from"):
        space.write_space(tmp_path / "other", [Net("model", "x", make())], repo_ids=["me/small"])
    assert not (tmp_path / "other").exists()


def test_the_header_is_that_of_a_space(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = make("mobilenetv3_small_050")
    space.write_space(tmp_path / "space", [Net("model", "me/small@main", model)])
    found = header_of(tmp_path / "space")
    assert (found["sdk"], found["app_file"], found["models"]) == ("gradio", "app.py", ["me/small"])
    assert found["sdk_version"].count(".") == 2 and "license" not in found
    text = (tmp_path / "space" / "README.md").read_text(encoding="utf-8")
    assert 'cat, dog, a "fish"' in text and "| small | mobilenetv3_small_050 |" in text


def test_requirements_are_those_of_the_package():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    texts = [config["options"]["install_requires"], *config["options.extras_require"].values()]
    known = {line.strip() for text in texts for line in text.splitlines()}
    for names in space._REQUIREMENTS.values():
        assert {f"{name}>={bound}" for name, bound in names.items()} <= known
    assert f">={space._PYTHON}" == config["options"]["python_requires"]


def test_the_page_is_python_of_any_supported_version(tmp_path):
    for architecture in ("mobilenetv3_small_050", "cifar_resnet8"):
        folder = tmp_path / architecture
        space.write_space(folder, [Net("model", 'runs/an "odd" name\\', make(architecture))])
        text = (folder / "app.py").read_text(encoding="utf-8")
        ast.parse(text, feature_version=(3, 10))
        assert max(map(len, text.splitlines())) <= 119 and "\n\n\n\n" not in text


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A model in the folder of a run on digits."""
    names = [str(digit) for digit in range(10)]
    save_pretrained(tmp_path / "run", make("mobilenetv3_small_050", names=names))
    recorded = {"dataset": "digits", "max_train_samples": 60, "max_eval_samples": 30, "license": "apache-2.0"}
    (tmp_path / "run" / "all_args.yaml").write_text(yaml.safe_dump(recorded))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "run"


def test_the_command_writes_it_with_examples(run, tmp_path, capsys, monkeypatch):
    (tmp_path / "space").mkdir()  # an empty folder is taken
    demo.main(["run", "--space", "space"])
    out = capsys.readouterr().out
    assert "space is a Space of run, which timm runs" in out and "10 test images of digits; delete those" in out
    assert len(list((tmp_path / "space" / "examples").iterdir())) == 10
    assert header_of(tmp_path / "space")["license"] == "apache-2.0"
    assert from_pretrained(tmp_path / "space" / "model").spec == from_pretrained(run).spec
    demo.main(["run", "run", "--space", "two", "--license", "mit"])
    assert header_of(tmp_path / "two")["title"] == "Teacher and student"
    assert header_of(tmp_path / "two")["license"] == "mit"
    # A data set that would have to be fetched is left alone.
    (run / "all_args.yaml").write_text("dataset: me/pictures\n")
    monkeypatch.setattr(demo, "find_data", lambda *_: pytest.fail("it was looked for"))
    demo.main(["run", "--space", "third"])
    assert "It has no examples: the data set is on the Hub" in capsys.readouterr().out
    assert not (tmp_path / "third" / "examples").exists()


def test_large_examples_are_scaled_down(tmp_path):
    for label in ("a", "b"):
        (tmp_path / "data" / label).mkdir(parents=True)
        for number in range(4):
            PIL.Image.new("RGB", (900, 600 + number), "red").save(tmp_path / "data" / label / f"{number}.jpg")
    data = demo.load_data(demo.DemoDataArguments(dataset=str(tmp_path / "data")))
    for path, _ in demo.save_examples(data, tmp_path, 512):
        with PIL.Image.open(path) as image:
            assert max(image.size) == 512


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "--space", "run"], "space is 'run', expected a new or an empty folder"),
        (["run", "--space", "no/where"], "space is 'no/where', whose folder does not exist; create it first"),
        (
            ["run", "--space", "new", "--repo_id", "small"],
            "repo_id is 'small', expected the name of a model on the Hub",
        ),
        (["run", "--space", "new", "--repo_id", "a/b", "c/d"], "repo_id names 2 models, expected 1, one for each"),
        (["run", "--space", "new", "--port", "80"], "--port only matters for the local page; leave it out"),
        (["run", "--license", "mit"], "--license only matters for a Space; leave it out, or add --space FOLDER"),
        (["run", "--space", "new", "--license", "MIT License"], "license is 'MIT License', expected an identifier"),
        (["run", "run", "run", "--space", "new"], "models are run, run, run, expected one classifier, or a teacher"),
        (["nowhere", "--space", "new"], "model 'nowhere' is not a folder here"),
        (["run", "--space", "new", "--dataset", "synthetic"], "model and data set name 10 classes differently"),
    ],
)
def test_errors_are_one_line_and_leave_nothing(run, tmp_path, words, message):
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=f"^error: .*{message}"):
        demo.main(words)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_failed_export_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_):
        raise ValueError("no")

    monkeypatch.setattr(space, "export_onnx", fail)
    with pytest.raises(ValueError, match="no"):
        space.write_space(tmp_path / "space", [Net("model", "a", make())])
    assert not list(tmp_path.iterdir())
