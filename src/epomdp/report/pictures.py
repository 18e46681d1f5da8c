"""The pictures of the pages: pure functions from numbers and names to SVG (`Markup`), no state, no colours.

Each picture carries a title and a description as its text alternative. A kind of mark has a shape and a dash of its
own besides its colour (Okabe-Ito, in the style sheet), so that black-and-white print loses nothing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from epomdp.report import svg
from epomdp.report.svg import Scale, label, line, marker, tag
from epomdp.report.text import estimate, number, percent, short_count, shorten

LABEL_LIMIT = 44
ROW, LINE = 50, 17
MARKS = {
    "train": "circle",
    "test": "diamond",
    "validation": "square",
    "promised": "square",
    "got": "diamond",
}


@dataclass(frozen=True)
class Mark:
    """A value with an optional interval. `kind` is a key of `MARKS` and sets shape and colour."""

    value: float
    kind: str
    interval: tuple[float, float] | None = None
    name: str = ""


@dataclass(frozen=True)
class Row:
    """A line of a dot plot: a name and its marks, drawn one under another."""

    label: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class Line:
    """A labelled reference value, drawn as a dashed line through the whole plot."""

    label: str
    value: float


def key(*entries: tuple[str, str], lined: bool = False) -> Markup:
    """What the marks mean: (kind, text) pairs, where the kind is one of `MARKS`, `reference` or `faint`.

    With `lined`, each mark stands on its curve's stroke.
    """
    return tag("p", *(tag("span", _sample(kind, lined), text) for kind, text in entries), class_="key")


def _sample(kind: str, lined: bool) -> Markup:
    if kind == "reference":
        drawn = [line(0, 8, 28, 8, "reference")]
    else:
        drawn = [line(0, 8, 28, 8, f"curve {kind}")] if lined else []
        drawn += [marker(MARKS[kind], 14, 8, kind)] if kind in MARKS else []
    return tag("svg", *drawn, width=28, height=16, aria_hidden="true")


def dot_plot(
    rows: Sequence[Row],
    lines: Sequence[Line] = (),
    *,
    title: str,
    description: str,
    axis: str,
) -> Markup:
    """Dots with intervals, a row for each name, beside labelled reference lines.

    A row far away from all the others would squeeze them into a corner: it is then drawn as an arrow at the edge with
    its value written beside it (`focus`).
    """
    lines = sorted((x for x in lines if math.isfinite(x.value)), key=lambda x: x.value)
    low, high = focus(rows, lines)
    scale = Scale(low, high)
    top = LINE * len(lines) + 8
    bottom = top + ROW * len(rows)
    parts: list[Markup] = [_axis(scale, top, bottom, axis)]
    parts += _references(lines, scale, bottom)
    for k, row in enumerate(rows):
        parts.append(_row(row, scale, top + ROW * k))
    return svg.picture(*parts, height=bottom + 40, title=title, description=description, class_="dots")


def focus(rows: Sequence[Row], lines: Sequence[Line] = ()) -> tuple[float, float]:
    """The part of the axis to show: everything, unless a few outlying rows or lines would take more than half of it.

    The outermost ones on a side are left out while that shrinks the range by more than half, a quarter of all at most.
    """
    groups = [[v for m in row.marks for v in (m.value, *(m.interval or ()))] for row in rows]
    groups += [[reference.value] for reference in lines]
    groups = [g for g in ([v for v in group if math.isfinite(v)] for group in groups) if g]
    budget = len(groups) // 4
    while True:
        whole = _width(groups)
        upwards, downwards = sorted(groups, key=min), sorted(groups, key=max, reverse=True)
        rests = ((k, order[k:]) for k in range(1, budget + 1) for order in (upwards, downwards))
        found = next(((k, rest) for k, rest in rests if 0 < _width(rest) < whole / 2), None)
        if found is None:
            return svg.extent(v for group in groups for v in group)
        budget, groups = budget - found[0], found[1]


def _width(groups: Sequence[Sequence[float]]) -> float:
    values = [v for group in groups for v in group]
    return max(values) - min(values) if values else 0.0


def _axis(scale: Scale, top: float, bottom: float, name: str) -> Markup:
    values = svg.ticks(scale.low, scale.high)
    parts = []
    for value in values:
        x = scale.percent(value)
        parts.append(line(x, top, x, bottom, "grid"))
        parts.append(label(svg.tick_text(value, values), x, bottom + 16, "tick", "middle"))
    parts.append(line("0", bottom, "100%", bottom, "axis"))
    parts.append(label(name, "100%", bottom + 33, "axis-name", "end"))
    return tag("g", *parts)


def _references(lines: Sequence[Line], scale: Scale, bottom: float) -> list[Markup]:
    """Labels in a staircase, the outermost line highest, so that no label meets another."""
    outwards = sorted(lines, key=lambda x: -abs(scale(x.value) - 50))
    parts: list[Markup] = []
    texts: list[Markup] = []
    for k, reference in enumerate(outwards):
        at, y = scale(reference.value), LINE * k
        text = f"{shorten(reference.label, 22)} {number(reference.value)}"
        dx, anchor = (6, "start") if at < 50 else (-6, "end")
        if scale.covers(reference.value):
            parts.append(line(f"{at:.2f}%", y + 4, f"{at:.2f}%", bottom, "reference"))
        else:
            parts.append(marker("left" if at < 50 else "right", f"{at:.2f}%", y + 9, "off"))
            dx *= 2
        texts.append(
            tag("text", text, x=f"{at:.2f}%", y=y + 13, dx=dx, text_anchor=anchor, class_="reference-name")
        )
    return parts + texts


def _row(row: Row, scale: Scale, top: float) -> Markup:
    shown = shorten(row.label, LABEL_LIMIT)
    band = tag("rect", x=0, y=top, width="100%", height=21, class_="row-band")
    parts = [band, line("0", top, "100%", top, "row"), label(shown, "0", top + 16, "row-name")]
    values = " \u00b7 ".join(f"{m.name} {estimate(m.value, m.interval)}".strip() for m in row.marks)
    parts.append(label(values, "100%", top + 16, "row-value", "end"))
    first = 34 if len(row.marks) == 1 else 28
    for k, mark in enumerate(row.marks):
        y = top + first + 12 * k
        parts.append(
            _interval_mark(mark, scale, y, f"{row.label}, {mark.name} {estimate(mark.value, mark.interval)}")
        )
    return tag("g", *parts)


def _interval_mark(mark: Mark, scale: Scale, y: float, tip: str) -> Markup:
    if not math.isfinite(mark.value):
        return Markup("")
    if not scale.covers(mark.value):
        left = mark.value < scale.low
        edge, anchor, dx = ("0.6%", "start", 14) if left else ("99.4%", "end", -14)
        arrow = marker("left" if left else "right", edge, y, mark.kind, tip)
        beside = tag("text", number(mark.value), x=edge, dx=dx, y=y + 4, text_anchor=anchor, class_="tick")
        return tag("g", arrow, beside)
    parts = []
    if mark.interval is not None and all(math.isfinite(v) for v in mark.interval):
        x1, x2 = (scale.percent(v) for v in mark.interval)
        parts.append(line(x1, y, x2, y, f"interval {mark.kind}"))
        parts += [line(x, y - 3, x, y + 3, f"cap {mark.kind}") for x in (x1, x2)]
    parts.append(marker(MARKS[mark.kind], scale.percent(mark.value), y, mark.kind, tip))
    return tag("g", *parts)


@dataclass(frozen=True)
class Series:
    """A curve over steps; `low` and `high` (same length as `y`, or empty) bound its band. kind: `MARKS` or `faint`."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    kind: str
    low: Sequence[float] = ()
    high: Sequence[float] = ()


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    description: str,
    y_range: tuple[float, float],
    x_range: tuple[float, float],
    height: float = 190,
) -> Markup:
    """Curves with bands over a shared grid; what lies outside `y_range` is cut off at the edge of the plot."""
    across = Scale(*x_range, start=11, end=96)
    bottom = height - 26
    down = Scale(*y_range, start=bottom, end=8)
    parts = [_grid(across, down, bottom)]
    order = sorted(series, key=lambda s: s.kind != "faint")
    drawn = [_curve(s, x_range, y_range) for s in order]
    parts.append(
        tag(
            "svg",
            *drawn,
            x="11%",
            y=8,
            width="85%",
            height=bottom - 8,
            viewBox="0 0 1000 1000",
            preserveAspectRatio="none",
        )
    )
    for s in order:
        if s.kind in MARKS and len(s.y) and math.isfinite(s.y[-1]) and down.covers(s.y[-1]):
            tip = f"{s.label}: {number(s.y[-1])} at {short_count(s.x[-1])} steps"
            parts.append(marker(MARKS[s.kind], across.percent(s.x[-1]), down(s.y[-1]), s.kind, tip))
    return svg.picture(*parts, height=height, title=title, description=description, class_="lines")


