"""Every example in a docstring of the package runs and prints what it shows, and every public name has one."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
from types import ModuleType

import pytest

import hf_icckd

MODULES = ["hf_icckd", *(found.name for found in pkgutil.walk_packages(hf_icckd.__path__, "hf_icckd."))]
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def examples(module: ModuleType) -> list[doctest.DocTest]:
    """The docstrings of a module that show something; not those that it imports from others."""
    return [found for found in doctest.DocTestFinder().find(module) if found.examples]


WITH_EXAMPLES = [name for name in MODULES if not name.endswith("__main__") and examples(importlib.import_module(name))]


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for example in examples(importlib.import_module(name)):
        said: list[str] = []
        failed, _ = doctest.DocTestRunner(optionflags=OPTIONS).run(example, out=said.append)
        assert not failed, "".join(said)


PUBLIC = [name for name in hf_icckd.__all__ if callable(getattr(hf_icckd, name))]


def test_what_is_public_is_found():
    others = set(hf_icckd.__all__) - set(PUBLIC)
    assert others == {"OBJECTIVES", "TEACHER_TERMS", "__version__"}  # data: they have no docstring of their own


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_has_an_example(name):
    """Also where it inherits a docstring: that one speaks of something else."""
    parser, public = doctest.DocTestParser(), getattr(hf_icckd, name)
    own = public.__dict__.get("__doc__") if inspect.isclass(public) else public.__doc__
    assert parser.get_examples(own or ""), f"{name} has no example; add `Example:` with >>> to its docstring"
