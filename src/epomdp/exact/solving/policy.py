"""The solver's policy: a finite controller whose nodes act, see an outcome and move on, with the beliefs it knows."""

from __future__ import annotations

import os
import zipfile
import zlib
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from epomdp.errors import BadInput
from epomdp.exact.belief import same_reward
from epomdp.exact.compiled import compiled
from epomdp.exact.family import gather_rows
from epomdp.exact.solving.model import ENTRY, ROW

_DAMAGED = (OSError, EOFError, ValueError, TypeError, KeyError, zipfile.BadZipFile, zlib.error)
# Entries to pass over before a key press can interrupt, and sweeps after which values are solved for instead.
_SLICE = 2**24
_MOST_SWEEPS = 10_000


@dataclass(frozen=True, eq=False)
class SolvedPolicy:
    """A deterministic finite-state controller, which attains the solver's lower bound.

    Its memory is the number of one of N nodes. A node belongs to one of C cases: an observed state with an action.
    For a family the observed state is the state of the MDPs, and hidden is the environment. With a horizon the
    memory keeps the time, and `states` and `labels` are those of `family.layered()`, as `on_layers` takes them. For a
    flat POMDP hidden is its state, and the arguments `state` are ignored: `update` takes the observation in place
    of `next_state`.

    Attributes:
        start_states, start_nodes, start_weights: (R,) observed states in which an episode may start, the node to
            start with, and the probability.
        cases: (N,) int32, the case of each node.
        links: the next node for each outcome of a node's case, node after node, from `link_start` (N + 1,) on.
        states, actions: (C,) int32, observed state and action of each case.
        outcome_start: (C + 1,) int64, where the outcomes of each case begin in the two below.
        labels: int32, next state (families) or observation (flat POMDPs).
        rewards: float64, the reward that is seen with it, NaN where rewards are not.
        hidden_start: (C + 1,) int64, where the hidden values of each case begin in `hidden`.
        hidden: int32, environments or states.
        rows, entries: the likelihoods, as in `Model`; rows follow `hidden`.
        beliefs: the belief over the hidden values of each start, one after the other.
        discount: of the problem.
        static: whether hidden values are environments.
        num_hidden: number of environments or states.
        layer_states: (X,) int64, with a horizon, the family's own state of each observed state, -1 for the end.
    """

    start_states: NDArray[np.int64]
    start_nodes: NDArray[np.int64]
    start_weights: NDArray[np.float64]
    cases: NDArray[np.int32]
    link_start: NDArray[np.int64]
    links: NDArray[np.int32]
    states: NDArray[np.int32]
    actions: NDArray[np.int32]
    outcome_start: NDArray[np.int64]
    labels: NDArray[np.int32]
    rewards: NDArray[np.float64]
    hidden_start: NDArray[np.int64]
    hidden: NDArray[np.int32]
    rows: NDArray
    entries: NDArray
    beliefs: NDArray[np.float64]
    discount: float
    static: bool
    num_hidden: int
    layer_states: NDArray[np.int64]

    @property
    def on_layers(self) -> SolvedPolicy:
        """The same policy for the states of `family.layered()`, in which an `EpistemicPOMDP` plays a horizon."""
        return replace(self, layer_states=np.zeros(0, dtype=np.int64))

    def _own(self, states: NDArray) -> NDArray:
        """The states of the family, -1 for the end of the horizon, of observed states."""
        return self.layer_states[states] if self.layer_states.size else states

    def start(self, state: int = -1) -> int:
        """The memory at the start of an episode in `state`."""
        starts = self._own(self.start_states)
        found = np.flatnonzero(starts == state) if self.static else np.zeros(1, dtype=np.int64)
        if not found.size:
            raise BadInput(f"policy: no episode starts in state {state}; starts: {starts.tolist()}")
        return int(self.start_nodes[found[0]])

    def act(self, state: int, memory: int, rng: np.random.Generator | None = None) -> int:
        """The action; nothing is random."""
        return int(self.actions[self.cases[memory]])

    def update(self, memory: int, state: int, action: int, reward: float, next_state: int) -> int:
        """The memory after the policy's own action led to `next_state` (or the observation) and `reward`.

        Raises:
            BadInput: another action was taken, or no environment of positive weight allows what was seen.
        """
        case = self.cases[memory]
        if action != self.actions[case]:
            raise BadInput(
                f"policy: takes action {self.actions[case]} here, not {action}; pass on what it does"
            )
        outcome = self._outcome(int(case), reward, next_state)
        if outcome < 0:
            raise BadInput(
                f"policy: after action {action} nothing that it was solved for shows {next_state} with reward "
                f"{reward}; solve a problem that can"
            )
        return int(self.links[self.link_start[memory] + outcome])

    def _outcome(self, case: int, reward: float, label: int) -> int:
        first, last = self.outcome_start[case], self.outcome_start[case + 1]
        labels = self._own(self.labels[first:last])
        matching = np.flatnonzero(labels == label)
        if self.layer_states.size and not matching.size:
            # Any other state is one in which the episode is over.
            matching = np.flatnonzero(labels < 0)
        if matching.size and not np.isnan(self.rewards[first]):
            matching = matching[same_reward(self.rewards[first + matching], reward)]
        return int(matching[0]) if matching.size else -1

    @cached_property
    def _values(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Value of each node with each hidden value of its case, and where each node's begin."""
        begin = np.concatenate([[0], np.cumsum(np.diff(self.hidden_start)[self.cases])])
        values = np.zeros(begin[-1])
        args = (self.cases, self.link_start, self.links, self.hidden_start, self.rows, self.entries)
        size = 1 + _SLICE // max(1, len(self.links) + len(self.entries))
        sweeps = 0
        while not _controller_sweeps(*args, begin, self.discount, size, values):
            sweeps += size
            if sweeps >= _MOST_SWEEPS and self.discount < 1.0:
                return begin, self._solved(begin)
        return begin, values

    def _solved(self, begin: NDArray[np.int64]) -> NDArray[np.float64]:
        """The same values by sparse LU, for discounts so near to 1 that sweeps would go on and on."""
        node = np.repeat(np.arange(len(self.cases)), np.diff(begin))
        row = self.hidden_start[self.cases[node]] + np.arange(begin[-1]) - begin[node]
        entry_start, entry = gather_rows(self.rows["entry"], row)
        entries = self.entries[entry]
        source = np.repeat(np.arange(begin[-1]), np.diff(entry_start))
        after = self.links[self.link_start[node[source]] + entries["outcome"]]
        target = begin[after] + entries["hidden"]
        shape = (len(row), len(row))
        chain = sp.csc_array((self.discount * entries["probability"], (source, target)), shape=shape)
        try:
            return sp.linalg.splu((sp.eye_array(len(row)) - chain).tocsc()).solve(self.rows["reward"][row])
        except RuntimeError:
            raise BadInput(
                f"discount: is {self.discount!r}, too near to 1 to value the policy; give a lower one, or a horizon"
            ) from None

    def values_of(self, memory: int) -> NDArray[np.float64]:
        """What the policy attains from here on with each of the hidden values that `hidden_of` names."""
        begin, values = self._values
        return values[begin[memory] : begin[memory + 1]]

    def hidden_of(self, memory: int) -> NDArray[np.int32]:
        """The environments (or states) that can be hidden here."""
        case = self.cases[memory]
        return self.hidden[self.hidden_start[case] : self.hidden_start[case + 1]]

    def start_beliefs(self) -> list[NDArray[np.float64]]:
        """For each start, the belief over what `hidden_of` names there."""
        sizes = [len(self.hidden_of(int(n))) for n in self.start_nodes]
        return np.split(self.beliefs, np.cumsum(sizes)[:-1])

    def ends(self, memory: int) -> bool:
        """Whether nothing is seen or gained any more."""
        case = self.cases[memory]
        rows = slice(self.hidden_start[case], self.hidden_start[case + 1])
        links = self.links[self.link_start[memory] : self.link_start[memory + 1]]
        return bool((links == memory).all() and not self.rows["reward"][rows].any())

    def successors(self, memory: int, belief: NDArray[np.float64]) -> list[tuple[int, float, int, NDArray]]:
        """What can follow: (outcome of the case, its probability, next memory, next belief), likeliest first."""
        case = int(self.cases[memory])
        first = self.hidden_start[case]
        joint: dict[int, NDArray[np.float64]] = {}
        for y in np.flatnonzero(belief):
            for e in range(self.rows["entry"][first + y], self.rows["entry"][first + y + 1]):
                o = int(self.entries["outcome"][e])
                if o not in joint:
                    after = int(self.links[self.link_start[memory] + o])
                    joint[o] = np.zeros(len(self.hidden_of(after)))
                joint[o][self.entries["hidden"][e]] += belief[y] * self.entries["probability"][e]
        found = [
            (o, float(j.sum()), int(self.links[self.link_start[memory] + o]), j / j.sum())
            for o, j in joint.items()
        ]
        return sorted(found, key=lambda item: (-item[1], item[0]))

    def draw(self, memory: int, hidden: int, rng: np.random.Generator) -> tuple[float, int, int]:
        """One step with the hidden value numbered `hidden`: reward, next memory, next hidden number."""
        row = self.hidden_start[self.cases[memory]] + hidden
        first, last = self.rows["entry"][row], self.rows["entry"][row + 1]
        sums = np.cumsum(self.entries["probability"][first:last])
        e = first + min(int(np.searchsorted(sums, rng.random() * sums[-1], side="right")), last - first - 1)
        after = self.links[self.link_start[memory] + self.entries["outcome"][e]]
        return float(self.rows["reward"][row]), int(after), int(self.entries["hidden"][e])

    def arrays(self) -> dict[str, Any]:
        """All attributes by name, records as plain arrays, for an `.npz` archive."""
        plain: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        rows, entries = plain.pop("rows"), plain.pop("entries")
        plain |= {"row_entry": rows["entry"], "row_reward": rows["reward"]}
        return plain | {f"entry_{name}": entries[name] for name in ("outcome", "hidden", "probability")}

    @staticmethod
    def from_arrays(plain: dict[str, NDArray]) -> SolvedPolicy:
        """The policy from what `arrays` gave. Raises KeyError or ValueError if that is not what it is."""
        rows = np.zeros(len(plain["row_entry"]), dtype=ROW)
        rows["entry"], rows["reward"] = plain["row_entry"], plain["row_reward"]
        entries = np.zeros(len(plain["entry_outcome"]), dtype=ENTRY)
        for name in ("outcome", "hidden", "probability"):
            entries[name] = plain[f"entry_{name}"]
        names = [
            f.name
            for f in fields(SolvedPolicy)
            if f.name not in ("rows", "entries", "discount", "static", "num_hidden")
        ]
        discount, static, num_hidden = (
            float(plain["discount"]),
            bool(plain["static"]),
            int(plain["num_hidden"]),
        )
        policy = SolvedPolicy(
            **{name: plain[name] for name in names},
            rows=rows,
            entries=entries,
            discount=discount,
            static=static,
            num_hidden=num_hidden,
        )
        _check(policy)
        return policy


def _check(policy: SolvedPolicy) -> None:
    """Raise ValueError naming the first array that would lead out of another one, or is of no use."""
    N, C, nodes = len(policy.cases), len(policy.states), np.diff(policy.link_start)
    arrays = [value for value in vars(policy).values() if isinstance(value, np.ndarray)]
    if not N or not C or any(array.ndim != 1 for array in arrays):
        raise ValueError("empty, or not of one dimension")
    if not 0.0 <= policy.discount <= 1.0:
        raise ValueError(f"discount {policy.discount}")
    for name in ("start_weights", "beliefs"):
        values = getattr(policy, name)
        if not (np.isfinite(values) & (values >= 0.0)).all():
            raise ValueError(name)
    if not (np.isfinite(policy.rows["reward"]).all() and (policy.entries["probability"] >= 0.0).all()):
        raise ValueError("row_reward or entry_probability")
    _within("cases", policy.cases, C)
    _rising("link_start", policy.link_start, N, len(policy.links))
    _within("links", policy.links, N)
    _within("start_nodes", policy.start_nodes, N)
    _rising("outcome_start", policy.outcome_start, C, len(policy.labels))
    _rising("hidden_start", policy.hidden_start, C, len(policy.hidden))
    _within("hidden", policy.hidden, policy.num_hidden)
    _rising("row_entry", policy.rows["entry"], len(policy.hidden), len(policy.entries))
    outcomes, hidden = np.diff(policy.outcome_start), np.diff(policy.hidden_start)
    sizes = hidden[policy.cases]
    same = (
        ("actions", len(policy.actions), C),
        ("rewards", len(policy.rewards), len(policy.labels)),
        ("start_states", len(policy.start_states), len(policy.start_nodes)),
        ("start_weights", len(policy.start_weights), len(policy.start_nodes)),
        ("beliefs", len(policy.beliefs), int(sizes[policy.start_nodes].sum())),
    )
    for name, length, right in same:
        if length != right:
            raise ValueError(f"{name} has {length} entries in place of {right}")
    if (nodes != outcomes[policy.cases]).any():
        raise ValueError("link_start")
    if policy.layer_states.size:
        for name in ("states", "labels", "start_states"):
            _within(name, getattr(policy, name), len(policy.layer_states))
    case = np.repeat(np.repeat(np.arange(C), hidden), np.diff(policy.rows["entry"]))
    _within("entry_outcome", policy.entries["outcome"], outcomes[case])
    _check_hidden(policy, sizes, case)


def _check_hidden(policy: SolvedPolicy, sizes: NDArray, case: NDArray) -> None:
    """Whatever follows an entry of a case, its hidden value must be one of the next node's."""
    following = sizes[policy.links]
    owner = np.repeat(np.arange(len(policy.cases)), np.diff(policy.link_start))
    place = (
        policy.outcome_start[policy.cases[owner]] + np.arange(len(policy.links)) - policy.link_start[owner]
    )
    fewest = np.full(len(policy.labels), np.iinfo(np.int64).max)
    np.minimum.at(fewest, place, following)
    _within(
        "entry_hidden",
        policy.entries["hidden"],
        fewest[policy.outcome_start[case] + policy.entries["outcome"]],
    )


def _within(name: str, values: NDArray, size: Any) -> None:
    if not np.issubdtype(values.dtype, np.integer) or ((values < 0) | (values >= size)).any():
        raise ValueError(f"{name} out of range")


def _rising(name: str, starts: NDArray, count: int, end: int) -> None:
    """Where `count` parts begin that end at `end`."""
    fits = np.issubdtype(starts.dtype, np.integer) and len(starts) == count + 1
    if not fits or starts[0] != 0 or starts[-1] != end or (np.diff(starts) < 0).any():
        raise ValueError(name)


def read_arrays(path: str | os.PathLike[str]) -> dict[str, NDArray]:
    """The arrays of an `.npz` archive; pickled objects are refused.

    Raises:
        BadInput: the file cannot be read.
    """
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (*_DAMAGED, AttributeError) as error:
        reason = " ".join(str(error).split())[:80]
        raise BadInput(f"{os.fspath(path)}: is no saved solution ({reason}); save it again") from None


@compiled
def _controller_sweeps(
    cases, link_start, links, hidden_start, rows, entries, begin, discount, max_sweeps, values
):
    """Gauss-Seidel, last nodes first; whether a sweep moved the values by rounding only."""
    for _ in range(max_sweeps):
        change, largest = 0.0, 0.0
        for n in range(cases.shape[0] - 1, -1, -1):
            first = hidden_start[cases[n]]
            for y in range(begin[n + 1] - begin[n]):
                mean = 0.0
                for e in range(rows[first + y].entry, rows[first + y + 1].entry):
                    after = links[link_start[n] + entries[e].outcome]
                    mean += entries[e].probability * values[begin[after] + entries[e].hidden]
                new = rows[first + y].reward + discount * mean
                change = max(change, abs(new - values[begin[n] + y]))
                largest = max(largest, abs(new))
                values[begin[n] + y] = new
        if change <= 2.0**-48 * max(1.0, largest):
            return True
    return False
