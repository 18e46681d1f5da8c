"""Standard RL in tables, on the training contexts: Q-learning and PPO, neither of which knows of the posterior.

Both act in one hidden environment an episode, drawn by weight, and see the state only, as the deep agents do.
Their policies are then valued where it counts: `policy_values` in the test family or the epistemic POMDP.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from epomdp.errors import BadInput
from epomdp.exact.compiled import compiled
from epomdp.exact.family import Family
from epomdp.exact.occupancy import MemorylessReturn
from epomdp.exact.tables import Adam, softmax

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class QLearning:
    """What Q-learning has learned.

    Attributes:
        q: (S, A) action values.
        actions: (S,) the greedy policy, the first of equally good actions.
    """

    q: Floats
    actions: NDArray[np.int64]


def q_learning(
    family: Family,
    rng: np.random.Generator,
    *,
    steps: int = 200_000,
    epsilon: float = 0.1,
    episode_limit: int = 200,
) -> QLearning:
    """Tabular Q-learning (Watkins 1989) on the training contexts.

    epsilon-greedy, epsilon falling from 1 to `epsilon` over the first half of the steps; the learning rate of
    the n-th visit of a pair is n^-0.7, so that the values of a single environment converge.

    Args:
        family: training environments; each episode draws one by weight.
        rng: the only source of chance.
        steps: environment steps in all.
        epsilon: probability of a random action from half of the steps on.
        episode_limit: episodes are cut here, which is no end: the last state's value is still counted. The
            family's own horizon, where it has one, is an end.
    """
    if steps < 1 or not 0.0 <= epsilon <= 1.0 or episode_limit < 1:
        raise BadInput(f"q-learning: {steps} steps, epsilon {epsilon}; give at least 1, and one in [0, 1]")
    S, A = family.rewards.shape[1:]
    q, visits = np.zeros((S, A)), np.zeros((S, A), dtype=np.int64)
    _learn_q(*_simulator(family, episode_limit), steps, epsilon, q, visits, rng)
    return QLearning(q, q.argmax(axis=1))


class PPOHistory(NamedTuple):
    """After each of the updates (U,).

    Attributes:
        steps: (U,) int64, environment steps so far.
        train_value: (U,) expected return on the training contexts, exact.
        entropy: (U,) mean entropy of the policy over the visited states, in nats.
    """

    steps: NDArray[np.int64]
    train_value: Floats
    entropy: Floats


@dataclass(frozen=True, eq=False)
class TabularPPO:
    """A trained softmax table.

    Attributes:
        policy: (S, A) action probabilities.
        history: the training curve.
    """

    policy: Floats
    history: PPOHistory


def tabular_ppo(
    family: Family,
    rng: np.random.Generator,
    *,
    updates: int = 100,
    num_envs: int = 32,
    num_steps: int = 64,
    update_epochs: int = 4,
    learning_rate: float = 0.1,
    clip_coef: float = 0.2,
    gae_lambda: float = 0.95,
    ent_coef: float = 0.01,
    episode_limit: int = 200,
) -> TabularPPO:
    """PPO (Schulman et al. 2017) with tables for policy and value, on the training contexts.

    Args:
        family: training environments; each episode draws one by weight.
        rng: the only source of chance.
        updates: batches; the environment steps are updates * num_envs * num_steps.
        num_envs, num_steps: episodes side by side and steps of each in a batch.
        update_epochs: passes over a batch, each one full-batch Adam step.
        learning_rate: of Adam, on the logits and the values.
        clip_coef: the ratio of new to old probabilities stops paying beyond 1 +- this.
        gae_lambda: of generalised advantage estimation.
        ent_coef: weight of the entropy bonus.
        episode_limit: as for `q_learning`.
    """
    if min(updates, num_envs, num_steps, update_epochs, episode_limit) < 1:
        raise BadInput(
            "ppo: updates, num_envs, num_steps, update_epochs and episode_limit must be at least 1"
        )
    returns = MemorylessReturn(family)
    S, A = family.rewards.shape[1:]
    logits, values = np.zeros((S, A)), np.zeros(S)
    policy_adam, value_adam = Adam(logits.shape, learning_rate), Adam(values.shape, learning_rate)
    simulator = _simulator(family, episode_limit)
    # Environment, state and time of the running episodes; a time of -1 wants a new one.
    running = np.full((3, num_envs), -1, dtype=np.int64)
    rows = []
    for update in range(updates):
        batch = _Batch.empty(num_steps, num_envs)
        _collect(*simulator, softmax(logits), running, *batch, rng)
        advantages = gae(batch, values, family.discount, gae_lambda)
        targets = advantages + values[batch.states]
        spread = advantages.std()
        scaled = (advantages - advantages.mean()) / (spread if spread > 1e-8 else 1.0)
        old = softmax(logits)
        for _ in range(update_epochs):
            logits = logits + policy_adam.step(policy_slope(batch, scaled, logits, old, clip_coef, ent_coef))
            error = np.zeros(S)
            np.add.at(error, batch.states, targets - values[batch.states])
            values = values + value_adam.step(error / batch.states.size)
        policy = softmax(logits)
        entropy = -(policy * np.log(np.maximum(policy, 1e-300))).sum(axis=1)[batch.states].mean()
        rows.append(((update + 1) * num_envs * num_steps, returns.value(policy), entropy))
    steps, train_value, entropies = (np.array(column) for column in zip(*rows, strict=True))
    return TabularPPO(softmax(logits), PPOHistory(steps, train_value, entropies))


class _Batch(NamedTuple):
    """T steps of N episodes, each (T, N); `ended`: after the step the episode was over, `cut`: or was cut."""

    states: NDArray[np.int64]
    actions: NDArray[np.int64]
    rewards: Floats
    next_states: NDArray[np.int64]
    ended: NDArray[np.bool_]
    cut: NDArray[np.bool_]

    @classmethod
    def empty(cls, T: int, N: int) -> _Batch:
        states, actions, next_states = np.zeros((3, T, N), dtype=np.int64)
        ended, cut = np.zeros((2, T, N), dtype=np.bool_)
        return cls(states, actions, np.zeros((T, N)), next_states, ended, cut)


def gae(batch: _Batch, values: Floats, discount: float, gae_lambda: float) -> Floats:
    """(T, N) advantages (Schulman et al. 2016): no value after an end, no sum across an end or a cut."""
    ahead = np.where(batch.ended, 0.0, values[batch.next_states])
    errors = batch.rewards + discount * ahead - values[batch.states]
    carry = discount * gae_lambda * ~(batch.ended | batch.cut)
    advantages = np.zeros_like(errors)
    following = np.zeros(errors.shape[1])
    for t in range(len(errors) - 1, -1, -1):
        following = errors[t] + carry[t] * following
        advantages[t] = following
    return advantages


def policy_slope(
    batch: _Batch, advantages: Floats, logits: Floats, old: Floats, clip_coef: float, ent_coef: float
) -> Floats:
    """(S, A) gradient by the logits of mean min(r A, clip(r) A) + ent_coef * mean entropy, r = pi / pi_old."""
    policy = softmax(logits)
    s, a = batch.states.ravel(), batch.actions.ravel()
    gain = advantages.ravel()
    ratio = policy[s, a] / old[s, a]
    # The clipped branch is the smaller one, and flat, where the ratio is beyond the clip in the paying direction.
    flat = np.where(gain > 0.0, ratio > 1.0 + clip_coef, ratio < 1.0 - clip_coef)
    weight = np.where(flat, 0.0, ratio * gain) / s.size
    slope = np.zeros_like(policy)
    np.add.at(slope, (s, a), weight)
    # d log pi(a|s) / d logits = one_hot(a) - pi.
    slope -= np.bincount(s, weights=weight, minlength=len(policy))[:, None] * policy
    log = np.log(np.maximum(policy, 1e-300))
    entropy = -(policy * log).sum(axis=1, keepdims=True)
    share = np.bincount(s, minlength=len(policy))[:, None] / s.size
    return slope - ent_coef * share * policy * (log + entropy)


def _simulator(family: Family, episode_limit: int) -> tuple:
    """What the kernels need to play episodes; at last their length, and whether that is an end or a cut."""
    horizon = np.inf if family.horizon is None else family.horizon
    arrays = (family.indptr, family.successors, family.probabilities, family.rewards)
    chances = (np.cumsum(family.initial), np.cumsum(family.weights))
    return *arrays, *chances, family.discount, int(min(horizon, episode_limit)), horizon <= episode_limit


@compiled
def _draw(cumulative, first, last, rng):
    """An index in first .. last - 1 whose cumulative probability is the first above a random number."""
    target = rng.random() * cumulative[last - 1]
    for k in range(first, last):
        if cumulative[k] > target:
            return k
    return last - 1


@compiled
def _move(m, s, a, indptr, successors, probabilities, S, A, rng):
    row = (m * S + s) * A + a
    target = rng.random()
    k = indptr[row]
    while k < indptr[row + 1] - 1 and probabilities[k] <= target:
        target -= probabilities[k]
        k += 1
    return successors[k]


@compiled
def _is_over(m, s, indptr, successors, rewards):
    """Whether a state is absorbing and pays nothing."""
    _, S, A = rewards.shape
    for a in range(A):
        row = (m * S + s) * A + a
        stays = indptr[row + 1] - indptr[row] == 1 and successors[indptr[row]] == s
        if not stays or rewards[m, s, a] != 0.0:
            return False
    return True


@compiled
def _learn_q(
    indptr,
    successors,
    probabilities,
    rewards,
    initial,
    weights,
    discount,
    last,
    last_ends,
    steps,
    epsilon,
    q,
    visits,
    rng,
):
    _, S, A = rewards.shape
    m, s, t = 0, 0, -1
    for step in range(steps):
        if t < 0:
            m, s, t = _draw(weights, 0, weights.size, rng), _draw(initial, 0, S, rng), 0
        explore = max(epsilon, 1.0 - (1.0 - epsilon) * 2.0 * step / steps)
        a = rng.integers(0, A) if rng.random() < explore else np.argmax(q[s])
        after = _move(m, s, a, indptr, successors, probabilities, S, A, rng)
        t += 1
        over = _is_over(m, after, indptr, successors, rewards) or (last_ends and t == last)
        target = rewards[m, s, a] + (0.0 if over else discount * q[after].max())
        visits[s, a] += 1
        q[s, a] += visits[s, a] ** -0.7 * (target - q[s, a])
        s = after
        if over or t == last:
            t = -1


@compiled
def _collect(
    indptr,
    successors,
    probabilities,
    rewards,
    initial,
    weights,
    discount,
    last,
    last_ends,
    policy,
    running,
    states,
    actions,
    seen,
    next_states,
    ended,
    cut,
    rng,
):
    """Fill a batch (T, N); `running` (3, N) holds environment, state and time of the episodes between batches."""
    _, S, A = rewards.shape
    cumulative = np.empty_like(policy)
    for s in range(S):
        cumulative[s] = np.cumsum(policy[s])
    for t in range(states.shape[0]):
        for n in range(states.shape[1]):
            if running[2, n] < 0:
                running[0, n] = _draw(weights, 0, weights.size, rng)
                running[1, n] = _draw(initial, 0, S, rng)
                running[2, n] = 0
            m, s = running[0, n], running[1, n]
            a = _draw(cumulative[s], 0, A, rng)
            after = _move(m, s, a, indptr, successors, probabilities, S, A, rng)
            running[1, n] = after
            running[2, n] += 1
            states[t, n], actions[t, n], seen[t, n], next_states[t, n] = s, a, rewards[m, s, a], after
            at_limit = running[2, n] == last
            ended[t, n] = _is_over(m, after, indptr, successors, rewards) or (at_limit and last_ends)
            cut[t, n] = at_limit and not ended[t, n]
            if ended[t, n] or cut[t, n]:
                running[2, n] = -1
