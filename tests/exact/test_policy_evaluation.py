"""The equivalence of theory: a policy's mean over environments is its value in the epistemic POMDP."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epomdp.errors import BadInput
from epomdp.exact.belief import EpistemicPOMDP
from epomdp.exact.controllers import Memoryless
from epomdp.exact.family import Family
from epomdp.exact.guessing import guessing_family
from epomdp.exact.policy_evaluation import evaluate, evaluate_memoryless, roll_out


def random_family(seed, M=3, S=3, A=2, horizon=None, discount=0.9, deterministic=False):
    rng = np.random.default_rng(seed)
    transitions = rng.dirichlet(np.ones(S), (M, S, A))
    if deterministic:
        transitions = np.eye(S)[rng.integers(S, size=(M, S, A))]
    rewards = rng.integers(-1, 2, (M, S, A)).astype(float)
    weights = rng.dirichlet(np.ones(M))
    return Family.from_arrays(transitions, rewards, rng.dirichlet(np.ones(S)), weights, discount, horizon)


class Believer:
    """Deterministic, adaptive, with the belief as memory: the best action for the next reward."""

    def __init__(self, pomdp):
        self.pomdp = pomdp

    def start(self, state):
        return self.pomdp.prior

    def act(self, state, memory, rng):
        return int(np.argmax((memory @ self.pomdp.family.rewards[:, state]).round(9)))

    def update(self, memory, state, action, reward, next_state):
        return self.pomdp.update(memory, state, action, reward, next_state)


class Sampler(Believer):
    """Stochastic and adaptive: rewards expected under the belief, through a softmax."""

    def probabilities(self, state, memory):
        weights = np.exp(memory @ self.pomdp.family.rewards[:, state])
        return weights / weights.sum()

    def act(self, state, memory, rng):
        return int(rng.choice(self.pomdp.family.num_actions, p=self.probabilities(state, memory)))


def choices(policy, state, memory, num_actions):
    if hasattr(policy, "probabilities"):
        return policy.probabilities(state, memory)
    return np.eye(num_actions)[policy.act(state, memory, None)]


def propagate_belief(pomdp, policy, belief, state, memory):
    """Value in the epistemic POMDP by recursion over what is observed, for families that end."""
    family = pomdp.family
    if state == family.num_states - 1:
        return 0.0
    value = 0.0
    for action, weight in enumerate(choices(policy, state, memory, family.num_actions)):
        if weight == 0:
            continue
        value += weight * belief @ family.rewards[:, state, action]
        seen = pomdp.outcomes(state, action)
        for t, r, likelihood in zip(*seen, strict=True):
            chance = belief @ likelihood
            if chance > 0:
                after = pomdp.update(belief, state, action, r, t)
                following = policy.update(memory, state, action, r, int(t))
                future = propagate_belief(pomdp, policy, after, int(t), following)
                value += weight * chance * family.discount * future
    return value


def walk_environment(pomdp, policy, m, state, memory):
    """Value in one environment by recursion over its histories."""
    family = pomdp.family
    if state == family.num_states - 1:
        return 0.0
    value = 0.0
    for action, weight in enumerate(choices(policy, state, memory, family.num_actions)):
        if weight == 0:
            continue
        reward = family.rewards[m, state, action]
        value += weight * reward
        for t, p in zip(*family.row(m, state, action), strict=True):
            seen = reward if pomdp.observe_rewards else np.nan
            following = policy.update(memory, state, action, seen, int(t))
            value += weight * p * family.discount * walk_environment(pomdp, policy, m, int(t), following)
    return value


@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 10**6), st.booleans(), st.sampled_from([Believer, Sampler]), st.sampled_from([0.5, 1.0])
)
def test_equivalence_of_adaptive_policies(seed, observe_rewards, kind, discount):
    """Solve each environment under the policy and average; propagate the belief; and the evaluation's own."""
    pomdp = EpistemicPOMDP(random_family(seed, S=2, horizon=3, discount=discount), observe_rewards)
    policy = kind(pomdp)
    starts = np.flatnonzero(pomdp.family.initial)
    by_belief, by_environment = 0.0, np.zeros(3)
    for s in starts:
        chance = pomdp.family.initial[s]
        by_belief += chance * propagate_belief(pomdp, policy, pomdp.prior, s, policy.start(s))
        for m in range(3):
            by_environment[m] += chance * walk_environment(pomdp, policy, m, s, policy.start(s))
    assert by_belief == pytest.approx(pomdp.prior @ by_environment, abs=1e-9)
    found = evaluate(pomdp, policy)
    assert found.exact
    np.testing.assert_allclose(found.environment_lower, by_environment, atol=1e-9)
    assert found.lower == found.upper == pytest.approx(by_belief, abs=1e-9)


