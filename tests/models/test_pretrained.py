"""A written folder is read by three libraries with the same logits; stock nets without this package."""

from __future__ import annotations

import json
import pickle

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoImageProcessor, AutoModelForImageClassification

from hf_icckd import create_classifier, from_pretrained, push_to_hub, save_pretrained
from hf_icckd.hub.published import published_files
from hf_icckd.models import pretrained
from hf_icckd.models.adapt import adapt_classifier
from hf_icckd.models.from_transformers import SAFE_FILES
from hf_icckd.runs.layout import DATA_REPORT_FILE

NAMES = ("cat", "dog", "fish")
STATISTICS = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4)}


def make(architecture: str, size: int, **options):
    torch.manual_seed(0)
    model = create_classifier(architecture, NAMES, image_size=size, **STATISTICS, **options)
    with torch.no_grad():  # BatchNorm statistics that are not the initial ones
        model.train()
        model(torch.randint(256, (8, 3, size, size), dtype=torch.uint8))
    return model.eval().to(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("architecture", "size", "options"),
    [
        ("cifar_resnet20", 32, {}),
        ("cifar_wrn_16_2", 24, {}),
        ("resnet18", 64, {}),
        ("test_vit", 64, {}),
        ("test_efficientnet", 64, {"model_args": {"drop_rate": 0.1}}),
    ],
)
def test_three_loaders_agree(tmp_path, architecture, size, options):
    model = make(architecture, size, **options)
    save_pretrained(tmp_path, model)
    images = torch.randint(256, (4, 3, size, size), dtype=torch.uint8)
    pixels = model.preprocess(images)
    with torch.no_grad():
        expected = model(images).logits
        ours = from_pretrained(tmp_path)
        stock = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
        wrapped = AutoModelForImageClassification.from_pretrained(tmp_path).eval()
        for logits in (ours(images).logits, stock(pixels), wrapped(pixels).logits):
            torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)
    assert ours.spec == model.spec
    assert [wrapped.config.id2label[index] for index in range(3)] == list(NAMES)
    assert timm.data.resolve_data_config({}, model=stock)["mean"] == list(STATISTICS["mean"])
    processor = AutoImageProcessor.from_pretrained(tmp_path)
    assert processor(torch.zeros(3, 80, 80), return_tensors="pt")["pixel_values"].shape[-2:] == (size, size)


@pytest.mark.parametrize(
    ("name", "repository", "revision"),
    [
        ("me/student", "me/student", None),
        ("hf-hub:me/student", "me/student", None),
        ("hf_hub:me/student@v1", "me/student", "v1"),
        ("me/student@refs/pr/1", "me/student", "refs/pr/1"),
    ],
)
def test_hub_ids_are_fetched_without_pickles(tmp_path, monkeypatch, name, repository, revision):
    model = make("cifar_resnet8", 16)
    save_pretrained(tmp_path, model)
    asked = []

    def snapshot_download(name, revision, allow_patterns):
        asked.append((name, revision, allow_patterns))
        return str(tmp_path)

    monkeypatch.setattr(pretrained, "snapshot_download", snapshot_download)
    assert from_pretrained(name).spec == model.spec
    assert asked == [(repository, revision, SAFE_FILES)] and not any("bin" in each for each in SAFE_FILES)


def test_pretrained_weights_keep_their_preprocessing(tmp_path, monkeypatch):
    """timm's own loading, from a file in place of the network."""
    create_model, asked = timm.create_model, []

    def from_file(name, pretrained=False, **options):
        if options["num_classes"] != len(NAMES):  # a net without values, to find out how it is built
            return create_model(name, pretrained=pretrained, **options)
        asked.append((name, pretrained, options))
        weights = create_model(name, **options | {"num_classes": 1000})
        file = tmp_path / f"{name}.safetensors"
        save_file(weights.state_dict(), file)
        return create_model(name, pretrained=pretrained, pretrained_cfg_overlay={"file": str(file)}, **options)

    monkeypatch.setattr(timm, "create_model", from_file)
    model = create_classifier("resnet18", NAMES, pretrained=True)
    assert asked == [("resnet18", True, {"num_classes": 3})]
    weights = load_file(tmp_path / "resnet18.safetensors")
    for name, value in model.net.state_dict().items():
        assert torch.equal(value, weights[name]) or name.startswith("fc."), name  # the head is new: 3 classes
    default = timm.get_pretrained_cfg("resnet18")
    assert (model.spec.mean, model.spec.std) == (default.mean, default.std)
    assert (model.spec.image_size, model.spec.interpolation) == (224, default.interpolation)
    assert model(torch.zeros(1, 3, 32, 32, dtype=torch.uint8)).logits.shape == (1, 3)  # small pixels are scaled up
    fixed = create_classifier("test_vit", NAMES, image_size=96, pretrained=True)
    assert asked[-1][2]["img_size"] == fixed.spec.image_size == 96


