"""Writing `.pomdpx` files: see `pomdpx`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

from epomdp.exact.family import Family, gather_rows
from epomdp.exact.formats.files import replacing
from epomdp.exact.formats.flat import arrivals, discounted, reward_cells
from epomdp.exact.formats.numbers import Named, Texts, joined, lines
from epomdp.exact.memory import require_memory
from epomdp.exact.pomdp import Pomdp

_HEAD = """<?xml version="1.0" encoding="UTF-8"?>
<pomdpx version="1.0" id="epomdp">
<Description>{}</Description>
<Discount>{!r}</Discount>
"""

Text = Iterator[bytes | memoryview]


@dataclass
class _Values:
    """A variable's names for its values, as XML and as columns of lines."""

    names: list[str]
    texts: Texts

    @classmethod
    def of(cls, names: Sequence[str], letter: str, size: int) -> _Values:
        """These names where they are fit for a file, else a letter and a number."""
        fit = all(name.split() == [name] and name.isprintable() and name not in "*-" for name in names)
        if not names or not fit or len(set(names)) < len(names):
            names = [f"{letter}{i}" for i in range(size)]
        written = [escape(name) for name in names]
        return cls(written, Texts(written))

    def __call__(self, index: NDArray[np.integer]) -> Named:
        return Named(self.texts, index)

    @property
    def enumerated(self) -> str:
        """The element that declares them."""
        return f"<ValueEnum>{' '.join(self.names)}</ValueEnum>"


def write(model: Family | Pomdp, path: str | os.PathLike[str], observe_rewards: bool = True) -> None:
    """Write a `.pomdpx` file.

    Of a family, the state becomes a fully observed variable and the environment a hidden one. Where rewards
    are observed and tell environments apart, the state's values are pairs of the state and the first
    environment that has the last action's reward (`s4_r0`), from which `read` makes the family again.

    Args:
        model: a family, or a flat POMDP as one hidden and one observation variable.
        path: an existing file is replaced as a whole.
        observe_rewards: for a family, whether rewards are observed.

    Raises:
        BadInput: the family has a discount of 1, or the target cannot be written.
        RunFailed: writing failed on the way, as on a full disk.
    """
    text = _family(discounted(model), observe_rewards) if isinstance(model, Family) else _pomdp(model)
    with replacing(path) as out:
        for block in text:
            out.write(block)


def _family(family: Family, observe_rewards: bool) -> Text:
    M, S, A = family.rewards.shape
    cells = reward_cells(family) if observe_rewards else np.zeros((M, S, A), np.int64)
    C = M if cells.any() else 1
    reached = arrivals(family, cells, C) % (S * C)
    kinds = np.union1d(reached, np.arange(S) * C)
    state = kinds // C
    names = [
        f"s{s}_r{c}" if C > 1 else f"s{s}" for s, c in zip(state.tolist(), (kinds % C).tolist(), strict=True)
    ]
    action, environment = _Values.of((), "a", A), _Values.of((), "m", M)
    seen = _Values.of(names, "s", len(names))
    yield _HEAD.format(
        "Epistemic POMDP of a family: the environment is hidden and never changes.", family.discount
    ).encode()
    yield f"""<Variable>
<StateVar vnamePrev="state_0" vnameCurr="state_1" fullyObs="true">{seen.enumerated}</StateVar>
<StateVar vnamePrev="environment_0" vnameCurr="environment_1" fullyObs="false">{environment.enumerated}</StateVar>
<ObsVar vname="nothing"><ValueEnum>none</ValueEnum></ObsVar>
<ActionVar vname="action">{action.enumerated}</ActionVar>
<RewardVar vname="reward"/>
</Variable>
""".encode()
    initial = np.where(kinds % C == 0, family.initial[state], 0.0)
    yield from _beliefs({"state_0": initial, "environment_0": family.weights})
    yield b"<StateTransitionFunction>\n"
    yield _conditional("environment_1", "action environment_0", "* - -", "identity")
    yield _open("CondProb", "state_1", "action environment_0 state_0")
    widest = int(np.diff(family.indptr).reshape(M, S, A)[:, state].sum(axis=(0, 1)).max())
    require_memory(
        100 * (widest + M * len(kinds)), f"writing {len(kinds)} seen values", "use a smaller family"
    )
    m, x = np.repeat(np.arange(M), len(kinds)), np.tile(np.arange(len(kinds)), M)
    for a in range(A):
        rows = (m * S + state[x]) * A + a
        indptr, entries = gather_rows(family.indptr, rows)
        widths = np.diff(indptr)
        columns = (
            environment(np.repeat(m, widths)),
            seen(np.repeat(x, widths)),
            seen(np.searchsorted(kinds, reached[entries])),
        )
        yield from lines(_entry(f"{action.names[a]} ", " ", " "), columns, family.probabilities[entries])
    yield _close("CondProb")
    yield b"</StateTransitionFunction>\n<ObsFunction>\n"
    yield _conditional("nothing", "action environment_1 state_1", "* * * -", "1.0")
    yield b"</ObsFunction>\n"
    index = np.nonzero(family.rewards[:, state])
    columns = (action(index[2]), environment(index[0]), seen(index[1]))
    yield from _rewards("action environment_0 state_0", columns, family.rewards[:, state][index])
    yield b"</pomdpx>\n"