def _grid(across: Scale, down: Scale, bottom: float) -> Markup:
    parts = []
    values = svg.ticks(down.low, down.high, 4)
    for value in values:
        parts.append(line("11%", down(value), "96%", down(value), "grid"))
        parts.append(label(svg.tick_text(value, values), "9.5%", down(value) + 4, "tick", "end"))
    parts.append(line("11%", bottom, "96%", bottom, "axis"))
    for value in svg.ticks(across.low, across.high, 3):
        parts.append(label(short_count(value), across.percent(value), bottom + 16, "tick", "middle"))
    return tag("g", *parts)


def _curve(s: Series, x_range: tuple[float, float], y_range: tuple[float, float]) -> Markup:
    """Polyline and band in a 1000 by 1000 box that is stretched over the plot (strokes keep their width)."""
    across = Scale(*x_range, start=0, end=1000)
    points = [k for k in range(len(s.x)) if math.isfinite(s.y[k])]

    def path(values: Sequence[float], indices: Sequence[int]) -> str:
        low, high = y_range
        return " ".join(
            f"{across(s.x[k]):.1f},{1000 * (high - values[k]) / (high - low):.1f}" for k in indices
        )

    band = None
    if len(s.low) and len(s.high):
        inside = [k for k in points if math.isfinite(s.low[k]) and math.isfinite(s.high[k])]
        band = tag(
            "polygon", points=f"{path(s.high, inside)} {path(s.low, inside[::-1])}", class_=f"band {s.kind}"
        )
    return tag("g", band, tag("polyline", points=path(s.y, points), class_=f"curve {s.kind}"))


