"""The conditional tables of a `.pomdpx` file, and their joint distributions as sparse arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from epomdp.errors import BadInput
from epomdp.exact.formats.cells import Cells, Rows
from epomdp.exact.formats.diagrams import diagram_records
from epomdp.exact.formats.files import suggestion
from epomdp.exact.formats.markup import Document, Element, table_of
from epomdp.exact.formats.preamble import TOLERANCE, normalised
from epomdp.exact.formats.tables import read_table
from epomdp.exact.formats.variables import Variables
from epomdp.exact.memory import require_memory

_MEND = "use a smaller model or a larger machine"

# Values of some variables, one array each, all of one length.
Columns = dict[str, NDArray[np.int64]]


@dataclass
class Factor:
    """A conditional table: variable names in order, the last one conditional on the ones before, and its cells."""

    element: Element
    names: list[str]
    cells: Cells


def read_factor(variables: Variables, element: Element, probable: bool) -> Factor:
    """Read a `<CondProb>` or a `<Func>`."""
    document = variables.document
    parts = [_only(document, element, tag) for tag in ("Var", "Parent", "Parameter")]
    target, parents, parameter = parts[0].text.split(), parts[1].text.split(), parts[2]
    if len(target) != 1:
        raise document.error(parts[0], "<Var> takes one variable; give its name")
    names = [name for name in parents if name != "null"]
    if probable:
        names += target
        variables.known(parts[0], target[0])
    elif target[0] not in variables.rewards:
        mend = suggestion(target[0], variables.rewards, 'declare <RewardVar vname="..."/>')
        raise document.error(parts[0], f"unknown reward variable '{target[0][:40]}'; {mend}")
    if not names:
        raise document.error(parts[1], "<Parent> is empty; name what the reward depends on")
    if len(set(names)) < len(names) or len(names) > 7:
        raise document.error(parts[1], "<Parent> names a variable twice, or more than six; correct it")
    held = [variables.known(parts[1], name) for name in names]
    kinds, sizes = [v.number for v in held], [len(v.values) for v in held]
    style = parameter.attributes.get("type", "TBL")
    if style == "DD":
        records = diagram_records(document, parameter, dict(zip(names, held, strict=True)), probable)
    elif style == "TBL":
        table = table_of(document, parameter, "ProbTable" if probable else "ValueTable")
        records = read_table(document, table, names, kinds, sizes, variables.values, probable)
    else:
        raise document.error(parameter, f"unknown parameter type '{style[:40]}'; write TBL or DD")
    index, value = records
    if len(names) == 1 and probable:
        # A table without parents is one row.
        sizes, index = [1, *sizes], np.pad(index, ((0, 0), (1, 0)))
    what = f"{document.source.path}: the table of {target[0]}"
    return Factor(element, names, Cells(what, sizes, index, value))


def _only(document: Document, element: Element, tag: str) -> Element:
    found = element.all(tag)
    if len(found) != 1:
        raise document.error(
            element, f"<{element.tag[:40]}> needs one <{tag}>, found {len(found)}; correct it"
        )
    return found[0]


def conditional(variables: Variables, factor: Factor) -> Rows:
    """The rows of a table of probabilities, checked and normalised."""
    uncovered = factor.cells.uncovered_row()
    if uncovered is not None:
        raise _row_error(variables, factor, uncovered, 0.0)
    rows = factor.cells.rows()
    sums = rows.sums()
    wrong = np.flatnonzero(~(np.abs(sums - 1.0) <= TOLERANCE))
    if len(wrong):
        at = np.unravel_index(wrong[0], factor.cells.shape[:-1])
        raise _row_error(variables, factor, tuple(int(i) for i in at), float(sums[wrong[0]]))
    rows.value = normalised(rows.value, sums[rows.row])
    return rows


def _row_error(variables: Variables, factor: Factor, row: Sequence[int], total: float) -> BadInput:
    names = factor.names[:-1]
    where = ", ".join(
        f"{name} = {variables.named[name].values[i]}" for name, i in zip(names, row, strict=False)
    )
    what = f"the probabilities of {factor.names[-1]}" + (f" for {where}" if where else "")
    return variables.document.error(factor.element, f"{what} sum to {total:.6g}; make it 1")


def joint(
    variables: Variables, factors: list[Factor], given: Columns, length: int
) -> tuple[NDArray[np.int64], Columns, NDArray[np.float64]]:
    """Join conditional tables, each variable after what it depends on.

    Args:
        variables: for sizes and errors.
        factors: one for each variable to be joined.
        given: values of the variables known at first, (length,) each.
        length: number of conditions.

    Returns:
        For each joint outcome of probability above zero: the condition it belongs to, the values of all
        variables, its probability. Conditions come in order.
    """
    condition, probability, columns = np.arange(length), np.ones(length), dict(given)
    waiting = list(factors)
    while waiting:
        ready = [f for f in waiting if all(name in columns for name in f.names[:-1])]
        if not ready:
            names = ", ".join(f.names[-1] for f in waiting)
            raise variables.document.error(
                waiting[0].element,
                f"{names} depend on each other, or on what comes after them; change <Parent>",
            )
        factor = ready[0]
        waiting.remove(factor)
        rows = conditional(variables, factor)
        row = np.zeros(len(condition), np.int64)
        for name, size in zip(factor.names[:-1], factor.cells.shape, strict=False):
            row = row * size + columns[name]
        indptr = rows.indptr()
        widths = np.diff(indptr)[row]
        total = int(widths.sum())
        require_memory(
            8 * (len(columns) + 6) * total, f"{variables.document.source.path}: joining tables", _MEND
        )
        at = np.repeat(indptr[row], widths) + np.arange(total) - np.repeat(np.cumsum(widths) - widths, widths)
        condition, probability = np.repeat(condition, widths), np.repeat(probability, widths) * rows.value[at]
        columns = {name: np.repeat(column, widths) for name, column in columns.items()}
        columns[factor.names[-1]] = rows.column[at]
    return condition, columns, probability
