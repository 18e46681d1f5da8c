"""Families of Gymnasium's toy-text environments, against the tables themselves."""

import itertools

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.toy_text.frozen_lake import generate_random_map

from epomdp.errors import BadInput
from epomdp.exact import mdp
from epomdp.exact.toytext import from_toy_text


def frozen_lakes(count, size=4):
    made = [gymnasium.make("FrozenLake-v1", desc=generate_random_map(size, seed=i)) for i in range(count)]
    return [env.unwrapped for env in made]


def table_value(table, discount, sweeps):
    """(S,) optimal values of a table by value iteration, done transitions worth nothing more."""
    value = np.zeros(len(table))
    for _ in range(sweeps):
        value = np.array(
            [
                max(
                    sum(p * (r + (0.0 if done else discount * value[t])) for p, t, r, done in table[s][a])
                    for a in table[s]
                )
                for s in range(len(table))
            ]
        )
    return value


@pytest.mark.parametrize("observe_rewards", [True, False])
@pytest.mark.parametrize("discount, horizon", [(0.9, None), (1.0, 12), (0.8, 5)])
def test_frozen_lake_has_the_values_of_its_tables(observe_rewards, discount, horizon):
    envs = frozen_lakes(3)
    family = from_toy_text(
        [env.P for env in envs], envs[0].initial_state_distrib, discount, None, horizon, observe_rewards
    )
    sweeps = horizon or 400
    expected = [table_value(env.P, discount, sweeps)[0] for env in envs]
    solved = family if horizon is None else family.layered()
    np.testing.assert_allclose(mdp.optimal_values(solved) @ solved.initial, expected, atol=1e-9)
    # The goal, reached or missed, is the one thing that pays by the successor.
    assert family.num_states == (18 if observe_rewards else 17)
    if observe_rewards:
        assert (family.states[-1], family.pending[-1]) == (16, 1.0)


@pytest.mark.parametrize("name", ["CliffWalking-v1", "Taxi-v4"])
def test_rewards_of_the_action_alone_need_no_arrivals(name):
    env = gymnasium.make(name).unwrapped
    table = env.P
    family = from_toy_text([table], env.initial_state_distrib, 0.9)
    assert family.num_states == len(table) + 1 and not family.pending.any()
    np.testing.assert_allclose(mdp.optimal_values(family)[0, :-1], table_value(table, 0.9, 300), atol=1e-9)
    for s, a in itertools.product(list(table)[::7], range(family.num_actions)):
        assert family.rewards[0, s, a] == table[s][a][0][2]


GAMBLE = {0: {0: [(0.5, 0, 2.0, False), (0.25, 1, -1.0, False), (0.25, 1, 4.0, True)], 1: [(1.0, 1, 1.0, False)]},
          1: {0: [(1.0, 0, 0.5, False)], 1: [(1.0, 1, 0.0, True)]}}  # fmt: skip


def play(table, actions, discount):
    """{what the agent saw: (probability, discounted return)} of a fixed sequence of actions, by enumeration."""
    paths = {((0, None),): (1.0, 0.0)}
    for t, action in enumerate(actions):
        following = {}
        for path, (weight, value) in paths.items():
            state = path[-1][0]
            if state == "end":
                following[path] = (weight, value)
                continue
            for p, s, r, done in table[state][action]:
                following[(*path, ("end" if done else s, r))] = (weight * p, value + discount**t * r)
        paths = following
    return paths


def play_family(family, actions, discount):
    """The same, of a family: the reward seen is that pending, or else that paid."""
    S = family.states[family.pending == 0].max()
    paths = {((0, None),): (1.0, 0.0, 0)}
    for t, action in enumerate([*actions, 0]):
        following = {}
        for path, (weight, value, n) in paths.items():
            paid = family.rewards[0, n, action]
            base = paid - family.pending[n] / discount
            for s, p in zip(*family.row(0, n, action), strict=True):
                shown = "end" if family.states[s] == S else int(family.states[s])
                seen = (shown, float(family.pending[s] + base))
                over = path[-1][0] == "end" or t == len(actions)
                longer = path if over else (*path, seen)
                before = following.get(longer, (0.0, 0.0, 0))[0]
                # In the added last step only what is pending counts.
                gain = discount**t * (paid if t < len(actions) else paid - base)
                following[longer] = (before + weight * p, value + gain, s)
        paths = following
    return {path: (weight, value) for path, (weight, value, _) in paths.items()}


