"""Synthetic pages and an HTML reader that insists on balanced elements."""

import re
from collections.abc import Callable
from html.parser import HTMLParser

import numpy as np
import pytest

from epomdp.report import contents as c

VOID = {"meta", "link", "img", "input", "br", "hr"}
HOSTILE = "</script><script>alert(1)</script>\" onload='alert(2)' <img src=x onerror=alert(3)> {{7*7}} \u202eevil\x00"


class Reader(HTMLParser):
    """Collects elements, attributes and text, and fails on an element that is not closed in its turn."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.parents: list[tuple[str, ...]] = []
        self.texts: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), f"an attribute twice in {tag}: {attrs}"
        self.elements.append((tag, dict(attrs)))
        self.parents.append(tuple(self.open))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.parents.append(tuple(self.open))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def text(self) -> str:
        """What a reader sees: no styles, scripts or text alternatives of pictures."""
        shown = (t for parent, t in self.texts if parent not in ("style", "script", "title", "desc"))
        return re.sub(r"\s+", " ", " ".join(shown))


@pytest.fixture
def read() -> Callable[[str], Reader]:
    def parse(page: str) -> Reader:
        reader = Reader()
        reader.feed(page)
        reader.close()
        assert reader.open == [], f"never closed: {reader.open}"
        return reader

    return parse


def _eliminate(belief: np.ndarray, truth: int) -> tuple[list[int], list[list[float]]]:
    """Guesses and beliefs of elimination, by its definition."""
    left, guesses, beliefs = belief.copy(), [], []
    while not guesses or guesses[-1] != truth:
        beliefs.append([float(p) for p in left / left.sum()])
        guesses.append(int(left.argmax()))
        left[guesses[-1]] = 0
    return guesses, beliefs


def make_episode(name: str, labels: list[str], seed: int) -> c.GuessEpisode:
    rng = np.random.default_rng(seed)
    belief = np.sort(rng.dirichlet(np.ones(len(labels))))[::-1]
    truth = 2
    guesses, beliefs = _eliminate(belief, truth)
    fixed = [[float(p) for p in belief]]
    lanes = (
        c.Guesses("greedy", f"Greedy {name}", [0] * 6, fixed, "always the same"),
        c.Guesses("leep", "Sampled", [1, 0, 1, 2], fixed),
        c.Guesses("elimination", "Elimination", guesses, beliefs),
        c.Guesses("blind", "No belief shown", [2]),
    )
    return c.GuessEpisode(name, rng.random((8, 8)), labels, truth, lanes, digest="ab12" * 8)


def make_page(rows: int = 4, name: str = "agent", episodes: int = 3) -> c.Page:
    """A page with every section; `name` goes into every place where a user's text can stand."""
    labels = [f"{name} {k}" for k in range(rows)]

    def score(mean: float) -> c.Score:
        return c.Score(mean, (mean - 0.2, mean + 0.1), mean / 2, 0.75, 40, 200, 5)

    policies = [
        c.PolicyRow(f"p{k}", label, name, score(-0.1 * k), score(-1.0 - k)) for k, label in enumerate(labels)
    ]
    steps = list(range(0, 1001, 100))
    curves = [
        c.Curve(f"p{k}", label, split, steps, [-9 + 0.8 * s / 100 - k for s in range(0, 1001, 100)])
        for k, label in enumerate(labels)
        for split in ("train", "validation")
    ]
    return c.Page(
        title=f"Report on {name}",
        verdict=f"The verdict on {name}.",
        setting=name,
        command=f"epomdp demo --out {name}",
        provenance={"seeds": [0, 1], "versions": {name: name}},
        policies=policies,
        references=[
            c.Reference("elimination", f"optimum {name}", -0.4, -0.5, (-0.45, -0.35), name),
            c.Reference("ceiling", "informed", 0.0),
        ],
        claims=[
            c.Claim(f"{name} is best", True, c.Estimate(1.0, (0.5, 1.5)), 0.99),
            c.Claim("undecided", None),
            c.Claim("wrong", False, c.Estimate(-1.0)),
        ],
        curves=curves,
        gaps=[c.Gap(f"p{k}", label, 1.0 + k, (0.8 + k, 1.2 + k)) for k, label in enumerate(labels)],
        calibration=c.Calibration(
            name, [c.Bin(0.1, 0.12, 30), c.Bin(0.9, 0.8, 300), c.Bin(0.5, 0.5, 0)], 0.03
        ),
        leaks=c.Leaks([c.Split(name, 60, "9f" * 32), c.Split("test", 40, name)], 2, 1, name, [name]),
        episodes=[make_episode(f"{name} {k}", [f"{name}{j}" for j in range(5)], k) for k in range(episodes)],
        notes=[f"A note on {name}."],
    )


@pytest.fixture(params=["small", "large", "hostile", "unbroken"])
def full_page(request: pytest.FixtureRequest) -> c.Page:
    return {
        "small": lambda: make_page(1, "a", 1),
        "large": lambda: make_page(30, "agent", 12),
        "hostile": lambda: make_page(3, HOSTILE, 2),
        "unbroken": lambda: make_page(3, "W" * 300, 2),
    }[request.param]()


@pytest.fixture
def hostile_page() -> c.Page:
    return make_page(3, HOSTILE, 2)


@pytest.fixture
def page() -> c.Page:
    return make_page()


# Elements that reach past the right edge of the window, outside regions that scroll or clip by themselves.
OVERFLOWING = """
const wide = [];
for (const e of document.querySelectorAll("body *")) {
  const box = e.getBoundingClientRect();
  if (box.width && box.right > innerWidth + 1 && !e.closest(".scroll, .visually-hidden, .skip, .dots > *"))
    wide.push(e.tagName + "." + (e.getAttribute("class") || "") + " " + box.right + " " + e.textContent.slice(0, 30));
}
return [document.documentElement.scrollWidth - innerWidth, wide.slice(0, 5)];
"""

# Contrast ratio by WCAG 2 of each piece of visible text against the first opaque background behind it.
CONTRAST = """
const parse = (c) => c.match(/[\\d.]+/g).map(Number);
const lum = ([r, g, b]) => [r, g, b].map((v) => v / 255)
  .map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, k) => sum + v * [0.2126, 0.7152, 0.0722][k], 0);
const behind = (e) => {
  const under = e.previousElementSibling;
  if (under && under.matches("rect.part")) return parse(getComputedStyle(under).fill);
  for (; e; e = e.parentElement) {
    const c = parse(getComputedStyle(e).backgroundColor);
    if (c.length < 4 || c[3] === 1) return c;
  }
  return [255, 255, 255];
};
const weak = [];
for (const e of document.querySelectorAll("body *")) {
  const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
  if (!own || !e.getClientRects().length || e.closest("script, title, desc, .visually-hidden")) continue;
  const style = getComputedStyle(e), svg = e instanceof SVGElement;
  if (style.visibility === "hidden") continue;
  const [a, b] = [lum(parse(svg ? style.fill : style.color)), lum(behind(e))].sort((x, y) => y - x);
  const ratio = (a + 0.05) / (b + 0.05);
  if (ratio < 4.5) weak.push(e.tagName + "." + (e.getAttribute("class") || "") + " " + ratio.toFixed(2));
}
return weak;
"""


@pytest.fixture
def overflowing() -> str:
    return OVERFLOWING


@pytest.fixture
def weak_contrast() -> str:
    return CONTRAST