def _pomdp(pomdp: Pomdp) -> Text:
    action = _Values.of(pomdp.actions, "a", pomdp.num_actions)
    state = _Values.of(pomdp.states, "s", pomdp.num_states)
    observation = _Values.of(pomdp.observation_names, "o", pomdp.num_observations)
    yield _HEAD.format("A flat POMDP.", pomdp.discount).encode()
    yield f"""<Variable>
<StateVar vnamePrev="state_0" vnameCurr="state_1" fullyObs="false">{state.enumerated}</StateVar>
<ObsVar vname="observation">{observation.enumerated}</ObsVar>
<ActionVar vname="action">{action.enumerated}</ActionVar>
<RewardVar vname="reward"/>
</Variable>
""".encode()
    yield from _beliefs({"state_0": pomdp.initial})
    for section, variable, parents, matrices, values in (
        ("StateTransitionFunction", "state_1", "action state_0", pomdp.transitions, state),
        ("ObsFunction", "observation", "action state_1", pomdp.observations, observation),
    ):
        yield f"<{section}>\n".encode() + _open("CondProb", variable, parents)
        for a, matrix in enumerate(matrices):
            row = np.repeat(np.arange(len(matrix.indptr) - 1), np.diff(matrix.indptr))
            columns = (state(row), values(matrix.indices))
            yield from lines(_entry(f"{action.names[a]} ", " "), columns, np.asarray(matrix.data, np.float64))
        yield _close("CondProb") + f"</{section}>\n".encode()
    index = np.nonzero(pomdp.rewards)
    yield from _rewards(
        "action state_0", (action(index[1]), state(index[0])), np.asarray(pomdp.rewards[index], np.float64)
    )
    yield b"</pomdpx>\n"


def _open(tag: str, variable: str, parents: str) -> bytes:
    return f'<{tag}><Var>{variable}</Var><Parent>{parents}</Parent><Parameter type="TBL">\n'.encode()


def _close(tag: str) -> bytes:
    return f"</Parameter></{tag}>\n".encode()


def _entry(*before: str, table: str = "ProbTable") -> tuple[str, ...]:
    """The pieces of a line that is an entry: what stands before each column, before the number, after it."""
    return (
        f"<Entry><Instance>{before[0]}", *before[1:], f"</Instance><{table}>", f"</{table}></Entry>\n",
    )  # fmt: skip


def _conditional(variable: str, parents: str, instance: str, table: str) -> bytes:
    """A conditional table of a single entry."""
    entry = f"<Entry><Instance>{instance}</Instance><ProbTable>{table}</ProbTable></Entry>\n"
    return _open("CondProb", variable, parents) + entry.encode() + _close("CondProb")


def _beliefs(distributions: dict[str, NDArray[np.float64]]) -> Text:
    yield b"<InitialStateBelief>\n"
    for variable, distribution in distributions.items():
        yield _conditional(variable, "null", "-", joined(distribution))
    yield b"</InitialStateBelief>\n"


def _rewards(parents: str, columns: tuple[Named, ...], values: NDArray[np.float64]) -> Text:
    yield b"<RewardFunction>\n" + _open("Func", "reward", parents)
    if not len(values):
        instance = " ".join("*" for _ in columns)
        yield f"<Entry><Instance>{instance}</Instance><ValueTable>0.0</ValueTable></Entry>\n".encode()
    before = ["", *(" " for _ in columns[1:])]
    yield from lines(_entry(*before, table="ValueTable"), columns, values)
    yield _close("Func") + b"</RewardFunction>\n"
