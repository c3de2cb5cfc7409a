"""The cache against a list per class, and what a checkpoint keeps of it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_icckd import ClassEmbeddingCache


def as_lists(cache):
    """Rows of each class from the oldest to the newest, as (id, vector)."""
    result = []
    for c in range(cache.num_classes):
        count, position = int(cache.fill_counts[c]), int(cache.positions[c])
        slots = [(position - count + k) % cache.rows_per_class for k in range(count)]
        result.append([(int(cache.sample_ids[c, s]), cache.embeddings[c, s]) for s in slots])
    return result


@settings(max_examples=60, deadline=None)
@given(
    classes=st.integers(1, 5),
    rows=st.integers(1, 6),
    batches=st.lists(st.lists(st.integers(0, 4), max_size=20), max_size=5),
    views=st.integers(0, 2),
)
def test_equals_a_queue_per_class(classes, rows, batches, views):
    cache = ClassEmbeddingCache(classes, rows, 3, torch.float64)
    queues = [[] for _ in range(classes)]
    generator = torch.Generator().manual_seed(0)
    next_id = 0
    for batch in batches:
        labels = torch.tensor([label % classes for label in batch], dtype=torch.long)
        ids = torch.arange(next_id, next_id + len(batch))
        next_id += len(batch)
        shape = (len(batch), 3) if views == 0 else (len(batch), views, 3)
        embeddings = torch.randn(shape, generator=generator, dtype=torch.float64)
        cache.update(embeddings, labels, ids)
        for i, label in enumerate(labels.tolist()):
            for vector in embeddings[i].reshape(-1, 3):
                queues[label].append((int(ids[i]), F.normalize(vector, dim=0)))
                del queues[label][:-rows]
    for kept, queue in zip(as_lists(cache), queues, strict=True):
        assert [row_id for row_id, _ in kept] == [row_id for row_id, _ in queue]
        for (_, vector), (_, expected) in zip(kept, queue, strict=True):
            torch.testing.assert_close(vector, expected)


def test_same_result_on_every_device(device):
    caches = [ClassEmbeddingCache(7, 3, 4), ClassEmbeddingCache(7, 3, 4).to(device)]
    generator = torch.Generator().manual_seed(0)
    for step in range(5):
        embeddings = torch.randn(40, 2, 4, generator=generator)
        labels = torch.randint(7, (40,), generator=generator)
        ids = torch.arange(40) + 40 * step
        caches[0].update(embeddings, labels, ids)
        caches[1].update(embeddings.to(device), labels.to(device), ids.to(device))
    for name, value in caches[0].state_dict().items():
        torch.testing.assert_close(caches[1].state_dict()[name].cpu(), value)


def test_lookup_marks_what_is_filled():
    cache = ClassEmbeddingCache(3, 4, 2)
    cache.update(torch.tensor([[3.0, 4.0], [0.0, 2.0]]), torch.tensor([1, 1]), torch.tensor([7, 9]))
    rows = cache.lookup(torch.tensor([1, 0]))
    assert rows.filled.tolist() == [[True, True, False, False], [False] * 4]
    assert rows.sample_ids[0, :2].tolist() == [7, 9]
    torch.testing.assert_close(rows.embeddings[0, :2], torch.tensor([[0.6, 0.8], [0.0, 1.0]]))
    assert cache.fill_fraction().item() == pytest.approx(2 / 12)


def test_state_survives_a_checkpoint():
    cache, other = ClassEmbeddingCache(3, 2, 2), ClassEmbeddingCache(3, 2, 2)
    cache.update(torch.randn(7, 2), torch.tensor([0, 0, 0, 1, 2, 2, 2]), torch.arange(7))
    other.load_state_dict(cache.state_dict())
    for step in (cache, other):
        step.update(torch.ones(2, 2), torch.tensor([0, 1]), torch.tensor([8, 9]))
    for name, value in cache.state_dict().items():
        assert torch.equal(other.state_dict()[name], value)


def test_work_does_not_grow_with_the_number_of_classes():
    """Not a timing: the tensors a step makes have the same sizes with 10 and with 100,000 classes."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            in_place = str(func.overloadpacket).endswith("_") or "index_put" in str(func)
            if isinstance(out, torch.Tensor) and not in_place:
                self.numel = max(getattr(self, "numel", 0), out.numel())
            return out

    sizes = []
    for classes in (10, 100_000):
        cache = ClassEmbeddingCache(classes, 2, 4)
        labels = torch.arange(8)
        with Largest() as largest:
            cache.update(torch.ones(8, 4), labels, labels)
            cache.lookup(labels)
        sizes.append(largest.numel)
    assert sizes[0] == sizes[1]


def test_wrong_inputs_are_explained():
    with pytest.raises(ValueError, match="expected 1 or more"):
        ClassEmbeddingCache(10, 0, 4)
    with pytest.raises(ValueError, match="embeddings have length 3, expected 4"):
        ClassEmbeddingCache(10, 2, 4).update(torch.zeros(1, 3), torch.zeros(1).long(), torch.zeros(1).long())