@pytest.mark.parametrize("names", [NAMES, ("a", "b")])
def test_going_on_from_a_folder_that_timm_wrote(tmp_path, names):
    """timm's own has the number of classes among the arguments of the net."""
    net = timm.create_model("test_resnet", num_classes=3)
    cfg = {"num_classes": 3, "label_names": list(NAMES)}
    timm.models.save_for_hf(
        net, tmp_path / "timm", model_config=cfg, model_args={"num_classes": 3}, safe_serialization=True
    )
    start = from_pretrained(tmp_path / "timm")
    model = adapt_classifier(start, names, crop_pct=1.0).eval()
    assert model.spec.crop_pct == 1.0 and start.spec.crop_pct < 1
    save_pretrained(tmp_path / "ours", model)
    x = torch.rand(1, 3, 160, 160)
    expected = model.net(x)
    assert torch.equal(from_pretrained(tmp_path / "ours").net(x), expected)
    assert torch.equal(timm.create_model(f"local-dir:{tmp_path / 'ours'}", pretrained=True).eval()(x), expected)
    assert torch.equal(AutoModelForImageClassification.from_pretrained(tmp_path / "ours").eval()(x).logits, expected)


def test_what_must_not_leave_this_machine_stops_a_push(tmp_path):
    save_pretrained(tmp_path, make("cifar_resnet8", 16))
    (tmp_path / "README.md").write_text("mine")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n...")
    for name in (
        "optimizer.pt",
        "training_args.bin",
        ".lock",
        "events.out.tfevents.1",
        "x.png.txt",
        ".x.png",
        DATA_REPORT_FILE,
    ):
        (tmp_path / name).write_bytes(pickle.dumps(1))
    (tmp_path / "checkpoint-1").mkdir()
    assert {path.name for path in published_files(tmp_path)} == {
        "README.md", "config.json", "model.safetensors", "picture.png",
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"README\.md holds your Hub token, so it is not pushed"):
        push_to_hub(tmp_path, "me/x", token="mine")
    for name in ("picture.png", "all_args.yaml", "model.safetensors"):
        (tmp_path / name).write_bytes(pickle.dumps({"a": torch.ones(2)}))
        with pytest.raises(ValueError, match=rf"{name} is not what its name says, expected safetensors, a PNG"):
            push_to_hub(tmp_path, "me/x")
        (tmp_path / name).unlink()
    with pytest.raises(ValueError, match=r"has no model\.safetensors; expected a finished run"):
        push_to_hub(tmp_path, "me/x")
    with pytest.raises(ValueError, match=r"model folder .*nowhere' does not exist"):
        push_to_hub(tmp_path / "nowhere", "me/x")


def test_folder_holds_weights_and_plain_data_only(tmp_path):
    model = make("cifar_resnet8", 16)
    save_pretrained(tmp_path, model)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    assert load_file(tmp_path / "model.safetensors").keys() == model.net.state_dict().keys()
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["label_names"] == list(NAMES) and "num_classes" not in config.get("model_args", {})
    provenance = {"url", "hf_hub_id", "origin_url", "paper_ids", "license", "tag", "source", "file"}
    assert not provenance & config["pretrained_cfg"].keys()


def test_stock_architecture_needs_nothing_of_ours(hub_libraries, tmp_path):
    save_pretrained(tmp_path, make("resnet18", 64))
    code = f"""
import sys
sys.modules["hf_icckd"] = None  # any import of it fails
import timm, torch
from transformers import AutoModelForImageClassification, pipeline
x = torch.ones(1, 3, 64, 64)
a = timm.create_model("local-dir:{tmp_path}", pretrained=True).eval()(x)
b = AutoModelForImageClassification.from_pretrained("{tmp_path}").eval()(x).logits
assert torch.allclose(a, b, atol=1e-5)
from PIL import Image
print(pipeline("image-classification", "{tmp_path}")(Image.new("RGB", (80, 80)))[0]["label"])
"""
    done = hub_libraries.run(["-c", code])
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in NAMES


