"""Predictions equal evaluation, by torch and by ONNX Runtime, and no file ends them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hf_icckd import ImagePipeline, create_classifier, export_onnx, load_image_data, predict_split, save_pretrained
from hf_icckd.prediction import classifier as classifiers
from hf_icckd.prediction.predict import predict_images

NAMES = ("cat", "dog", "fish")


def make(size: int = 32, names=NAMES, seed: int = 0, **options):
    torch.manual_seed(seed)
    return create_classifier(
        "cifar_resnet8", names, image_size=size, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4), **options
    ).eval()


def picture(width: int, height: int, seed: int = 0, mode: str = "RGB") -> Image.Image:
    """Smooth colours, so that scaling leaves differences between pictures."""
    pixels = np.random.default_rng(seed).integers(256, size=(3, 4, 4), dtype=np.uint8)
    return Image.fromarray(pixels, "RGBA").resize((width, height)).convert(mode)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Two classes of large pictures in many modes, some turned by EXIF, some of 16 bits."""
    folder = tmp_path_factory.mktemp("photos")
    for label in ("a", "b"):
        (folder / label).mkdir()
        for number in range(8):
            image = picture(
                120 + number, 150, seed=10 * ord(label) + number, mode=["RGB", "L", "CMYK", "RGB"][number % 4]
            )
            exif = Image.Exif()
            exif[0x0112] = 6 if number % 4 == 3 else 1
            image.save(folder / label / f"{number}.jpg", exif=exif)
        grey = np.random.default_rng(ord(label)).integers(65536, size=(130, 120), dtype=np.uint16)
        Image.fromarray(grey).save(folder / label / "deep.png")
        frames = [picture(110, 100, seed=seed) for seed in (1, 2)]
        frames[0].save(folder / label / "moving.gif", save_all=True, append_images=frames[1:])
        picture(130, 110, seed=3, mode="RGBA").save(folder / label / "clear.webp", lossless=True)
    return folder


@pytest.mark.parametrize(
    "options",
    [
        {"crop_pct": 0.8, "interpolation": "bicubic"},
        {"crop_mode": "border"},
        {"crop_mode": "squash", "crop_pct": 0.9},
    ],
    ids=["center", "border", "squash"],
)
def test_they_equal_evaluation_and_those_of_onnx(photos, tmp_path, options):
    model = make(32, ("a", "b"), **options)
    data = load_image_data(str(photos), splits="none", test_fraction=0.9)
    spec = model.spec
    pipeline = ImagePipeline(data, default_size=32, max_size=32, crop_pct=spec.crop_pct, mean=spec.mean,
                             interpolation=spec.interpolation, crop_mode=spec.crop_mode)  # fmt: skip
    outputs = predict_split(model, pipeline.dataset("test"))
    paths = [record["image"]["path"] for record in data.test]
    found = list(predict_images(model, paths, batch_size=3, num_workers=2))
    assert [each.image for each in found] == paths and len(paths) >= 18
    assert [each.label for each in found] == [spec.label_names[label] for label in outputs.logits.argmax(dim=1)]
    assert len({each.label for each in found}) == 2
    expected = outputs.logits.double().softmax(dim=1)
    for each, shares in zip(found, expected, strict=True):
        assert dict(each.top) == pytest.approx(dict(zip(spec.label_names, shares.tolist(), strict=True)), abs=1e-6)
        assert each.probability == max(share for _, share in each.top)
        assert each.margin == pytest.approx((shares[0] - shares[1]).abs().item(), abs=1e-6)
    export_onnx(model, tmp_path / "model.onnx", num_images=1)
    others = list(predict_images(tmp_path / "model.onnx", paths, batch_size=4))
    for each, other in zip(found, others, strict=True):
        assert (other.image, other.label) == (each.image, each.label)
        assert dict(other.top) == pytest.approx(dict(each.top), abs=1e-5)


def test_small_pictures_are_seen_as_their_run_saw_them(digits, tmp_path):
    model = make(8, digits.label_names)
    save_pretrained(tmp_path / "run", model)
    for row in range(20):
        stored = digits.test[row]["image"]
        (tmp_path / f"{row}.png").write_bytes(stored["bytes"])
    outputs = predict_split(model, ImagePipeline(digits).dataset("test"))
    found = list(predict_images(tmp_path / "run", f"{tmp_path}/*.png", top_k=1))
    assert [Path(each.image).stem for each in found] == [str(row) for row in range(20)]
    expected = [digits.label_names[label] for label in outputs.logits.argmax(dim=1)[:20]]
    assert [each.top[0][0] for each in found] == expected and {len(each.top) for each in found} == {1}


