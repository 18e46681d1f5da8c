"""Every form of Cassandra's grammar, against a slow interpreter with dense arrays written here."""

import re

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from epomdp.errors import BadInput
from epomdp.exact.formats import pomdp

KINDS = {"T": "ass", "O": "aso", "R": "asso"}


class Reference:
    """Reads a file token by token into dense T (A, S, S), O (A, S, O), R (A, S, S, O) and the start."""

    def __init__(self, text: str):
        text = re.sub(r"#[^\n]*", " ", text)
        self.tokens = re.findall(r"[:*]|[^\s:*]+", text)
        self.at = 0
        sections: dict[str, list[str]] = {}
        while self.peek() not in ("T", "O", "R"):
            name = self.take()
            if self.peek() in ("include", "exclude"):
                name += " " + self.take()
            assert self.take() == ":"
            words = sections[name] = []
            while not (
                self.peek(1) == ":" or (self.peek(1) in ("include", "exclude") and self.peek(2) == ":")
            ):
                words.append(self.take())
        self.names = {}
        for kind, section in (("s", "states"), ("a", "actions"), ("o", "observations")):
            words = sections[section]
            single = len(words) == 1 and words[0].isdigit()
            self.names[kind] = [str(i) for i in range(int(words[0]))] if single else words
        S, A, K = (len(self.names[k]) for k in "sao")
        self.discount = float(sections["discount"][0])
        self.sign = -1 if sections["values"] == ["cost"] else 1
        self.start = self.read_start(sections, S)
        self.T, self.O, self.R = np.zeros((A, S, S)), np.zeros((A, S, K)), np.zeros((A, S, S, K))
        while self.peek() is not None:
            self.entry()

    def peek(self, ahead=0):
        return self.tokens[self.at + ahead] if self.at + ahead < len(self.tokens) else None

    def take(self):
        self.at += 1
        return self.tokens[self.at - 1]

    def index(self, kind, word):
        if word == "*":
            return slice(None)
        names = self.names[kind]
        return names.index(word) if word in names else int(word)

    def read_start(self, sections, S):
        start = np.zeros(S)
        if "start include" in sections:
            for word in sections["start include"]:
                start[self.index("s", word)] = 1
        elif "start exclude" in sections:
            start[:] = 1
            for word in sections["start exclude"]:
                start[self.index("s", word)] = 0
        elif sections.get("start", ["uniform"]) == ["uniform"]:
            start[:] = 1
        elif len(sections["start"]) == 1 and S > 1:
            start[self.index("s", sections["start"][0])] = 1
        else:
            start[:] = [float(x) for x in sections["start"]]
        return start / start.sum()

    def number(self):
        word = self.take()
        return float(word + self.take()) if word in "+-" else float(word)

    def entry(self):
        function = self.take()
        table, where = getattr(self, function), []
        while self.peek() == ":":
            self.take()
            where.append(self.index(KINDS[function][len(where)], self.take()))
        shape = table.shape[len(where) :]
        if self.peek() == "uniform":
            self.take()
            content = np.full(shape, 1 / shape[-1])
        elif self.peek() == "identity":
            self.take()
            content = np.eye(shape[0])
        elif self.peek() == "reset":
            self.take()
            content = np.broadcast_to(self.start, shape)
        else:
            content = np.array([self.number() for _ in range(int(np.prod(shape)))]).reshape(shape)
        if not where:
            raise AssertionError
        # A plain loop over what the wildcards stand for, so that NumPy's indexing rules play no part.
        for cell in np.ndindex(*(table.shape[: len(where)])):
            if all(w == slice(None) or w == c for w, c in zip(where, cell, strict=True)):
                table[cell] = content

    def expected(self):
        return self.sign * np.einsum("ast,ato,asto->sa", self.T, self.O, self.R)


