"""`.pomdpx` files of every kind, against a slow reader with dense tables written here."""

import itertools
import xml.etree.ElementTree as ET

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from epomdp.exact.family import Family
from epomdp.exact.formats import markup, pomdpx
from epomdp.exact.pomdp import Pomdp


class Reference:
    """Reads a file of tables into dense arrays: T (A, S, S), O (A, S, observations), R (S, A), the start.

    States count through the hidden variables, then the fully observed ones; observations through the fully
    observed variables, then the observation variables.
    """

    def __init__(self, text: str):
        root = ET.fromstring(text)
        self.values, hidden, seen, self.signals, self.actions = {}, [], [], [], []
        for v in root.find("Variable"):
            enum, count = v.find("ValueEnum"), v.find("NumValues")
            letter = {"StateVar": "s", "ObsVar": "o", "ActionVar": "a"}.get(v.tag)
            if enum is not None:
                names = enum.text.split()
            elif count is not None:
                names = [f"{letter}{i}" for i in range(int(count.text))]
            if v.tag == "StateVar":
                (seen if v.get("fullyObs") == "true" else hidden).append(
                    (v.get("vnamePrev"), v.get("vnameCurr"))
                )
                self.values |= dict.fromkeys((v.get("vnamePrev"), v.get("vnameCurr")), names)
            elif v.tag != "RewardVar":
                (self.signals if v.tag == "ObsVar" else self.actions).append(v.get("vname"))
                self.values[v.get("vname")] = names
        self.previous = [p for p, _ in hidden + seen]
        self.current = [c for _, c in hidden + seen]
        self.seen = [c for _, c in seen]
        self.hidden = [c for _, c in hidden]
        self.discount = float(root.find("Discount").text)
        moves = self.tables(root.find("StateTransitionFunction"))
        shows = self.tables(root.find("ObsFunction")) if root.find("ObsFunction") is not None else []
        begins = self.tables(root.find("InitialStateBelief"))
        pays = self.tables(root.find("RewardFunction"))
        A, S, K = (
            list(self.every(names)) for names in (self.actions, self.current, self.seen + self.signals)
        )
        self.T, self.O = np.zeros((len(A), len(S), len(S))), np.zeros((len(A), len(S), len(K)))
        R = np.zeros((len(A), len(S), len(S), len(K)))
        self.start = np.array(
            [self.product(begins, dict(zip(self.previous, s.values(), strict=True))) for s in S]
        )
        for a, s2 in itertools.product(range(len(A)), range(len(S))):
            for o in range(len(K)):
                if all(K[o][name] == S[s2][name] for name in self.seen):
                    self.O[a, s2, o] = self.product(shows, A[a] | S[s2] | K[o])
            for s in range(len(S)):
                before = dict(zip(self.previous, S[s].values(), strict=True))
                self.T[a, s, s2] = self.product(moves, A[a] | before | S[s2])
                for o in range(len(K)):
                    R[a, s, s2, o] = sum(self.cell(t, A[a] | before | S[s2] | K[o]) for t in pays)
        self.R = np.einsum("ast,ato,asto->sa", self.T, self.O, R)

    def every(self, names):
        for combination in itertools.product(*(range(len(self.values[n])) for n in names)):
            yield dict(zip(names, combination, strict=True))

    def tables(self, section):
        made = []
        for element in section:
            names = [n for n in element.find("Parent").text.split() if n != "null"]
            if element.tag == "CondProb":
                names.append(element.find("Var").text.strip())
            table = np.zeros([len(self.values[n]) for n in names])
            for entry in element.find("Parameter"):
                words, numbers = entry[0].text.split(), entry[1].text.split()
                self.fill(table, names, words, numbers)
            made.append((names, table))
        return made

    def fill(self, table, names, words, numbers):
        each = [j for j, w in enumerate(words) if w == "-"]
        shape = [table.shape[j] for j in each]
        if numbers == ["identity"]:
            numbers = np.eye(shape[0])
        elif numbers == ["uniform"]:
            numbers = np.full(shape, 1 / shape[-1])
        else:
            numbers = np.array([float(x) for x in numbers]).reshape(shape)
        for cell in np.ndindex(*table.shape):
            fits = (w in "*-" or self.values[n][i] == w for w, n, i in zip(words, names, cell, strict=True))
            if all(fits):
                table[cell] = numbers[tuple(cell[j] for j in each)]

    def cell(self, table, values):
        names, numbers = table
        return numbers[tuple(values[n] for n in names)]

    def product(self, tables, values):
        return np.prod([self.cell(t, values) for t in tables])


