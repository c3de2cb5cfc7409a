"""Folders of transformers: the logits, classes and preprocessing that transformers itself has."""

from __future__ import annotations

import json

import numpy as np
import PIL.Image
import pytest
import torch
from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    ConvNextConfig,
    Dinov2Config,
    LevitConfig,
    ResNetConfig,
    TimmWrapperConfig,
    ViTConfig,
    ViTModel,
)

from hf_icckd import create_classifier, from_pretrained, save_pretrained
from hf_icckd.data.framing import evaluation_framing
from hf_icckd.models import pretrained
from hf_icckd.models.foreign import is_foreign
from hf_icckd.models.preprocessing import measured_preprocessing

NAMES = {0: "cat", 1: "dog", 2: "fish"}
SMALL = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
VIT = {"image_size": 32, "patch_size": 16, **SMALL}
SQUARE = {"size": {"height": 32, "width": 32}}
CROPPED = {"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}, "do_center_crop": True}
SHORTEST = {"size": {"shortest_edge": 32}}
STAGES = {"hidden_sizes": [8, 16], "depths": [1, 1]}
LEVIT = LevitConfig(  # its logits are the mean of those of two layers
    image_size=64,
    hidden_sizes=[32, 32, 32],
    num_attention_heads=[2, 2, 2],
    depths=[1, 1, 1],
    key_dim=[8, 8, 8],
    architectures=["LevitForImageClassificationWithTeacher"],
)
MODELS = {
    "vit": (ViTConfig(**VIT), "ViTImageProcessor", SQUARE, 32),
    "dinov2": (Dinov2Config(**VIT), "BitImageProcessor", CROPPED, 64),
    "convnext": (ConvNextConfig(num_stages=2, **STAGES), "ConvNextImageProcessor", SHORTEST, 16),
    "resnet": (ResNetConfig(embedding_size=8, **STAGES), "ConvNextImageProcessor", SHORTEST, 16),
    "levit": (LEVIT, "ViTImageProcessor", {"size": {"height": 64, "width": 64}}, None),
}


def write(folder, config, processor, options, safe=True):
    config.id2label, config.label2id = NAMES, {name: index for index, name in NAMES.items()}
    torch.manual_seed(0)
    model = AutoModelForImageClassification.from_config(config).eval()
    with torch.no_grad():  # or logits would nearly tie
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    if not safe:
        (folder / "model.safetensors").unlink()
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
    if processor:
        (folder / "preprocessor_config.json").write_text(json.dumps({"image_processor_type": processor, **options}))
    return model


@pytest.mark.parametrize("name", MODELS)
def test_logits_of_a_picture_are_those_of_transformers(tmp_path, name):
    config, processor, options, dim = MODELS[name]
    model = write(tmp_path, config, processor, options)
    noise = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    picture = PIL.Image.fromarray(noise).resize((96, 72))
    ours = from_pretrained(tmp_path)
    pixels = torch.from_numpy(np.array(evaluation_framing(ours.spec)(picture))).permute(2, 0, 1)[None]
    with torch.no_grad():
        wanted = model(**AutoImageProcessor.from_pretrained(tmp_path)(picture, return_tensors="pt"))
        found = ours(pixels)
    torch.testing.assert_close(found.logits, wanted.logits, rtol=0, atol=2e-3)
    assert ours.spec.label_names == ("cat", "dog", "fish") and not ours.training and is_foreign(ours)
    assert ours.embedding_dim == dim
    if dim is None:
        assert found.embeddings is None
    else:
        layer = model.classifier if isinstance(model.classifier, torch.nn.Linear) else model.classifier[-1]
        torch.testing.assert_close(layer(found.embeddings), found.logits)


def test_a_pickle_of_weights_is_read_where_there_is_nothing_else(tmp_path):
    model = write(tmp_path, ViTConfig(**VIT), "ViTImageProcessor", SQUARE, safe=False)
    weights = from_pretrained(tmp_path).net.module.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())


def test_pickles_are_fetched_only_where_the_hub_has_nothing_else(tmp_path, monkeypatch):
    write(tmp_path, ViTConfig(**VIT), "ViTImageProcessor", SQUARE, safe=False)
    aside = (tmp_path / "pytorch_model.bin").rename(tmp_path / "aside")
    asked = []

    def snapshot_download(name, revision, allow_patterns):
        asked.append(allow_patterns)
        if "pytorch_model.bin" in allow_patterns:
            aside.rename(tmp_path / "pytorch_model.bin")
        return str(tmp_path)

    monkeypatch.setattr(pretrained, "snapshot_download", snapshot_download)
    assert from_pretrained("me/vit").spec.image_size == 32
    assert len(asked) == 2 and "pytorch_model.bin" not in asked[0]


def test_a_missing_preprocessor_is_said(tmp_path, caplog):
    write(tmp_path, ViTConfig(**{**VIT, "image_size": 224}), None, {})
    spec = from_pretrained(tmp_path).spec
    assert "no preprocessor_config.json: images are prepared as transformers does by default for a vit" in caplog.text
    assert (spec.image_size, spec.mean, spec.crop_mode) == (224, (0.5, 0.5, 0.5), "squash")