def check(path, text):
    path.write_text(text)
    read, slow = pomdp.read(path), Reference(text)
    np.testing.assert_allclose([m.toarray() for m in read.transitions], slow.T, atol=1e-12)
    np.testing.assert_allclose([m.toarray() for m in read.observations], slow.O, atol=1e-12)
    np.testing.assert_allclose(read.rewards, slow.expected(), atol=1e-9)
    np.testing.assert_allclose(read.initial, slow.start, atol=1e-12)
    assert read.discount == slow.discount
    return read


GAP = st.sampled_from([" ", "  ", "\n", "\t", "\r\n", " # a note: 1 2 *\n", "\n#\n\n", "\f "])
FORMS = ["{:g}", "{:.6f}", "{!r}", "{:e}", "{:E}", "+{!r}"]


@st.composite
def files(draw):
    """A valid file in which every form can occur, between blanks, newlines and comments of all kinds."""
    sizes = {k: draw(st.integers(1, 4)) for k in "sao"}
    named = {k: draw(st.booleans()) for k in "sao"}
    words = {
        "s": ["dark-room", "T", "uniform", "s_3"],
        "a": ["go", "O", "reset", "a'b"],
        "o": ["see", "R", "start", "x9"],
    }
    out: list[str] = []

    def put(*tokens):
        for token in tokens:
            out.append(str(token))
            out.append(draw(GAP))

    def name(kind, wild=True):
        i = draw(st.integers(-1 if wild else 0, sizes[kind] - 1))
        if i < 0:
            return "*"
        return words[kind][i] if named[kind] and draw(st.booleans()) else str(i)

    def number(x):
        return draw(st.sampled_from(FORMS)).format(float(x))

    def distribution(n):
        if draw(st.booleans()):
            return np.eye(n)[draw(st.integers(0, n - 1))]
        x = np.array([draw(st.integers(0, 8)) for _ in range(n)], float) + np.eye(n)[0]
        # Sixteenths are exact in each of the forms of numbers above, apart from the rounding to six digits.
        x = np.floor(16 * x / x.sum()) / 16
        x[-1] += 1 - x.sum()
        return x

    def numbers(values):
        put(*(number(v) for v in np.ravel(values)))

    preamble = [("discount", [0.9]), ("values", [draw(st.sampled_from(["reward", "cost"]))])]
    for kind, section in (("s", "states"), ("a", "actions"), ("o", "observations")):
        preamble.append((section, words[kind][: sizes[kind]] if named[kind] else [sizes[kind]]))
    start = draw(st.sampled_from(["", "list", "uniform", "single", "include", "exclude"]))
    if start == "list":
        preamble.append(("start", [number(x) for x in distribution(sizes["s"])]))
    elif start == "uniform" and not (named["s"] and sizes["s"] > 2):
        preamble.append(("start", ["uniform"]))
    elif start == "single" and sizes["s"] > 1:
        preamble.append(("start", [name("s", wild=False).replace("uniform", "0")]))
    elif start == "include":
        preamble.append(("start include", [name("s") for _ in range(2)]))
    elif start == "exclude" and sizes["s"] > 1:
        preamble.append(("start exclude", [draw(st.integers(0, sizes["s"] - 1))]))
    for section, values in draw(st.permutations(preamble)):
        put(*section.split(), ":", *values)

    def entry(function, depth, wild=True):
        put(function)
        for kind in KINDS[function][:depth]:
            put(":", name(kind, wild))

    def rows(function, fixed):
        """Entries that leave every row they touch a distribution; `fixed` is the action or *."""
        n = sizes[KINDS[function][2]]
        form = draw(st.sampled_from(["matrix", "uniform", "identity", "row", "reset", "single"]))
        put(function, ":", fixed)
        if form == "uniform":
            put("uniform")
        elif form == "identity" and function == "T":
            put("identity")
        elif form == "row":
            put(":", "*")
            numbers(distribution(n))
        elif form == "reset" and function == "T":
            put(":", "*", "reset")
        elif form == "single":
            put(
                ":",
                "*",
                ":",
                "*",
                0,
                function,
                ":",
                fixed,
                ":",
                "*",
                ":",
                name(KINDS[function][2], False),
                number(1),
            )
        else:
            numbers([distribution(n) for _ in range(sizes["s"])])

    for function in "TO":
        for _ in range(draw(st.integers(0, 2))):
            entry(function, 3)
            put(number(draw(st.sampled_from([0, 0.25, 1]))))
        rows(function, "*")
        for _ in range(draw(st.integers(0, 2))):
            rows(function, name("a"))
        for _ in range(draw(st.integers(0, 2))):
            entry(function, 2)
            numbers(distribution(sizes[KINDS[function][2]]))
    for _ in range(draw(st.integers(0, 4))):
        depth = draw(st.integers(2, 4))
        entry("R", depth)
        free = [sizes[k] for k in KINDS["R"][depth:]]
        amount = st.sampled_from(["-1", "- 2.5", "0", "3", "+1e1", "+ 4", ".5"])
        put(*(draw(amount) for _ in range(int(np.prod(free)))))
    return "".join(out)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(text=files())
