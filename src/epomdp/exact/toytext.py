"""Families from Gymnasium's toy-text environments, whose whole dynamics are in the dictionary `P`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from epomdp.errors import BadInput
from epomdp.exact import family_checks as checks
from epomdp.exact.family import Family, gather_rows
from epomdp.exact.starts import prepend_start


@dataclass(frozen=True, eq=False)
class ToyTextFamily(Family):
    """A family made of tables: the S states of the tables, the end, and arrivals.

    An arrival is a state of the tables (or the end) together with a reward that was earned on the way there.

    Attributes:
        states: (N,) int64, the table's state: 0 to S - 1 first, then S for the end, then those of the arrivals;
            -1 for the shared start, where there is one.
        pending: (N,) float64, the reward earned on the way to an arrival, 0 elsewhere.
    """

    states: NDArray[np.int64] = field(kw_only=True)
    pending: NDArray[np.float64] = field(kw_only=True)


def from_toy_text(
    tables: Sequence[Mapping[int, Any]],
    initial: ArrayLike,
    discount: float,
    weights: ArrayLike | None = None,
    horizon: int | None = None,
    observe_rewards: bool = True,
) -> ToyTextFamily:
    """Family of the environments whose `env.unwrapped.P` are given, one for each map, say.

    A transition that is `done` leads to the end, an absorbing state without reward.

    A family's reward belongs to a state and an action, and is what the agent observes; a table's may depend on
    the successor too. Its mean over successors would have the right value, but as an observation it would give
    away what the agent does not see: slipping beside a goal, FrozenLake's mean reward is 1/3 and tells where
    the goal is, whether or not it was reached. So a reward that varies with the successor is paid one step
    later, divided by the discount, on leaving an *arrival*: a copy of the successor for each such reward. What
    the agent knows after each step and the value of the start are then exactly those of the table. Arrivals are
    made only where rewards do vary, and, with a horizon, for all rewards (the last one is paid in a step that
    is added to it). With `observe_rewards=False` mean rewards are exact, and none are made.

    Args:
        tables: M mappings, state -> action -> list of (probability, successor, reward, done).
        initial: (S,) start-state distribution (`env.unwrapped.initial_state_distrib`), or (M, S) where it
            differs: episodes then begin in a shared start, see `epomdp.exact.starts.prepend_start`.
        discount: in [0, 1), or 1 with a horizon or where every environment surely ends.
        weights: (M,) probability of each environment; equal by default.
        horizon: number of steps after which an episode stops.
        observe_rewards: whether the family will be solved with its rewards observed.

    Raises:
        BadInput: naming the environment, state and action, and what is wrong there.
    """
    entries, S, A = _read(tables)
    M = len(tables)
    discount = checks.as_discount(discount)
    horizon = checks.as_horizon(horizon)
    later = np.zeros((S, A), dtype=np.bool_)
    # With a discount of 0 nothing later counts, so nothing can be given away.
    if observe_rewards and discount > 0.0:
        low, high = _extremes(entries, (M, S, A))
        later = np.asarray((high > low).any(axis=0))
        if horizon is not None and later.any():
            later[:] = True
            horizon += 1
    states, pending, successor = _arrivals(entries, later, S)
    indptr, entry = _rows(entries, states, M, S, A)
    due = np.divide(pending, discount, out=np.zeros_like(pending), where=pending != 0.0)
    rewards = np.append(_rewards_now(entries, later, M), np.zeros((M, 1, A)), axis=1)[:, states]
    if weights is None:
        weights = np.full(M, 1.0 / M)
    initials = _initials(initial, M, S, states.size)
    family = Family.from_sparse(
        indptr,
        np.append(successor, S)[entry],
        np.append(entries.probability, 1.0)[entry],
        rewards + due[:, None],
        initials[0],
        weights,
        discount,
        horizon,
    )
    if (initials != initials[0]).any():
        family = prepend_start(family, initials)
        states, pending = np.append(states, -1), np.append(pending, 0.0)
    parts = {item.name: getattr(family, item.name) for item in fields(Family)}
    return ToyTextFamily(**parts, states=states, pending=pending)


class _Entries(NamedTuple):
    """All transitions of all tables with a positive probability, one array a column."""

    environment: NDArray[np.int64]
    state: NDArray[np.int64]
    action: NDArray[np.int64]
    probability: NDArray[np.float64]
    successor: NDArray[np.int64]
    reward: NDArray[np.float64]
    done: NDArray[np.bool_]


def _read(tables: Sequence[Mapping[int, Any]]) -> tuple[_Entries, int, int]:
    """The tables' transitions, the number of states and the number of actions."""
    if len(tables) == 0 or len(tables[0]) == 0:
        raise BadInput("tables: there is none, or it is empty; give env.unwrapped.P of each environment")
    S, A = len(tables[0]), len(tables[0].get(0, ()))
    rows = []
    for m, table in enumerate(tables):
        for s, a in np.ndindex(S, max(A, 1)):
            where = f"tables: environment {m}, state {s}, action {a}"
            if len(table) != S or s not in table or len(table[s]) != A or a not in range(A):
                raise BadInput(f"{where}: states or actions are not those of environment 0 ({S} and {A})")
            rows += [(m, s, a, *_entry(where, entry, S)) for entry in table[s][a]]
    columns = list(zip(*(row for row in rows if row[3] > 0.0), strict=True))
    if not columns:
        raise BadInput("tables: hold no transition with a positive probability; give env.unwrapped.P")
    whole, real = np.int64, np.float64
    m, s, a, p, t, r, d = columns
    return (
        _Entries(
            np.array(m, whole),
            np.array(s, whole),
            np.array(a, whole),
            np.array(p, real),
            np.array(t, whole),
            np.array(r, real),
            np.array(d, np.bool_),
        ),
        S,
        A,
    )


