"""The decision diagrams of `.pomdpx` files as records with wildcards: a record for each path to a leaf."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from epomdp.exact.formats.files import suggestion
from epomdp.exact.formats.markup import Document, Element
from epomdp.exact.formats.variables import Variable

# Templates may use templates, so that a short file can mean any number of paths.
_MOST_PATHS = 1_000_000
_DEEPEST = 64


def diagram_records(
    document: Document, parameter: Element, variables: dict[str, Variable], probable: bool
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Records of a `<Parameter type="DD">`: (n, d) indices, -1 for every value of a variable, and (n,) values.

    Args:
        document: for errors.
        parameter: the element.
        variables: the d variables of the table, by name, in order.
        probable: whether the leaves are probabilities.
    """
    diagrams = parameter.all("DAG")
    if len(diagrams) != 1:
        raise document.error(parameter, 'a parameter of type DD needs one <DAG>; add it, or write type="TBL"')
    walk = _Walk(document, variables, probable)
    for template in parameter.all("SubDAGTemplate"):
        walk.templates[template.attributes.get("id", "")] = template
    walk.visit(walk.child(diagrams[0]), np.full(len(variables), -1, np.int32), 0)
    return np.array(walk.indices, np.int32).reshape(-1, len(variables)), np.array(walk.values, np.float64)


class _Walk:
    """A walk through a diagram that writes down a record at each leaf."""

    def __init__(self, document: Document, variables: dict[str, Variable], probable: bool) -> None:
        self.document = document
        self.variables = variables
        self.position = {name: j for j, name in enumerate(variables)}
        self.probable = probable
        self.templates: dict[str, Element] = {}
        self.indices: list[NDArray[np.int32]] = []
        self.values: list[float] = []

    def child(self, element: Element) -> Element:
        """The one element that a DAG, an edge or a template holds."""
        if len(element.children) != 1:
            raise self.document.error(
                element, f"<{element.tag[:40]}> needs one <Node>, <Terminal> or <SubDAG>; add it"
            )
        return element.children[0]

    def visit(self, element: Element, path: NDArray[np.int32], depth: int) -> None:
        """Write the records of everything below `element`, which `path` leads to."""
        if depth > _DEEPEST:
            raise self.document.error(
                element, "templates use each other in a circle, or too deep; untangle them"
            )
        if element.tag == "Terminal":
            self._put(element, path, self._number(element))
        elif element.tag == "Node":
            j = self._free(element, path)
            for edge in element.children:
                if edge.tag != "Edge":
                    raise self.document.error(edge, f"expected <Edge>, found <{edge.tag[:40]}>; correct it")
                self.visit(self.child(edge), self._set(path, j, self._value(edge, j)), depth + 1)
        elif element.tag == "SubDAG":
            self._short_form(element, path, depth)
        else:
            raise self.document.error(
                element, f"expected <Node>, <Terminal> or <SubDAG>, found <{element.tag[:40]}>; correct it"
            )

    def _short_form(self, element: Element, path: NDArray[np.int32], depth: int) -> None:
        style = element.attributes.get("type", "")
        if style == "template":
            name = element.attributes.get("idref", "")
            if name not in self.templates:
                mend = suggestion(name, self.templates, "add a <SubDAGTemplate> of this id")
                raise self.document.error(element, f"unknown template '{name[:40]}'; {mend}")
            self.visit(self.child(self.templates[name]), path, depth + 1)
            return
        if style not in ("deterministic", "persistent", "uniform"):
            mend = "write deterministic, persistent, uniform or template"
            raise self.document.error(element, f"unknown type of <SubDAG> '{style[:40]}'; {mend}")
        j = self._free(element, path)
        size = len(self._variable(j).values)
        if style == "deterministic":
            self._put(element, self._set(path, j, self._value(element, j)), 1.0)
        elif style == "uniform":
            self._put(element, path, 1.0 / size)
        else:
            before = self.position.get(self._variable(j).previous)
            if before is None or before == j:
                raise self.document.error(
                    element, "persistent needs the variable's previous value in <Parent>"
                )
            # What an edge has fixed before stays fixed.
            fixed = path[before]
            for i in range(size) if fixed < 0 else [int(fixed)]:
                self._put(element, self._set(self._set(path, before, i), j, i), 1.0)

    def _variable(self, j: int) -> Variable:
        return list(self.variables.values())[j]

    def _set(self, path: NDArray[np.int32], j: int, value: int) -> NDArray[np.int32]:
        path = path.copy()
        path[j] = value
        return path

    def _free(self, element: Element, path: NDArray[np.int32]) -> int:
        """Position of the variable that an element is about, which no edge may have fixed yet."""
        name = element.attributes.get("var", "")
        if name not in self.position:
            mend = suggestion(name, self.position, f"the table is over {', '.join(self.position)}")
            raise self.document.error(element, f"unknown variable '{name[:40]}'; {mend}")
        if path[self.position[name]] >= 0:
            raise self.document.error(element, f"{name[:40]} is decided twice on one path; leave one out")
        return self.position[name]

    def _value(self, element: Element, j: int) -> int:
        """The index of the value that an element names."""
        name, values = element.attributes.get("val", ""), self._variable(j).values
        if name not in values:
            mend = suggestion(name, values, "use one of its values")
            raise self.document.error(element, f"unknown value '{name[:40]}'; {mend}")
        return values.index(name)

    def _number(self, element: Element) -> float:
        text = element.text.strip()
        try:
            value = float(text) if text.isascii() and "_" not in text else math.nan
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise self.document.error(
                element, f"expected a number, found '{text[:40]}'; write one such as 0.5"
            )
        if self.probable and not 0.0 <= value <= 1.0:
            raise self.document.error(element, f"probability {value:g} is outside [0, 1]; correct it")
        return value

    def _put(self, element: Element, path: NDArray[np.int32], value: float) -> None:
        if len(self.values) >= _MOST_PATHS:
            raise self.document.error(
                element, f'the diagram has more than {_MOST_PATHS} paths; use type="TBL"'
            )
        self.indices.append(path)
        self.values.append(value)