def test_random_files_mean_what_the_reference_says(text, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "random.pomdp"
    try:
        check(path, text)
    except BadInput as error:
        # The only thing that a file made here can have wrong is a start that leaves no state.
        raise AssertionError(f"{error}\n{text}") from None


HEAD = "discount: 0.95 values: reward states: left right actions: listen open observations: hear-left hear-right\n"
REST = "T: * identity O: * uniform\n"


@pytest.mark.parametrize(
    "entries",
    [
        "T: listen identity T: open uniform O: listen 0.85 0.15 0.15 0.85 O: open uniform R: * : * : * : * -1",
        "T:*:*:*0.5 O:*:*:*.5 R:open:left:*:* 10",  # nothing but the tokens themselves tells them apart
        "T: * : left : left 1 T: * : right : right 1.0e0 O: 0 : 1 uniform O: 0 : 0 1 0 O: 1 : * : 0 1",
        "T: * reset O: * : * uniform",
        "T: listen : left reset T: listen : right 0.25 .75 T: 1 identity O: * uniform",
        "T: * uniform T: listen : left 1 0 T: listen : right : left 1 T: listen : right : right 0 O: * uniform",
        REST + "R: listen : left 1 2 3 4 R: open : * : right -1 1 R: open : right : right : hear-left 7",
        REST + "R: * : * : * : * 1 R: listen : * : * : hear-left - 5 R: listen : right : * : * 3",
        REST + "R: * : * : right : * 1 R: * : left : right : * 2 R: open : left : right : 1 3",
        REST + "R: open : left : right : 1 3 R: * : * : * : * 0",
    ],
)
@pytest.mark.parametrize("values", ["reward", "cost"])
def test_forms_by_hand(tmp_path, entries, values):
    read = check(tmp_path / "x.pomdp", HEAD.replace("values: reward", f"values: {values}") + entries)
    assert read.states == ("left", "right")
    assert read.actions == ("listen", "open")
    assert read.observation_names == ("hear-left", "hear-right")


def test_costs_are_negative_rewards(tmp_path):
    (tmp_path / "x.pomdp").write_text(HEAD.replace("reward", "cost") + REST + "R: open : * : * : * 4")
    np.testing.assert_array_equal(pomdp.read(tmp_path / "x.pomdp").rewards, [[0, -4], [0, -4]])


@pytest.mark.parametrize(
    ("start", "belief"),
    [
        ("", [0.25] * 4),
        ("start: uniform", [0.25] * 4),
        ("start: 0.1 0.2 0.3 0.4", [0.1, 0.2, 0.3, 0.4]),
        ("start: 2", [0, 0, 1, 0]),
        ("start: c", [0, 0, 1, 0]),
        ("start include: a 3", [0.5, 0, 0, 0.5]),
        ("start include: *", [0.25] * 4),
        ("start exclude: a b", [0, 0, 0.5, 0.5]),
        ("start: 0.333333 0.333333 0.333333 0", [1 / 3, 1 / 3, 1 / 3, 0]),
    ],
)
def test_starts(tmp_path, start, belief):
    text = f"discount: .5 values: reward states: a b c d actions: 1 observations: 1 {start} T: 0 identity O: 0 uniform"
    (tmp_path / "x.pomdp").write_text(text)
    np.testing.assert_allclose(pomdp.read(tmp_path / "x.pomdp").initial, belief, atol=1e-12)


@pytest.mark.parametrize("start", ["1.0", "1", "0", "uniform"])
def test_the_start_of_a_single_state(tmp_path, start):
    """Its probability, or its number."""
    text = f"discount: 0 values: reward states: 1 actions: 1 observations: 1 start: {start} T: 0 identity O: 0 uniform"
    (tmp_path / "x.pomdp").write_text(text)
    assert pomdp.read(tmp_path / "x.pomdp").initial == [1.0]


def test_rows_within_rounding_of_one_are_normalised(tmp_path):
    text = HEAD + "T: * : * 0.33333 0.66666 O: * uniform"
    (tmp_path / "x.pomdp").write_text(text)
    rows = pomdp.read(tmp_path / "x.pomdp").transitions[0].toarray()
    np.testing.assert_allclose(rows.sum(axis=1), 1, atol=1e-15)
    np.testing.assert_allclose(rows[0], [0.33333 / 0.99999, 0.66666 / 0.99999])


def test_a_byte_order_mark_and_old_line_ends_are_understood(tmp_path):
    path = tmp_path / "x.pomdp"
    path.write_bytes(b"\xef\xbb\xbf" + ("# mac\r" + HEAD + REST).replace("\n", "\r").encode())
    assert pomdp.read(path).num_states == 2


def test_foreign_bytes_in_comments_do_no_harm(tmp_path):
    path = tmp_path / "x.pomdp"
    path.write_bytes(b"# caf\xe9\n" + (HEAD + REST).encode() + b"# \xff\xfe")
    assert pomdp.read(path).num_states == 2


def test_names_of_any_script_are_kept(tmp_path):
    path = tmp_path / "x.pomdp"
    path.write_text(HEAD.replace("left right", "линк ö") + REST + "R: open : ö : * : * 2", encoding="utf-8")
    read = pomdp.read(path)
    assert read.states == ("линк", "ö")
    assert read.rewards[1, 1] == 2


def test_sparse_files_cost_what_they_hold(tmp_path, monkeypatch):
    """A hundred thousand states in single entries, where dense tables would take 10^10 cells."""
    n = 100_000
    monkeypatch.setattr("epomdp.exact.memory.available_bytes", lambda: 1e9)
    lines = [f"T: * : {s} : {(7 * s + 1) % n} 1" for s in range(n)]
    head = f"discount: 0.9 values: reward states: {n} actions: 2 observations: 2 start: 0\n"
    tail = "O: * uniform R: 1 : * : 5 : * 3"
    (tmp_path / "x.pomdp").write_text("\n".join([head, *lines, tail]))
    read = pomdp.read(tmp_path / "x.pomdp")
    np.testing.assert_array_equal(read.transitions[1].indices, (7 * np.arange(n) + 1) % n)
    assert read.rewards.nonzero()[0] == [(4 * pow(7, -1, n)) % n]


def test_long_lists_go_over_the_edge_of_a_chunk(tmp_path, monkeypatch):
    monkeypatch.setattr("epomdp.exact.formats.scan._CHUNK", 5)
    rng = np.random.default_rng(0)
    T = rng.dirichlet(np.ones(7), 7)
    head = "discount: .5 values: reward states: 7 actions: 2 observations: 2 T: * "
    tail = " O: * : 3 uniform O: * uniform R: 0 : 1 " + " ".join("2 -3" for _ in range(7))
    check(tmp_path / "x.pomdp", head + " ".join(map(repr, T.ravel().tolist())) + tail)
