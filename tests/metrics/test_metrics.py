"""Every metric against a naive float64 loop, known values, and the inputs that usually break such code."""

import math

import numpy as np
import pytest
import torch

from hf_icckd import metrics
from hf_icckd.metrics import classification_metrics
from hf_icckd.metrics.kernels import calibration_error, is_correct

# --- oracles: plain loops over samples and classes -----------------------------------------------------------------


def softmax(row, temperature=1.0):
    weights = np.exp((row - row.max()) / temperature)
    return weights / weights.sum()


def entropy(p):
    return -sum(value * math.log(value) for value in p if value > 0)


def naive_accuracy(logits, labels, k=1):
    return np.mean([sum(row >= row[label]) <= k for row, label in zip(logits, labels, strict=True)])


def naive_macro_f1(logits, labels):
    predicted = logits.argmax(axis=1)
    values = []
    for c in np.union1d(labels, predicted):
        correct = ((labels == c) & (predicted == c)).sum()
        precision, recall = correct / max((predicted == c).sum(), 1), correct / max((labels == c).sum(), 1)
        values.append(2 * precision * recall / (precision + recall) if correct else 0)
    return np.mean(values)


def naive_ece(logits, labels, num_bins=15):
    total = 0.0
    confidences = np.array([softmax(row).max() for row in logits])
    correct = np.array([row.argmax() == label for row, label in zip(logits, labels, strict=True)])
    for b in range(num_bins):
        inside = (confidences > b / num_bins) & (confidences <= (b + 1) / num_bins)
        if inside.any():
            total += inside.mean() * abs(correct[inside].mean() - confidences[inside].mean())
    return total


def unit(x):
    length = np.linalg.norm(x)
    return x / length if length else x


def class_directions(embeddings, labels):
    return {c: unit(np.mean([unit(x) for x in embeddings[labels == c]], axis=0)) for c in np.unique(labels)}


def naive_intra(embeddings, labels):
    directions = class_directions(embeddings, labels)
    return np.mean([np.mean([1 - unit(x) @ d for x in embeddings[labels == c]]) for c, d in directions.items()])


def naive_inter(embeddings, labels):
    directions = list(class_directions(embeddings, labels).values())
    pairs = [1 - a @ b for i, a in enumerate(directions) for b in directions[:i]]
    return np.mean(pairs)


def naive_nc1(embeddings, labels):
    classes = np.unique(labels)
    means = {c: embeddings[labels == c].mean(axis=0) for c in classes}
    centre = np.mean(list(means.values()), axis=0)
    within = np.mean([np.outer(x - means[c], x - means[c]) for x, c in zip(embeddings, labels, strict=True)], axis=0)
    between = np.mean([np.outer(m - centre, m - centre) for m in means.values()], axis=0)
    return np.trace(within @ np.linalg.pinv(between, rcond=1e-10)) / len(classes)


def naive_effective_rank(embeddings, labels):
    ranks = []
    for c in np.unique(labels):
        members = embeddings[labels == c]
        if len(members) > 1:
            s = np.linalg.svd(members - members.mean(axis=0), compute_uv=False)
            ranks.append(math.exp(entropy(s / s.sum())))
    return np.mean(ranks)


def naive_unread(embeddings, labels, weight, power=0):
    """By projecting on the eigenvectors of W'W: those that are not 0 are read, graded with their eigenvalues."""
    values, axes = np.linalg.eigh((weight - weight.mean(axis=0)).T @ (weight - weight.mean(axis=0)))
    gain = np.where(values > 1e-12 * values.max(), (values / values.max()) ** power, 0)
    unread = total = 0.0
    for c in np.unique(labels):
        for x in embeddings[labels == c] - embeddings[labels == c].mean(axis=0):
            unread += ((1 - gain) * (axes.T @ x) ** 2).sum()
            total += x @ x
    return unread / total


def naive_information(logits, labels, temperature=1.0):
    values = []
    for c in np.unique(labels):
        p = [softmax(row, temperature) for row in logits[labels == c]]
        values.append(entropy(np.mean(p, axis=0)) - np.mean([entropy(row) for row in p]))
    return np.mean(values)


def naive_non_target_entropy(logits, labels, temperature=1.0):
    return np.mean([entropy(softmax(np.delete(r, y), temperature)) for r, y in zip(logits, labels, strict=True)])


