"""The main classes from `epomdp.exact`, beside modules that bear the names of functions."""

import importlib
import types

import pytest

import epomdp.exact


@pytest.mark.parametrize("name", epomdp.exact.__all__)
def test_a_name_is_the_class_of_its_module(name):
    found = getattr(epomdp.exact, name)
    assert isinstance(found, type) and found.__name__ == name
    assert getattr(importlib.import_module(found.__module__), name) is found


def test_solve_and_ladder_stay_modules():
    from epomdp.exact import Family, ladder, solve

    assert isinstance(solve, types.ModuleType) and isinstance(ladder, types.ModuleType)
    assert callable(solve.solve) and callable(ladder.ladder) and isinstance(Family, type)


def test_other_names_are_missing_as_anywhere():
    with pytest.raises(AttributeError, match="no attribute 'Familie'"):
        _ = epomdp.exact.Familie