def belief_bars(names: Sequence[str], belief: Sequence[float], *, title: str, description: str) -> Markup:
    """Horizontal bars, one for each label, from 0 to 1; the live player changes their width in place.

    `data-full` on the picture is the width of probability 1 in percent.
    """
    shown = [shorten(name, 12) for name in names]
    left = 8 if max(map(len, shown), default=0) <= 2 else 26
    full = 78 - left
    parts = []
    for k, (name, p) in enumerate(zip(shown, belief, strict=True)):
        y = 18 * k
        width = f"{full * min(max(p, 0.0), 1.0):.2f}%"
        parts.append(label(name, f"{left - 2}%", y + 12, "bar-name", "end"))
        parts.append(tag("rect", x=f"{left}%", y=y + 2, width=f"{full}%", height=12, class_="bar-track"))
        parts.append(tag("rect", x=f"{left}%", y=y + 2, width=width, height=12, class_="bar"))
        parts.append(label(percent(p), "100%", y + 12, "bar-value", "end"))
    height = 18 * len(names)
    return svg.picture(
        *parts, height=height, title=title, description=description, class_="bars", data_full=full
    )


def small_bars(belief: Sequence[float], chosen: int | None, title: str, top: float = 1.0) -> Markup:
    """A belief in the size of a word: upright bars on a base line, the chosen one dark, zeros as gaps.

    `top` is the probability of a full bar, so that the pictures of one row can share a scale.
    """
    width = 1000 / len(belief)
    parts = []
    for kind, wanted in (("other", False), ("chosen", True)):
        bars = [(k, p) for k, p in enumerate(belief) if p > 0 and (k == chosen) is wanted]
        steps = (
            f"M{k * width + 0.1 * width:.0f} 100v-{max(p / top, 0.03) * 100:.0f}h{0.8 * width:.0f}V100Z"
            for k, p in bars
        )
        if bars:
            parts.append(tag("path", d="".join(steps), class_=kind))
    box = tag("svg", *parts, viewBox="0 0 1000 100", width="100%", height=34, preserveAspectRatio="none")
    base = line("0", 34.5, "100%", 34.5, "axis")
    return tag(
        "svg", tag("title", title), box, base, class_="picture film", role="img", width="100%", height=36
    )


@dataclass(frozen=True)
class Reliability:
    """A bin of a reliability diagram: mean confidence, share that was right, how many cases."""

    confidence: float
    accuracy: float
    count: int


def reliability(bins: Sequence[Reliability], *, title: str, description: str) -> Markup:
    """Promised probability against the share that came true; dots on the diagonal are calibrated.

    The area of a dot is the number of cases.
    """
    size, left, low = 300.0, 40.0, 260.0
    across, down = Scale(0, 1, left, size - 8), Scale(0, 1, low, 12)
    parts = [
        line(left, low, size - 8, low, "axis"),
        line(across(0), down(0), across(1), down(1), "reference"),
    ]
    for value in (0, 0.25, 0.5, 0.75, 1):
        parts.append(line(left, down(value), size - 8, down(value), "grid"))
        parts.append(label(f"{100 * value:.0f} %", left - 6, down(value) + 4, "tick", "end"))
        parts.append(label(f"{100 * value:.0f} %", across(value), low + 16, "tick", "middle"))
    parts.append(label("promised probability", across(1), low + 33, "axis-name", "end"))
    most = max((b.count for b in bins), default=1) or 1
    for b in bins:
        if b.count > 0:
            tip = f"promised {percent(b.confidence)}, came true {percent(b.accuracy)}, {b.count} cases"
            radius = f"{3 + 9 * math.sqrt(b.count / most):.1f}"
            x, y = f"{across(b.confidence):.1f}", f"{down(b.accuracy):.1f}"
            parts.append(line(float(x), down(b.confidence), float(x), float(y), "interval test"))
            parts.append(tag("circle", tag("title", tip), cx=x, cy=y, r=radius, class_="dot test"))
    head = (tag("title", title), tag("desc", description))
    return tag("svg", *head, *parts, class_="picture square", role="img", viewBox="0 0 300 300")
