"""The page of an exact answer: what the bounds allow to say, pruning, beliefs over time, and escaping."""

import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epomdp.errors import BadInput
from epomdp.report import ladder, ladder_page, ladder_pictures
from epomdp.report.ladder import Purchase, Rung, amount, purchases, rungs_from_json, what_it_buys
from epomdp.report.ladder_page import BeliefEpisode, BeliefStep, Branch, LadderPage, Node, prune, render

Read = Callable[[str], Any]
HOSTILE = "</li><script>alert(1)</script>\" onload='alert(2)' <img src=x onerror=alert(3)>\x00"

SOLVED = {
    "informed": 10.0,
    "bayes_optimal": {"lower": 8.0, "upper": 8.5},
    "stochastic": {"value": 7.0, "certified": True},
    "deterministic": {"value": 6.0, "certified": False, "bound": 6.5},
    "certainty_equivalent": {"map": 3.0, "mean": 5.0},
    "discount": 0.95,
    "seconds": 1.25,
    "status": "solved",
}


def test_ladder_from_the_contracts_json() -> None:
    rungs = rungs_from_json(SOLVED)
    assert [(r.name, r.lower, r.upper) for r in rungs] == [
        ("informed", 10.0, 10.0),
        ("bayes_optimal", 8.0, 8.5),
        ("stochastic", 7.0, 7.0),
        ("deterministic", 6.0, 6.5),
        ("certainty-map", 3.0, 3.0),
        ("certainty-mean", 5.0, 5.0),
    ]
    flat = {"informed": None, "bayes_optimal": {"lower": 1.0, "upper": 2.0}, "stochastic": None}
    assert [r.name for r in rungs_from_json(flat)] == ["bayes_optimal"]
    unproved = rungs_from_json({"stochastic": {"value": 1.0, "certified": False}})
    assert unproved[0].upper is None


def test_purchases_are_what_the_bounds_prove() -> None:
    assert purchases(rungs_from_json(SOLVED)) == [
        Purchase("being told the environment", 1.5, 2.0),
        Purchase("memory", 1.0, 1.5),
        Purchase("randomness", 0.5, 1.0),
        Purchase("planning over the posterior", 1.0, 1.5),
    ]


@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(0, 3), st.floats(0, 3)), min_size=2, max_size=5))
def test_purchases_hold_the_truth(cases: list[tuple[float, float, float]]) -> None:
    """With true values in descending order and bounds around them, every true difference lies in its range."""
    truths = sorted((value for value, _, _ in cases), reverse=True)
    rungs = [Rung("r", "r", t - down, t + up, "g") for t, (_, down, up) in zip(truths, cases, strict=True)]
    for k, step in enumerate(purchases(rungs)):
        assert step.low - 1e-9 <= truths[k] - truths[k + 1] <= step.high + 1e-9


def test_a_value_that_is_not_proved_best_limits_what_can_be_said() -> None:
    rungs = [
        Rung("a", "A", 3.0, 3.0, "memory"),
        Rung("b", "B", 1.0, None, "randomness"),
        Rung("c", "C", 0.5, 0.5),
    ]
    assert purchases(rungs) == [Purchase("memory", 0.0, 2.0), Purchase("randomness", 0.5, math.inf)]
    assert what_it_buys(rungs) == "Memory buys at most 2.00 and randomness at least 0.50."


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.42, 0.42, "0.42"),
        (0.3, 0.42, "0.30 to 0.42"),
        (0.0, 0.42, "at most 0.42"),
        (0.001, 0.003, "nothing"),
        (0.0, math.inf, "an unknown amount"),
    ],
)
def test_amount(low: float, high: float, said: str) -> None:
    assert amount(Purchase("x", low, high), 2) == said


def test_short_ladders_get_more_decimals() -> None:
    assert ladder.decimals([Rung("a", "a", 10.0, 10.0), Rung("b", "b", 0.0, 0.0)]) == 2
    assert ladder.decimals([Rung("a", "a", 0.70, 0.70), Rung("b", "b", 0.65, 0.65)]) == 4
    assert ladder.decimals([Rung("a", "a", 0.7, 0.7)]) == 2
    assert ladder.decimals([]) == 2


def test_crossed_bounds_are_refused() -> None:
    with pytest.raises(BadInput, match="lower bound 2"):
        Rung("x", "x", 2.0, 1.0)