def naive_kl(student, teacher, temperature=1.0):
    values = []
    for s, t in zip(student, teacher, strict=True):
        p, q = softmax(t, temperature), softmax(s, temperature)
        values.append(sum(p * (np.log(p) - np.log(q))))
    return np.mean(values)


# --- data ----------------------------------------------------------------------------------------------------------


def make_data(num_samples=120, num_classes=7, dim=5, seed=0):
    """Imbalanced float64 data with structure; class 3 absent (if there is one), class 1 with a single sample."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(num_classes, (num_samples,), generator=generator)
    labels = torch.where((labels == 3) | (labels == 1), 0, labels)
    labels[7] = 1
    embeddings = torch.randn(num_classes, dim, generator=generator, dtype=torch.float64)[labels]
    embeddings = embeddings + 0.5 * torch.randn(num_samples, dim, generator=generator, dtype=torch.float64)
    logits = 2 * torch.randn(num_samples, num_classes, generator=generator, dtype=torch.float64)
    logits[torch.arange(num_samples), labels] += 2
    return logits, embeddings, labels


GEOMETRY = {
    metrics.intra_class_distance: naive_intra,
    metrics.inter_class_distance: naive_inter,
    metrics.distance_ratio: lambda e, y: naive_intra(e, y) / naive_inter(e, y),
    metrics.nc1: naive_nc1,
    metrics.effective_rank: naive_effective_rank,
}
ON_LOGITS = {
    metrics.soft_label_information: naive_information,
    metrics.non_target_entropy: naive_non_target_entropy,
}
SIZES = [(120, 7, 5), (40, 2, 3), (60, 12, 30), (300, 40, 8)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("metric", GEOMETRY, ids=lambda f: f.__name__)
def test_geometry_equals_the_naive_loop(metric, size):
    _, embeddings, labels = make_data(*size)
    expected = GEOMETRY[metric](embeddings.numpy(), labels.numpy())
    assert metric(embeddings, labels, size[1]).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("metric", ON_LOGITS, ids=lambda f: f.__name__)
def test_metrics_of_logits_equal_the_naive_loop(metric, size):
    logits, _, labels = make_data(*size)
    expected = ON_LOGITS[metric](logits.numpy(), labels.numpy())
    assert metric(logits, labels).item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("size", SIZES)
def test_classification_metrics_equal_the_naive_loops(size):
    logits, _, labels = make_data(*size)
    z, y = logits.numpy(), labels.numpy()
    expected = {
        "top1": 100 * naive_accuracy(z, y),
        "top5": 100 * naive_accuracy(z, y, min(5, size[1])),
        "balanced_accuracy": 100 * np.mean([naive_accuracy(z[y == c], y[y == c]) for c in np.unique(y)]),
        "macro_f1": 100 * naive_macro_f1(z, y),
        "lowest_recall": 100 * min(naive_accuracy(z[y == c], y[y == c]) for c in np.unique(y)),
        "nll": np.mean([-math.log(softmax(row)[label]) for row, label in zip(z, y, strict=True)]),
        "ece": naive_ece(z, y),
    }
    assert metrics.classification_metrics(logits, labels) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("temperature", [0.3, 4.0])
def test_temperature_enters_every_soft_label_metric(temperature):
    logits, _, labels = make_data()
    other = make_data(seed=1)[0]
    z, y = logits.numpy(), labels.numpy()
    expected = {
        metrics.soft_label_information(logits, labels, temperature): naive_information(z, y, temperature),
        metrics.non_target_entropy(logits, labels, temperature): naive_non_target_entropy(z, y, temperature),
        metrics.mean_entropy(logits, temperature): np.mean([entropy(softmax(row, temperature)) for row in z]),
        metrics.kl_divergence(other, logits, temperature): naive_kl(other.numpy(), z, temperature),
    }
    for value, oracle in expected.items():
        assert value.item() == pytest.approx(oracle, rel=1e-9)


def test_information_is_the_same_in_one_chunk_or_many(monkeypatch):
    logits, _, labels = make_data()
    whole = metrics.soft_label_information(logits, labels)
    monkeypatch.setattr(metrics.soft_labels, "ROWS_PER_CHUNK", 7)
    assert metrics.soft_label_information(logits, labels).item() == pytest.approx(whole.item(), rel=1e-12)


# --- known values --------------------------------------------------------------------------------------------------


def test_a_perfect_classifier():
    labels = torch.arange(10).repeat(3)
    found = metrics.classification_metrics(1000.0 * torch.eye(10)[labels], labels)
    perfect = dict.fromkeys(("top1", "top5", "balanced_accuracy", "macro_f1", "lowest_recall"), 100.0)
    assert found == pytest.approx(perfect | {"nll": 0.0, "ece": 0.0})


def test_a_split_in_parts_has_the_metrics_of_the_whole():
    generator = torch.Generator().manual_seed(0)
    logits, teacher = torch.randn(2, 50, 7, generator=generator)
    labels = torch.randint(7, (50,), generator=generator)
    expected = metrics.classification_metrics(logits, labels)
    parts = [
        metrics.sample_metrics(logits[rows], labels[rows], teacher[rows])
        for rows in torch.arange(50).split([0, 13, 37])
    ]
    found = metrics.mean_metrics(torch.cat(parts))
    assert found == pytest.approx(expected | metrics.agreement_metrics(logits, teacher), rel=1e-12)


def test_uniform_logits():
    labels = torch.arange(10)
    logits = torch.zeros(10, 10)
    found = metrics.classification_metrics(logits, labels)
    misses = dict.fromkeys(("top1", "top5", "balanced_accuracy", "macro_f1", "lowest_recall"), 0.0)  # ties are misses
    assert found == pytest.approx(misses | {"nll": math.log(10), "ece": 0.1})
    assert metrics.mean_entropy(logits).item() == pytest.approx(math.log(10))
    assert metrics.non_target_entropy(logits, labels).item() == pytest.approx(math.log(9))
    assert metrics.soft_label_information(logits, labels).item() == 0


def test_top_k_counts_and_is_clipped():
    logits = torch.tensor([[3.0, 2.0, 1.0]]).repeat(3, 1)
    labels = torch.tensor([0, 1, 2])
    found = [is_correct(logits, labels, top_k=k).mean().item() for k in (1, 2, 3, 5)]
    assert found == pytest.approx([1 / 3, 2 / 3, 1, 1])


def test_a_diverged_model_is_not_accurate():
    found = metrics.classification_metrics(torch.full((4, 10), math.nan), torch.zeros(4, dtype=torch.long))
    assert [found[name] for name in ("top1", "top5", "balanced_accuracy", "macro_f1")] == [0, 0, 0, 0]


def test_reliability_table():
    p = torch.tensor([[0.5, 0.5 - 1e-9], [0.75, 0.25], [0.9, 0.1], [0.1, 0.9]], dtype=torch.float64)
    table = metrics.reliability_table(p.log(), torch.tensor([0, 1, 0, 1]), num_bins=4)
    assert table["count"].tolist() == [0, 0, 2, 2]  # a bin owns its upper edge; 0.5 + 5e-10 lies in the third
    assert table["confidence"].tolist() == pytest.approx([0, 0, 0.625, 0.9])
    assert table["accuracy"].tolist() == pytest.approx([0, 0, 0.5, 1])


def test_one_bin_compares_the_means():
    logits, _, labels = make_data()
    confidence = logits.softmax(1).amax(1).mean()
    expected = (is_correct(logits, labels).mean() - confidence).abs().item()
    found = calibration_error(metrics.reliability_table(logits, labels, num_bins=1))
    assert found.item() == pytest.approx(expected)


def test_collapsed_classes():
    labels = torch.arange(4).repeat(5)
    simplex = torch.eye(4)[labels]
    found = metrics.representation_metrics(3 * simplex, simplex, labels, 4, 3 * torch.eye(4))
    collapsed = ("intra_class_distance", "distance_ratio", "nc1", "effective_rank", "soft_label_information")
    for name in (*collapsed, "unread_variance", "unread_variance_graded"):
        assert found[name] == pytest.approx(0, abs=1e-12), name
    assert metrics.inter_class_distance(simplex - 0.25, labels, 4).item() == pytest.approx(4 / 3)  # centred simplex


def test_nearly_collapsed_classes_keep_their_digits():
    labels = torch.arange(4).repeat_interleave(2)
    offset = 1e-5 * torch.tensor([[0.0, 0, 0, 0, 1], [0, 0, 0, 0, -1]]).repeat(4, 1)
    embeddings = torch.cat([torch.eye(4), torch.zeros(4, 1)], dim=1)[labels] + offset
    assert metrics.intra_class_distance(embeddings, labels, 4).item() == pytest.approx(0.5e-10, rel=1e-4)


def test_two_kinds_of_soft_label_in_a_class_are_log_2():
    logits = 1000.0 * torch.eye(4)[[0, 1, 2, 3] * 3]
    labels = torch.tensor([0, 0, 1, 1] * 3)
    assert metrics.soft_label_information(logits, labels).item() == pytest.approx(math.log(2))


def test_nc1_of_two_classes_on_a_line():
    embeddings = torch.tensor([[-3.0], [-1.0], [1.0], [3.0]])
    # means -2 and 2: between-class variance 4; within-class variance 1; two classes
    assert metrics.nc1(embeddings, torch.tensor([0, 0, 1, 1]), 2).item() == pytest.approx(1 / 4 / 2)


def test_nc1_survives_a_large_common_offset():
    _, embeddings, labels = make_data(dim=20)
    expected = metrics.nc1(embeddings, labels, 7).item()
    assert metrics.nc1(embeddings + 1e6, labels, 7).item() == pytest.approx(expected, rel=1e-5)
    assert metrics.nc1(3 * embeddings, labels, 7).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("size", SIZES)
def test_unread_variance_equals_the_oracle(size):
    _, embeddings, labels = make_data(*size)
    weight = torch.randn(size[1], size[2], generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    data = embeddings.numpy(), labels.numpy(), weight.numpy()
    share, graded = metrics.unread_variance, metrics.unread_variance_graded
    assert share(embeddings, labels, weight).item() == pytest.approx(naive_unread(*data), abs=1e-12)
    assert graded(embeddings, labels, weight).item() == pytest.approx(naive_unread(*data, power=1), abs=1e-12)
    for other in (3 * weight, weight + torch.randn(size[2])):  # scale and a common offset of the logits are nothing
        assert graded(embeddings + 100, labels, other).item() == pytest.approx(naive_unread(*data, power=1), abs=1e-9)


def test_unread_variance_of_known_directions():
    # Two classes, told apart along the first of three axes; two thirds of the variance lie along the others.
    embeddings = torch.eye(3).repeat(4, 1) * torch.tensor([1.0, -1.0]).repeat_interleave(3).repeat(2)[:, None]
    labels, weight = torch.arange(2).repeat_interleave(6), torch.tensor([[1.0, 0, 0], [-1.0, 0, 0]])
    assert metrics.unread_variance(embeddings, labels, weight).item() == pytest.approx(2 / 3)
    assert metrics.unread_variance_graded(embeddings, labels, weight).item() == pytest.approx(2 / 3)
    # A layer that reads all three axes, the others half and a quarter as strongly: only the graded share sees that.
    weight = (
        torch.tensor([[4.0, 0, 0], [0, 2, 0], [0, 0, 1]]).repeat(2, 1) * torch.tensor([1, 1, 1, -1, -1, -1])[:, None]
    )
    assert metrics.unread_variance(embeddings, labels, weight).item() == pytest.approx(0, abs=1e-12)
    found = metrics.unread_variance_graded(embeddings, labels, weight).item()
    assert found == pytest.approx(1 - (1 + 1 / 4 + 1 / 16) / 3)
    assert metrics.unread_variance(embeddings, labels, 0 * weight).item() == 1


def test_effective_rank_counts_directions():
    cross = torch.cat([torch.eye(3), -torch.eye(3)])
    labels = torch.zeros(6, dtype=torch.long)
    assert metrics.effective_rank(cross, labels, 2).item() == pytest.approx(3)
    assert metrics.effective_rank(cross[[0, 3]], labels[:2], 2).item() == pytest.approx(1)


def test_non_target_entropy_of_two_classes_is_zero():
    assert metrics.non_target_entropy(torch.randn(9, 2), torch.tensor([0, 1, 1] * 3)).item() == 0


def test_non_target_entropy_is_exact_for_a_certain_teacher():
    logits = torch.tensor([[500.0, 1.0, 1.0, -300.0]])  # p[0] rounds to 1: nothing would be left to renormalise
    assert metrics.non_target_entropy(logits, torch.tensor([0])).item() == pytest.approx(math.log(2))


def test_agreement():
    teacher = torch.eye(4)[[0, 1, 2, 3]]
    student = torch.eye(4)[[0, 1, 2, 0]]
    assert metrics.agreement_metrics(teacher, teacher) == pytest.approx({"agreement": 100.0, "kl_to_teacher": 0.0})
    assert metrics.agreement(student, teacher).item() == pytest.approx(0.75)
    assert metrics.kl_divergence(student, teacher) > 0


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_temperature_for_entropy_reaches_its_target(scale, share):
    logits = scale * make_data()[0]
    target = share * math.log(7)
    found = metrics.temperature_for_entropy(logits, target)
    assert metrics.mean_entropy(logits, found).item() == pytest.approx(target, abs=1e-5)
    assert found == pytest.approx(scale * metrics.temperature_for_entropy(logits / scale, target), rel=3e-6)


def test_matched_information_does_not_depend_on_the_scale_of_the_logits():
    logits, embeddings, labels = make_data()
    one, two = (metrics.representation_metrics(scale * logits, embeddings, labels, 7) for scale in (1, 3))
    name = "soft_label_information_matched"
    assert one[name] == pytest.approx(two[name], rel=1e-5)
    assert one["soft_label_information"] != pytest.approx(two["soft_label_information"], rel=1e-2)
    assert two["matched_temperature"] == pytest.approx(3 * one["matched_temperature"], rel=1e-5)
    at_four = naive_information(logits.numpy(), labels.numpy(), 4)
    assert one["soft_label_information_t4"] == pytest.approx(at_four, rel=1e-9)


# --- invariances and awkward inputs --------------------------------------------------------------------------------


def all_metrics(logits, embeddings, labels, num_classes):
    return (
        metrics.classification_metrics(logits, labels)
        | metrics.representation_metrics(logits, embeddings, labels, num_classes)
        | metrics.agreement_metrics(logits, logits.flip(1))
    )


def test_order_of_samples_does_not_matter():
    logits, embeddings, labels = make_data()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    expected = all_metrics(logits, embeddings, labels, 7)
    assert all_metrics(logits[order], embeddings[order], labels[order], 7) == pytest.approx(expected, rel=1e-9)


def test_geometry_does_not_depend_on_a_rotation():
    _, embeddings, labels = make_data()
    rotation, _ = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    for metric in GEOMETRY:
        expected = metric(embeddings, labels, 7).item()
        assert metric(embeddings @ rotation, labels, 7).item() == pytest.approx(expected, rel=1e-9)


def test_absent_classes_change_nothing():
    _, embeddings, labels = make_data()
    for metric in GEOMETRY:
        assert metric(embeddings, labels, 7).item() == pytest.approx(
            metric(embeddings, labels, 1000).item(), rel=1e-12
        )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_low_precision_is_computed_in_higher_precision(dtype):
    logits, embeddings, labels = make_data()
    logits, embeddings = logits.to(dtype), embeddings.to(dtype)
    expected = all_metrics(logits.double(), embeddings.double(), labels, 7)
    assert all_metrics(logits, embeddings, labels, 7) == pytest.approx(expected, rel=2e-5, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32])
def test_labels_of_any_integer_type(dtype):
    logits, embeddings, labels = make_data()
    assert all_metrics(logits, embeddings, labels.to(dtype), 7) == all_metrics(logits, embeddings, labels, 7)


def test_a_gradient_is_not_kept():
    logits, _, labels = make_data()
    assert not metrics.sample_metrics(logits.requires_grad_(), labels).requires_grad
    assert not metrics.kl_divergence(logits, logits.flip(1)).requires_grad


def test_zero_embeddings_give_numbers():
    logits, embeddings, labels = make_data()
    embeddings[labels == 0] = 0
    assert all(map(math.isfinite, metrics.representation_metrics(logits, embeddings, labels, 7).values()))
    nothing = torch.zeros_like(embeddings)
    assert metrics.intra_class_distance(nothing, labels, 7).item() == 1
    assert all(map(math.isfinite, metrics.representation_metrics(logits, nothing, labels, 7).values()))


def test_logits_that_tie_have_no_matched_temperature():
    _, embeddings, labels = make_data()
    logits = torch.ones(len(labels), 7)
    found = metrics.representation_metrics(logits, embeddings, labels, 7)
    assert not found.keys() & {"soft_label_information_matched", "matched_temperature"}
    assert found["soft_label_information"] == pytest.approx(0, abs=1e-12) and all(map(math.isfinite, found.values()))
    logits[0, 0] = torch.nan
    with pytest.raises(ValueError, match="logits"):
        metrics.representation_metrics(logits, embeddings, labels, 7)


def test_one_sample_per_class():
    logits, embeddings = torch.randn(6, 6), torch.randn(6, 3)
    found = metrics.representation_metrics(logits, embeddings, torch.arange(6), 6)
    for name in ("intra_class_distance", "nc1", "effective_rank", "soft_label_information"):
        assert found[name] == pytest.approx(0, abs=1e-9), name


def test_extreme_logits_stay_finite():
    logits, _, labels = make_data()
    for scale in (1e-30, 1e30):
        for temperature in (1e-6, 1.0, 1e6):
            assert metrics.mean_entropy((scale * logits).float(), temperature).isfinite()
            assert metrics.soft_label_information((scale * logits).float(), labels, temperature).isfinite()


# --- refusals ------------------------------------------------------------------------------------------------------

LOGITS, EMBEDDINGS, LABELS = torch.randn(4, 3), torch.randn(4, 2), torch.tensor([0, 1, 2, 0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: classification_metrics(LOGITS[0], LABELS), r"logits have shape \(3,\), expected \(N, C\)"),
        (
            lambda: classification_metrics(LOGITS[:0], LABELS[:0]),
            r"logits have shape \(0, 3\), expected .* N >= 1",
        ),
        (lambda: metrics.mean_entropy(LOGITS[:, :1]), "C >= 2"),
        (lambda: classification_metrics(LOGITS, LABELS[:3]), r"labels have shape \(3,\), expected \(4,\)"),
        (
            lambda: classification_metrics(LOGITS, LABELS.float()),
            "labels have dtype torch.float32, expected integers",
        ),
        (lambda: classification_metrics(LOGITS, LABELS + 1), r"labels span 1..3, expected 0..2"),
        (lambda: classification_metrics(LOGITS, LABELS - 1), r"labels span -1..1, expected 0..2"),
        (lambda: metrics.reliability_table(LOGITS, LABELS, num_bins=0), "num_bins is 0, expected at least 1"),
        (lambda: metrics.mean_entropy(LOGITS, 0.0), "temperature is 0.0, expected a positive number"),
        (lambda: metrics.kl_divergence(LOGITS, LOGITS, -1.0), "temperature is -1.0"),
        (lambda: metrics.kl_divergence(LOGITS, LOGITS[:, :2]), r"expected the same \(N, C\)"),
        (lambda: metrics.nc1(EMBEDDINGS[None], LABELS, 3), r"embeddings have shape \(1, 4, 2\), expected \(N, D\)"),
        (lambda: metrics.nc1(EMBEDDINGS, LABELS, 2), "labels span 0..2, expected 0..1"),
        (lambda: metrics.nc1(EMBEDDINGS, 0 * LABELS, 3), "labels hold 1 class, expected at least 2"),
        (lambda: metrics.inter_class_distance(EMBEDDINGS, 0 * LABELS, 3), "labels hold 1 class"),
        (
            lambda: metrics.unread_variance(EMBEDDINGS, LABELS, LOGITS),
            r"weight has shape \(4, 3\) and embeddings \(4, 2\)",
        ),
        (lambda: metrics.unread_variance_graded(EMBEDDINGS, LABELS, EMBEDDINGS * math.nan), "weights hold 8 NaN"),
        (lambda: metrics.effective_rank(EMBEDDINGS * math.nan, LABELS, 3), "embeddings hold 8 NaN or infinite values"),
        (lambda: metrics.temperature_for_entropy(LOGITS * math.nan, 0.5), "logits hold 12 NaN or infinite values"),
        (lambda: metrics.temperature_for_entropy(LOGITS, 0.0), "target_entropy is 0.0, expected strictly between 0"),
        (lambda: metrics.temperature_for_entropy(LOGITS, math.log(3)), r"log C = 1.0986 for 3 classes"),
        (lambda: metrics.temperature_for_entropy(torch.ones(4, 3), 0.5), "isn't reached at any temperature"),
    ],
)
def test_errors_say_what_was_expected(call, message):
    with pytest.raises(ValueError, match=message):
        call()
