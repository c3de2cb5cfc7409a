"""Objectives that say that they don't read the progress of a run do not."""

from __future__ import annotations

import ast
import inspect

import pytest

from hf_icckd.losses import KD, OBJECTIVES, DistillationObjective, WeightedObjectives


@pytest.mark.parametrize("name", OBJECTIVES)
def test_what_they_say_is_so(name):
    source = ast.parse(inspect.getsource(inspect.getmodule(OBJECTIVES[name])))
    reads = any(isinstance(node, ast.Attribute) and node.attr == "progress" for node in ast.walk(source))
    assert OBJECTIVES[name].reads_progress == reads


def test_an_objective_that_says_nothing_may_read_it():
    class Ramp(DistillationObjective):
        term_weights = {"ramp": 1.0}  # noqa: RUF012

    assert WeightedObjectives([(KD(), 1.0)]).scheduled is None
    assert WeightedObjectives([(KD(), 1.0), (Ramp(), 1.0)]).scheduled == "Ramp"
