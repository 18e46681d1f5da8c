"""The variables that a `.pomdpx` file declares."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from epomdp.exact.formats.files import suggestion
from epomdp.exact.formats.markup import Document, Element
from epomdp.exact.formats.tokens import Names
from epomdp.exact.memory import require_memory

# What a variable is, and the letter of the values of one that gives only their number.
ACTION, STATE, OBSERVATION = 0, 1, 2
_LETTERS = {"ActionVar": "a", "StateVar": "s", "ObsVar": "o"}
_LARGEST = (1 << 31) - 1


@dataclass
class Variable:
    """A variable.

    Attributes:
        kind: ACTION, STATE or OBSERVATION.
        previous, current: its names; they differ for a state variable only.
        values: the names of its values.
        fully_observed: whether it is a state variable that is seen.
        number: its position among all variables.
    """

    kind: int
    previous: str
    current: str
    values: list[str]
    fully_observed: bool
    number: int


class Variables:
    """All variables of a file, by name."""

    def __init__(self, document: Document, section: Element) -> None:
        self.document = document
        self.list: list[Variable] = []
        self.rewards: set[str] = set()
        self.named: dict[str, Variable] = {}
        for element in section.children:
            self._declare(element)
        values = [value.encode() for variable in self.list for value in variable.values]
        ends = np.cumsum([0, *map(len, values)])
        first = np.cumsum([0] + [len(variable.values) for variable in self.list])
        text = np.frombuffer(b"".join(values), np.uint8)
        self.values = Names(text, np.column_stack([ends[:-1], ends[1:]]).astype(np.int64), first)
        if self.values.repeated >= 0:
            variable = self.list[int(np.searchsorted(first, self.values.repeated, side="right")) - 1]
            name = values[self.values.repeated].decode()[:40]
            raise document.error(section, f"{variable.current} has the value '{name}' twice; name each once")
        for kind, tag in ((ACTION, "ActionVar"), (STATE, "StateVar")):
            if not self.of_kind(kind):
                raise document.error(section, f"there is no <{tag}>; a model needs one at least")

    def of_kind(self, kind: int) -> list[Variable]:
        """The variables of a kind, in file order."""
        return [variable for variable in self.list if variable.kind == kind]

    def known(self, element: Element, name: str) -> Variable:
        """The variable of this name, which `element` mentions."""
        if name not in self.named:
            mend = suggestion(name, self.named, "declare it in <Variable>")
            raise self.document.error(element, f"unknown variable '{name[:40]}'; {mend}")
        return self.named[name]

    def _declare(self, element: Element) -> None:
        document, attributes = self.document, element.attributes
        if element.tag == "RewardVar":
            self.rewards.add(self._name(element, "vname"))
            return
        if element.tag not in _LETTERS:
            mend = suggestion(element.tag, [*_LETTERS, "RewardVar"], "remove it")
            raise document.error(element, f"unknown kind of variable <{element.tag[:40]}>; {mend}")
        kind = list(_LETTERS).index(element.tag)
        names = ("vnamePrev", "vnameCurr") if kind == STATE else ("vname", "vname")
        previous, current = (self._name(element, name) for name in names)
        seen = attributes.get("fullyObs", "false")
        if seen not in ("true", "false"):
            raise document.error(element, f"fullyObs is '{seen[:40]}'; write true or false")
        variable = Variable(kind, previous, current, self._values(element), seen == "true", len(self.list))
        if kind == STATE and previous == current:
            raise document.error(
                element, f"vnamePrev and vnameCurr are both '{current[:40]}'; let them differ"
            )
        for name in {previous, current}:
            if name in self.named:
                raise document.error(element, f"the variable '{name[:40]}' is declared twice; rename one")
            self.named[name] = variable
        self.list.append(variable)

    def _name(self, element: Element, attribute: str) -> str:
        name = element.attributes.get(attribute, "")
        if not name or name.split() != [name]:
            raise self.document.error(element, f'<{element.tag}> needs {attribute}="...", one word; add it')
        return name

    def _values(self, element: Element) -> list[str]:
        given = element.all("ValueEnum", "NumValues")
        if len(given) != 1:
            raise self.document.error(
                element, f"<{element.tag}> needs one <ValueEnum> or <NumValues>; add it"
            )
        text = given[0].text.split()
        if given[0].tag == "ValueEnum":
            if not text:
                raise self.document.error(given[0], "<ValueEnum> is empty; name the values")
            return text
        number = int(text[0][:12]) if len(text) == 1 and text[0].isascii() and text[0].isdigit() else 0
        if not 1 <= number <= _LARGEST:
            raise self.document.error(
                given[0], f"<NumValues> is '{given[0].text.strip()[:40]}'; give 1 or more"
            )
        require_memory(150 * number, f"{self.document.source.path}: {number} values", "give fewer")
        letter = _LETTERS[element.tag]
        return [f"{letter}{i}" for i in range(number)]