MINE = """<?xml version="1.0" encoding="ISO-8859-1"?>
<!-- A miner stands at the shaft, in the pit, or has left; the vein is rich or poor. -->
<pomdpx version="1.0" id="mine" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
  xsi:noNamespaceSchemaLocation="pomdpx.xsd">
<Description>A small example</Description>
<Discount> 0.9 </Discount>
<Variable>
  <StateVar vnamePrev="place_0" vnameCurr="place_1" fullyObs="true"><NumValues>3</NumValues></StateVar>
  <StateVar vnamePrev="vein_0" vnameCurr="vein_1"><ValueEnum>rich poor</ValueEnum></StateVar>
  <ObsVar vname="test"><ValueEnum>glitter dust</ValueEnum></ObsVar>
  <ActionVar vname="act"><ValueEnum>look dig leave</ValueEnum></ActionVar>
  <RewardVar vname="pay"/>
  <RewardVar vname="toll"/>
</Variable>
<InitialStateBelief>
  <CondProb><Var>place_0</Var><Parent>null</Parent><Parameter type="TBL">
    <Entry><Instance> - </Instance><ProbTable>1.0 0.0 0.0</ProbTable></Entry></Parameter></CondProb>
  <CondProb><Var>vein_0</Var><Parent>null</Parent><Parameter>
    <Entry><Instance>-</Instance><ProbTable>uniform</ProbTable></Entry></Parameter></CondProb>
</InitialStateBelief>
<StateTransitionFunction>
  <CondProb><Var>place_1</Var><Parent>act place_0</Parent><Parameter type="TBL">
    <Entry><Instance>look - -</Instance><ProbTable>identity</ProbTable></Entry>
    <Entry><Instance>dig * s1</Instance><ProbTable>0.75</ProbTable></Entry>
    <Entry><Instance>dig * s0</Instance><ProbTable>0.25</ProbTable></Entry>
    <Entry><Instance>leave * -</Instance><ProbTable>0 0 1</ProbTable></Entry>
    <Entry><Instance>* s2 -</Instance><ProbTable>0 0 1</ProbTable></Entry></Parameter></CondProb>
  <CondProb><Var>vein_1</Var><Parent>act place_1 vein_0</Parent><Parameter type="TBL">
    <Entry><Instance>* * - -</Instance><ProbTable>identity</ProbTable></Entry>
    <Entry><Instance>dig s1 - -</Instance><ProbTable>0.5 0.5 0 1</ProbTable></Entry></Parameter></CondProb>
</StateTransitionFunction>
<ObsFunction>
  <CondProb><Var>test</Var><Parent>act place_1 vein_1</Parent><Parameter type="TBL">
    <Entry><Instance>* * * -</Instance><ProbTable>uniform</ProbTable></Entry>
    <Entry><Instance>look s1 - -</Instance><ProbTable>0.9 0.1 0.2 0.8</ProbTable></Entry></Parameter></CondProb>
</ObsFunction>
<RewardFunction>
  <Func><Var>pay</Var><Parent>act place_1 vein_0 test</Parent><Parameter type="TBL">
    <Entry><Instance>dig s1 - *</Instance><ValueTable>10 -1</ValueTable></Entry>
    <Entry><Instance>look * * glitter</Instance><ValueTable>.5</ValueTable></Entry></Parameter></Func>
  <Func><Var>toll</Var><Parent>act</Parent><Parameter type="TBL">
    <Entry><Instance>-</Instance><ValueTable>-0.1 -1e-1 0</ValueTable></Entry></Parameter></Func>
</RewardFunction>
</pomdpx>
"""


def check(path, text) -> Pomdp:
    path.write_text(text, encoding="utf-8")
    read, slow = pomdpx.read(path), Reference(text)
    assert isinstance(read, Pomdp)
    np.testing.assert_allclose([m.toarray() for m in read.transitions], slow.T, atol=1e-12)
    np.testing.assert_allclose([m.toarray() for m in read.observations], slow.O, atol=1e-12)
    np.testing.assert_allclose(read.rewards, slow.R, atol=1e-12)
    np.testing.assert_allclose(read.initial, slow.start, atol=1e-12)
    assert read.discount == slow.discount
    return read


def test_a_model_with_seen_and_hidden_variables(tmp_path):
    read = check(tmp_path / "x.pomdpx", MINE)
    assert read.states == ("rich_s0", "rich_s1", "rich_s2", "poor_s0", "poor_s1", "poor_s2")
    assert read.actions == ("look", "dig", "leave")
    assert read.observation_names == (
        "s0_glitter",
        "s0_dust",
        "s1_glitter",
        "s1_dust",
        "s2_glitter",
        "s2_dust",
    )


def test_the_order_of_tables_does_not_matter(tmp_path):
    """vein_1 depends on place_1, whose table may come later."""
    first, second = MINE.index("<CondProb><Var>place_1"), MINE.index("<CondProb><Var>vein_1")
    end = MINE.index("</StateTransitionFunction>")
    check(tmp_path / "x.pomdpx", MINE[:first] + MINE[second:end] + MINE[first:second] + MINE[end:])


