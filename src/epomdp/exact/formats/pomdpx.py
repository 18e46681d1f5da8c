"""`.pomdpx` files (PomdpX 1.0 of the APPL toolkit): factored models with seen and hidden variables.

A family is the mixed-observability model that its epistemic POMDP is: the state a variable that is fully
observed, the environment a hidden variable that never changes.

Source: "PomdpX file format (version 1.0)", APPL documentation, National University of Singapore; Ong, Png,
Hsu and Lee 2010, "Planning under uncertainty for robotic tasks with mixed observability".
"""

from __future__ import annotations

import os

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from epomdp.errors import BadInput
from epomdp.exact.family import Family
from epomdp.exact.formats.cells import Rows
from epomdp.exact.formats.factored import Columns, Factor, joint, read_factor
from epomdp.exact.formats.files import Source
from epomdp.exact.formats.flat import seen_start
from epomdp.exact.formats.markup import Document, Element
from epomdp.exact.formats.pomdp import split_by_action
from epomdp.exact.formats.pomdpx_write import write
from epomdp.exact.formats.rewards import Depth, expected_rewards
from epomdp.exact.formats.unflat import assemble, structure
from epomdp.exact.formats.variables import ACTION, OBSERVATION, STATE, Variable, Variables
from epomdp.exact.memory import require_memory
from epomdp.exact.pomdp import Pomdp

__all__ = ["read", "write"]

_SECTIONS = ("Discount", "Variable", "InitialStateBelief", "StateTransitionFunction", "RewardFunction")


def read(path: str | os.PathLike[str]) -> Family | Pomdp:
    """Read a `.pomdpx` file.

    Tables and decision diagrams, `*`, `-`, `identity`, `uniform`, several variables of each kind and fully
    observed ones are understood. Numbers left out are zero. The model is a family where some variables are
    fully observed, all the hidden ones never change, and no observation tells more; otherwise it becomes a
    flat POMDP: hidden states count through all state variables, the hidden ones first, and what is observed
    are the fully observed variables and the observation variables together.

    Raises:
        BadInput: the file cannot be read; the message names the line, what is wrong, and the mend.
    """
    document = Document(Source(path))
    return _Model(document).result()