def test_files_that_cannot_be_read_come_with_an_error(tmp_path):
    picture(40, 30).save(tmp_path / "1.png")
    (tmp_path / "2.png").write_bytes((tmp_path / "1.png").read_bytes()[:60])
    (tmp_path / "3.png").write_text("<html></html>")
    picture(40, 30).save(tmp_path / "4.png")
    Image.fromarray(np.full((4, 4), 7, dtype=np.int32)).save(tmp_path / "5.tif")
    (tmp_path / "6.png").symlink_to(tmp_path / "gone.png")
    model = make().train()
    found = list(predict_images(model, tmp_path, batch_size=2))
    assert model.training and model.net.bn1.num_batches_tracked == 0
    assert [each.error is None for each in found] == [True, False, False, True, False, False]
    texts = ("2.png cannot be read", "a web page", "--pixel_range", "6.png cannot be")
    for each, text in zip(found[1:3] + found[4:], texts, strict=True):
        assert text in each.error and "\n" not in each.error and not each.readable
        assert (each.label, each.probability, each.margin, each.top) == (None, None, None, ())
    assert found[0].top == found[3].top
    deep = list(predict_images(model, tmp_path / "5.tif", pixel_range=(0, 10)))
    assert deep[0].error is None


def test_the_pixel_range_of_a_run_is_taken(tmp_path):
    save_pretrained(tmp_path / "run", make())
    Image.fromarray(np.full((4, 4), 7, dtype=np.int32)).save(tmp_path / "deep.tif")
    assert "--pixel_range" in next(predict_images(tmp_path / "run", tmp_path / "deep.tif")).error
    (tmp_path / "run" / "all_args.yaml").write_text("pixel_range: [0.0, 10.0]\n")
    taken = next(predict_images(tmp_path / "run", tmp_path / "deep.tif"))
    assert taken == next(predict_images(make(), tmp_path / "deep.tif", pixel_range=(0, 10)))


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_a_name_that_is_no_text_is_an_error_of_that_file(tmp_path):
    picture(4, 4).save(tmp_path / "1.png")
    os.rename(tmp_path / "1.png", os.fsencode(tmp_path) + b"/\xff.png")
    (found,) = predict_images(make(), tmp_path)
    assert found.image.endswith("\\udcff.png") and "not UTF-8; rename it" in found.error


def test_logits_that_are_not_finite_are_no_prediction(tmp_path):
    picture(4, 4).save(tmp_path / "1.png")
    model = make()
    torch.nn.init.constant_(model.net.fc.bias, torch.nan)
    (found,) = predict_images(model, tmp_path)
    assert found.label is None and "not finite" in found.error and found.readable


def test_ties_are_broken_as_argmax_does(tmp_path):
    picture(4, 4).save(tmp_path / "1.png")
    model = make()
    for parameter in model.net.fc.parameters():
        torch.nn.init.zeros_(parameter)
    (found,) = predict_images(model, tmp_path)
    assert [name for name, _ in found.top] == list(NAMES) and found.margin == 0


def test_only_a_few_batches_are_read_ahead(tmp_path, monkeypatch):
    for number in range(20):
        picture(4, 4).save(tmp_path / f"{number}.png")
    read = []
    monkeypatch.setattr("hf_icckd.prediction.predict.decode_image",
                        lambda stored, *_, **__: read.append(stored["path"]) or Image.new("RGB", (4, 4)))  # fmt: skip
    found = predict_images(make(), tmp_path, batch_size=2)
    assert not read
    next(found)
    assert len(read) <= 6
    found.close()
    assert len(read) <= 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_k": 0}, "top_k is 0, expected a number at least 1"),
        ({"top_k": 4}, "top_k is 4, expected at most 3, the number of classes"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"num_workers": 0}, "num_workers is 0"),
        ({"paths": []}, "no images are given"),
        ({"model": "no/where/at/all"}, "is not a folder here"),
        ({"model": "{here}/none.onnx"}, "none.onnx' is not a file here"),
        ({"model": "{here}/damaged.onnx"}, "damaged.onnx' can't be read by ONNX Runtime"),
        ({"model": "{here}/foreign.onnx"}, "foreign.onnx' has no label_names in its metadata, expected a file that"),
    ],
)
def test_errors_come_at_once(tmp_path, options, message):
    import onnx
    from onnx import TensorProto, helper

    picture(4, 4).save(tmp_path / "1.png")
    (tmp_path / "damaged.onnx").write_bytes(b"no")
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, tmp_path / "foreign.onnx")
    given = {"model": make(), "paths": tmp_path} | options
    if isinstance(given["model"], str):
        given["model"] = given["model"].format(here=tmp_path)
    with pytest.raises(ValueError, match=message):
        predict_images(**given)


def test_an_onnx_file_without_the_colour_of_its_borders_is_refused():
    said = {"image_size": "8", "crop_pct": "1.0", "interpolation": "bilinear", "crop_mode": "border"}
    with pytest.raises(ValueError, match=r"does not say which colour its borders have.*export the model again"):
        classifiers._framing(said, Path("old.onnx"))
    assert classifiers._framing(said | {"crop_mode": "center"}, Path("old.onnx")).size == 8