def test_a_default_size_that_does_not_fit_says_what_is_missing(tmp_path):
    write(tmp_path, MODELS["vit"][0], None, {})  # transformers prepares 224 pixels by default
    with pytest.raises(ValueError, match=r"Input image size .*; it has no preprocessor_config\.json.*save its image"):
        from_pretrained(tmp_path)


def test_a_folder_of_the_wrapper_for_timm(tmp_path):
    torch.manual_seed(0)
    own = create_classifier("test_resnet", list(NAMES.values()), image_size=64)
    save_pretrained(tmp_path / "own", own)
    wrapped = AutoModelForImageClassification.from_config(TimmWrapperConfig.from_pretrained(tmp_path / "own"))
    wrapped.save_pretrained(tmp_path / "wrapped")
    AutoModelForImageClassification.from_pretrained(tmp_path / "wrapped").save_pretrained(tmp_path / "again")
    for folder in ("wrapped", "again"):
        found = from_pretrained(tmp_path / folder)
        assert found.spec == own.spec and not is_foreign(found)
        for name, tensor in wrapped.timm_model.state_dict().items():
            assert torch.equal(tensor, found.net.state_dict()[name]), name


def test_models_that_classify_nothing(tmp_path):
    ViTModel(ViTConfig(**VIT)).save_pretrained(tmp_path / "trunk")
    (tmp_path / "trunk" / "preprocessor_config.json").write_text(json.dumps(SQUARE))
    with pytest.raises(ValueError, match=r"it holds no weights for classifier.bias, classifier.weight, so it is"):
        from_pretrained(tmp_path / "trunk")
    write(tmp_path / "many", ViTConfig(**VIT, problem_type="multi_label_classification"), "ViTImageProcessor", SQUARE)
    with pytest.raises(ValueError, match="its problem_type is 'multi_label_classification', expected"):
        from_pretrained(tmp_path / "many")


def test_code_of_a_folder_is_never_run(tmp_path):
    write(tmp_path, ViTConfig(**VIT), "ViTImageProcessor", SQUARE)
    config = json.loads((tmp_path / "config.json").read_text())
    auto = {"AutoConfig": "own.OwnConfig", "AutoModelForImageClassification": "own.OwnModel"}
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "own", "auto_map": auto}))
    (tmp_path / "own.py").write_text("raise SystemExit('code of the folder was run')")
    with pytest.raises(ValueError, match="can't be loaded by transformers"):
        from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("processor", "options", "expected"),
    [
        ("ViTImageProcessor", SQUARE, (32, 1.0, "bilinear", "squash")),
        ("ViTImageProcessor", {**SQUARE, "resample": 3, "do_normalize": False}, (32, 1.0, "bicubic", "squash")),
        ("BitImageProcessor", CROPPED, (32, 32 / 36, "bicubic", "center")),
        ("ConvNextImageProcessor", {"size": {"shortest_edge": 224}}, (224, 0.875, "bicubic", "center")),
        ("ConvNextImageProcessor", {"size": {"shortest_edge": 384}}, (384, 1.0, "bicubic", "squash")),
        ("DeiTImageProcessor", {}, (224, 0.875, "bicubic", "squash")),
        ("EfficientNetImageProcessor", {}, (346, 1.0, "bicubic", "squash")),  # normalises twice
        ("LevitImageProcessor", {}, (224, 0.875, "bicubic", "center")),  # scales to 256 / 224 of what its options say
    ],
)
def test_what_a_processor_does_is_measured(tmp_path, processor, options, expected):
    file = tmp_path / "preprocessor_config.json"
    file.write_text(json.dumps({"image_processor_type": processor, **options}))
    own = AutoImageProcessor.from_pretrained(tmp_path)
    seen = measured_preprocessing(own)
    assert (seen.image_size, seen.crop_pct, seen.interpolation, seen.crop_mode) == expected
    grey = own(PIL.Image.new("RGB", (50, 40), (90, 120, 200)), return_tensors="np")["pixel_values"][0][:, 0, 0]
    ours = (np.array([90, 120, 200]) / 255 - seen.mean) / seen.std
    np.testing.assert_allclose(grey, ours, atol=1e-4)


@pytest.mark.parametrize(
    ("processor", "options", "message"),
    [
        (
            "ViTImageProcessor",
            {"do_resize": False},
            r"a picture of 256 x 192 pixels into \(3, 192, 256\), expected",
        ),
        ("BitImageProcessor", {"do_center_crop": False}, r"into \(3, 224, 29.\), expected a square"),
        ("ViTImageProcessor", {**SQUARE, "resample": 4}, "scales images with 4, expected one of: nearest"),
        (
            "BitImageProcessor",
            {**CROPPED, "size": {"shortest_edge": 20}},
            "does not keep a picture of one colour",
        ),
        ("MobileViTImageProcessor", CROPPED, "does not normalise red, green and blue one by one"),
    ],
)
def test_what_has_no_place_in_a_specification_is_refused(tmp_path, processor, options, message):
    file = tmp_path / "preprocessor_config.json"
    file.write_text(json.dumps({"image_processor_type": processor, **options}))
    with pytest.raises(ValueError, match=message):
        measured_preprocessing(AutoImageProcessor.from_pretrained(tmp_path))