def test_diagrams_mean_what_tables_mean(tmp_path):
    """The tables of the mine, apart from its beliefs, as decision diagrams with every short form."""

    def edge(value, *content):
        return f'<Edge val="{value}">{"".join(content)}</Edge>'

    def node(name, *edges):
        return f'<Node var="{name}">{"".join(edges)}</Node>'

    def sure(name, value):
        return f'<SubDAG type="deterministic" var="{name}" val="{value}"/>'

    def leaf(x):
        return f"<Terminal>{x}</Terminal>"

    stays = '<SubDAG type="persistent" var="{}"/>'
    dig = node("place_1", edge("s1", leaf(0.75)), edge("s0", leaf(0.25)))
    leave = sure("place_1", "s2")
    acts = node("act", edge("look", stays.format("place_1")), edge("dig", dig), edge("leave", leave))
    wears = node(
        "vein_0", edge("rich", '<SubDAG type="uniform" var="vein_1"/>'), edge("poor", sure("vein_1", "poor"))
    )
    shown = [
        edge(s, f'<SubDAG type="template" idref="{t}"/>')
        for s, t in (("s0", "no"), ("s1", "yes"), ("s2", "no"))
    ]
    diagrams = {
        "place_1": node(
            "place_0",
            edge("s0", acts),
            edge("s1", acts),
            edge("s2", sure("place_1", "s2")),
        ),
        "vein_1": node(
            "act",
            edge("look", stays.format("vein_1")),
            edge("leave", stays.format("vein_1")),
            edge("dig", node(
                "place_1",
                edge("s0", stays.format("vein_1")),
                edge("s1", wears),
                edge("s2", stays.format("vein_1")),
            )),
        ),
        "test": node(
            "act",
            edge("look", node("place_1", *shown)),
            edge("dig", '<SubDAG type="template" idref="no"/>'),
            edge("leave", '<SubDAG type="template" idref="no"/>'),
        ),
        "pay": node(
            "act",
            edge("dig", node("place_1", edge("s1", node("vein_0", edge("rich", leaf(10)), edge("poor", leaf(-1)))))),
            edge("look", node("test", edge("glitter", leaf(".5")))),
        ),
    }  # fmt: skip
    templates = (
        '<SubDAGTemplate id="no"><SubDAG type="uniform" var="test"/></SubDAGTemplate><SubDAGTemplate id="yes">'
        + node("vein_1", *(edge(v, node("test", edge("glitter", leaf(p)), edge("dust", leaf(round(1 - p, 6)))))
                           for v, p in (("rich", 0.9), ("poor", 0.2))))
        + "</SubDAGTemplate>"
    )  # fmt: skip
    text = MINE
    for name, diagram in diagrams.items():
        start = text.index("<Parameter", text.index(f"<Var>{name}</Var>"))
        end = text.index("</Parameter>", start)
        more = templates if name == "test" else ""
        text = f'{text[:start]}<Parameter type="DD"><DAG>{diagram}</DAG>{more}{text[end:]}'
    assert text.count('type="DD"') == 4
    (tmp_path / "dd.pomdpx").write_text(text)
    (tmp_path / "tbl.pomdpx").write_text(MINE)
    a, b = pomdpx.read(tmp_path / "dd.pomdpx"), pomdpx.read(tmp_path / "tbl.pomdpx")
    for x, y in zip(a.transitions + a.observations, b.transitions + b.observations, strict=True):
        np.testing.assert_allclose(x.toarray(), y.toarray(), atol=1e-12)
    np.testing.assert_allclose(a.rewards, b.rewards, atol=1e-12)


