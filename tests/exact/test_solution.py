"""What the solver returns: the policy as a controller, its tree, simulation, and files."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

from epomdp.errors import BadInput
from epomdp.exact.belief import EpistemicPOMDP
from epomdp.exact.family import Family
from epomdp.exact.guessing import guessing_family
from epomdp.exact.policy_evaluation import evaluate, roll_out
from epomdp.exact.pomdp import Pomdp
from epomdp.exact.solve import solve
from epomdp.exact.solving.solution import Solution, extrapolate


def small_family(starts=(0,), seed=3):
    rng = np.random.default_rng(seed)
    transitions = rng.dirichlet(0.4 * np.ones(4), (3, 4, 2))
    rewards = rng.integers(0, 3, (3, 4, 2)).astype(float)
    initial = np.zeros(4)
    initial[list(starts)] = 1.0 / len(starts)
    return Family.from_arrays(transitions, rewards, initial, [0.5, 0.3, 0.2], 0.9)


def tiger():
    hear = sp.csr_array(np.array([[0.85, 0.15], [0.15, 0.85]]))
    half = sp.csr_array(np.full((2, 2), 0.5))
    rewards = np.array([[-1.0, -100.0, 10.0], [-1.0, 10.0, -100.0]])
    stay = sp.csr_array(np.eye(2))
    return Pomdp((stay, half, half), (hear, half, half), rewards, np.array([0.5, 0.5]), 0.95)


@pytest.fixture(scope="module")
def solution():
    return solve(small_family((0, 2)), observe_rewards=False, gap=0.01)


def test_tiger_is_worth_what_the_literature_says():
    solution = solve(tiger(), gap=1e-4)
    assert solution.lower - 1e-4 <= 19.3714 <= solution.upper + 1e-4


def test_the_policy_of_the_tiger_listens_before_it_opens():
    policy = solve(tiger(), gap=1e-4)
    memory = policy.start()
    assert policy.act(0, memory) == 0
    for _ in range(2):
        memory = policy.update(memory, 0, 0, np.nan, 1)
    assert policy.act(0, memory) == 1
    # Where the tiger was heard does not matter any more once it has been moved.
    assert policy.act(0, policy.update(memory, 0, 1, np.nan, 0)) == 0


def test_saving_keeps_every_bit(solution, tmp_path):
    solution.environment_returns()
    solution.save(tmp_path / "policy.npz")
    again = Solution.load(tmp_path / "policy.npz")
    fresh = {name: value for name, value in vars(again.policy).items() if not name.startswith("_")}
    for name, value in fresh.items():
        there = getattr(solution.policy, name)
        if isinstance(value, np.ndarray) and value.dtype.names:
            for field in value.dtype.names:
                if field != "bound":
                    np.testing.assert_array_equal(value[field], there[field])
        else:
            np.testing.assert_array_equal(value, there)
    np.testing.assert_array_equal(solution.history, again.history)
    for name in ("lower", "upper", "status", "seconds", "iterations"):
        assert getattr(solution, name) == getattr(again, name)
    np.testing.assert_array_equal(solution.environment_returns(), again.environment_returns())
    rngs = np.random.default_rng(1), np.random.default_rng(1)
    np.testing.assert_array_equal(solution.simulate(5, rngs[0]), again.simulate(5, rngs[1]))
    assert str(solution.tree()[0]) == str(again.tree()[0])


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "family", "pickle", "missing", "out of range"])
def test_a_file_that_is_no_solution_is_refused(solution, tmp_path, damage):
    path = tmp_path / "policy.npz"
    solution.save(path)
    content = path.read_bytes()
    arrays = dict(np.load(path))
    if damage == "empty":
        path.write_bytes(b"")
    elif damage == "text":
        path.write_text("no archive")
    elif damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "family":
        small_family().save(path)
    elif damage == "pickle":
        np.savez(path, **(arrays | {"links": np.array([{}, None], dtype=object)}))
    elif damage == "missing":
        path.unlink()
    else:
        np.savez(path, **(arrays | {"links": arrays["links"] + 10**6}))
    with pytest.raises(BadInput, match=r"policy\.npz") as caught:
        Solution.load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("row_entry", 10**9),
        ("entry_outcome", 10**9),
        ("entry_outcome", -1),
        ("entry_hidden", 10**6),
        ("hidden_start", 10**6),
        ("hidden", 10**6),
        ("link_start", 10**6),
        ("outcome_start", -1),
        ("cases", -1),
        ("start_nodes", 10**6),
        ("start_weights", np.nan),
        ("beliefs", -1.0),
        ("row_reward", np.inf),
        ("discount", 1.5),
        ("num_hidden", 0),
    ],
)
def test_numbers_that_lead_nowhere_are_refused(solution, tmp_path, name, value):
    path = tmp_path / "policy.npz"
    solution.save(path)
    arrays = dict(np.load(path))
    changed = arrays[name].copy()
    # The last reward closes the rows and is none.
    changed.reshape(-1)[-2 if name == "row_reward" else -1] = value
    np.savez(path, **(arrays | {name: changed}))
    with pytest.raises(BadInput, match=r"policy\.npz: is no saved solution") as caught:
        Solution.load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["labels", "actions", "states", "rewards", "links", "hidden", "beliefs"])
def test_arrays_that_are_too_short_are_refused(solution, tmp_path, name):
    path = tmp_path / "policy.npz"
    solution.save(path)
    arrays = dict(np.load(path))
    np.savez(path, **(arrays | {name: arrays[name][:-1]}))
    with pytest.raises(BadInput, match=r"policy\.npz: is no saved solution"):
        Solution.load(path)


def test_environments_without_weight_have_no_return():
    family = small_family().with_weights([1.0, 0.0, 0.0])
    returns = solve(family, gap=1e-2).environment_returns()
    assert returns.shape == (3,) and np.isnan(returns).tolist() == [False, True, True]


@pytest.mark.parametrize("horizon", [1, 2, 5])
@pytest.mark.parametrize("observed", [True, False])
def test_with_a_horizon_the_policy_takes_the_familys_own_states(horizon, observed, tmp_path):
    family = replace(small_family((1, 3)), horizon=horizon)
    solution = solve(family, observe_rewards=observed, gap=1e-6)
    found = evaluate(EpistemicPOMDP(family, observed), solution)
    assert found.lower == pytest.approx(solution.lower, abs=1e-6)
    assert found.lower == pytest.approx(evaluate(EpistemicPOMDP(family.layered(), observed), solution).lower)
    solution.save(tmp_path / "policy.npz")
    again = Solution.load(tmp_path / "policy.npz")
    rng = np.random.default_rng(0)
    returns = []
    for _ in range(1000):
        m, state, total = rng.choice(3, p=family.weights), int(rng.choice([1, 3])), 0.0
        memory = again.start(state)
        for t in range(horizon):
            action = again.act(state, memory)
            reward = float(family.rewards[m, state, action])
            total += family.discount**t * reward
            successors, probabilities = family.row(m, state, action)
            following = int(rng.choice(successors, p=probabilities))
            memory = again.update(memory, state, action, reward if observed else np.nan, following)
            state = following
        returns.append(total)
    error = np.std(returns, ddof=1) / np.sqrt(len(returns))
    assert abs(np.mean(returns) - solution.lower) <= 4.5 * error + 1e-6
    with pytest.raises(BadInput, match=r"no episode starts in state 0; starts: \[1, 3\]"):
        again.start(0)


def test_a_solution_is_written_into_a_folder_that_exists(solution, tmp_path):
    with pytest.raises(BadInput):
        solution.save(tmp_path / "nowhere" / "policy.npz")


def test_simulation_agrees_with_the_value_and_with_the_epistemic_pomdp(solution):
    returns = solution.simulate(2000, np.random.default_rng(0))
    value = np.nansum(small_family().weights * solution.environment_returns())
    error = returns.std(ddof=1) / np.sqrt(returns.size)
    assert abs(returns.mean() - value) < 4 * error
    found = roll_out(
        EpistemicPOMDP(small_family((0, 2)), False), solution, 60, np.random.default_rng(1), confidence=0.9999
    )
    assert found.lower <= value <= found.upper


def test_simulation_needs_an_episode(solution):
    with pytest.raises(BadInput, match="episodes"):
        solution.simulate(0, np.random.default_rng(0))


def walk(node):
    yield node
    for branch in node.branches:
        if branch.node is not None:
            yield from walk(branch.node)


def test_the_tree_follows_bayes_rule_and_the_policy(solution):
    family = small_family((0, 2))
    pomdp = EpistemicPOMDP(family, False)
    trees = solution.tree(depth=3, least_probability=0.0)
    assert [tree.state for tree in trees] == [0, 2]
    assert sum(tree.probability for tree in trees) == pytest.approx(1.0)
    assert sum(tree.probability * tree.value for tree in trees) >= solution.lower - 1e-9
    for tree in trees:
        for node in walk(tree):
            assert sum(branch.probability for branch in node.branches) == pytest.approx(1.0)
            belief = np.zeros(3)
            belief[node.hidden] = node.belief
            for branch in node.branches:
                if branch.node is not None:
                    after = pomdp.update(belief, node.state, node.action, np.nan, branch.label)
                    seen = np.zeros(3)
                    seen[branch.node.hidden] = branch.node.belief
                    np.testing.assert_allclose(seen, after, atol=1e-12)
                    assert branch.node.state == branch.label
                    assert branch.node.probability == pytest.approx(node.probability * branch.probability)


def test_a_trees_value_is_its_rewards_and_its_branches():
    solution = solve(guessing_family([0.5, 0.3, 0.2], None, 0.9), gap=1e-6)
    (tree,) = solution.tree(depth=4)
    for node in walk(tree):
        below = sum(b.probability * (b.node.value if b.node else 0.0) for b in node.branches)
        wrong = sum(b.probability for b in node.branches if b.node)
        assert node.value == pytest.approx(-wrong + 0.9 * below, abs=1e-6)


def test_a_tree_in_words():
    solution = solve(guessing_family([0.5, 0.3, 0.2], None, 0.9), gap=1e-6)
    lines = str(solution.tree(depth=2)[0]).splitlines()
    assert lines[0].startswith("state 0: action 0")
    assert "belief 0: 0.5, 1: 0.3, 2: 0.2" in lines[0]
    assert any("0.5 sees" in line for line in lines)
    with pytest.raises(BadInput, match="depth"):
        solution.tree(depth=0)


def test_the_policy_says_what_it_cannot_follow(solution):
    memory = solution.start(0)
    action = solution.act(0, memory)
    with pytest.raises(BadInput, match="starts in state 1"):
        solution.start(1)
    with pytest.raises(BadInput, match="not"):
        solution.update(memory, 0, 1 - action, np.nan, 0)
    chain = np.zeros((1, 2, 1, 2))
    chain[:, :, :, 1] = 1.0
    sure = solve(Family.from_arrays(chain, np.zeros((1, 2, 1)), [1.0, 0.0], [1.0], 0.5), gap=0.1)
    with pytest.raises(BadInput, match="shows 0"):
        sure.update(sure.start(0), 0, 0, 0.0, 0)


def test_rewards_seen_in_single_precision_are_recognised():
    rewards = np.array([[[0.1]], [[0.2]]])
    family = Family.from_arrays(np.ones((2, 1, 1, 1)), rewards, [1.0], [0.5, 0.5], 0.5)
    policy = solve(family, gap=1e-3)
    memory = policy.start(0)
    assert policy.update(memory, 0, 0, float(np.float32(0.2)), 0) == policy.update(memory, 0, 0, 0.2, 0)
    with pytest.raises(BadInput, match="reward"):
        policy.update(memory, 0, 0, 0.15, 0)


def test_time_left_is_extrapolated_as_a_power_of_time():
    history = [(t, 0.0, 1.0 / t) for t in (1.0, 2.0, 4.0)]
    assert extrapolate(history, 0.125) == pytest.approx(4.0)
    assert extrapolate(history, 0.25) == 0.0
    assert extrapolate(history[:1], 0.1) is None
    assert extrapolate([(1.0, 0.0, 1.0), (2.0, 0.0, 1.0)], 0.1) is None
