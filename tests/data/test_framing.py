"""Any shape becomes a square, to the pixel as timm does it, and small images keep their sides."""

from __future__ import annotations

import json

import numpy as np
import PIL.Image
import pytest
import timm
import torch
from transformers import AutoImageProcessor

from hf_icckd import (
    ImageData,
    ImagePipeline,
    create_classifier,
    evaluate,
    from_pretrained,
    save_pretrained,
    student,
    teacher,
)
from hf_icckd.data.framing import Framing, border_colour, evaluation_framing
from hf_icckd.data.images import resize_and_crop
from tests.data.test_pipeline import batch_of, data_of, encoded, noise, split_of

MEAN, STD = (0.2, 0.5, 0.71), (0.25, 0.3, 0.2)
WIDE = [noise(20 + seed, 10, seed) for seed in range(8)]


def theirs(image: PIL.Image.Image, size: int, crop_pct: float, mode: str, interpolation: str = "bilinear"):
    transform = timm.data.create_transform(
        size, crop_pct=crop_pct, crop_mode=mode, interpolation=interpolation, mean=MEAN, normalize=False
    )
    return transform(image).permute(1, 2, 0).numpy()


@pytest.mark.parametrize("shape", [(50, 37), (37, 50), (13, 90), (31, 28), (28, 31), (16, 16), (224, 224)])
@pytest.mark.parametrize(("size", "crop_pct"), [(32, 1.0), (32, 0.9), (31, 1.0), (33, 0.5), (224, 1.0)])
@pytest.mark.parametrize("mode", ["center", "border", "squash"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_every_mode_is_timms(shape, size, crop_pct, mode, interpolation):
    image = noise(*shape)
    framed = Framing(size, crop_pct, interpolation, mode, border_colour(MEAN))(image)
    assert np.array_equal(framed, theirs(image, size, crop_pct, mode, interpolation))


@pytest.mark.parametrize("size", [8, 16, 20])
def test_square_images_have_the_same_bits_in_every_mode(size):
    image = noise(16, 16)
    framed = [np.asarray(resize_and_crop(image, size, 1.0, mode=mode)) for mode in ("center", "border", "squash")]
    assert np.array_equal(framed[0], framed[1]) and np.array_equal(framed[0], framed[2])


def test_small_images_that_are_not_square_keep_their_sides():
    pipeline = ImagePipeline(data_of(WIDE))
    assert (pipeline.crop_mode, pipeline.image_size) == ("border", 23)
    colour = border_colour(pipeline.channel_statistics()[0])
    for row, pixels in enumerate(pipeline.dataset("train").images.permute(0, 2, 3, 1).numpy()):
        image = WIDE[row]
        scaled = image.resize((23, round(23 * 10 / image.width)), PIL.Image.Resampling.BILINEAR)
        top = (23 - scaled.height) // 2
        assert np.array_equal(pixels[top : top + scaled.height], np.asarray(scaled))
        assert (pixels[:top] == colour).all() and (pixels[top + scaled.height :] == colour).all()


def test_small_square_images_and_large_ones_are_cut_as_before():
    assert ImagePipeline(data_of([noise(16, 16, seed) for seed in range(4)])).crop_mode == "center"
    assert ImagePipeline(data_of([noise(120, 100, seed) for seed in range(4)])).crop_mode == "center"


def test_borders_are_not_part_of_the_statistics():
    grey = [PIL.Image.fromarray(np.full((5, 20, 3), value, np.uint8)) for value in (60, 100, 140, 180)]
    mean, std = ImagePipeline(data_of(grey)).channel_statistics()
    assert mean == (round(120 / 255, 4),) * 3
    assert std == (round(float(np.std([60, 100, 140, 180])) / 255, 4),) * 3


def test_a_model_decides_and_its_mean_is_the_colour():
    data = data_of(WIDE)
    assert ImagePipeline(data, crop_mode="center").dataset("train").images.shape[-1] == 23
    framing = ImagePipeline(data, crop_mode="border", mean=MEAN).framing
    assert (framing.mode, framing.fill) == ("border", (51, 128, 181))
    with pytest.raises(ValueError, match="crop_mode is 'whole', expected one of center, border, squash, or None"):
        ImagePipeline(data, crop_mode="whole")


def test_both_ways_and_streams_pad_alike():
    data = data_of(WIDE)
    kept = ImagePipeline(data)
    decoded = ImagePipeline(data, resident_max_bytes=0)
    assert kept.resident and not decoded.resident
    for training in (False, True):
        ours, others = (batch_of(each, [0, 3, 5], training=training)["pixel_values"] for each in (kept, decoded))
        assert torch.equal(ours, others)


@pytest.mark.parametrize("mode", ["center", "border"])
def test_stock_timm_and_transformers_see_the_pixels_of_training(tmp_path, mode):
    data = data_of(WIDE)
    pipeline = ImagePipeline(data, crop_mode=mode, mean=MEAN)
    model = create_classifier(
        "cifar_resnet8", ["a", "b"], image_size=pipeline.image_size, mean=MEAN, std=STD, crop_pct=pipeline.crop_pct,
        crop_mode=pipeline.crop_mode, interpolation=pipeline.interpolation,
    )  # fmt: skip
    save_pretrained(tmp_path, model)
    assert json.loads((tmp_path / "config.json").read_text())["pretrained_cfg"]["crop_mode"] == mode
    assert from_pretrained(tmp_path).spec == model.spec
    framing = evaluation_framing(model.spec)
    assert np.array_equal(framing(WIDE[0]), pipeline.framing(WIDE[0]))
    net = timm.create_model(f"local-dir:{tmp_path}", pretrained=True)
    transform = timm.data.create_transform(**timm.data.resolve_data_config({}, model=net))
    processor = AutoImageProcessor.from_pretrained(tmp_path)
    batch = pipeline.dataset("train").images[:4]
    for row in range(4):
        expected = model.preprocess(batch[row : row + 1])
        torch.testing.assert_close(transform(WIDE[row])[None], expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(processor(WIDE[row])["pixel_values"], expected, rtol=0, atol=1e-5)


def test_choices_that_are_recorded_only_where_they_are_made():
    assert ImagePipeline(data_of([noise(16, 16, seed) for seed in range(4)])).uncommon_choices() == {}
    large = data_of([noise(120, 100, seed) for seed in range(4)])
    assert ImagePipeline(large, decoding="whole").uncommon_choices() == {}
    assert ImagePipeline(large, None).uncommon_choices() == {}
    assert ImagePipeline(large).uncommon_choices() == {"decoding": "scaled, torchvision"}
    fill = border_colour(MEAN)
    assert ImagePipeline(data_of(WIDE), mean=MEAN).uncommon_choices() == {"crop_mode": "border", "fill": fill}
    deep = [PIL.Image.fromarray(np.full((16, 16), 65535, np.uint16))] * 4
    assert list(ImagePipeline(data_of(deep)).uncommon_choices()) == ["deep"]


def test_a_probe_that_finds_no_readable_header_is_no_reason_for_borders():
    split = split_of([b"x", encoded(noise(16, 16)), b"y", encoded(noise(16, 16, 1))])
    assert ImagePipeline(ImageData("test", ["a", "b"], split, split)).crop_mode == "center"


def test_student_and_evaluation_frame_images_as_the_teacher_does(tmp_path):
    for split, label in [(split, label) for split in ("train", "test") for label in ("cat", "dog")]:
        folder = tmp_path / "images" / split / label
        folder.mkdir(parents=True)
        for number in range(6):
            noise(12, 9, number + 50 * (label == "dog")).save(folder / f"{number}.png")
    common = ["--dataset", f"{tmp_path}/images", "--model", "cifar_resnet8", "--max_steps", "2", "--use_cpu", "true",
              "--num_threads", "1", "--save_strategy", "no", "--disable_tqdm", "true"]  # fmt: skip
    teacher.main([*common, "--output_dir", f"{tmp_path}/teacher"])
    assert from_pretrained(tmp_path / "teacher").spec.crop_mode == "border"
    config = json.loads((tmp_path / "teacher" / "config.json").read_text())
    for mode in ("border", "center"):  # as an older version wrote it
        config["pretrained_cfg"]["crop_mode"] = mode
        (tmp_path / "teacher" / "config.json").write_text(json.dumps(config))
        run = tmp_path / f"student-{mode}"
        accepted = ["--allow_leakage", "true"]  # the test images are those of training
        student.main(
            [
                *common,
                *accepted,
                "--accept_teacher",
                "true",
                "--teacher",
                f"{tmp_path}/teacher",
                "--output_dir",
                str(run),
            ]
        )
        assert from_pretrained(run).spec.crop_mode == mode
        evaluate.main(
            ["--model", str(run), "--dataset", f"{tmp_path}/images", "--output_file", f"{run}/again.json", *accepted]
        )
        again, first = (json.loads((run / name).read_text())["test"] for name in ("again.json", "metrics.json"))
        assert again["nll"] == pytest.approx(first["nll"], abs=1e-6)
