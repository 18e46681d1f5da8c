"""Numbers and names are written one way everywhere."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epomdp.report import text


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (-1.234, "\u22121.23"),
        (-0.001, "0.00"),
        (0.0, "0.00"),
        (-0.0, "0.00"),
        (2, "2.00"),
        (12345.678, "12,345.68"),
        (None, "\u2013"),
        (math.nan, "\u2013"),
        (-math.inf, "\u2013"),
    ],
)
def test_number(value: float | None, written: str) -> None:
    assert text.number(value) == written


def test_intervals_percentages_and_counts() -> None:
    assert text.interval((-1.62, -1.15)) == "[\u22121.62, \u22121.15]"
    assert text.interval(None) == ""
    assert text.estimate(-1.38, (-1.62, -1.15)) == "\u22121.38 [\u22121.62, \u22121.15]"
    assert text.estimate(0.5) == "0.50"
    assert text.percent(0.975) == "97.5\u00a0%"
    assert [text.short_count(n) for n in (0, 500, 20_000, 1.5e6)] == ["0", "500", "20k", "1.5M"]
    assert [text.plural(n, "guess", "guesses") for n in (1, 2)] == ["1 guess", "2 guesses"]
    assert text.plural(1200, "seed") == "1,200 seeds"


def test_shorten_keeps_to_its_limit() -> None:
    assert text.shorten("abcdef", 6) == "abcdef"
    assert text.shorten("abcdefg", 6) == "abcde\u2026"


def test_clean_takes_out_what_breaks_or_reorders_a_page() -> None:
    assert text.clean("a\x00b\u202ec\ud800d") == "a\ufffdb\ufffdc\ufffdd"
    assert text.clean("naïve 数字 عربي\n") == "naïve 数字 عربي\n"
    assert text.clean(None) == ""


@given(st.text())
def test_clean_text_can_be_written_as_utf8(value: str) -> None:
    cleaned = text.clean(value)
    cleaned.encode("utf-8")
    assert len(cleaned) == len(value)
    assert "\x00" not in cleaned
