"""The intra-class loss against an oracle of plain loops, its gradient, and its edges."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from hf_icckd import ClassEmbeddingCache, IntraClassContrastiveLoss, intra_class_contrastive_loss, margin_gate


def make_batch(n=9, classes=3, dim=5, seed=0, dtype=torch.float64, device="cpu"):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(n, 2, classes, generator=generator, dtype=torch.float64)
    embeddings = torch.randn(n, 2, dim, generator=generator, dtype=torch.float64)
    labels = torch.randint(classes, (n,), generator=generator)
    ids = torch.randperm(100, generator=generator)[:n]
    return logits.to(device, dtype), embeddings.to(device, dtype), labels.to(device), ids.to(device)


def oracle(logits, embeddings, labels, ids, cache_rows, margin, temperature, gate, in_batch):
    """The definition, word for word: for every view of every image its own sum. `cache_rows`: (class, id, vector)."""
    unit = F.normalize(embeddings, dim=2)
    total, gated = 0.0, 0
    for i in range(len(labels)):
        for view in range(2):
            p = logits[i, view].softmax(0)
            others = [p[c].item() for c in range(len(p)) if c != labels[i]]
            open_gate = not gate or p[labels[i]].item() - max(others, default=0.0) > margin
            gated += open_gate
            if not open_gate:
                continue
            anchor = unit[i, view]
            positive = math.exp((anchor @ unit[i, 1 - view]).item() / temperature)
            negatives = 0.0
            for row_class, row_id, vector in cache_rows:
                if row_class == labels[i] and row_id != ids[i]:
                    negatives += math.exp((anchor @ vector).item() / temperature)
            if in_batch:
                for j in range(len(labels)):
                    if labels[j] == labels[i] and ids[j] != ids[i]:
                        for other_view in range(2):
                            negatives += math.exp((anchor @ unit[j, other_view]).item() / temperature)
            total -= math.log(positive / (positive + negatives))
    return total / (2 * len(labels)), gated / (2 * len(labels))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("gate", [True, False])
@pytest.mark.parametrize(("rows", "in_batch"), [(0, True), (4, True), (4, False), (50, True)])
def test_equals_the_oracle(seed, gate, rows, in_batch, device):
    n, classes, dim = 3 + 2 * seed, 2 + seed % 4, 3 + seed
    margin, temperature = 0.3 * (seed % 3) - 0.2, 0.1 + 0.2 * seed
    batch = make_batch(n, classes, dim, seed, device=device)
    cached, cache_rows = None, []
    if rows:
        cache = ClassEmbeddingCache(classes, rows, dim, torch.float64).to(device)
        # Ids overlap with those of the batch, so that excluding an image's own rows matters.
        for step in range(2):
            _, old, old_labels, _ = make_batch(n, classes, dim, 100 + seed + step, device=device)
            cache.update(old, old_labels, batch[3].roll(step))
        cached = cache.lookup(batch[2])
        cache_rows = [
            (c, cache.sample_ids[c, k].item(), cache.embeddings[c, k])
            for c in range(classes)
            for k in range(int(cache.fill_counts[c]))
        ]
        assert cache_rows
    loss, gated = oracle(*batch, cache_rows, margin, temperature, gate, in_batch)
    criterion = IntraClassContrastiveLoss(margin, temperature, gate, in_batch)
    terms = criterion(*batch, cached)
    assert terms["intra_class"].item() == pytest.approx(loss, abs=1e-12)
    assert terms["gated_fraction"].item() == pytest.approx(gated, abs=1e-12)
    narrow = criterion(batch[0].float(), batch[1].float(), *batch[2:], cached)
    assert narrow["intra_class"].dtype == torch.float32
    assert narrow["intra_class"].item() == pytest.approx(loss, abs=1e-5)


def test_gradient_is_that_of_the_formula():
    logits, embeddings, labels, ids = make_batch(6, 2, 4)
    cache = ClassEmbeddingCache(2, 3, 4, torch.float64)
    cache.update(*make_batch(6, 2, 4, seed=1)[1:])
    criterion = IntraClassContrastiveLoss(margin=-0.5, temperature=0.5, in_batch_negatives=False)
    embeddings.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda e: criterion(logits, e, labels, ids, cache.lookup(labels))["intra_class"], embeddings
    )


def test_in_batch_negatives_are_detached():
    logits, embeddings, labels, ids = make_batch(4, 2, 4)
    labels = torch.zeros_like(labels)
    embeddings.requires_grad_()
    own = IntraClassContrastiveLoss(gate=False)(logits, embeddings, labels, ids)["intra_class"]
    given = IntraClassContrastiveLoss(gate=False)(
        logits, embeddings, labels, ids, None, embeddings.detach().clone(), labels, ids
    )["intra_class"]
    assert torch.equal(*(torch.autograd.grad(loss, embeddings)[0] for loss in (own, given)))


def test_gate_is_the_margin_of_probabilities():
    logits = torch.log(torch.tensor([[0.6, 0.4], [0.6, 0.4], [0.7, 0.3], [0.3, 0.7]]))
    labels = torch.tensor([0, 1, 0, 0])
    assert margin_gate(logits, labels, 0.25).tolist() == [False, False, True, False]
    assert margin_gate(logits, labels, -0.25).tolist() == [True, True, True, False]
    assert margin_gate(torch.zeros(2, 1), torch.zeros(2, dtype=torch.long), 0.5).tolist() == [True, True]


def assert_zero_with_graph(loss, embeddings):
    assert loss.item() == 0
    (gradient,) = torch.autograd.grad(loss, embeddings)
    assert torch.equal(gradient, torch.zeros_like(gradient))


@pytest.mark.parametrize("case", ["no negative yet", "all gated off", "no candidates", "empty cache"])
def test_nothing_to_contrast_is_zero_with_a_graph(case, device):
    logits, embeddings, labels, ids = make_batch(4, 8, 3, device=device)
    labels = torch.arange(4, device=device)
    options, cached = {"gate": False}, None
    if case == "all gated off":
        labels, options = torch.zeros_like(labels), {"margin": 1.0}
    if case == "no candidates":
        options["in_batch_negatives"] = False
    if case == "empty cache":
        cached = ClassEmbeddingCache(8, 4, 3).to(device).lookup(labels)
    embeddings.requires_grad_()
    terms = IntraClassContrastiveLoss(**options)(logits, embeddings, labels, ids, cached)
    assert_zero_with_graph(terms["intra_class"], embeddings)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("case", ["one class", "duplicates", "zero vectors", "huge vectors", "one image"])
def test_hard_inputs_stay_finite(case, dtype, device):
    logits, embeddings, labels, ids = make_batch(6, 4, 5, dtype=torch.float32, device=device)
    labels = torch.zeros_like(labels)
    if case == "one class":
        logits = logits[..., :1]
    if case == "duplicates":
        embeddings = embeddings[:1].expand_as(embeddings).clone()
    if case == "zero vectors":
        embeddings = torch.zeros_like(embeddings)
    if case == "huge vectors":
        embeddings, logits = embeddings * 1e4, logits * 1e3
    if case == "one image":
        logits, embeddings, labels, ids = (tensor[:1] for tensor in (logits, embeddings, labels, ids))
    leaf = embeddings.to(dtype).requires_grad_()
    cache = ClassEmbeddingCache(4, 2, 5).to(device)
    cache.update(embeddings, labels, ids + 100)
    enabled = dtype != torch.float32
    with torch.autocast(device, dtype=dtype if enabled else torch.bfloat16, enabled=enabled):
        terms = IntraClassContrastiveLoss(gate=False)(logits.to(dtype), leaf, labels, ids, cache.lookup(labels))
    assert terms["intra_class"].dtype == torch.float32
    terms["intra_class"].backward()
    assert torch.isfinite(terms["intra_class"]) and torch.isfinite(leaf.grad).all()


def test_autocast_does_not_lower_the_precision():
    batch = make_batch(16, 2, 64, dtype=torch.float32)
    criterion = IntraClassContrastiveLoss()
    outside = criterion(*batch)["intra_class"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(criterion(*batch)["intra_class"], outside)


def test_does_not_depend_on_the_order_of_images():
    logits, embeddings, labels, ids = make_batch(12, 2, 4)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    criterion = IntraClassContrastiveLoss(gate=False)
    losses = [
        criterion(*batch)["intra_class"].item()
        for batch in ((logits, embeddings, labels, ids), (logits[order], embeddings[order], labels[order], ids[order]))
    ]
    assert losses[0] == pytest.approx(losses[1], abs=1e-12)


def test_wrong_inputs_are_explained():
    with pytest.raises(ValueError, match=r"margin is 2.0, expected .* between -1 and 1"):
        IntraClassContrastiveLoss(margin=2.0)
    with pytest.raises(ValueError, match="temperature is 0, expected a number above 0"):
        IntraClassContrastiveLoss(temperature=0)
    with pytest.raises(ValueError, match="two views of every image"):
        IntraClassContrastiveLoss()(torch.zeros(4, 1, 3), torch.zeros(4, 1, 2), torch.zeros(4), torch.zeros(4))
    with pytest.raises(ValueError, match=r"expected \(N,\), \(N, M\), \(N, M\), \(N,\)"):
        intra_class_contrastive_loss(torch.zeros(2), torch.zeros(3, 1), torch.zeros(3, 1) > 0, torch.ones(2), 0.1)
