"""What a classifier knows, as numbers: accuracy, calibration, geometry, soft-label information, agreement.

Pure functions of `logits` (N, C), `embeddings` (N, D) and `labels` (N,). Half precision is raised to float32, float64
stays; sums over samples run in float64, so that results don't depend on the order of the samples. Single metrics are
fractions, nats or ratios, returned as 0-d float64 tensors; the three `*_metrics` functions collect them as floats, and
`sample_figures` with `mean_figures` give the same without all logits at once.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

ROWS_PER_CHUNK = 4096  # rows held in float64 at a time: 50,000 x 1,000 probabilities would need 400 MB a copy


def accuracy(logits: Tensor, labels: Tensor, top_k: int = 1) -> Tensor:
    """Fraction of samples whose class is among the `top_k` largest logits; ties count against the sample.

    Args:
        logits: (N, C) pre-softmax scores.
        labels: (N,) integer classes.
        top_k: how many classes may be named; at most C are.

    Returns:
        Fraction in 0..1. A row of equal logits is wrong (unless top_k >= C), and so is a row of NaN.

    Raises:
        ValueError: on empty input, mismatched shapes, labels outside 0..C-1, or top_k < 1.
    """
    logits, labels = _checked_logits(logits, labels)
    if top_k < 1:
        raise ValueError(f"top_k is {top_k}, expected at least 1: pass 1 for plain accuracy")
    return _is_correct(logits, labels, top_k).mean(dtype=torch.float64)


def negative_log_likelihood(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean of -log p[label].

    Args:
        logits: (N, C) pre-softmax scores.
        labels: (N,) integer classes.

    Returns:
        Nats per sample.

    Raises:
        ValueError: on empty input, mismatched shapes or labels outside 0..C-1.
    """
    logits, labels = _checked_logits(logits, labels)
    return F.cross_entropy(logits, labels, reduction="none").mean(dtype=torch.float64)


def reliability_table(logits: Tensor, labels: Tensor, num_bins: int = 15) -> dict[str, Tensor]:
    """Confidence and accuracy per confidence bin, for a reliability diagram.

    Bin m of M holds the samples with (m-1)/M < max_c p[c] <= m/M.

    Args:
        logits: (N, C) pre-softmax scores.
        labels: (N,) integer classes.
        num_bins: number M of equal-width bins on 0..1.

    Returns:
        `count`, mean `confidence` and `accuracy` (fractions), each (num_bins,) in float64; 0 in empty bins.

    Raises:
        ValueError: on empty input, mismatched shapes, labels outside 0..C-1, or num_bins < 1.

    Reference:
        Guo et al. 2017, On Calibration of Modern Neural Networks, arXiv 1706.04599.
    """
    logits, labels = _checked_logits(logits, labels)
    if num_bins < 1:
        raise ValueError(f"num_bins is {num_bins}, expected at least 1: 15 is customary")
    return _by_confidence(_confidence(logits), _is_correct(logits, labels), num_bins)


def expected_calibration_error(logits: Tensor, labels: Tensor, num_bins: int = 15) -> Tensor:
    """Gap between confidence and accuracy: sum over bins of count / N * |accuracy - confidence|.

    Args:
        logits: (N, C) pre-softmax scores.
        labels: (N,) integer classes.
        num_bins: number of equal-width bins on 0..1.

    Returns:
        Fraction in 0..1.

    Raises:
        ValueError: as `reliability_table`.

    Reference:
        Guo et al. 2017, On Calibration of Modern Neural Networks, arXiv 1706.04599, equation 3.
    """
    return _calibration_error(reliability_table(logits, labels, num_bins))


