"""What is written reads back the same, to the bit."""

import os
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from epomdp.errors import BadInput, RunFailed
from epomdp.exact.formats import pomdp
from epomdp.exact.pomdp import Pomdp


def distributions(draw, rows, columns):
    weights = draw(arrays.arrays(float, (rows, columns), elements=st.floats(0, 1)))
    weights = np.where(draw(arrays.arrays(bool, (rows, columns))), weights, 0.0)
    weights[np.arange(rows), draw(arrays.arrays(int, rows, elements=st.integers(0, columns - 1)))] += 0.1
    return weights / weights.sum(axis=1, keepdims=True)


@st.composite
def pomdps(draw):
    S, A, K = (draw(st.integers(1, 5)) for _ in range(3))
    names = st.text("abcdefgTORé_-.'\"", min_size=1, max_size=6).filter(lambda s: s[0] not in "-.")
    shared = draw(st.booleans())
    observations = [sp.csr_array(distributions(draw, S, K)) for _ in range(1 if shared else A)]
    return Pomdp(
        tuple(sp.csr_array(distributions(draw, S, S)) for _ in range(A)),
        tuple(observations * A if shared else observations),
        draw(arrays.arrays(float, (S, A), elements=st.floats(-1e6, 1e6))) + 0.0,
        distributions(draw, 1, S)[0],
        draw(st.floats(0, 0.999)),
        *(
            tuple(draw(st.lists(names, min_size=n, max_size=n, unique=True))) if draw(st.booleans()) else ()
            for n in (S, A, K)
        ),
    )


def assert_same(a: Pomdp, b: Pomdp):
    for x, y in zip(a.transitions + a.observations, b.transitions + b.observations, strict=True):
        np.testing.assert_array_equal(x.toarray(), y.toarray())
    np.testing.assert_array_equal(a.rewards, b.rewards)
    np.testing.assert_array_equal(a.initial, b.initial)
    assert (a.discount, a.states, a.actions, a.observation_names) == (
        b.discount, b.states, b.actions, b.observation_names,
    )  # fmt: skip


@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.too_slow])
@given(model=pomdps())
def test_a_model_reads_back_to_the_same_bits(model, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "written.pomdp"
    pomdp.write(model, path)
    assert_same(model, pomdp.read(path))


def tiny(**changes) -> Pomdp:
    one = sp.csr_array(np.ones((1, 1)))
    return replace(Pomdp((one,), (one,), np.zeros((1, 1)), np.ones(1), 0.5), **changes)


@pytest.mark.parametrize("name", ["two words", "1st", "a:b", "a*", "#a", "-a", "", "a\nb"])
def test_names_that_the_grammar_does_not_allow_are_left_out(tmp_path, name):
    pomdp.write(tiny(states=(name,)), tmp_path / "x.pomdp")
    assert pomdp.read(tmp_path / "x.pomdp").states == ()


def test_names_given_twice_are_left_out(tmp_path):
    two = sp.csr_array(np.eye(2))
    shows = sp.csr_array(np.ones((2, 1)))
    model = tiny(
        transitions=(two,),
        observations=(shows,),
        rewards=np.ones((2, 1)),
        initial=np.ones(2) / 2,
        states=("a", "a"),
    )
    pomdp.write(model, tmp_path / "x.pomdp")
    assert pomdp.read(tmp_path / "x.pomdp").states == ()


def test_a_text_that_people_can_read(tmp_path):
    model = Pomdp(
        (sp.csr_array(np.eye(2)), sp.csr_array(np.full((2, 2), 0.5))),
        (sp.csr_array([[0.85, 0.15], [0.15, 0.85]]),) * 2,
        np.array([[-1.0, 10.0], [-1.0, 0.0]]),
        np.array([0.5, 0.5]),
        0.95,
        ("left", "right"),
        ("listen", "open"),
    )
    pomdp.write(model, tmp_path / "x.pomdp")
    assert (tmp_path / "x.pomdp").read_text().split("\n") == [
        "discount: 0.95",
        "values: reward",
        "states: left right",
        "actions: listen open",
        "observations: 2",
        "start: 0.5 0.5",
        "",
        "T: 0 : 0 : 0 1.0",
        "T: 0 : 1 : 1 1.0",
        "T: 1 : 0 : 0 0.5",
        "T: 1 : 0 : 1 0.5",
        "T: 1 : 1 : 0 0.5",
        "T: 1 : 1 : 1 0.5",
        "O: * : 0 : 0 0.85",
        "O: * : 0 : 1 0.15",
        "O: * : 1 : 0 0.15",
        "O: * : 1 : 1 0.85",
        "R: 0 : 0 : * : * -1.0",
        "R: 1 : 0 : * : * 10.0",
        "R: 0 : 1 : * : * -1.0",
        "",
    ]


def test_a_target_that_cannot_be_written(tmp_path):
    with pytest.raises(BadInput, match="this is a directory"):
        pomdp.write(tiny(), tmp_path)
    with pytest.raises(BadInput, match="cannot be written"):
        pomdp.write(tiny(), tmp_path / "none" / "x.pomdp")


def test_a_full_disk_leaves_what_stood_there(tmp_path, monkeypatch):
    path = tmp_path / "x.pomdp"
    path.write_text("as it was")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunFailed, match="No space left on device"):
        pomdp.write(tiny(), path)
    assert path.read_text() == "as it was"
    assert list(tmp_path.iterdir()) == [path]
