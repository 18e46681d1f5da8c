"""What a policy is worth in the epistemic POMDP: exactly, with a stated bound, or by simulation."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import scipy.special
from numpy.typing import ArrayLike, NDArray

from epomdp.errors import BadInput
from epomdp.exact import mdp
from epomdp.exact.belief import AdaptivePolicy, EpistemicPOMDP, Outcomes
from epomdp.exact.family import Family


class Evaluation(NamedTuple):
    """The value of a policy, as bounds that are equal but for rounding where it is known exactly.

    Attributes:
        lower, upper: bounds on its value at the start of an episode, the mean over the prior.
        environment_lower, environment_upper: (M,) bounds on its value in each environment; NaN where an
            adaptive policy was not asked, since its prior rules the environment out.
        exact: whether every memory that the policy can come to have was looked at.
        nodes: number of pairs of memory and state that were.
    """

    lower: float
    upper: float
    environment_lower: NDArray[np.float64]
    environment_upper: NDArray[np.float64]
    exact: bool
    nodes: int


class Estimate(NamedTuple):
    """The value of a policy from simulated episodes.

    Attributes:
        mean: mean discounted return.
        lower, upper: Student's confidence interval of the value, widened by what cut episodes can still bring.
        returns: (episodes,) discounted returns.
        environments: (episodes,) the hidden environments.
        truncation: most that cutting an episode can have changed its return.
    """

    mean: float
    lower: float
    upper: float
    returns: NDArray[np.float64]
    environments: NDArray[np.int64]
    truncation: float


def evaluate_memoryless(pomdp: EpistemicPOMDP, policy: ArrayLike) -> Evaluation:
    """Value of a memoryless policy, (S,) actions or (S, A) probabilities: linear systems, one an environment."""
    values = mdp.policy_values(pomdp.family, policy) @ pomdp.family.initial
    value = float(pomdp.prior @ values)
    return Evaluation(value, value, values, values, True, pomdp.family.num_states)


def evaluate(pomdp: EpistemicPOMDP, policy: AdaptivePolicy, max_nodes: int = 100_000) -> Evaluation:
    """Value of any policy, through all pairs of memory and state that it can come to.

    In each environment the pairs form a Markov chain, whose values are solved for; by the equivalence of the
    epistemic POMDP and the mean over environments their weighted mean is the policy's value. Where there are
    more pairs than `max_nodes`, those nearest to the start (breadth first) are kept, and from the others on
    the value in environment m is taken to be the best or the worst of any policy there: bounds that hold.

    Args:
        pomdp: M environments.
        policy: deterministic given its memory, or with `probabilities`; memories hashable, arrays, or tuples.
        max_nodes: pairs of memory and state to look at before bounds take over.

    Raises:
        BadInput: the policy draws random numbers and has no `probabilities`, or gives an impossible action.
    """
    tree = _explore(pomdp, policy, max_nodes)
    family = pomdp.family
    exact = len(tree.edges) == len(tree.nodes)
    if exact:
        lower = upper = _chain_values(family, tree, np.zeros((family.num_environments, family.num_states)))
    else:
        upper = _chain_values(family, tree, mdp.optimal_values(family))
        worst = -mdp.optimal_values(replace(family, rewards=-family.rewards))
        lower = _chain_values(family, tree, worst)
    values = float(pomdp.prior @ lower), float(pomdp.prior @ upper)
    known = pomdp.prior > 0
    return Evaluation(
        *values, np.where(known, lower, np.nan), np.where(known, upper, np.nan), exact, len(tree.nodes)
    )


def roll_out(
    pomdp: EpistemicPOMDP,
    policy: AdaptivePolicy,
    episodes: int,
    rng: np.random.Generator,
    max_steps: int | None = None,
    confidence: float = 0.95,
) -> Estimate:
    """Value of a policy from simulated episodes, with a confidence interval.

    Args:
        pomdp: M environments.
        policy: any.
        episodes: at least 2.
        rng: the only source of chance.
        max_steps: where to cut an episode that does not end; by default where what is left is worth less than
            1e-6 of the most that an episode can be worth, or never if the discount is 1.
        confidence: coverage of the interval.
    """
    if episodes < 2 or not 0.0 < confidence < 1.0:
        raise BadInput(
            f"rollout: {episodes} episodes, confidence {confidence}; give at least 2, and one in (0, 1)"
        )
    family = pomdp.family
    if max_steps is None and family.discount < 1.0:
        max_steps = 1 if family.discount == 0.0 else int(np.ceil(np.log(1e-6) / np.log(family.discount)))
    played = [pomdp.simulate(policy, rng, max_steps=max_steps) for _ in range(episodes)]
    returns = np.array([episode.value for episode in played])
    # What is left after a cut, if an extreme reward came for ever (or, undiscounted, is bounded by nothing).
    left = np.array([0.0 if e.ended else family.discount ** len(e.actions) for e in played])
    most = float(np.abs(family.rewards).max()) / (1.0 - family.discount) if family.discount < 1.0 else np.inf
    cut = np.zeros(episodes)
    cut[left > 0.0] = left[left > 0.0] * most
    half = scipy.special.stdtrit(episodes - 1, 0.5 + confidence / 2) * returns.std(ddof=1) / np.sqrt(episodes)
    mean = float(returns.mean())
    spread = float(half + cut.mean())
    environments = np.array([episode.environment for episode in played])
    return Estimate(mean, mean - spread, mean + spread, returns, environments, float(cut.max()))


class _NoRandomness:
    """Stands in for the random generator of a policy that must be deterministic."""

    def __getattr__(self, name: str) -> Any:
        raise BadInput(
            "policy: draws random numbers; give it probabilities(state, memory), or evaluate it by roll_out"
        )


@dataclass
class _Tree:
    """Pairs of memory and state that a policy can come to.

    `possible[n]` (M,) says in which environments, `live[n]` where the episode then goes on, and `edges[n]` how:
    (action, its probability, [(outcome, next pair), ...]).
    """

    nodes: list[tuple[Any, int]] = field(default_factory=list)
    possible: list[NDArray[np.bool_]] = field(default_factory=list)
    live: dict[int, NDArray[np.bool_]] = field(default_factory=dict)
    edges: dict[int, list[tuple[int, float, list[tuple[int, int]]]]] = field(default_factory=dict)
    starts: dict[int, int] = field(default_factory=dict)
    outcomes: Any = None


def _explore(pomdp: EpistemicPOMDP, policy: AdaptivePolicy, max_nodes: int) -> _Tree:
    """Breadth first from the start states; a pair is looked at again when more environments can lead to it."""
    tree, index = _Tree(), {}
    policy = pomdp.playable(policy)
    ended = pomdp.ended
    tree.outcomes = lru_cache(maxsize=None)(pomdp.outcomes)
    queue: deque[int] = deque()

    def reach(memory: Any, state: int, environments: NDArray[np.bool_]) -> int:
        key = (_key(memory), state)
        n = index.setdefault(key, len(tree.nodes))
        if n == len(tree.nodes):
            tree.nodes.append((memory, state))
            tree.possible.append(np.zeros_like(environments))
        if (environments & ~tree.possible[n]).any():
            tree.possible[n] = tree.possible[n] | environments
            queue.append(n)
        return n

    for state in np.flatnonzero(pomdp.family.initial > 0):
        tree.starts[int(state)] = reach(policy.start(int(state)), int(state), pomdp.prior > 0)
    while queue:
        n = queue.popleft()
        if n not in tree.edges and len(tree.edges) >= max_nodes:
            continue
        memory, state = tree.nodes[n]
        live = tree.possible[n] & ~ended[:, state]
        tree.live[n] = live
        tree.edges[n] = []
        if not live.any():
            continue
        for action, weight in _choices(policy, state, memory, pomdp.family.num_actions):
            seen: Outcomes = tree.outcomes(state, action)
            following = []
            for c in np.flatnonzero((seen.likelihoods[:, live] > 0).any(axis=1)):
                s, r = int(seen.successors[c]), float(seen.rewards[c])
                after = policy.update(memory, state, action, r, s)
                following.append((int(c), reach(after, s, live & (seen.likelihoods[c] > 0))))
            tree.edges[n].append((action, weight, following))
    return tree


def _choices(policy: AdaptivePolicy, state: int, memory: Any, A: int) -> list[tuple[int, float]]:
    """Actions and their positive probabilities."""
    distribution = getattr(policy, "probabilities", None)
    if distribution is None:
        action = int(policy.act(state, memory, _NoRandomness()))  # type: ignore[arg-type]
        if not 0 <= action < A:
            raise BadInput(f"policy: acts {action} in state {state}; actions are 0 to {A - 1}")
        return [(action, 1.0)]
    weights = mdp.policy_probabilities(np.asarray(distribution(state, memory))[None], 1, A)[0]
    return [(int(a), float(weights[a])) for a in np.flatnonzero(weights)]


def _chain_values(family: Family, tree: _Tree, cut: NDArray[np.float64]) -> NDArray[np.float64]:
    """(M,) value at the start; pairs that were not looked at are worth `cut` (M, S).

    Pairs are the states of a family with one action, and one more, the end, takes what leads nowhere else.
    """
    M, N = family.num_environments, len(tree.nodes)
    rewards = np.zeros((M, N + 1, 1))
    none = np.zeros(0, dtype=np.int64)
    columns: list[tuple[NDArray, NDArray, NDArray]] = [(none, none, np.zeros(0))]
    for n, (_, state) in enumerate(tree.nodes):
        if n not in tree.edges:
            rewards[:, n, 0] = cut[:, state]
            continue
        for action, weight, following in tree.edges[n]:
            rewards[:, n, 0] += np.where(tree.live[n], weight * family.rewards[:, state, action], 0.0)
            for c, after in following:
                likelihood = np.where(tree.live[n], tree.outcomes(state, action).likelihoods[c], 0.0)
                m = np.flatnonzero(likelihood)
                columns.append((m * (N + 1) + n, np.full(m.size, after), weight * likelihood[m]))
    rows, targets, probabilities = (np.concatenate(parts) for parts in zip(*columns, strict=True))
    # An environment that cannot be in a pair, or has ended there, leaves it for the end.
    idle = np.setdiff1d(np.arange(M * (N + 1)), rows)
    rows = np.concatenate([rows, idle])
    order = np.argsort(rows, kind="stable")
    chain = Family.from_sparse(
        np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=M * (N + 1)))]).astype(np.int64),
        np.concatenate([targets, np.full(idle.size, N)])[order],
        np.concatenate([probabilities, np.ones(idle.size)])[order],
        rewards,
        (np.arange(N + 1) == N).astype(np.float64),
        np.full(M, 1.0 / M),
        family.discount,
    )
    values = mdp.policy_values(chain, np.zeros(N + 1, dtype=np.int64))
    return sum((family.initial[s] * values[:, n] for s, n in tree.starts.items()), start=np.zeros(M))


def _key(memory: Any) -> Any:
    """A hashable stand-in for a memory."""
    if isinstance(memory, np.ndarray):
        return memory.shape, memory.dtype.str, memory.tobytes()
    if isinstance(memory, tuple):
        return tuple(_key(part) for part in memory)
    try:
        hash(memory)
    except TypeError:
        raise BadInput(
            f"policy: memory of type {type(memory).__name__} cannot be compared; use hashable ones or arrays"
        ) from None
    return memory