def intra_class_distance(embeddings: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Mean over classes of the mean cosine distance between a class's embeddings and its mean direction.

    With unit embeddings u_i and class mean m, the mean of 1 - u_i . m/|m| is 1 - |m|. A zero embedding has distance 1.

    Args:
        embeddings: (N, D), of any length: normalised here.
        labels: (N,) integer classes; absent classes are skipped.
        num_classes: number of classes, present or not.

    Returns:
        Distance in 0..1; 0 if every class has one direction.

    Raises:
        ValueError: on empty or non-finite input, mismatched shapes or labels outside 0..num_classes-1.
    """
    return (1 - _mean_unit_embeddings(embeddings, labels, num_classes).norm(dim=1)).clamp(min=0).mean()


def inter_class_distance(embeddings: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Mean cosine distance between the mean directions of two different classes.

    Args:
        embeddings: (N, D), of any length: normalised here.
        labels: (N,) integer classes; absent classes are skipped.
        num_classes: number of classes, present or not.

    Returns:
        Distance in 0..2; C / (C-1) if the classes form a simplex.

    Raises:
        ValueError: as `intra_class_distance`, or if fewer than two classes are present.
    """
    directions = F.normalize(_mean_unit_embeddings(embeddings, labels, num_classes), dim=1)
    present = _at_least_two_classes(len(directions))
    # The sum over all pairs is |sum|^2; taking the diagonal away leaves the pairs of different classes.
    cosines = directions.sum(dim=0).square().sum() - directions.square().sum()
    return (1 - cosines / (present * (present - 1))).clamp(min=0)


def distance_ratio(embeddings: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Intra-class over inter-class distance, the quantity that the intra-class term should raise.

    Args:
        embeddings: (N, D), of any length: normalised here.
        labels: (N,) integer classes; absent classes are skipped.
        num_classes: number of classes, present or not.

    Returns:
        Ratio >= 0; finite (but huge) if all classes share one direction.

    Raises:
        ValueError: as `inter_class_distance`.

    Reference:
        Yuan et al. 2025, Enriching Knowledge Distillation with Intra-Class Contrastive Learning, arXiv 2509.22053.
    """
    intra = intra_class_distance(embeddings, labels, num_classes)
    inter = inter_class_distance(embeddings, labels, num_classes)
    return intra / inter.clamp(min=torch.finfo(inter.dtype).eps)


def nc1(embeddings: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Within-class against between-class spread, tr(Sigma_W pinv(Sigma_B)) / C: 0 under neural collapse.

    Sigma_W averages (x - m_y)(x - m_y)^T over all samples, Sigma_B averages (m_c - m)(m_c - m)^T over the C classes
    present, m being the mean of the class means. With V, s from the SVD of the centred class means the value is
    sum_r mean_i (v_r . (x_i - m_y))^2 / s_r^2, so no D x D matrix is formed.

    Args:
        embeddings: (N, D), raw: neither centred nor normalised. Any rescaling gives the same value.
        labels: (N,) integer classes; absent classes are skipped.
        num_classes: number of classes, present or not.

    Returns:
        Value >= 0. If all class means coincide, pinv makes it 0: read it beside `inter_class_distance`.

    Raises:
        ValueError: as `inter_class_distance`.

    Reference:
        Papyan et al. 2020, Prevalence of Neural Collapse, arXiv 2008.08186.
    """
    embeddings, labels = _checked_embeddings(embeddings, labels, num_classes)
    embeddings = embeddings.double()
    embeddings = embeddings - embeddings.mean(dim=0)  # a large common offset would cost digits below
    means, present = _mean_by_class(embeddings, labels, num_classes)
    num_present = _at_least_two_classes(int(present.sum()))
    centred = means[present] - means[present].mean(dim=0)
    _, scale, axes = torch.linalg.svd(centred, full_matrices=False)
    # Centring takes one rank away; what is left of it is rounding error, which pinv must not invert.
    kept = scale > max(centred.shape) * torch.finfo(scale.dtype).eps * scale[0]
    kept[num_present - 1 :] = False
    scale, axes = scale[kept], axes[kept]
    within = embeddings @ axes.T - (means @ axes.T)[labels]
    return (within.square().mean(dim=0) / scale.square()).sum()


def effective_rank(embeddings: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Number of directions in which a class spreads: exp of the entropy of its singular values.

    exp(H(s / sum s)) with s the singular values of the class's centred embeddings.

    Args:
        embeddings: (N, D) raw embeddings.
        labels: (N,) integer classes; classes with fewer than two samples are skipped.
        num_classes: number of classes, present or not.

    Returns:
        Mean over classes, between 1 and min(n - 1, D). A class whose embeddings coincide counts 0; so does an
        input without any class of two samples.

    Raises:
        ValueError: on empty or non-finite input, mismatched shapes or labels outside 0..num_classes-1.

    Reference:
        Roy & Vetterli 2007, The Effective Rank: A Measure of Effective Dimensionality, EUSIPCO 2007 (no arXiv entry).
    """
    embeddings, labels = _checked_embeddings(embeddings, labels, num_classes)
    ranks = []
    for members in embeddings[labels.argsort()].split(labels.bincount().tolist()):
        if len(members) < 2:
            continue
        members = members.double()
        scale = torch.linalg.svdvals(members - members.mean(dim=0))
        noise = max(members.shape) * torch.finfo(scale.dtype).eps * members.norm()
        scale = scale[scale > noise]
        ranks.append(_entropy(scale / scale.sum()).exp() if len(scale) else scale.new_zeros(()))
    return torch.stack(ranks).mean() if ranks else embeddings.new_zeros((), dtype=torch.float64)


def soft_label_information(logits: Tensor, labels: Tensor, temperature: float = 1.0) -> Tensor:
    """How much the soft labels of one class differ: H(mean_i p_i) - mean_i H(p_i) per class, averaged over classes.

    This is the mutual information between a sample's identity and its soft label, given the class. It rises with
    temperature and with under-training: compare teachers at equal `mean_entropy` (see `temperature_for_entropy`).

    Args:
        logits: (N, C) pre-softmax scores.
        labels: (N,) integer classes; absent classes are skipped.
        temperature: softmax temperature of p = softmax(logits / temperature).

    Returns:
        Nats, between 0 (all soft labels of a class alike) and log C.

    Raises:
        ValueError: on empty input, mismatched shapes, labels outside 0..C-1 or temperature <= 0.

    Reference:
        The intra-class information of Yuan et al. 2025, arXiv 2509.22053, measured as a Jensen-Shannon divergence.
    """
    logits, labels = _checked_logits(logits, labels)
    num_classes = logits.shape[1]
    mixture = logits.new_zeros(num_classes, num_classes, dtype=torch.float64)
    entropy = logits.new_zeros(num_classes, dtype=torch.float64)
    for rows, classes in zip(logits.split(ROWS_PER_CHUNK), labels.split(ROWS_PER_CHUNK), strict=True):
        p = _soft_labels(rows.double(), temperature)
        mixture.index_add_(0, classes, p)
        entropy.index_add_(0, classes, _entropy(p))
    count = labels.bincount(minlength=num_classes)
    present = count > 0
    count = count[present]
    information = _entropy(mixture[present] / count[:, None]) - entropy[present] / count
    return information.clamp(min=0).mean()  # Jensen: below 0 is rounding


def mean_entropy(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Mean entropy H(p) of the soft labels p = softmax(logits / temperature).

    Args:
        logits: (N, C) pre-softmax scores.
        temperature: softmax temperature.

    Returns:
        Nats, between 0 and log C.

    Raises:
        ValueError: on empty input, wrong shape or temperature <= 0.
    """
    return _entropy(_soft_labels(_checked_logits(logits), temperature)).mean(dtype=torch.float64)


def temperature_for_entropy(logits: Tensor, target_entropy: float) -> float:
    """The temperature at which the soft labels have a given mean entropy, so that teachers compare on equal terms.

    H grows with temperature (dH / dlog T is the variance of logits / T under p), so bisection on log T finds it.

    Args:
        logits: (N, C) pre-softmax scores, finite.
        target_entropy: nats, strictly between 0 and log C.

    Returns:
        The temperature, its logarithm to 1e-6.

    Raises:
        ValueError: on empty, wrongly shaped or non-finite input; if the target is outside (0, log C) or no temperature
            reaches it, as with rows of equal logits.
    """
    logits = _checked_logits(logits)
    _require_finite(logits, "logits")
    limit = math.log(logits.shape[1])
    if not 0 < target_entropy < limit:
        raise ValueError(
            f"target_entropy is {target_entropy}, expected strictly between 0 and log C = {limit:.4f} for "
            f"{logits.shape[1]} classes: pass a fraction of log C"
        )

    def falls_short(log_temperature: float) -> bool:
        return mean_entropy(logits, math.exp(log_temperature)).item() < target_entropy

    low = high = 0.0
    while not falls_short(low):
        low -= 4
        if low < -40:
            raise ValueError(
                f"target_entropy {target_entropy} isn't reached at any temperature, expected logits that differ "
                "within a row (equal ones stay at log C): pick a larger target or check the model"
            )
    while falls_short(high):
        high += 4
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (middle, high) if falls_short(middle) else (low, middle)
    return math.exp((low + high) / 2)


def non_target_entropy(logits: Tensor, labels: Tensor, temperature: float = 1.0) -> Tensor:
    """Mean entropy of p without the true class, renormalised: how the teacher ranks the wrong classes.

    Args:
        logits: (N, C) pre-softmax scores.
        labels: (N,) integer classes.
        temperature: softmax temperature.

    Returns:
        Nats, between 0 and log(C - 1); 0 for two classes.

    Raises:
        ValueError: on empty input, mismatched shapes, labels outside 0..C-1 or temperature <= 0.
    """
    logits, labels = _checked_logits(logits, labels)
    # Removing the class before the softmax stays exact where 1 - p[label] would be 0.
    others = logits.scatter(1, labels[:, None], -math.inf)
    return _entropy(_soft_labels(others, temperature)).mean(dtype=torch.float64)


def agreement(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Fraction of samples for which student and teacher name the same class; of tied logits the first counts.

    Args:
        student_logits: (N, C) pre-softmax scores.
        teacher_logits: (N, C) pre-softmax scores of the same samples.

    Returns:
        Fraction in 0..1.

    Raises:
        ValueError: on empty input or mismatched shapes.
    """
    return _agrees(*_checked_pair(student_logits, teacher_logits)).mean(dtype=torch.float64)


def kl_divergence(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Mean KL(teacher || student) of the soft labels, without the T^2 factor of the distillation loss.

    Args:
        student_logits: (N, C) pre-softmax scores.
        teacher_logits: (N, C) pre-softmax scores of the same samples.
        temperature: softmax temperature of both.

    Returns:
        Nats per sample, >= 0.

    Raises:
        ValueError: on empty input, mismatched shapes or temperature <= 0.
    """
    student, teacher = _checked_pair(student_logits, teacher_logits)
    _require_positive(temperature)
    return _kl(student / temperature, teacher / temperature).mean(dtype=torch.float64)


def classification_metrics(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Accuracy and calibration of a classifier.

    Args:
        logits: (N, C) pre-softmax scores.
        labels: (N,) integer classes.

    Returns:
        `top1` and `top5` in percent, `nll` in nats, `ece` (15 bins) as a fraction.

    Raises:
        ValueError: on empty input, mismatched shapes or labels outside 0..C-1.
    """
    return mean_figures(sample_figures(*_checked_logits(logits, labels)))


def sample_figures(logits: Tensor, labels: Tensor, teacher_logits: Tensor | None = None) -> Tensor:
    """What `mean_figures` needs of each sample: a split can be measured batch by batch, its logits need not be kept.

    Args:
        logits: (N, C) pre-softmax scores; N may be 0, and nothing is checked, which would wait for the device.
        labels: (N,) integer classes.
        teacher_logits: (N, C) pre-softmax scores of a teacher for the same samples.

    Returns:
        (N, 4), with a teacher (N, 6), float64.
    """
    logits = _widened(logits)
    columns = [
        _is_correct(logits, labels),
        _is_correct(logits, labels, 5),
        F.cross_entropy(logits, labels, reduction="none"),
        _confidence(logits),
    ]
    if teacher_logits is not None:
        teacher = _widened(teacher_logits)
        columns += [_agrees(logits, teacher), _kl(logits, teacher)]
    return torch.stack([column.double() for column in columns], dim=1)


def mean_figures(rows: Tensor) -> dict[str, float]:
    """`classification_metrics` and, with a teacher, `agreement_metrics` of a split.

    Args:
        rows: `sample_figures` of all its samples, at least one.

    Returns:
        Names and values as in these two functions.
    """
    means = rows.mean(dim=0).tolist()
    ece = _calibration_error(_by_confidence(rows[:, 3], rows[:, 0], 15)).item()
    figures = {"top1": 100 * means[0], "top5": 100 * means[1], "nll": means[2], "ece": ece}
    return figures | ({"agreement": 100 * means[4], "kl_to_teacher": means[5]} if len(means) > 4 else {})


def representation_metrics(logits: Tensor, embeddings: Tensor, labels: Tensor, num_classes: int) -> dict[str, float]:
    """What a teacher knows beyond the classes: geometry of its embeddings, information in its soft labels.

    Args:
        logits: (N, C) pre-softmax scores.
        embeddings: (N, D) pooled pre-logits of the same samples.
        labels: (N,) integer classes.
        num_classes: number of classes, present or not.

    Returns:
        `intra_class_distance`, `inter_class_distance`, `distance_ratio`, `nc1`, `effective_rank`; in nats
        `soft_label_information` (T = 1), `soft_label_information_t4` (T = 4), `soft_label_information_matched` (at
        `matched_temperature`, where the mean entropy is half of log C), `mean_entropy`, `non_target_entropy` (T = 1).

    Raises:
        ValueError: on input that any of these refuses: see `inter_class_distance` and `temperature_for_entropy`.
    """
    geometry = (intra_class_distance, inter_class_distance, distance_ratio, nc1, effective_rank)
    matched_temperature = temperature_for_entropy(logits, 0.5 * math.log(logits.shape[1]))
    return {metric.__name__: metric(embeddings, labels, num_classes).item() for metric in geometry} | {
        "soft_label_information": soft_label_information(logits, labels).item(),
        "soft_label_information_t4": soft_label_information(logits, labels, temperature=4.0).item(),
        "soft_label_information_matched": soft_label_information(logits, labels, matched_temperature).item(),
        "matched_temperature": matched_temperature,
        "mean_entropy": mean_entropy(logits).item(),
        "non_target_entropy": non_target_entropy(logits, labels).item(),
    }


def agreement_metrics(student_logits: Tensor, teacher_logits: Tensor) -> dict[str, float]:
    """How closely a student follows its teacher.

    Args:
        student_logits: (N, C) pre-softmax scores.
        teacher_logits: (N, C) pre-softmax scores of the same samples.

    Returns:
        `agreement` in percent, `kl_to_teacher` = KL(teacher || student) in nats at temperature 1.

    Raises:
        ValueError: on empty input or mismatched shapes.
    """
    return {
        "agreement": 100 * agreement(student_logits, teacher_logits).item(),
        "kl_to_teacher": kl_divergence(student_logits, teacher_logits).item(),
    }


def _is_correct(logits: Tensor, labels: Tensor, top_k: int = 1) -> Tensor:
    true_logit = logits.gather(1, labels[:, None])
    # Not "logits >= true_logit": NaN compares false with everything, and a diverged model would score 100 %.
    rank = (~(logits < true_logit)).sum(dim=1)
    return (rank <= min(top_k, logits.shape[1])).float()


def _confidence(logits: Tensor) -> Tensor:
    return logits.softmax(dim=1).amax(dim=1)


def _by_confidence(confidence: Tensor, correct: Tensor, num_bins: int) -> dict[str, Tensor]:
    confidence = confidence.double().contiguous()
    edges = torch.linspace(0, 1, num_bins + 1, dtype=torch.float64, device=confidence.device)
    bins = torch.bucketize(confidence, edges[1:-1])
    rows = torch.stack([torch.ones_like(confidence), confidence, correct.double()], dim=1)
    count, confidence, correct = _sum_by_class(rows, bins, num_bins).unbind(dim=1)
    return {"count": count, "confidence": confidence / count.clamp(min=1), "accuracy": correct / count.clamp(min=1)}


def _calibration_error(table: dict[str, Tensor]) -> Tensor:
    return (table["count"] * (table["accuracy"] - table["confidence"]).abs()).sum() / table["count"].sum()


def _agrees(student: Tensor, teacher: Tensor) -> Tensor:
    return student.argmax(dim=1) == teacher.argmax(dim=1)


def _kl(student: Tensor, teacher: Tensor) -> Tensor:
    return F.kl_div(student.log_softmax(dim=1), teacher.log_softmax(dim=1), reduction="none", log_target=True).sum(
        dim=1
    )


def _soft_labels(logits: Tensor, temperature: float) -> Tensor:
    _require_positive(temperature)
    # The largest logit goes first: divided by a small temperature it could overflow.
    return ((logits - logits.amax(dim=1, keepdim=True)) / temperature).softmax(dim=1)


def _entropy(p: Tensor) -> Tensor:
    return torch.special.entr(p).sum(dim=-1)  # entr(0) = 0


def _sum_by_class(rows: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    return rows.new_zeros(num_classes, rows.shape[1]).index_add_(0, labels, rows)


def _mean_by_class(rows: Tensor, labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Class means (num_classes, D), zero where the class is absent, and which classes are present (num_classes,)."""
    count = labels.bincount(minlength=num_classes)
    return _sum_by_class(rows, labels, num_classes) / count.clamp(min=1)[:, None], count > 0


def _mean_unit_embeddings(embeddings: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Mean of the unit-norm embeddings of every class present, (classes present, D) in float64."""
    embeddings, labels = _checked_embeddings(embeddings, labels, num_classes)
    means, present = _mean_by_class(F.normalize(embeddings.double(), dim=1), labels, num_classes)
    return means[present]


def _widened(values: Tensor) -> Tensor:
    return values.detach().to(torch.promote_types(values.dtype, torch.float32))


def _checked_logits(logits: Tensor, labels: Tensor | None = None):
    if logits.ndim != 2 or logits.shape[0] < 1 or logits.shape[1] < 2:
        raise ValueError(
            f"logits have shape {tuple(logits.shape)}, expected (N, C) with N >= 1 and C >= 2: pass one row per sample"
        )
    if labels is None:
        return _widened(logits)
    return _widened(logits), _checked_labels(labels, len(logits), logits.shape[1])


def _checked_embeddings(embeddings: Tensor, labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    if embeddings.ndim != 2 or 0 in embeddings.shape:
        raise ValueError(
            f"embeddings have shape {tuple(embeddings.shape)}, expected (N, D) with N >= 1 and D >= 1: "
            "pool feature maps and pass one row per sample"
        )
    _require_finite(embeddings, "embeddings")
    return _widened(embeddings), _checked_labels(labels, len(embeddings), num_classes)


def _checked_labels(labels: Tensor, num_samples: int, num_classes: int) -> Tensor:
    if labels.shape != (num_samples,):
        raise ValueError(
            f"labels have shape {tuple(labels.shape)}, expected ({num_samples},): pass one class index per sample"
        )
    if labels.is_floating_point() or labels.dtype == torch.bool:
        raise ValueError(f"labels have dtype {labels.dtype}, expected integers: pass class indices, not one-hot rows")
    smallest, largest = labels.min().item(), labels.max().item()
    if smallest < 0 or largest >= num_classes:
        raise ValueError(
            f"labels span {smallest}..{largest}, expected 0..{num_classes - 1}: drop unlabelled samples or check the "
            "number of classes"
        )
    return labels.long()


def _checked_pair(student_logits: Tensor, teacher_logits: Tensor) -> tuple[Tensor, Tensor]:
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(
            f"student_logits have shape {tuple(student_logits.shape)}, teacher_logits {tuple(teacher_logits.shape)}, "
            "expected the same (N, C): run both on the same samples and classes"
        )
    return _checked_logits(student_logits), _checked_logits(teacher_logits)


def _at_least_two_classes(present: int) -> int:
    if present < 2:
        raise ValueError(f"labels hold {present} class, expected at least 2: evaluate on samples of several classes")
    return present


def _require_finite(values: Tensor, name: str) -> None:
    if not values.isfinite().all():
        wrong = int((~values.isfinite()).sum())
        raise ValueError(f"{name} hold {wrong} NaN or infinite values, expected none: check whether training diverged")


def _require_positive(temperature: float) -> None:
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature is {temperature}, expected a positive number: pass 1.0 for plain probabilities")