def _entry(where: str, entry: Any, num_states: int) -> tuple[float, int, float, bool]:
    try:
        probability, successor, reward, done = entry
        probability, successor, reward = float(probability), int(successor), float(reward)
    except (TypeError, ValueError):
        raise BadInput(
            f"{where}: an entry is {entry!r}; give (probability, successor, reward, done)"
        ) from None
    if not (np.isfinite(probability) and probability >= 0.0 and np.isfinite(reward)):
        raise BadInput(
            f"{where}: probability {probability}, reward {reward}; give finite numbers, and no p < 0"
        )
    if not 0 <= successor < num_states:
        raise BadInput(f"{where}: leads to state {successor}; states are 0 to {num_states - 1}")
    return probability, successor, reward, bool(done)


def _arrivals(entries: _Entries, later: NDArray[np.bool_], S: int) -> tuple[NDArray, NDArray, NDArray]:
    """States and pending rewards of the family, as its attributes, and the successor of each entry."""
    target = np.where(entries.done, S, entries.successor)
    owed = np.where(later[entries.state, entries.action], entries.reward, 0.0)
    keys = [(int(t), float(r)) for t, r in zip(target, owed, strict=True)]
    arrivals = sorted({key for key in keys if key[1] != 0.0})
    place = {key: S + 1 + i for i, key in enumerate(arrivals)}
    states = np.concatenate([np.arange(S + 1), [t for t, _ in arrivals]]).astype(np.int64)
    pending = np.concatenate([np.zeros(S + 1), [r for _, r in arrivals]])
    return states, pending, np.array([place.get(key, key[0]) for key in keys], dtype=np.int64)


def _rows(entries: _Entries, states: NDArray[np.int64], M: int, S: int, A: int) -> tuple[NDArray, NDArray]:
    """Row starts of the family and the entry of each place; one more entry, the last, is the end's own."""
    row = (entries.environment * S + entries.state) * A + entries.action
    starts = np.concatenate([[0], np.cumsum(np.bincount(np.append(row, M * S * A)))]).astype(np.int64)
    rows = (np.arange(M)[:, None, None] * S + states[:, None]) * A + np.arange(A)
    rows[:, states == S] = M * S * A
    return gather_rows(starts, rows.ravel())


def _extremes(entries: _Entries, shape: tuple[int, int, int]) -> tuple[NDArray, NDArray]:
    """(M, S, A) least and greatest reward over the successors."""
    low, high = np.full(shape, np.inf), np.full(shape, -np.inf)
    place = (entries.environment, entries.state, entries.action)
    np.minimum.at(low, place, entries.reward)
    np.maximum.at(high, place, entries.reward)
    return low, high


def _rewards_now(entries: _Entries, later: NDArray[np.bool_], M: int) -> NDArray[np.float64]:
    """(M, S, A) mean reward of an action, 0 where it is paid later."""
    low, high = _extremes(entries, (M, *later.shape))
    mean = np.zeros(low.shape)
    place = (entries.environment, entries.state, entries.action)
    np.add.at(mean, place, entries.probability * entries.reward)
    # Rounding in the mean of equal numbers would tell environments apart.
    return np.where(later, 0.0, np.where(low == high, high, mean))


def _initials(initial: ArrayLike, M: int, S: int, N: int) -> NDArray[np.float64]:
    """(M, N) start distributions over all states from (S,) or (M, S) over the tables'."""
    given = checks.as_floats("initial", initial)
    if given.shape not in ((S,), (M, S)):
        raise BadInput(f"initial: has shape {given.shape}; give ({S},), or ({M}, {S}) for different starts")
    initials = np.zeros((M, N))
    initials[:, :S] = given
    return initials