def belief_chain_value(pomdp, policy):
    """Value by solving the Markov chain of all (state, belief) pairs, for policies whose memory is the belief."""
    family = pomdp.family
    index, pairs = {}, []

    def find(state, belief):
        key = (state, belief.round(9).tobytes())
        if key not in index:
            index[key] = len(pairs)
            pairs.append((state, belief))
        return index[key]

    starts = [(find(s, pomdp.prior), family.initial[s]) for s in np.flatnonzero(family.initial)]
    rows, n = [], 0
    while n < len(pairs):
        state, belief = pairs[n]
        action = policy.act(state, belief, None)
        seen = pomdp.outcomes(state, action)
        ways = []
        for t, r, likelihood in zip(*seen, strict=True):
            if belief @ likelihood > 0:
                ways.append((find(int(t), pomdp.update(belief, state, action, r, t)), belief @ likelihood))
        rows.append((belief @ family.rewards[:, state, action], ways))
        n += 1
    system, reward = np.eye(n), np.zeros(n)
    for i, (paid, ways) in enumerate(rows):
        reward[i] = paid
        for j, p in ways:
            system[i, j] -= family.discount * p
    values = np.linalg.solve(system, reward)
    return sum(chance * values[i] for i, chance in starts)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_equivalence_without_a_horizon(seed, observe_rewards):
    """Deterministic environments have finitely many beliefs: one linear system over them, against one each."""
    pomdp = EpistemicPOMDP(random_family(seed, M=4, deterministic=True), observe_rewards)
    policy = Believer(pomdp)
    found = evaluate(pomdp, policy)
    assert found.exact
    assert found.lower == pytest.approx(belief_chain_value(pomdp, policy), abs=1e-9)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_memoryless_policies_are_linear_systems(seed):
    pomdp = EpistemicPOMDP(random_family(seed))
    table = np.random.default_rng(seed).dirichlet(np.ones(2), 3)
    family = pomdp.family
    expected = []
    for P, r in zip(family.dense_transitions(), family.rewards, strict=True):
        chain, reward = np.einsum("sa,sat->st", table, P), (table * r).sum(axis=1)
        expected.append(family.initial @ np.linalg.solve(np.eye(3) - 0.9 * chain, reward))
    for found in (evaluate_memoryless(pomdp, table), evaluate(pomdp, Memoryless(table))):
        np.testing.assert_allclose(found.environment_upper, expected, atol=1e-9)
        assert found.lower == pytest.approx(pomdp.prior @ expected, abs=1e-9)


def test_environments_that_the_prior_rules_out_are_not_asked():
    pomdp = EpistemicPOMDP(random_family(2, horizon=2).with_weights([0.5, 0.0, 0.5]))
    found = evaluate(pomdp, Believer(pomdp))
    assert np.isnan(found.environment_lower).tolist() == [False, True, False]
    assert found.lower == pytest.approx(found.environment_lower[[0, 2]].mean())


class Counter:
    """Remembers the time and alternates: its memories never repeat."""

    def start(self, state):
        return 0

    def act(self, state, memory, rng):
        return memory % 2

    def update(self, memory, state, action, reward, next_state):
        return memory + 1


class Alternator(Counter):
    """The same policy with a finite memory."""

    def update(self, memory, state, action, reward, next_state):
        return 1 - memory


@pytest.mark.parametrize("seed", range(5))
def test_bounds_hold_and_close_where_memories_are_endless(seed):
    pomdp = EpistemicPOMDP(random_family(seed, discount=0.7))
    truth = evaluate(pomdp, Alternator())
    assert truth.exact and truth.nodes == 6
    gaps = []
    for max_nodes in (0, 1, 10, 100):
        found = evaluate(pomdp, Counter(), max_nodes)
        assert not found.exact
        assert (found.environment_lower <= truth.environment_lower + 1e-9).all()
        assert (truth.environment_lower <= found.environment_upper + 1e-9).all()
        assert found.lower <= found.upper
        gaps.append(found.upper - found.lower)
    assert gaps == sorted(gaps, reverse=True) and gaps[-1] < 1e-4 * gaps[0]


