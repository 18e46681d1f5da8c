"""XML read with care: no document type, hence no entities to expand, and large tables kept out of the tree.

The tree is made by Python's own expat. A `<Parameter>` of many plain `<Entry>` elements can be most of a
file of hundreds of megabytes; its bytes are cut out before parsing and handed on as places in the text.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from xml.parsers import expat

import numpy as np
from numpy.typing import NDArray

from epomdp.errors import BadInput
from epomdp.exact.compiled import compiled
from epomdp.exact.formats.files import Source, printable

# Shorter parameters are parsed as XML like everything else.
CUT_FROM = 1 << 14
_DEEPEST = 200

_OPEN, _INSTANCE, _INSTANCE_END, _CLOSE, _TABLE, _TABLE_END, _VALUES, _VALUES_END = (
    np.frombuffer(tag, np.uint8)
    for tag in (
        b"<Entry>", b"<Instance>", b"</Instance>", b"</Entry>",
        b"<ProbTable>", b"</ProbTable>", b"<ValueTable>", b"</ValueTable>",
    )
)  # fmt: skip


@dataclass
class Table:
    """The entries of a `<Parameter>`.

    Attributes:
        text: what they stand in.
        spans: (n, 4) start and end of the instance and of the numbers of each entry.
        places: (n,) line and column of each entry where `text` is not the file itself.
    """

    text: NDArray[np.uint8]
    spans: NDArray[np.int64]
    places: list[tuple[int, int]] | None = None


@dataclass
class Element:
    """An XML element: its name, attributes, children, the text of a leaf, and where it begins."""

    tag: str
    attributes: dict[str, str]
    line: int
    column: int
    text: str = ""
    children: list[Element] = field(default_factory=list)
    table: Table | None = None

    def all(self, *tags: str) -> list[Element]:
        """The children of these names."""
        return [child for child in self.children if child.tag in tags]


class Document:
    """A parsed XML file, and the errors that point into it."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._cuts: list[Table] = []
        self._cut_tag = f"cut{secrets.token_hex(8)}"
        self._open: list[Element] = []
        self._parser = expat.ParserCreate()
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._characters
        self._parser.StartDoctypeDeclHandler = self._doctype
        top = Element("", {}, 1, 1)
        self._open.append(top)
        text = self._shortened()
        try:
            self._parser.Parse(text, True)
        except expat.ExpatError as error:
            what = expat.ErrorString(error.code)
            mend = "the file is cut off" if "no element" in what or "unclosed" in what else "correct the XML"
            raise self._at(
                error.lineno, error.offset + 1, f"this is not well-formed XML ({what}); {mend}"
            ) from None
        except BadInput:
            raise
        except (LookupError, ValueError) as error:
            raise BadInput(f"{source.path}: unreadable encoding ({error}); save the file as UTF-8") from None
        self.root = top.children[0]

    def error(self, element: Element, what: str) -> BadInput:
        """The one-line error `what`, said of an element."""
        return self._at(element.line, element.column, what)

    def entry_error(self, table: Table, entry: int, offset: int, what: str) -> BadInput:
        """The one-line error `what`, said of the place `offset` in an entry of a table."""
        if table.places is None:
            return self.source.error(offset, what)
        return self._at(*table.places[entry], what)

    def _at(self, line: int, column: int, what: str) -> BadInput:
        return BadInput(f"{self.source.path}, line {line}, column {column}: {printable(what)}")

    def _shortened(self) -> bytes:
        """The file with each large plain parameter's entries replaced by an element that stands for them."""
        data = self.source.data
        # Where comments and such could hide tags, or bytes could mean other characters, nothing is cut.
        if len(data) < CUT_FROM or b"<!" in data or data.find(b"<?", 2) >= 0 or not data.isascii():
            return data
        text, parts, kept = np.frombuffer(data, np.uint8), [], 0
        at = data.find(b"<Parameter")
        while at >= 0:
            start, end = data.find(b">", at) + 1, data.find(b"</Parameter>", at)
            if start <= 0 or end < 0:
                break
            if end - start >= CUT_FROM and data[start - 2] != 47:
                spans = np.empty(
                    (max(0, _plain_entries(text, start, end, np.empty((0, 4), np.int64))), 4), np.int64
                )
                if len(spans):
                    _plain_entries(text, start, end, spans)
                    newlines = b"\n" * data.count(b"\n", start, end)
                    parts += [data[kept:start], f"<{self._cut_tag}/>".encode(), newlines]
                    self._cuts.append(Table(text, spans))
                    kept = end
            at = data.find(b"<Parameter", end)
        return b"".join([*parts, data[kept:]]) if parts else data

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        line, column = self._parser.CurrentLineNumber, self._parser.CurrentColumnNumber + 1
        if tag == self._cut_tag:
            self._open[-1].table = self._cuts.pop(0)
        if len(self._open) > _DEEPEST:
            raise self._at(line, column, f"elements stand more than {_DEEPEST} deep; this is no model")
        element = Element(tag, attributes, line, column)
        self._open[-1].children.append(element)
        self._open.append(element)

    def _end(self, tag: str) -> None:
        element = self._open.pop()
        if tag == self._cut_tag:
            self._open[-1].children.pop()
        if element.children:
            element.text = ""

    def _characters(self, text: str) -> None:
        element = self._open[-1]
        if not element.children:
            element.text += text

    def _doctype(self, name: str, *_: object) -> None:
        line, column = self._parser.CurrentLineNumber, self._parser.CurrentColumnNumber + 1
        raise self._at(
            line, column, "a document type is refused, as it could define entities; remove <!DOCTYPE>"
        )