@st.composite
def models(draw):
    """A random factored model of tables in all their forms, as text."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    states = [f"v{i}" for i in range(draw(st.integers(1, 2)))]
    seen = [draw(st.booleans()) for _ in states]
    signals = [f"o{i}" for i in range(draw(st.integers(0, 2)))]
    actions = [f"a{i}" for i in range(draw(st.integers(1, 2)))]
    size = {name: int(rng.integers(1, 4)) for name in states + signals + actions}
    base = {f"{s}_{t}": s for s in states for t in (0, 1)} | {n: n for n in signals + actions}

    def values(name):
        return [f"{base[name]}x{i}" for i in range(size[base[name]])]

    def table(tag, names, probable):
        shape, entries = [len(values(n)) for n in names], []
        rows = shape[:-1] if probable else shape
        table = "ProbTable" if probable else "ValueTable"

        def entry(words, numbers):
            text = (
                numbers if isinstance(numbers, str) else " ".join(repr(float(x)) for x in np.ravel(numbers))
            )
            entries.append(
                f"<Entry><Instance>{' '.join(words)}</Instance><{table}> {text}\n</{table}></Entry>"
            )

        def numbers(n):
            return rng.dirichlet(np.ones(shape[-1]), n) if probable else rng.normal(size=n)

        last = ["-"] if probable else []
        entry(["*"] * len(rows) + last, numbers(1))
        if draw(st.booleans()):
            entry(["-"] * len(rows) + last, numbers(int(np.prod(rows))))
        for _ in range(draw(st.integers(0, 3))):
            words = [rng.choice(["*", "-", *values(n)]) for n in names[: len(rows)]]
            each = int(np.prod([k for k, w in zip(rows, words, strict=True) if w == "-"]))
            entry(words + last, numbers(each))
        if probable and draw(st.booleans()):
            entry(["*"] * len(rows) + ["-"], "uniform")
        if probable and len(names) > 1 and shape[0] == shape[-1] and draw(st.booleans()):
            entry(["-"] + ["*"] * (len(rows) - 1) + ["-"], "identity")
        if probable and rows:
            row = [values(n)[rng.integers(k)] for n, k in zip(names, rows, strict=False)]
            chosen = rng.integers(shape[-1])
            for i, value in enumerate(values(names[-1])):
                entry([*row, value], [1.0 * (i == chosen)])
        return "".join(entries)

    def block(tag, target, parents, probable):
        names = [*parents, target] if probable else parents
        entries = table(tag, names, probable)
        head = f"<Var>{target}</Var><Parent>{' '.join(parents) or 'null'}</Parent>"
        return f"<{tag}>{head}<Parameter>{entries}</Parameter></{tag}>"

    def some(names):
        return [n for n in names if draw(st.booleans())]

    variables = [
        f'<StateVar vnamePrev="{s}_0" vnameCurr="{s}_1" fullyObs="{"true" if o else "false"}">'
        f"<ValueEnum>{' '.join(values(s + '_0'))}</ValueEnum></StateVar>"
        for s, o in zip(states, seen, strict=True)
    ]
    for tag, names in (("ObsVar", signals), ("ActionVar", actions)):
        variables += [
            f'<{tag} vname="{n}"><ValueEnum>{" ".join(values(n))}</ValueEnum></{tag}>' for n in names
        ]
    before, now = [f"{s}_0" for s in states], [f"{s}_1" for s in states]
    sections = {
        "Variable": [*variables, '<RewardVar vname="r"/>'],
        "InitialStateBelief": [block("CondProb", n, some(before[:i]), True) for i, n in enumerate(before)],
        "StateTransitionFunction": [
            block("CondProb", n, some(actions + before + now[:i]), True) for i, n in enumerate(now)
        ],
        "ObsFunction": [
            block("CondProb", n, some(actions + now + signals[:i]), True) for i, n in enumerate(signals)
        ],
        "RewardFunction": [
            block("Func", "r", some(before + now + signals) or actions[:1], False)
            for _ in range(draw(st.integers(0, 2)))
        ],
    }
    body = "".join(f"<{tag}>{''.join(parts)}</{tag}>" for tag, parts in sections.items())
    return f"<pomdpx><Discount>0.5</Discount>{body}</pomdpx>"


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(text=models(), cut=st.booleans())
def test_random_models_mean_what_the_reference_says(text, cut, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "random.pomdpx"
    path.write_text(text)
    whole, markup.CUT_FROM = markup.CUT_FROM, 1 if cut else 1 << 30
    try:
        read = pomdpx.read(path)
    finally:
        markup.CUT_FROM = whole
    slow = Reference(text)
    if isinstance(read, Family):
        M, X = len(list(slow.every(slow.hidden))), len(list(slow.every(slow.seen)))
        dense = np.einsum("mxay,mn->amxny", read.dense_transitions(), np.eye(M)).reshape(slow.T.shape)
        np.testing.assert_allclose(dense, slow.T, atol=1e-12)
        np.testing.assert_allclose(read.rewards.reshape(M * X, -1), slow.R, atol=1e-12)
        np.testing.assert_allclose(np.outer(read.weights, read.initial).ravel(), slow.start, atol=1e-12)
        return
    S, K = slow.T.shape[1], slow.O.shape[2]
    # Where several starts can be told apart, states and observations for the start come after the model's.
    scale = 0.5 if read.num_states > S else 1.0
    np.testing.assert_allclose([m.toarray()[:S, :S] for m in read.transitions], slow.T, atol=1e-12)
    np.testing.assert_allclose([m.toarray()[:S, :K] for m in read.observations], slow.O, atol=1e-12)
    np.testing.assert_allclose(read.rewards[:S] * scale, slow.R, atol=1e-12)
    if scale < 1:
        starts = np.flatnonzero(slow.start)
        leaves = read.transitions[0].toarray()[-1, S:-1]
        np.testing.assert_allclose(leaves, slow.start[starts], atol=1e-12)
    else:
        np.testing.assert_allclose(read.initial, slow.start, atol=1e-12)
