"""The generated multi-view set: reproducible, balanced, and what it says about its images is true."""

import pytest
import torch

from hf_icckd.data.sources.synthetic import make_multi_view_features, make_multi_view_images


def shown_features(split_images, features):
    """Which features an image without any noise holds, found by matching every patch, mirrored or not, anywhere."""
    patterns = features.flatten(0, 1)
    patterns = torch.stack([patterns, patterns.flip(-1)], dim=1).flatten(0, 1)
    size = patterns.shape[-1]
    images = (split_images.images.float() - 128) / 90
    images = torch.nn.functional.pad(images, (0, size - 1, 0, size - 1), mode="circular")
    scores = torch.nn.functional.conv2d(images, patterns).amax(dim=(2, 3)) / (3 * size * size)
    return scores.unflatten(1, (*features.shape[:2], 2)).amax(dim=-1)  # (N, C, V)


def test_shapes_and_types():
    images, labels, views, is_multi_view = make_multi_view_images(5, 8, 16, num_views=3)
    assert (images.shape, images.dtype) == ((40, 3, 16, 16), torch.uint8)
    assert images.is_contiguous()
    assert (labels.shape, labels.dtype) == ((40,), torch.int64)
    assert (views.shape, views.dtype) == ((40,), torch.int64)
    assert (is_multi_view.shape, is_multi_view.dtype) == ((40,), torch.bool)
    assert set(views.tolist()) == {0, 1, 2}


def test_the_same_seed_gives_the_same_bits_whatever_else_draws_random_numbers():
    first = make_multi_view_images(4, 6, seed=3)
    torch.manual_seed(99)
    second = make_multi_view_images(4, 6, seed=3)
    assert all(map(torch.equal, first, second))
    assert not torch.equal(first.images, make_multi_view_images(4, 6, seed=4).images)


def test_every_class_has_as_many_images_and_as_many_multi_view_ones():
    made = make_multi_view_images(7, 10, multi_view_fraction=0.7)
    assert made.labels.bincount().tolist() == [10] * 7
    assert made.labels[made.is_multi_view].bincount().tolist() == [7] * 7


@pytest.mark.parametrize(("fraction", "expected"), [(0.0, 0), (1.0, 12)])
def test_all_or_none_may_be_multi_view(fraction, expected):
    assert make_multi_view_images(3, 4, multi_view_fraction=fraction).is_multi_view.sum() == expected


def test_splits_are_disjoint_draws():
    train = make_multi_view_images(4, 20, noise_std=0.0)
    test = make_multi_view_images(4, 20, noise_std=0.0, split="test")
    rows = torch.cat([train.images, test.images]).flatten(1)
    assert len(rows.unique(dim=0)) == len(rows)  # not even without noise does an image come twice


def test_both_splits_show_the_features_of_the_seed():
    features = make_multi_view_features(num_classes=5, seed=2)
    for split in ("train", "test"):
        made = make_multi_view_images(5, 10, noise_std=0.0, feature_noise=0.0, split=split, seed=2)
        own = shown_features(made, features)[torch.arange(50), made.labels]
        assert (own[made.is_multi_view] > 0.4).all()
        dominant = own.gather(1, made.views[:, None]).squeeze(1)
        assert (dominant > own.amax(dim=1) - 0.02).all()  # whole grey levels: strengths closer than that look alike
        other_view = own.gather(1, 1 - made.views[:, None]).squeeze(1)
        assert other_view[~made.is_multi_view].mean() < 0.5 * other_view[made.is_multi_view].mean()


def test_no_two_features_are_alike_even_mirrored():
    features = make_multi_view_features(num_classes=1000, num_views=2).flatten(0, 1)
    lookalikes = torch.stack([features, features.flip(-1)], dim=1).flatten(2)
    # A feature equals its own mirror image if it is symmetric, never another feature's.
    codes = ["|".join(sorted(str(row.tobytes()) for row in pair.numpy())) for pair in lookalikes]
    assert len(set(codes)) == len(features)
    assert features.mean(dim=(2, 3)).abs().max() == 0  # none changes the mean colour
    assert features.abs().max() == 1


def test_features_do_not_depend_on_the_split_or_the_number_of_images():
    small, large = (make_multi_view_features(3, 2, size, seed=1) for size in (4, 8))
    assert torch.equal(small.repeat_interleave(2, -1).repeat_interleave(2, -2), large)


def test_noise_is_centred_and_as_strong_as_asked():
    quiet = make_multi_view_images(2, 50, noise_std=0.0).images.float()
    noisy = make_multi_view_images(2, 50, noise_std=10.0).images.float()
    inside = (quiet > 60) & (quiet < 190)  # away from the ends of the byte
    difference = (noisy - quiet)[inside]
    assert difference.mean().item() == pytest.approx(0, abs=0.2)
    assert difference.std().item() == pytest.approx(10, rel=0.02)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 1}, "num_classes is 1, expected at least 2"),
        ({"num_classes": 1003}, "num_classes \\* num_views is 2006, expected at most 2004"),
        ({"num_images_per_class": 0}, "num_images_per_class is 0, expected at least 1"),
        ({"image_size": 0}, "image_size is 0, expected a multiple of 16"),
        ({"image_size": 40}, "image_size is 40, expected a multiple of 16"),
        ({"num_views": 0}, "num_views is 0, expected in 1..6"),
        ({"num_views": 7}, "num_views is 7, expected in 1..6"),
        ({"multi_view_fraction": 1.5}, "multi_view_fraction is 1.5, expected in 0..1"),
        ({"feature_noise": -0.1}, "feature_noise is -0.1, expected in 0..1"),
        ({"noise_std": float("nan")}, "noise_std is nan, expected at least 0"),
        ({"seed": -1}, "seed is -1, expected at least 0"),
        ({"split": "val"}, "split is 'val', expected 'train' or 'test'"),
    ],
)
def test_impossible_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_multi_view_images(**arguments)
