"""Policies of timm as an option: what is read, and what is refused with an example."""

from __future__ import annotations

import math

import pytest

from hf_icckd import Augmentation
from hf_icckd.options.data import TrainingDataArguments
from hf_icckd.options.policies import parse_policy


def test_rand_augment_is_read():
    policy = parse_policy("rand-m6-n3-p0.4-mstd0.5-mmax12-inc1")
    assert (len(policy.choices), policy.layers, policy.noise, policy.largest) == (15, 3, 0.5, 12)
    assert {step[1:] for choice in policy.choices for step in choice} == {(0.4, 6)}
    assert ("PosterizeIncreasing" in {choice[0].operation for choice in policy.choices}) is True
    plain = parse_policy("rand")
    assert (plain.choices[4], plain.layers, plain.noise, plain.largest) == ((("Posterize", 0.5, 10),), 2, 0, 10)
    assert parse_policy("rand-mstd101").noise == math.inf


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "there is no such policy"),
        ("rnd-m9", "there is no such policy"),
        ("augmix-m5", "augmix blurs or mixes copies"),
        ("3a", "3a blurs or mixes copies"),
        ("rand-m9-mstd", "its section 'mstd' is not one of m, n, p, mstd, mmax, inc with a number"),
        ("rand-tweights", "its section 'tweights' is not one of"),
        ("original-m9", "its section 'm9' is not one of mstd with a number"),
        ("rand-m9-m8", "it gives m twice"),
        ("rand-m12", "m is 12, expected at most 10; mmax"),
        ("rand-m9.5", "m is 9.5, expected a whole number"),
        ("rand-n0", "n is 0, expected 1 to 10"),
        ("rand-p1.5", "p is 1.5, expected a probability"),
        ("rand-inc2", "inc is 2, expected 0 or 1"),
        ("rand-m0-mmax0", "m is 0, expected at most 0; mmax, above 0"),
    ],
)
def test_other_strings_are_one_error_with_an_example(text, reason):
    for make in (Augmentation, TrainingDataArguments):
        with pytest.raises(ValueError, match="expected a policy of timm such as rand-m9-mstd") as error:
            make(aa=text)
        assert reason in str(error.value)


def test_two_policies_are_refused():
    with pytest.raises(ValueError, match="aa is 'original' but trivial_augment is true, expected one of them"):
        Augmentation(aa="original", trivial_augment=True)
