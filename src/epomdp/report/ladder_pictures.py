"""Pictures of exact answers: the ladder of values with its certificates, and beliefs as stacked bars."""

from collections.abc import Sequence

from markupsafe import Markup

from epomdp.report import svg
from epomdp.report.ladder import Purchase, Rung, amount, decimals
from epomdp.report.svg import Scale, label, line, marker, tag
from epomdp.report.text import number, percent, shorten

ROW = 64
LETTERS = 0.45  # that fit into a percent of the width, on a telephone
LEGEND = (
    ("exact", "exact, proved"),
    ("bounds", "between a policy's value and a proved upper bound"),
    ("open", "reached by a policy, nothing proved above it"),
)


def ladder(rungs: Sequence[Rung], bought: Sequence[Purchase], *, axis: str = "value at the start") -> Markup:
    """The rungs under one another on one axis, and between them what each step buys."""
    low, high = svg.extent([v for rung in rungs for v in (rung.lower, rung.upper)], pad=0.06)
    scale = Scale(low, high)
    places = decimals(rungs)
    bottom = 8.0 + ROW * len(rungs)
    parts = [_axis(scale, bottom, axis)]
    for k, rung in enumerate(rungs):
        parts.append(_rung(rung, scale, 8.0 + ROW * k, places))
    for k, step in enumerate(bought):
        below = max(rungs[k + 1 :], key=lambda r: r.lower) if k == len(bought) - 1 else rungs[k + 1]
        parts.append(_step(rungs[k], below, step, scale, 8.0 + ROW * k + 52, places))
    sentences = [f"{rung.label}: {value_text(rung, places)}." for rung in rungs]
    sentences += [f"{p.what} buys {amount(p, places)}." for p in bought]
    return svg.picture(
        *parts, height=bottom + 40, title="Ladder of values", description=" ".join(sentences), class_="dots"
    )


def value_text(rung: Rung, places: int) -> str:
    """`9.19`, `9.19 to 9.21` or `8.20 or more`."""
    low = number(rung.lower, places)
    if rung.upper is None:
        return f"{low} or more"
    high = number(rung.upper, places)
    return low if rung.exact or low == high else f"{low} to {high}"


def kind(rung: Rung) -> str:
    """How certain a rung is, one of `LEGEND`."""
    if rung.exact:
        return "exact"
    return "open" if rung.upper is None else "bounds"


def _axis(scale: Scale, bottom: float, name: str) -> Markup:
    values = svg.ticks(scale.low, scale.high)
    parts = []
    for value in values:
        x = scale.percent(value)
        parts.append(line(x, 8, x, bottom, "grid"))
        parts.append(label(svg.tick_text(value, values), x, bottom + 16, "tick", "middle"))
    parts.append(line("0", bottom, "100%", bottom, "axis"))
    parts.append(label(name, "100%", bottom + 33, "axis-name", "end"))
    return tag("g", *parts)


def _rung(rung: Rung, scale: Scale, top: float, places: int) -> Markup:
    band = tag("rect", x=0, y=top, width="100%", height=21, class_="row-band")
    parts = [
        band,
        line("0", top, "100%", top, "row"),
        label(shorten(rung.label, 44), "0", top + 16, "row-name"),
        label(value_text(rung, places), "100%", top + 16, "row-value", "end"),
        *_certificate(rung, scale, top + 33),
    ]
    return tag("g", *parts)


def _certificate(rung: Rung, scale: Scale, y: float) -> list[Markup]:
    x = scale.percent(rung.lower)
    tip = f"{rung.label}: {value_text(rung, 6)}"
    if rung.upper is None:
        return [line(x, y, "100%", y, "possible"), marker("circle", x, y, "open", tip)]
    if rung.exact:
        return [marker("diamond", x, y, "exact", tip)]
    end = scale.percent(rung.upper)
    return [
        line(x, y, end, y, "interval bounds"),
        *(line(e, y - 8, e, y + 8, "cap bounds") for e in (x, end)),
    ]


def _step(above: Rung, below: Rung, step: Purchase, scale: Scale, y: float, places: int) -> Markup:
    """The distance between two attained values, with its name at the roomier side."""
    left, right = scale(below.lower), scale(above.lower)
    text = f"{step.what}: {amount(step, places)}"
    at, dx, anchor = (f"{left:.2f}%", -7, "end") if left > 50 else (f"{right:.2f}%", 7, "start")
    return tag(
        "g",
        line(f"{left:.2f}%", y, f"{right:.2f}%", y, "bought"),
        *(line(f"{x:.2f}%", y - 4, f"{x:.2f}%", y + 4, "bought") for x in (left, right)),
        tag("text", text, x=at, y=y + 4, dx=dx, text_anchor=anchor, class_="reference-name"),
    )


def legend(rungs: Sequence[Rung]) -> Markup:
    """What the marks mean, as far as they occur."""
    occurring = {kind(rung) for rung in rungs}
    samples = {
        "exact": [marker("diamond", 14, 8, "exact")],
        "bounds": [line(2, 8, 26, 8, "interval bounds"), *(line(x, 1, x, 15, "cap bounds") for x in (2, 26))],
        "open": [line(5, 8, 28, 8, "possible"), marker("circle", 6, 8, "open")],
    }
    entries = (
        tag("span", tag("svg", *samples[name], width=28, height=16, aria_hidden="true"), text)
        for name, text in LEGEND
        if name in occurring
    )
    return tag("p", *entries, class_="key")


def stacked_bar(names: Sequence[str], belief: Sequence[float], marked: int | None, title: str) -> Markup:
    """A belief as one bar cut into environments, the marked one (the true one) dark, names where they fit."""
    parts, start = [], 0.0
    for k, p in enumerate(belief):
        if p > 0:
            width = 100.0 * min(p, 1.0)
            shade = "true" if k == marked else f"shade{k % 2}"
            box = {"x": f"{start:.2f}%", "width": f"{width:.2f}%", "y": 1, "height": 24}
            parts.append(tag("rect", tag("title", f"{names[k]} {percent(p)}"), class_=f"part {shade}", **box))
            if len(names[k]) <= LETTERS * width:
                parts.append(label(names[k], f"{start + width / 2:.2f}%", 17, f"on-{shade}", "middle"))
            start += width
    head = tag("title", title)
    return tag("svg", head, *parts, class_="picture stacked", role="img", width="100%", height=26)