def test_endless_memories_at_the_end_are_of_no_account():
    pomdp = EpistemicPOMDP(guessing_family([0.5, 0.5], limit=3))
    found = evaluate(pomdp, Counter())
    assert found.exact and found.lower == pytest.approx(-0.5)


def test_arrays_tuples_and_hashables_are_memories_and_others_are_refused():
    pomdp = EpistemicPOMDP(random_family(0))
    expected = evaluate(pomdp, Alternator()).lower

    class Wrapped(Alternator):
        def __init__(self, wrap, unwrap):
            self.wrap, self.unwrap = wrap, unwrap

        def start(self, state):
            return self.wrap(0)

        def act(self, state, memory, rng):
            return self.unwrap(memory)

        def update(self, memory, *step):
            return self.wrap(1 - self.unwrap(memory))

    for wrap, unwrap in (
        (lambda n: np.array([n]), lambda a: int(a[0])),
        (lambda n: (np.array(n), "x"), lambda a: int(a[0])),
        (lambda n: frozenset([n]), lambda a: next(iter(a))),
    ):
        found = evaluate(pomdp, Wrapped(wrap, unwrap))
        assert found.nodes == 6 and found.lower == pytest.approx(expected)
    with pytest.raises(BadInput, match="memory of type list cannot be compared"):
        evaluate(pomdp, Wrapped(lambda n: [n], lambda a: a[0]))


def test_hidden_dice_and_impossible_actions_are_refused():
    pomdp = EpistemicPOMDP(random_family(0))

    class Dice(Counter):
        def act(self, state, memory, rng):
            return int(rng.integers(2))

    with pytest.raises(BadInput, match="draws random numbers"):
        evaluate(pomdp, Dice())

    class Wild(Counter):
        def act(self, state, memory, rng):
            return 2

    with pytest.raises(BadInput, match="acts 2 in state"):
        evaluate(pomdp, Wild())
    with pytest.raises(BadInput, match="action 2 in state"):
        roll_out(pomdp, Wild(), 2, np.random.default_rng(0))


@pytest.mark.parametrize("kind", [Believer, Sampler])
def test_rollouts_agree_with_the_exact_value(kind):
    """At four standard errors: a false alarm in 16,000 for a right implementation."""
    pomdp = EpistemicPOMDP(random_family(3, S=2, horizon=4, discount=1.0))
    policy = kind(pomdp)
    exact = evaluate(pomdp, policy)
    found = roll_out(pomdp, policy, 1500, np.random.default_rng(0), confidence=1 - 6e-5)
    assert found.lower <= exact.lower <= found.upper
    assert found.truncation == 0.0
    for m in range(3):
        own = found.returns[found.environments == m]
        assert own.mean() == pytest.approx(
            exact.environment_lower[m], abs=4.5 * own.std() / np.sqrt(own.size) + 1e-9
        )
    again = roll_out(pomdp, policy, 1500, np.random.default_rng(0), confidence=1 - 6e-5)
    np.testing.assert_array_equal(found.returns, again.returns)


def test_intervals_cover_as_often_as_they_say():
    pomdp = EpistemicPOMDP(guessing_family([0.2, 0.3, 0.5], limit=3))
    policy = Memoryless(np.full((pomdp.family.num_states, 3), 1 / 3))
    truth = evaluate(pomdp, policy).lower
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        found = roll_out(pomdp, policy, 20, rng, confidence=0.8)
        covered += found.lower <= truth <= found.upper
    # Two hundred draws at about .8: three standard errors are .085.
    assert 0.7 < covered / 200 < 0.9


def test_a_cut_episode_widens_the_interval():
    """One reward of 1 a step for ever: the return of n steps and what is left add up to the value."""
    family = Family.from_arrays(np.ones((1, 1, 1, 1)), [[[1.0]]], [1.0], [1.0], 0.5)
    pomdp, policy = EpistemicPOMDP(family), Memoryless(np.array([0]))
    found = roll_out(pomdp, policy, 2, np.random.default_rng(0), max_steps=3)
    assert found.mean == 1.75 and found.truncation == 0.25
    assert (found.lower, found.upper) == (1.5, 2.0)
    assert roll_out(pomdp, policy, 2, np.random.default_rng(0)).mean == pytest.approx(2.0, abs=1e-5)
    with pytest.raises(BadInput, match="1 episodes"):
        roll_out(pomdp, policy, 1, np.random.default_rng(0))
