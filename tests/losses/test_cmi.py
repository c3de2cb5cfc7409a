"""The term of conditional mutual information against an oracle, and its running means."""

from __future__ import annotations

import math

import pytest
import torch

from hf_icckd import CMI, TeacherBatch, create_classifier
from hf_icckd.losses import class_divergence, parse_terms


def attached():
    term = CMI()
    term.attach(create_classifier("cifar_resnet8", ["a", "b", "c"], image_size=8))
    return term.double()


def batch_of(logits, labels):
    ids = torch.arange(len(labels))
    return TeacherBatch(logits, None, torch.tensor(labels), ids, global_rows=len(labels))


def logits_of(seed, images=4):
    return torch.randn(images, 2, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_it_equals_the_oracle():
    term, means = attached(), {}
    for seed, labels in ((0, [0, 0, 1, 1]), (1, [1, 0, 0, 0]), (2, [2, 2, 1, 2])):
        logits = logits_of(seed)
        rows = {label: [] for label in labels}
        for image, label in zip(logits.softmax(2).tolist(), labels, strict=True):
            rows[label] += image
        for label, found in rows.items():
            fresh = [sum(column) / len(found) for column in zip(*found, strict=True)]
            old = means.get(label, fresh)
            means[label] = [0.9 * a + 0.1 * b for a, b in zip(old, fresh, strict=True)]
        expected = sum(
            sum(p * math.log(p / q) for p, q in zip(row, means[label], strict=True)) / 8
            for label, found in rows.items() for row in found
        )  # fmt: skip
        assert term(batch_of(logits, labels))["cmi"].item() == pytest.approx(-expected, abs=1e-12)
    for label, mean in means.items():
        assert term.means[label].tolist() == pytest.approx(mean)


def test_images_of_one_class_that_look_alike_cost_nothing():
    logits = logits_of(0, images=1).mean(1, keepdim=True).expand(4, 2, 3)
    assert attached()(batch_of(logits, [1] * 4))["cmi"].item() == pytest.approx(0, abs=1e-12)


def test_the_gradient_is_that_of_the_formula_and_drives_probabilities_apart():
    means = torch.tensor([[0.5, 0.3, 0.2]] * 4, dtype=torch.float64)
    logits = logits_of(0)[:, 0].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda own: class_divergence(own, means), logits)
    term = attached()
    batch = batch_of(logits_of(0), [0, 0, 1, 1])
    term(batch)
    moved = batch.logits.clone().requires_grad_()
    first = term(batch._replace(logits=moved))["cmi"]
    first.backward()
    state = {name: value.clone() for name, value in term.state_dict().items()}
    term.load_state_dict(state)
    assert term(batch._replace(logits=moved.detach() - moved.grad))["cmi"] < first


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_probabilities_of_zero_stay_finite(dtype):
    term = CMI()
    term.attach(create_classifier("cifar_resnet8", ["a", "b", "c"], image_size=8))
    logits = (200 * logits_of(0)).to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype != torch.float32):
        found = term(batch_of(logits, [0, 0, 1, 2]))["cmi"]
    found.backward()
    assert found.isfinite() and logits.grad.isfinite().all()


def test_it_may_begin_later_with_means_that_are_known_by_then():
    now, later = attached(), CMI(start=0.6)
    later.attach(create_classifier("cifar_resnet8", ["a", "b", "c"], image_size=8))
    later.double()
    for seed, progress in ((0, 0.0), (1, 0.5999), (2, 0.6)):
        batch = batch_of(logits_of(seed), [0, 0, 1, 1])._replace(progress=torch.tensor(progress))
        found, expected = (each(batch)["cmi"].item() for each in (later, now))
        assert found == (expected if progress >= 0.6 else 0) and expected < 0
    assert torch.equal(later.means, now.means)
    assert parse_terms(["cmi:start=0.6"]).scheduled == "CMI" and parse_terms(["cmi", "intra_class"]).scheduled is None
    assert CMI.describe({"weight": 0.3, "start": 0.6}).endswith("(CMI), after 60 % of the training")
    with pytest.raises(ValueError, match=r"cmi start is 1\.0, expected a share of the training"):
        parse_terms(["cmi:start=1.0"])


def test_it_is_a_term_of_the_command_line():
    assert parse_terms(["cmi:weight=0.3"]).term_weights == {"cmi": 0.3}
    assert CMI.describe({"weight": 0.3}) == "-0.3 x conditional mutual information (CMI)"