class _Model:
    """The parts of a file on their way to a family or a flat POMDP."""

    def __init__(self, document: Document) -> None:
        self.document = document
        sections = self._sections(document.root)
        self.discount = self._discount(sections["Discount"])
        self.variables = Variables(document, sections["Variable"])
        self.actions = self.variables.of_kind(ACTION)
        self.observations = self.variables.of_kind(OBSERVATION)
        states = self.variables.of_kind(STATE)
        self.hidden = [v for v in states if not v.fully_observed]
        self.seen = [v for v in states if v.fully_observed]
        self.states = self.hidden + self.seen
        S, A = _count(self.states), _count(self.actions)
        require_memory(200 * S * A, f"{document.source.path}: {S} states and {A} actions", "make it smaller")
        self.belief = self._factors(sections["InitialStateBelief"], [v.previous for v in self.states])
        self.moves = self._factors(sections["StateTransitionFunction"], [v.current for v in self.states])
        self.signals = []
        if self.observations:
            if "ObsFunction" not in sections:
                raise document.error(document.root, "<ObsFunction> is missing; add it")
            self.signals = self._factors(sections["ObsFunction"], [v.current for v in self.observations])
        rewards = sections["RewardFunction"].children
        self.rewards = [read_factor(self.variables, element, probable=False) for element in rewards]

    def result(self) -> Family | Pomdp:
        """The family or the flat POMDP."""
        transitions = self._transitions()
        O, informative = self._observed()  # noqa: E741
        rewards = np.zeros((_count(self.states), _count(self.actions)))
        for factor in self.rewards:
            rewards += self._expected(factor, transitions, O)
        initial = self._initial()
        M, X = _count(self.hidden), _count(self.seen)
        if self.seen and not informative and _stays(transitions, X):
            weights, start = initial.reshape(M, X).sum(axis=1), initial.reshape(M, X).sum(axis=0)
            if np.allclose(np.outer(weights, start).ravel(), initial, rtol=0, atol=1e-9):
                return self._family(transitions, rewards, initial)
        pomdp = Pomdp(
            transitions, O, rewards, initial, self.discount,
            _names(self.states), _names(self.actions), _names(self.seen + self.observations),
        )  # fmt: skip
        x = np.arange(M * X) % X
        return seen_start(pomdp, x) if len(np.unique(x[initial > 0])) > 1 else pomdp

    def _sections(self, root: Element) -> dict[str, Element]:
        if root.tag != "pomdpx":
            raise self.document.error(
                root, f"expected <pomdpx>, found <{root.tag[:40]}>; this is no .pomdpx file"
            )
        found: dict[str, Element] = {}
        for element in root.children:
            if element.tag not in (*_SECTIONS, "ObsFunction", "Description"):
                raise self.document.error(element, f"unknown section <{element.tag[:40]}>; remove it")
            if element.tag in found:
                raise self.document.error(element, f"<{element.tag}> is given twice; leave one of them out")
            found[element.tag] = element
        for name in _SECTIONS:
            if name not in found:
                raise self.document.error(root, f"<{name}> is missing; add it")
        return found

    def _discount(self, element: Element) -> float:
        try:
            value = float(element.text)
        except ValueError:
            value = float("nan")
        if not 0.0 <= value < 1.0:
            raise self.document.error(
                element, f"the discount is '{element.text.strip()[:40]}'; give a number in [0, 1)"
            )
        return value

    def _factors(self, section: Element, wanted: list[str]) -> list[Factor]:
        """The conditional tables of a section, one for each variable."""
        factors = [read_factor(self.variables, element, probable=True) for element in section.children]
        for factor in factors:
            if factor.names[-1] not in wanted:
                raise self.document.error(
                    factor.element,
                    f"{factor.names[-1]} has no place in <{section.tag}>; it is for {', '.join(wanted)}",
                )
        for name in wanted:
            count = sum(factor.names[-1] == name for factor in factors)
            if count != 1:
                raise self.document.error(
                    section, f"{name} has {count} tables in <{section.tag}>; give it one"
                )
        return factors

    def _action_columns(self, a: NDArray) -> Columns:
        return {v.current: c for v, c in zip(self.actions, _split(a, self.actions), strict=True)}

    def _previous(self, s: NDArray) -> Columns:
        return {v.previous: c for v, c in zip(self.states, _split(s, self.states), strict=True)}

    def _current(self, s: NDArray) -> Columns:
        return {v.current: c for v, c in zip(self.states, _split(s, self.states), strict=True)}

    def _transitions(self) -> tuple[sp.csr_array, ...]:
        """A matrices (S, S)."""
        S, A = _count(self.states), _count(self.actions)
        row = np.arange(A * S)
        given = self._action_columns(row // S) | self._previous(row % S)
        condition, columns, probability = joint(self.variables, self.moves, given, A * S)
        successor = _merge([columns[v.current] for v in self.states], self.states)
        return _matrices(condition, successor, probability, A * S, S, A)

    def _observed(self) -> tuple[tuple[sp.csr_array, ...], bool]:
        """A matrices (S, O), and whether they tell more than the fully observed variables do."""
        S, A, X = _count(self.states), _count(self.actions), _count(self.seen)
        row = np.arange(A * S)
        given = self._action_columns(row // S) | self._current(row % S)
        condition, columns, probability = joint(self.variables, self.signals, given, A * S)
        signals = _merge([columns[v.current] for v in self.observations], self.observations, len(condition))
        count = _count(self.observations)
        if X * count >= 1 << 31:
            raise BadInput(
                f"{self.document.source.path}: {X * count:.3g} observations are too many; make it smaller"
            )
        O = _matrices(condition, condition % X * count + signals, probability, A * S, X * count, A)  # noqa: E741
        informative = False
        for matrix in O if count > 1 else ():
            # The rows of every hidden value against those of the first.
            firsts = matrix[np.arange(S) % X]
            informative = informative or bool(abs(matrix - firsts).max() > 1e-12)
        return O, informative

    def _initial(self) -> NDArray[np.float64]:
        _, columns, probability = joint(self.variables, self.belief, {}, 1)
        state = _merge([columns[v.previous] for v in self.states], self.states)
        return np.bincount(state, probability, _count(self.states)).astype(np.float64)

    def _expected(self, factor: Factor, transitions, observations) -> NDArray[np.float64]:
        """(S, A) what one reward function adds."""
        held = [self.variables.named[name] for name in factor.names]
        current = {v.current for v in self.states}
        depth = Depth(any(name in current for name in factor.names), any(v.kind == OBSERVATION for v in held))
        count = _count(self.observations)

        def reward(a: NDArray, s: NDArray, successor: NDArray, observation: NDArray) -> NDArray[np.float64]:
            signals = _split(observation % count, self.observations)
            columns = self._action_columns(a) | self._previous(s) | self._current(successor)
            columns |= {v.current: c for v, c in zip(self.observations, signals, strict=True)}
            return factor.cells.look_up([columns[name] for name in factor.names])[1]

        return expected_rewards(reward, depth, transitions, observations)

    def _family(self, transitions, rewards: NDArray[np.float64], initial: NDArray[np.float64]) -> Family:
        """The family, with states that are copies of one for the sake of observed rewards merged again."""
        M, X = _count(self.hidden), _count(self.seen)
        environment, state = np.divmod(np.arange(M * X), X)
        cell = np.full(M * X, -1)
        names = [f"m0_{name}" for name in _names(self.seen)]
        copies = any("_r" in name for name in names)
        if copies:
            try:
                _, of_name, cell_of_name = structure(tuple(names))
                args = (environment, of_name[state], cell_of_name[state], transitions, rewards, initial)
                return assemble(*args, self.discount)
            except BadInput:
                pass  # names that only look like ours: every value is a state of its own
        return assemble(environment, state, cell, transitions, rewards, initial, self.discount)


def _count(variables: list[Variable]) -> int:
    """Number of joint values."""
    total = 1
    for variable in variables:
        total *= len(variable.values)
    return total


def _split(index: NDArray, variables: list[Variable]) -> list[NDArray]:
    """The value of each variable in a joint value, the last variable counting fastest."""
    columns = []
    for variable in reversed(variables):
        index, column = np.divmod(index, len(variable.values))
        columns.append(column)
    return columns[::-1]


def _merge(columns: list[NDArray], variables: list[Variable], length: int | None = None) -> NDArray[np.int64]:
    """The joint value of values of each variable."""
    index = np.zeros(len(columns[0]) if length is None else length, np.int64)
    for column, variable in zip(columns, variables, strict=True):
        index = index * len(variable.values) + column
    return index


def _matrices(row, column, value, num_rows: int, num_columns: int, A: int) -> tuple[sp.csr_array, ...]:
    """The matrix of each action; entries of a row may come in any order, and cells more than once."""
    order = np.lexsort((column, row))
    row, column, value = row[order], column[order], value[order]
    return split_by_action(Rows(row, column, value, num_rows, num_columns), A)


def _stays(transitions: tuple[sp.csr_array, ...], X: int) -> bool:
    """Whether the hidden part of the state, state // X, never changes."""
    for T in transitions:
        row = np.repeat(np.arange(len(T.indptr) - 1), np.diff(T.indptr))
        if (row // X != T.indices // X).any():
            return False
    return True


def _names(variables: list[Variable]) -> tuple[str, ...]:
    """Names of the joint values: those of the values joined by '_'; none where they would not be unique."""
    if len(variables) == 1:
        return tuple(variables[0].values)
    count = _count(variables)
    if not variables or count > 1_000_000:
        return ()
    columns = _split(np.arange(count), variables)
    names = [
        "_".join(parts)
        for parts in zip(
            *([v.values[i] for i in c] for v, c in zip(variables, columns, strict=True)), strict=True
        )
    ]
    return tuple(names) if len(set(names)) == count else ()
