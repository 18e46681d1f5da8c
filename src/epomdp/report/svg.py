"""Building blocks of the pictures: escaped elements, scales and ticks.

Pictures are fluid. Along the horizontal axis every position is a percentage of the width and along the vertical one a
number of pixels, so that text keeps its size from a telephone to a printed page. Colours come from the
style sheet through classes; each meaning has a shape or a dash of its own as well.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from markupsafe import Markup, escape

from epomdp.report.text import MINUS, clean


def tag(element: str, *children: Any, **attributes: Any) -> Markup:
    """An element with escaped attributes and children; only `Markup` children are taken as they are.

    Attribute names: `class_` for `class`, underscores for hyphens. An attribute that is None is left out.
    """
    written = []
    for key, value in attributes.items():
        if value is not None:
            name = key.rstrip("_").replace("_", "-")
            written.append(f' {name}="{escape(clean(value))}"')
    return Markup(f"<{element}{''.join(written)}>{join(children)}</{element}>")


def join(children: Iterable[Any]) -> Markup:
    """The children one after another, each escaped unless it is `Markup`; None is skipped."""
    parts = (c if isinstance(c, Markup) else escape(clean(c)) for c in children if c is not None)
    return Markup("").join(parts)


def picture(
    *children: Any, height: float, title: str, description: str, class_: str = "", **attributes: Any
) -> Markup:
    """A fluid SVG of `height` pixels whose title and description are its text alternative."""
    heads = (tag("title", title), tag("desc", description))
    return tag(
        "svg",
        *heads,
        *children,
        class_=f"picture {class_}".strip(),
        role="img",
        width="100%",
        height=_short(height),
        **attributes,
    )


def label(content: Any, x: str | float, y: float, class_: str = "", anchor: str = "start") -> Markup:
    """A line of text; `x` in pixels or as a percentage string, `anchor` start, middle or end."""
    return tag("text", content, x=_short(x), y=_short(y), class_=class_ or None, text_anchor=anchor)


def line(x1: Any, y1: float, x2: Any, y2: float, class_: str) -> Markup:
    """A straight line between two points (each x in pixels or as a percentage string)."""
    return tag("line", x1=_short(x1), y1=_short(y1), x2=_short(x2), y2=_short(y2), class_=class_)


SHAPES = {
    "diamond": "M0-7 7 0 0 7-7 0Z",
    "circle": "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0-10 0Z",
    "square": "M-5-5H5V5H-5Z",
    "left": "M-2 0 8-6V6Z",
    "right": "M2 0-8-6V6Z",
}


def marker(shape: str, x: str | float, y: float, class_: str, title: str | None = None) -> Markup:
    """A shape of `SHAPES` centred on a point, with an optional tooltip."""
    tip = tag("title", title) if title else None
    inner = tag("path", tip, d=SHAPES[shape], class_=f"mark {class_}")
    return tag("svg", inner, x=_short(x), y=_short(y), overflow="visible", width=1, height=1)


def _short(value: Any) -> Any:
    return f"{value:g}" if isinstance(value, float) else value


@dataclass(frozen=True)
class Scale:
    """A linear map of data onto a part of a picture: [low, high] -> [start, end]."""

    low: float
    high: float
    start: float = 3.0
    end: float = 97.0

    def __call__(self, value: float) -> float:
        """The position of a value, held inside the picture."""
        share = (value - self.low) / (self.high - self.low)
        return self.start + min(max(share, 0.0), 1.0) * (self.end - self.start)

    def percent(self, value: float) -> str:
        """The position as a percentage, for an SVG attribute."""
        return f"{self(value):.2f}%"

    def covers(self, value: float) -> bool:
        """Whether the value lies on the scale."""
        slack = 1e-9 * (self.high - self.low)
        return self.low - slack <= value <= self.high + slack


def ticks(low: float, high: float, target: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) inside [low, high], about `target` of them."""
    raw = (high - low) / max(target, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= raw * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [k * step for k in range(first, last + 1)]


def tick_text(value: float, values: Sequence[float]) -> str:
    """A tick's number with the decimals that its neighbours need."""
    step = min((b - a for a, b in pairwise(values)), default=1.0)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{value + 0.0:.{decimals}f}".replace("-", MINUS)


def extent(values: Iterable[float | None], pad: float = 0.04) -> tuple[float, float]:
    """The range of the finite values, a little wider; [0, 1] where there are none, never empty."""
    finite = [v for v in values if v is not None and math.isfinite(v)]
    if not finite:
        return 0.0, 1.0
    low, high = min(finite), max(finite)
    width = high - low or max(abs(high), 1.0)
    return low - pad * width, high + pad * width