def test_the_picture_marks_exact_bounded_and_open_values_differently() -> None:
    rungs = [
        Rung("a", "A", 4.0, 4.0, "g"),
        Rung("bayes_optimal", "B", 2.0, 3.0, "g"),
        Rung("c", "C", 1.0, None),
    ]
    drawn = ET.fromstring(str(ladder_pictures.ladder(rungs, purchases(rungs))))
    classes = [e.attrib.get("class", "") for e in drawn.iter()]
    assert classes.count("mark exact") == 1
    assert classes.count("interval bounds") == 1 and classes.count("cap bounds") == 2
    assert classes.count("mark open") == 1 and classes.count("possible") == 1
    (bar,) = (e for e in drawn.iter("line") if e.attrib["class"] == "interval bounds")
    x1, x2 = (float(bar.attrib[x].rstrip("%")) for x in ("x1", "x2"))
    (exact,) = (
        float(e.attrib["x"].rstrip("%"))
        for e in drawn.iter("svg")
        for p in e
        if p.get("class") == "mark exact"
    )
    assert exact - x2 == pytest.approx(x2 - x1, abs=0.05)
    assert (
        drawn.findtext("desc")
        == "A: 4.00. B: 2.00 to 3.00. C: 1.00 or more. g buys 1.00 to 2.00. g buys at most 2.00."
    )


def test_stacked_bar_is_a_partition() -> None:
    drawn = ET.fromstring(str(ladder_pictures.stacked_bar(["a", "b", "c"], [0.5, 0.0, 0.5], 2, "t")))
    parts = [(p.attrib["x"], p.attrib["width"], p.attrib["class"]) for p in drawn.iter("rect")]
    assert parts == [("0.00%", "50.00%", "part shade0"), ("50.00%", "50.00%", "part true")]


def chain(length: int, name: str = "go") -> Node:
    node = Node(name, "s")
    for _ in range(length - 1):
        node = Node(name, "s", branches=[Branch("on", 1.0, node)])
    return node


def test_steps_without_a_choice_are_one_line(read: Read) -> None:
    shown = read(render(LadderPage("t", tree=chain(5)))).text()
    assert "go ×5" in shown


def test_gathering_information_is_marked_and_never_folded_away(read: Read) -> None:
    tree = Node(
        "walk", branches=[Branch("on", 1.0, Node("look", gathers=True, information=0.5, branches=[]))]
    )
    reader = read(render(LadderPage("t", tree=tree)))
    assert "walk reached" in reader.text()
    assert "look gathers information, 0.50 bits" in reader.text()
    assert [a["class"] for a in reader.named("div") if "gathers" in (a.get("class") or "")] == [
        "node gathers"
    ]


def test_prune_keeps_the_likely_and_counts_the_rest() -> None:
    rare = [Branch(f"rare {k}", 0.004, chain(2)) for k in range(5)]
    tree = Node("a", branches=[*rare, Branch("often", 0.98, Node("b", branches=rare))])
    kept = prune(tree)
    assert [b.observation for b in kept.branches] == ["often"]
    assert kept.omitted == 5 and kept.omitted_probability == pytest.approx(0.02)
    inner = kept.branches[0].node
    assert inner is not None and len(inner.branches) == 1 and inner.omitted == 4
    ends = Node("a", branches=[Branch(f"end {k}", 0.002) for k in range(4)])
    assert prune(ends).omitted == 0
    deep = prune(chain(30), depth=3)
    assert sum(1 for _ in iter_nodes(deep)) == 4


def iter_nodes(node: Node) -> Any:
    yield node
    for branch in node.branches:
        if branch.node is not None:
            yield from iter_nodes(branch.node)


def test_an_episode_shows_only_steps_that_taught_something(read: Read) -> None:
    steps = [
        BeliefStep("s0", "wait", [0.5, 0.5]),
        BeliefStep("s0", "wait", [0.5, 0.5], 0.0),
        BeliefStep("s1", "go", [0.0, 1.0], -1.5),
    ]
    reader = read(render(LadderPage("t", episodes=[BeliefEpisode("e", ["A", "B"], steps, [0.0, 1.0], 1)])))
    shown = reader.text()
    assert "steps 1–2 s0: wait ×2 reward 0.00 A B 1.00 bits unknown" in shown
    assert "step 3 s1: go reward \u22121.50 B 0.00 bits unknown" in shown
    assert "at the end B 0.00 bits unknown" in shown
    assert "Really in: B." in shown


