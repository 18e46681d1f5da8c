"""How text and numbers are written on every page: safe characters, one minus sign, two decimals, intervals."""

import math
import unicodedata
from collections.abc import Sequence
from typing import Any

MINUS = "\u2212"
MISSING = "\u2013"
_UNSAFE = {"Cc", "Cs"}
_BIDI = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def clean(value: Any) -> str:
    """`str(value)` without characters that break or reorder a page (None becomes the empty string).

    Control characters and lone surrogates cannot stand in UTF-8 HTML, and bidirectional overrides let a name
    disguise what follows it; each becomes U+FFFD. Escaping for HTML is a second, separate step.
    """
    if value is None:
        return ""
    return "".join("\ufffd" if _unsafe(c) else c for c in str(value))


def _unsafe(character: str) -> bool:
    if character in "\n\t":
        return False
    return unicodedata.category(character) in _UNSAFE or unicodedata.bidirectional(character) in _BIDI


def number(value: float | None, decimals: int = 2) -> str:
    """`-1.234` as `−1.23`, zero without a sign, thousands grouped; a dash where there is no finite number."""
    if value is None or not math.isfinite(value):
        return MISSING
    text = f"{value:,.{decimals}f}"
    if float(text.replace(",", "")) == 0:
        text = text.lstrip("-")
    return text.replace("-", MINUS)


def interval(bounds: Sequence[float] | None, decimals: int = 2) -> str:
    """`[−1.62, −1.15]`; the empty string where there is no interval."""
    if bounds is None:
        return ""
    low, high = bounds
    return f"[{number(low, decimals)}, {number(high, decimals)}]"


def estimate(mean: float | None, bounds: Sequence[float] | None = None) -> str:
    """A number followed by its interval: `−1.38 [−1.62, −1.15]`."""
    return f"{number(mean)} {interval(bounds)}".rstrip()


def percent(value: float | None) -> str:
    """A share in [0, 1] as `97.5 %`, with a no-break space."""
    return MISSING if value is None or not math.isfinite(value) else f"{number(100 * value, 1)}\u00a0%"


def count(value: int | None) -> str:
    """`12,345`."""
    return MISSING if value is None else f"{value:,}"


def short_count(value: float) -> str:
    """An axis label for steps: `0`, `500`, `20k`, `1.5M`."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}".replace("-", MINUS)
    return f"{value:.3g}".replace("-", MINUS)


def plural(quantity: int, noun: str, many: str | None = None) -> str:
    """`1 seed`, `5 seeds`, `2 guesses` (where the plural is given)."""
    return f"{count(quantity)} {noun if quantity == 1 else many or noun + 's'}"


def shorten(text: str, limit: int) -> str:
    """At most `limit` characters, with an ellipsis where something was cut (pictures; tables keep it whole)."""
    text = clean(text)
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "\u2026"
