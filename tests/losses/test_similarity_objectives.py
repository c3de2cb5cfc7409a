"""PKT, SP and CC against oracles written from the papers."""

from __future__ import annotations

import math

import pytest
import torch

from hf_icckd import CC, PKT, SP
from hf_icckd.losses import correlation_congruence_loss, probabilistic_transfer_loss, similarity_preserving_loss
from tests.losses.test_objectives import make_batch

LOSSES = (probabilistic_transfer_loss, similarity_preserving_loss, correlation_congruence_loss)


def neighbours(x):
    """Equation 7 of arXiv 1803.10837 with the cosine kernel."""
    rows = []
    for a in x:
        likeness = [(1 + (a @ b / (a.norm() * b.norm())).item()) / 2 for b in x]
        rows.append([each / sum(likeness) for each in likeness])
    return rows


def test_pkt_equals_the_oracle(device):
    batch = make_batch(device=device)
    n, e = len(batch.labels), 1e-7
    own, given = neighbours(batch.student.embeddings), neighbours(batch.teacher.embeddings)
    pairs = [(i, j) for i in range(n) for j in range(n)]
    expected = sum(given[i][j] * math.log((given[i][j] + e) / (own[i][j] + e)) for i, j in pairs) / n**2
    assert PKT()(batch)["pkt"].item() == pytest.approx(expected, abs=1e-14)


def test_sp_equals_the_oracle(device):
    batch = make_batch(device=device)
    n = len(batch.labels)

    def rows(x):
        inner = [[(a @ b).item() for b in x] for a in x]
        return [[value / math.sqrt(sum(each**2 for each in row)) for value in row] for row in inner]

    own, given = rows(batch.student.embeddings), rows(batch.teacher.embeddings)
    expected = sum((own[i][j] - given[i][j]) ** 2 for i in range(n) for j in range(n)) / n**2
    assert SP()(batch)["sp"].item() == pytest.approx(expected, abs=1e-14)


def test_cc_equals_the_oracle(device):
    """The series of equation 8 of arXiv 1904.01802, which is close to the Gaussian it stands for."""
    batch = make_batch(device=device)
    n, gamma = len(batch.labels), 0.4

    def kernel(a, b):
        cosine = (a @ b / (a.norm() * b.norm())).item()
        series = sum((2 * gamma * cosine) ** p / math.factorial(p) for p in range(3)) * math.exp(-2 * gamma)
        assert series == pytest.approx(math.exp(-gamma * (2 - 2 * cosine)), abs=0.06)
        return series

    pairs = [(i, j) for i in range(n) for j in range(n)]
    own, given = batch.student.embeddings, batch.teacher.embeddings
    expected = sum((kernel(own[i], own[j]) - kernel(given[i], given[j])) ** 2 for i, j in pairs) / n**2
    assert CC()(batch)["cc"].item() == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize("loss", LOSSES)
def test_they_do_not_see_scale_or_rotation(loss):
    batch = make_batch()
    rotation = torch.linalg.qr(torch.randn(7, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))[0]
    moved = 3 * batch.teacher.embeddings @ rotation
    assert loss(moved, batch.teacher.embeddings).item() == pytest.approx(0, abs=1e-14)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    student, teacher = batch.student.embeddings, batch.teacher.embeddings
    torch.testing.assert_close(loss(student[order], teacher[order]), loss(student, teacher))


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_are_those_of_the_formulas(loss):
    batch = make_batch(n=4)
    student = batch.student.embeddings.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda s: loss(s, batch.teacher.embeddings), student)
