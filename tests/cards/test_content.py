"""Content of a card is a function of outputs and run."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml

from hf_icckd.cards.content import (
    FinishedRun,
    card_content,
    describe_outputs,
    embedding_plane,
    principal_plane,
    shown_images,
    soft_label_series,
)
from hf_icckd.data.images import read_image
from hf_icckd.data.report import data_report, published_report
from hf_icckd.evaluation.split import SplitOutputs


def outputs(count: int, classes: int, seed: int) -> SplitOutputs:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (count,), generator=generator)
    labels[:200] = 700 % classes
    return SplitOutputs(
        torch.randn(count, classes, generator=generator), torch.randn(count, 16, generator=generator), labels
    )


def test_a_thousand_classes():
    names = [f"class {index}" for index in range(1000)]
    data = SimpleNamespace(label_names=names, streamed=False)
    model, guide = outputs(5000, 1000, seed=0), outputs(5000, 1000, seed=1)
    guide = guide._replace(labels=model.labels, logits=guide.logits + 3 * model.logits)
    plane = embedding_plane(guide, names)
    assert len(plane.names) == 10 and 700 in plane.names
    assert len(plane.points) == len(plane.labels) <= 1500
    assert (plane.labels == 700).sum() >= 200
    content = describe_outputs(data, model, guide, plane)
    assert content["embedding_map"]["of"] == "teacher" and content["embedding_map"]["images"] == len(plane.points)
    assert len(json.dumps(content)) < 20_000
    series = soft_label_series(content)
    assert all(len(row) == 5 for rows in series.values() for row in rows)
    assert len(content["soft_labels"]["images"][0]["model"]) == 20
    # A control whose teacher taught by its embeddings has nothing to show beside a teacher with classes.
    control = describe_outputs(data, model, None, plane)["soft_labels"]
    assert list(soft_label_series(content | {"control": {"soft_labels": control}})) == list(series)


def test_images_beside_the_bars_are_those_that_were_judged(digits, pipeline):
    labels = torch.from_numpy(digits.labels("test"))
    content = describe_outputs(digits, SplitOutputs(torch.zeros(80, 10), torch.eye(80), labels))
    shown = content["soft_labels"]["images"]
    assert [each["label"] for each in shown] == ["0", "4", "9"]
    for each, image in zip(shown, shown_images(pipeline, content), strict=True):
        assert digits.label_names[digits.test[each["row"]]["label"]] == each["label"]
        expected = torch.tensor(list(read_image(digits.test, each["row"]).getdata())).view(8, 8, 3)
        assert image.tolist() == expected.tolist()


def test_content_of_a_run(digits, tiny_classifier, tmp_path):
    """It follows from outputs and run alone: the same twice, and ready to be written as JSON."""
    pushed = tmp_path / "start"
    pushed.mkdir()
    method = {"recipe": "teacher", "model": "cifar_resnet8", "seed": 4}
    (pushed / "all_args.yaml").write_text(
        yaml.safe_dump(method | {"push_to_hub": True, "hub_model_id": "me/start", "learning_rate": 0.1})
    )
    log = [{"epoch": step / 10, "step": step, "loss": 1 / step, "images_per_second": 9.0} for step in range(1, 1001)]
    run = FinishedRun(
        values={"model": "cifar_resnet8", "pretrained": False, "start_from": str(pushed)},
        changed={"seed": 1},
        spec=tiny_classifier().spec,
        log=[*log, {"epoch": 100.0, "eval_top1": 50.0}],
        teacher={"architecture": "cifar_resnet20", "hub_id": "me/teacher", "method": None, "cost": {}},
        control={"name": "control"},
    )
    labels = torch.from_numpy(digits.labels("test"))
    own = SplitOutputs(torch.randn(80, 10), torch.randn(80, 16), labels)
    plane = embedding_plane(own, digits.label_names)
    content = card_content(run, digits, own, own, plane)
    assert content == card_content(run, digits, own, own, plane) == json.loads(json.dumps(content))
    assert content["model"]["base_models"] == ["me/teacher", "me/start"]
    assert content["data"]["images"] == {"train": 160, "test": 80} and content["data"]["name"] == "digits"
    steps = [row["step"] for row in content["losses"]]
    assert len(steps) == 200 and (steps[0], steps[-1]) == (1, 1000) and sorted(set(steps)) == steps
    assert content["start"] == {"method": method}
    assert (content["options"], content["control"], content["teacher"]) == (run.changed, run.control, run.teacher)
    assert content["embedding_map"]["coloured_classes"] == 10
    assert "report" not in content["data"]
    report = data_report(digits)
    assert card_content(run, digits, own, report=report)["data"]["report"] == published_report(report)
    alone = FinishedRun(run.values | {"start_from": None}, {}, run.spec, log=[])
    content = card_content(alone, digits, own)
    assert content["losses"] == content["model"]["base_models"] == []
    assert not {"start", "teacher", "control", "embedding_map"} & content.keys()


@pytest.mark.parametrize(("images", "dimensions"), [(1, 16), (80, 1)])
def test_there_is_no_map_of_one_image_or_dimension(images, dimensions):
    labels = torch.zeros(images, dtype=torch.long)
    assert embedding_plane(SplitOutputs(torch.zeros(images, 2), torch.randn(images, dimensions), labels), "ab") is None


def test_principal_plane_holds_the_largest_variance():
    generator = np.random.default_rng(0)
    embeddings = generator.normal(size=(60, 2)) @ np.array([[3.0, 0, 0, 0], [0, 0, 2.0, 0]]) + 7
    embeddings = embeddings + 0.1 * generator.normal(size=embeddings.shape)
    points, shares = principal_plane(embeddings)
    values, vectors = np.linalg.eigh(np.cov(embeddings.T))
    np.testing.assert_allclose(shares, values[:-3:-1] / values.sum(), rtol=1e-10)
    expected = (embeddings - embeddings.mean(axis=0)) @ vectors[:, :-3:-1]
    np.testing.assert_allclose(np.abs(points), np.abs(expected), atol=1e-10)
    # Neither a shift nor the sign of a decomposition matters, and float32 is enough.
    again, _ = principal_plane((embeddings - 3).astype(np.float32))
    np.testing.assert_allclose(again, points, atol=1e-4)


def test_a_plane_of_equal_embeddings_is_a_point():
    points, shares = principal_plane(np.ones((4, 3)))
    assert np.array_equal(points, np.zeros((4, 2))) and np.array_equal(shares, np.zeros(2))