def table_of(document: Document, parameter: Element, values: str) -> Table:
    """The entries of a `<Parameter>`, whichever way it was read. `values` is ProbTable or ValueTable."""
    if parameter.table is not None:
        return parameter.table
    texts: list[bytes] = []
    places = []
    for entry in parameter.children:
        instance, numbers = entry.all("Instance"), entry.all("ProbTable", "ValueTable")
        if entry.tag != "Entry" or len(instance) != 1 or len(numbers) != 1 or len(entry.children) != 2:
            raise document.error(
                entry, f"expected <Entry> with one <Instance> and one <{values}>, found <{entry.tag[:40]}>"
            )
        texts += [instance[0].text.encode(), numbers[0].text.encode()]
        places.append((entry.line, entry.column))
    ends = np.cumsum([0, *map(len, texts)])
    spans = (
        np.column_stack([ends[:-1:2], ends[1::2], ends[1:-1:2], ends[2::2]])
        if texts
        else np.empty((0, 4), int)
    )
    return Table(np.frombuffer(b"".join(texts), np.uint8), spans.astype(np.int64), places)


@compiled
def _skip_blanks(text, at, end):
    while at < end and (text[at] == 32 or 9 <= text[at] <= 13):
        at += 1
    return at


@compiled
def _after(text, at, end, tag):
    """Where the text goes on after `tag`, which must stand at `at`; -1 if it does not."""
    if at < 0 or at + len(tag) > end:
        return -1
    for i in range(len(tag)):
        if text[at + i] != tag[i]:
            return -1
    return at + len(tag)


@compiled
def _content_end(text, at, end):
    """Where the next tag begins; -1 if an entity reference stands before it, or there is none."""
    while 0 <= at < end and text[at] != 60:
        if text[at] == 38:
            return -1
        at += 1
    return at if at < end else -1


@compiled
def _plain_entries(text, start, end, spans):
    """Number of entries in text[start:end], -1 if anything but plain entries stands there; their places."""
    n, at = 0, _skip_blanks(text, start, end)
    while at < end:
        first = _after(text, _skip_blanks(text, _after(text, at, end, _OPEN), end), end, _INSTANCE)
        last = _content_end(text, first, end)
        at = _skip_blanks(text, _after(text, last, end, _INSTANCE_END), end)
        begin = _after(text, at, end, _TABLE)
        closing = _TABLE_END
        if begin < 0:
            begin = _after(text, at, end, _VALUES)
            closing = _VALUES_END
        stop = _content_end(text, begin, end)
        at = _after(text, _skip_blanks(text, _after(text, stop, end, closing), end), end, _CLOSE)
        if at < 0 or first < 0 or begin < 0:
            return -1
        if n < len(spans):
            spans[n, 0], spans[n, 1], spans[n, 2], spans[n, 3] = first, last, begin, stop
        n, at = n + 1, _skip_blanks(text, at, end)
    return n