def test_many_environments_are_gathered_into_others(read: Read) -> None:
    size = 50
    step = BeliefStep("s", "a", [1 / size] * size)
    episode = BeliefEpisode("e", [f"m{k}" for k in range(size)], [step], truth=49)
    written = render(LadderPage("t", episodes=[episode]))
    assert "<title>40 others 80.0\u00a0%</title>" in written
    assert "<title>m49 2.0\u00a0%</title>" in written
    assert "5.64 bits unknown" in read(written).text()


@pytest.mark.parametrize(
    "change",
    [
        {"truth": 2},
        {"steps": [BeliefStep("s", "a", [1.0])]},
        {"final": [math.nan, 1.0]},
        {"final": [-0.5, 1.5]},
    ],
)
def test_episodes_that_cannot_be_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        BeliefEpisode(**({"title": "e", "environments": ["a", "b"], "steps": []} | change))


def full(name: str = "place") -> LadderPage:
    belief = [0.6, 0.4]
    leaf = Node(name, name, belief, 1.0, 0.3, False, [Branch(name, 0.5), Branch("x", 0.5)])
    tree = Node(name, name, belief, 2.0, 1.0, True, [Branch(name, 0.7, leaf), Branch("y", 0.3)], 2, 0.01)
    steps = [BeliefStep(name, name, belief, -1.0), BeliefStep(name, name, [0.1, 0.9])]
    return LadderPage(
        title=name,
        setting=name,
        command=name,
        provenance={name: name},
        rungs=rungs_from_json(SOLVED),
        status="solved",
        seconds=1.25,
        episodes=[BeliefEpisode(name, [name, "other"], steps, [0.0, 1.0], 1, name)],
        tree=tree,
        environments=[name, "other"],
        notes=[name],
    )


@pytest.mark.parametrize("name", ["place", HOSTILE, "W" * 200])
def test_the_page_is_whole_and_escaped(name: str, read: Read) -> None:
    written = render(full(name))
    reader = read(written)
    assert reader.named("script") == []
    assert not any(attribute.startswith("on") for _, a in reader.elements for attribute in a)
    assert "http:" not in written and "https:" not in written and "\x00" not in written
    assert [h for h, _ in reader.elements if h in ("h1", "main", "footer")] == ["h1", "main", "footer"]
    assert re.findall(r'<svg class="picture[^>]*>(.{7})', written).count("<title>") >= 6


def test_the_verdict_is_what_memory_and_randomness_buy(read: Read) -> None:
    shown = read(render(full())).text()
    assert (
        "Memory buys 1.00 to 1.50, randomness 0.50 to 1.00 and planning over the posterior 1.00 to 1.50."
        in shown
    )
    assert "Solved after 1.25 s: the Bayes-optimal value is certified to within 0.5." in shown
    assert (
        "Bayes-optimal best adaptive policy: the optimum of the epistemic POMDP 8.00 8.50 memory: 1.00 to 1.50"
        in shown
    )


def test_an_empty_page_has_its_title_and_no_sections(read: Read) -> None:
    reader = read(render(LadderPage("Nothing yet")))
    assert reader.named("section") == [] and reader.named("nav") == []
    assert "Nothing yet" in reader.text()


def test_write(tmp_path: Path) -> None:
    target = ladder_page.write(full(), tmp_path / "ladder.html")
    assert target.read_text(encoding="utf-8") == render(full())


@pytest.mark.chromium
@pytest.mark.parametrize("width", [320, 360, 1100])
@pytest.mark.parametrize("name", ["place", HOSTILE, "W" * 200])
def test_it_fits_every_window(width: int, name: str, opened: Callable[[str], Any], overflowing: str) -> None:
    driver = opened(render(full(name))).load(width=width)
    excess, wide = driver.execute_script(overflowing)
    assert excess <= 0 and wide == []


@pytest.mark.chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(scheme: str, opened: Callable[[str], Any], weak_contrast: str) -> None:
    driver = opened(render(full())).load(prefers_color_scheme=scheme)
    assert driver.execute_script(weak_contrast) == []
