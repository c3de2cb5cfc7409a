"""Words that say which split a folder, a file or a split of the Hub is: `seg_train`, `Test data`, `val2017`."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

Role = Literal["train", "validation", "test"]
SPLIT_COLUMNS = ("split", "subset", "partition", "usage", "phase")  # of a table, that may say which split a row is
ROLES: tuple[Role, ...] = ("train", "validation", "test")
# In order: where a data set has several test splits, the first one is taken.
_WORDS: dict[Role, tuple[str, ...]] = {
    "train": ("train", "training", "trn", "trainval"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "tst", "eval", "evaluation", "holdout", "heldout"),
}
_ROLE_OF = {word: role for role, words in _WORDS.items() for word in words}
_RANK = {word: rank for words in _WORDS.values() for rank, word in enumerate(words)}
# Words that may stand beside one of them and say nothing about the content.
_NEUTRAL = {
    "set", "sets", "data", "dataset", "split", "splits", "images", "image", "imgs", "img", "pictures", "photos",
    "folder", "files", "of", "the", "my", "new", "final", "full", "all", "list", "labels", "default",
}  # fmt: skip
_JOINED = ("sets", "set", "images", "image", "imgs", "data", "dataset", "list")  # trainset, testimages
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_A-Za-z]+")  # trainImages is two words


class SplitName(NamedTuple):
    """A name that says which split it is.

    Attributes:
        role: The split.
        rest: Its other words, which all splits of one data set share: `seg` in `seg_train` and `seg_test`.
        rank: Position of the word among those for the same role; the first is the most usual.
    """

    role: Role
    rest: frozenset[str]
    rank: int


def split_name(name: str) -> SplitName | None:
    """Return which split a name stands for; None if it has no such word, or words of two splits.

    Example:
        >>> split_name("seg_train").role, split_name("Test data").role, split_name("val2017").role
        ('train', 'test', 'validation')
        >>> split_name("latest"), split_name("train_test")
        (None, None)
    """
    joined = re.sub(r"(hold|held)[\W_]*(out)", r"\1\2", name, flags=re.IGNORECASE)
    joined = re.sub(r"(train)[\W_]*(val)(?![a-z])", r"\1\2", joined, flags=re.IGNORECASE)
    words = [_without_suffix(word.lower()) for word in _WORD.findall(joined)]
    found = [word for word in words if word in _ROLE_OF]
    if not found or len({_ROLE_OF[word] for word in found}) > 1:
        return None
    rest = frozenset(word for word in words if word not in _ROLE_OF and word not in _NEUTRAL)
    return SplitName(_ROLE_OF[found[0]], rest, min(_RANK[word] for word in found))


def _without_suffix(word: str) -> str:
    for suffix in _JOINED:
        if word.endswith(suffix) and word.removesuffix(suffix) in _ROLE_OF:
            return word.removesuffix(suffix)
    return word


def is_split_word(name: str) -> bool:
    """Whether a name is nothing but the word for a split, as `train`, `Testing` or `val_images`."""
    found = split_name(name)
    return found is not None and not found.rest


def without_split_word(name: str, role: Role) -> str | None:
    """Return a name without the word for a split; None if it has no such word, or nothing but it.

    Example:
        >>> without_split_word("train_great_dane", "train"), without_split_word("cats-Test", "test")
        ('great_dane', 'cats')
        >>> without_split_word("cats", "test") is None
        True
    """
    words = "|".join(sorted(_WORDS[role], key=len, reverse=True))
    rest = re.sub(rf"(?<![^\W_])(?:{words})(?![^\W_])", "", name, count=1, flags=re.IGNORECASE)
    rest = re.sub(r"([\W_])[\W_]*", r"\1", rest).strip(" _-.")
    return rest if rest and rest != name else None