def test_preprocessing_is_that_of_the_config():
    model = make("cifar_resnet8", 16)
    images = torch.randint(256, (2, 3, 16, 16), dtype=torch.uint8)
    mean, std = (torch.tensor(STATISTICS[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    torch.testing.assert_close(model.preprocess(images), (images / 255 - mean) / std)
    assert model.preprocess(torch.zeros(2, 3, 40, 30, dtype=torch.uint8)).shape == (2, 3, 16, 16)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_pixels_that_lie_channels_last_are_normalised_to_the_same_bits(dtype):
    model = make("cifar_resnet8", 16).to(dtype).eval()
    images = torch.randint(256, (2, 3, 16, 16), dtype=torch.uint8)
    last = images.contiguous(memory_format=torch.channels_last)
    assert model.preprocess(last).dtype == dtype and torch.equal(model.preprocess(last), model.preprocess(images))
    assert model(last).logits.dtype == dtype


def test_embeddings_and_feature_maps():
    model = make("cifar_resnet8", 16)
    output = model(torch.zeros(2, 3, 16, 16, dtype=torch.uint8), feature_maps=True)
    assert output.embeddings.shape == (2, 64) and model.embedding_dim == 64
    assert [tuple(maps.shape[1:]) for maps in output.feature_maps][-1] == (64, 4, 4)
    torch.testing.assert_close(model.net.get_classifier()(output.embeddings), output.logits)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_folder/deeper/model", "is not a folder here, a timm architecture or a Hub id"),
        ("cifar_resnet8", "no pretrained weights for 'cifar_resnet8'"),
        (
            "samvit_base_patch16.sa1b",
            r"expected a classifier; train one on them, hf-icckd teacher --model samvit\S+ --pretrained true, or",
        ),
        ("user/no-such-model", "could not be fetched from the Hub"),
    ],
)
def test_what_cannot_be_loaded_is_explained(name, message):
    with pytest.raises(ValueError, match=message):
        from_pretrained(name)


def test_unfinished_folder_is_explained(tmp_path):
    save_pretrained(tmp_path, make("cifar_resnet8", 16))
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"has no model.safetensors"):
        from_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"12")
    with pytest.raises(ValueError, match="can't be loaded"):
        from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pretrained_cfg": []}, "can't be loaded: "),
        ({"pretrained_cfg": "x"}, "can't be loaded: "),
        ({"model_args": [1]}, "can't be loaded: "),
        ({"input_size": []}, "can't be loaded: "),
        ({"mean": [0.5]}, r"mean is \(0.5,\) and std .*expected three numbers each"),
        ({"std": [0, 0, 0]}, r"std \(0, 0, 0\), expected three numbers each, and std above 0"),
    ],
)
def test_a_damaged_config_is_one_clear_error(tmp_path, change, message):
    save_pretrained(tmp_path, make("cifar_resnet8", 16))
    config = json.loads((tmp_path / "config.json").read_text())
    known = config if change.keys() & config.keys() else config["pretrained_cfg"]
    known.update(change)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message):
        from_pretrained(tmp_path)


def test_a_config_without_crop_is_evaluated_whole(tmp_path):
    save_pretrained(tmp_path, make("cifar_resnet8", 16))
    config = json.loads((tmp_path / "config.json").read_text())
    config["pretrained_cfg"] |= {"crop_pct": None, "interpolation": None}
    (tmp_path / "config.json").write_text(json.dumps(config))
    spec = from_pretrained(tmp_path).spec
    assert (spec.crop_pct, spec.interpolation) == (1.0, "bilinear")


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ("resnt18", "unknown model 'resnt18'.*did you mean .*resnet18"),
        ("coat_lite_tiny", "can't classify an image of 8 x 8 pixels: .*Kernel size.*its own size is 224, give that"),
        ("tv_resnet34", "no longer has a model 'tv_resnet34': it is called 'resnet34.tv_in1k' now"),
        ("swin_base_patch4_window7_224_in22k", "it is called 'swin_base_patch4_window7_224.ms_in22k' now"),
        ("resnet18.foo", "unknown weights 'foo' of 'resnet18', expected one of: .*a1_in1k"),
    ],
)
def test_what_cannot_be_built_is_explained(architecture, message):
    with pytest.raises(ValueError, match=message):
        create_classifier(architecture, NAMES, image_size=8)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tv_resnet34", "it is called 'resnet34.tv_in1k' now"),
        ("resnet18.foo", "unknown weights 'foo' of 'resnet18'"),
        ("~nobody-of-this-name/x", "is not a folder here, a timm architecture or a Hub id"),
    ],
)
def test_a_name_that_is_none_is_explained(name, message):
    with pytest.raises(ValueError, match=message):
        from_pretrained(name)


def test_class_names_must_fit(tmp_path):
    from hf_icckd import ClassifierSpec, ImageClassifier

    net = timm.create_model("cifar_resnet8", num_classes=4)
    with pytest.raises(ValueError, match="has 4 classes but there are 3 class names"):
        ImageClassifier(net, ClassifierSpec("cifar_resnet8", NAMES, (0.5,) * 3, (0.5,) * 3, 32))
