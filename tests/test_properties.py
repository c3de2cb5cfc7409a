"""Properties that hold for any batch, any cache, any type: found by search, not by example."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_icckd import ClassEmbeddingCache, IntraClassContrastiveLoss
from hf_icckd.data import Augmentation
from hf_icckd.data.augment import augment
from hf_icckd.data.sampling import KeyedBatchSampler

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


@st.composite
def batches(draw):
    """A batch of any composition, and a cache that has seen others."""
    images, classes, dim = draw(st.integers(1, 12)), draw(st.integers(1, 4)), draw(st.integers(1, 6))
    dtype = draw(st.sampled_from(DTYPES))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**30)))
    scale = draw(st.sampled_from([0.0, 1e-3, 1.0, 1e3]))  # zero embeddings too
    embeddings = (scale * torch.randn(images, 2, dim, generator=generator)).to(dtype)
    logits = (scale * torch.randn(images, 2, classes, generator=generator)).to(dtype)
    labels = torch.randint(classes, (images,), generator=generator)
    ids = torch.randint(draw(st.integers(1, 40)), (images,), generator=generator)
    cache = ClassEmbeddingCache(classes, draw(st.integers(1, 5)), dim)
    for _ in range(draw(st.integers(0, 3))):
        rows = draw(st.integers(0, 9))
        cache.update(
            torch.randn(rows, 2, dim, generator=generator),
            torch.randint(classes, (rows,), generator=generator),
            torch.randint(60, (rows,), generator=generator),
        )
    gate, in_batch = draw(st.booleans()), draw(st.booleans())
    criterion = IntraClassContrastiveLoss(gate=gate, in_batch_negatives=in_batch, margin=0.0)
    return criterion, cache, logits, embeddings, labels, ids


@given(batches())
@settings(deadline=None, max_examples=150)
def test_the_loss_is_finite_and_does_not_depend_on_the_order(batch):
    criterion, cache, logits, embeddings, labels, ids = batch
    embeddings.requires_grad_()
    terms = criterion(logits, embeddings, labels, ids, cache.lookup(labels))
    loss = terms["intra_class"]
    assert loss.shape == () and loss.isfinite() and loss >= 0
    assert loss.dtype == torch.promote_types(embeddings.dtype, torch.float32)
    assert 0 <= terms["gated_fraction"] <= 1
    loss.backward()
    assert embeddings.grad.isfinite().all()
    assert not embeddings.grad[embeddings.detach().norm(dim=2) == 0].any()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    shuffled = criterion(logits[order], embeddings[order], labels[order], ids[order], cache.lookup(labels[order]))
    torch.testing.assert_close(shuffled["intra_class"], loss, rtol=1e-5, atol=1e-6)


@given(batches())
@settings(deadline=None, max_examples=100)
def test_no_image_is_a_negative_of_itself(batch):
    """With one image in many copies, and a cache of that image alone, there is nothing to contrast."""
    _, cache, logits, embeddings, labels, ids = batch
    criterion = IntraClassContrastiveLoss(gate=False)
    cache.sample_ids.fill_(3)
    terms = criterion(logits, embeddings, labels, torch.full_like(ids, 3), cache.lookup(labels))
    assert terms["intra_class"] == 0


@given(batches(), st.integers(0, 20))
@settings(deadline=None, max_examples=100)
def test_the_cache_holds_unit_rows_of_its_classes(batch, rows):
    _, cache, _, embeddings, labels, ids = batch
    cache.update(embeddings.float() + 1, labels, ids)
    assert cache.embeddings.isfinite().all()
    filled = torch.arange(cache.rows_per_class) < cache.fill_counts[:, None]
    norms = cache.embeddings.norm(dim=2)[filled]
    torch.testing.assert_close(norms, torch.ones_like(norms))
    assert (cache.sample_ids[filled] >= 0).all() and (cache.sample_ids[~filled] == -1).all()
    assert 0 <= cache.fill_fraction() <= 1


@given(st.integers(2, 300), st.integers(1, 64), st.integers(0, 2**40), st.integers(0, 1000))
@settings(deadline=None, max_examples=100)
def test_an_epoch_holds_every_image_once(size, batch_size, seed, epoch):
    sampler = KeyedBatchSampler(size, batch_size, seed)
    sampler.set_epoch(epoch)
    rows = torch.cat([key.indices for key in sampler])
    assert len(rows.unique()) == len(rows) == sampler.num_used >= size - 1
    assert len(list(sampler)) == len(sampler)


@given(
    st.integers(0, 6), st.integers(1, 20), st.integers(1, 20), st.integers(0, 30), st.booleans(), st.booleans(),
    st.floats(0, 1), st.floats(0, 1), st.integers(0, 2**62),
)  # fmt: skip
@settings(deadline=None, max_examples=100)
def test_augmentation_keeps_shape_and_type(count, height, width, padding, flip, trivial, jitter, erasing, seed):
    generator = torch.Generator().manual_seed(seed % 2**31)
    images = torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator)
    ids = torch.randint(2**40, (count,), generator=generator)
    augmentation = Augmentation(padding, None, flip, seed, jitter, trivial, erasing)
    before = images.clone()
    result = augment(images, augmentation, 3, ids, 1)
    assert result.shape == images.shape and result.dtype == torch.uint8
    assert torch.equal(images, before)  # what is resident stays as it is
    for row in range(count):
        alone = augment(images[row : row + 1], augmentation, 3, ids[row : row + 1], 1)
        assert torch.equal(alone[0], result[row])
