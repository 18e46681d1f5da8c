"""Families and flat POMDPs to `.pomdpx` and back."""

import xml.etree.ElementTree as ET

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from epomdp.exact.family import Family
from epomdp.exact.formats import markup, pomdp, pomdpx
from epomdp.exact.formats.flat import flatten


def random_family(seed: int, starts: int = 1) -> Family:
    rng = np.random.default_rng(seed)
    M, S, A = rng.integers(1, 4, 3)
    rewards = rng.choice([0.0, 0.5, -1.25], (M, S, A))
    initial = np.zeros(S)
    initial[: min(starts, S)] = 1 / min(starts, S)
    transitions = rng.dirichlet(np.full(S, 0.5), (M, S, A))
    return Family.from_arrays(transitions, rewards, initial, rng.dirichlet(np.ones(M)), 0.95)


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10**6), starts=st.integers(1, 3), observe=st.booleans(), cut=st.booleans())
def test_a_family_comes_back(seed, starts, observe, cut, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "family.pomdpx"
    family = random_family(seed, starts)
    pomdpx.write(family, path, observe)
    whole, markup.CUT_FROM = markup.CUT_FROM, 1 if cut else 1 << 30
    try:
        back = pomdpx.read(path)
    finally:
        markup.CUT_FROM = whole
    assert isinstance(back, Family)
    np.testing.assert_allclose(back.dense_transitions(), family.dense_transitions(), atol=1e-12)
    np.testing.assert_allclose(back.rewards, family.rewards, atol=1e-12)
    np.testing.assert_allclose(back.initial, family.initial, atol=1e-12)
    np.testing.assert_allclose(back.weights, family.weights, atol=1e-12)
    assert back.discount == family.discount


def test_a_written_family_is_a_model_with_the_state_seen_and_the_environment_hidden(tmp_path):
    pomdpx.write(random_family(3), tmp_path / "x.pomdpx", observe_rewards=False)
    variables = ET.parse(tmp_path / "x.pomdpx").getroot().find("Variable")
    seen = {v.get("vnamePrev"): v.get("fullyObs") for v in variables if v.tag == "StateVar"}
    assert seen == {"state_0": "true", "environment_0": "false"}


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6), observe=st.booleans())
def test_a_flat_model_comes_back(seed, observe, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "flat.pomdpx"
    model = flatten(random_family(seed, 2), observe)
    pomdpx.write(model, path)
    back = pomdpx.read(path)
    for x, y in zip(
        model.transitions + model.observations, back.transitions + back.observations, strict=True
    ):
        np.testing.assert_array_equal(x.toarray(), y.toarray())
    np.testing.assert_array_equal(model.rewards, back.rewards)
    np.testing.assert_array_equal(model.initial, back.initial)
    for names in ("states", "actions", "observation_names"):
        assert getattr(model, names) == getattr(back, names)


def test_names_that_xml_needs_escaped(tmp_path):
    text = 'discount: 0.5 values: reward states: a&b <c> actions: x observations: "q" o\'o T: * identity O: * uniform'
    (tmp_path / "x.pomdp").write_text(text)
    model = pomdp.read(tmp_path / "x.pomdp")
    pomdpx.write(model, tmp_path / "x.pomdpx")
    back = pomdpx.read(tmp_path / "x.pomdpx")
    assert (back.states, back.observation_names) == (("a&b", "<c>"), ('"q"', "o'o"))


def test_names_that_xml_cannot_hold_are_numbered(tmp_path):
    text = (
        "discount: 0.5 values: reward states: a \x1b[0m actions: x observations: 1 T: * identity O: * uniform"
    )
    (tmp_path / "x.pomdp").write_text(text)
    pomdpx.write(pomdp.read(tmp_path / "x.pomdp"), tmp_path / "x.pomdpx")
    assert pomdpx.read(tmp_path / "x.pomdpx").states == ("s0", "s1")


def test_names_that_look_like_reward_cells_but_are_none(tmp_path):
    family = random_family(0)
    pomdpx.write(family, tmp_path / "x.pomdpx", observe_rewards=False)
    text = (tmp_path / "x.pomdpx").read_text().replace(" s0", " s0_r1").replace(">s0", ">s0_r1")
    (tmp_path / "x.pomdpx").write_text(text)
    back = pomdpx.read(tmp_path / "x.pomdpx")
    np.testing.assert_allclose(back.rewards, family.rewards)