@pytest.mark.parametrize("actions", [(0,), (0, 0), (1, 0, 0), (0, 1, 0, 1)])
def test_the_agent_sees_and_earns_what_the_table_says(actions):
    """Every history of states and rewards has its probability, and its return; sums of means would not do."""
    family = from_toy_text([GAMBLE], [1.0, 0.0], 0.5)
    expected, found = play(GAMBLE, actions, 0.5), play_family(family, actions, 0.5)
    assert set(expected) == set(found)
    for path, (weight, value) in expected.items():
        assert found[path] == pytest.approx((weight, value))


def test_equal_rewards_stay_equal_in_the_mean():
    """A third three times over is not one in floating point; it must not tell environments apart."""
    third = [(1 / 3, 0, 0.1, False)] * 3
    family = from_toy_text([{0: {0: third}}, {0: {0: [(1.0, 0, 0.1, False)]}}], [1.0], 0.9)
    assert family.rewards[0, 0, 0] == family.rewards[1, 0, 0] == 0.1


def test_different_starts_are_a_step_that_costs_nothing():
    envs = frozen_lakes(3)
    starts = np.eye(16)[[0, 4, 1]]
    family = from_toy_text([env.P for env in envs], starts, 0.9)
    expected = [table_value(env.P, 0.9, 400) @ start for env, start in zip(envs, starts, strict=True)]
    np.testing.assert_allclose(mdp.optimal_values(family) @ family.initial, expected, atol=1e-9)
    assert family.states[-1] == -1 and family.row(1, family.num_states - 1, 3)[0].tolist() == [4]
    limited = from_toy_text([env.P for env in envs], starts, 1.0, horizon=6).layered()
    expected = [table_value(env.P, 1.0, 6) @ start for env, start in zip(envs, starts, strict=True)]
    np.testing.assert_allclose(mdp.optimal_values(limited) @ limited.initial, expected, atol=1e-9)


def altered(state, action, entries):
    return {s: {a: entries if (s, a) == (state, action) else GAMBLE[s][a] for a in (0, 1)} for s in (0, 1)}


FAULTS = [
    ([], "tables: there is none"),
    ([{}], "tables: there is none"),
    ([GAMBLE, {0: GAMBLE[0]}], "environment 1, state 0, action 0: states or actions are not those"),
    ([GAMBLE, {0: GAMBLE[0], 1: {0: GAMBLE[1][0]}}], "environment 1, state 1, action 0: states or actions"),
    ([altered(1, 0, [(0.5, 0, 0.0, False)])], "environment 0, state 1, action 0 sums to 0.5"),
    ([altered(1, 0, [])], "environment 0, state 1, action 0 sums to 0"),
    ([altered(0, 1, [(1.0, 2, 0.0, False)])], "environment 0, state 0, action 1: leads to state 2"),
    (
        [altered(0, 1, [(1.0, 1, np.nan, False)])],
        "environment 0, state 0, action 1: probability 1.0, reward nan",
    ),
    ([altered(0, 1, [(-1.0, 1, 0.0, False)])], "environment 0, state 0, action 1: probability -1.0"),
    ([altered(0, 1, [(1.0, 1)])], "environment 0, state 0, action 1: an entry is"),
]


@pytest.mark.parametrize("tables, message", FAULTS)
def test_faults_are_named(tables, message):
    with pytest.raises(BadInput, match=message):
        from_toy_text(tables, [1.0, 0.0], 0.9)


def test_a_wrong_start_is_named():
    with pytest.raises(BadInput, match=r"initial: has shape \(3,\)"):
        from_toy_text([GAMBLE], [1.0, 0.0, 0.0], 0.9)
    with pytest.raises(BadInput, match="initial of environment 1: sum to"):
        from_toy_text([GAMBLE, GAMBLE], [[1.0, 0.0], [0.5, 0.0]], 0.9)
