"""Pictures put marks where the numbers say, and nothing a user names can break out of them."""

import itertools
import math
import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from epomdp.report import pictures, svg
from epomdp.report.pictures import Line, Mark, Reliability, Row, Series

HOSTILE = '"><script>alert(1)</script>&amp;\x00'


def parsed(picture: Markup) -> ET.Element:
    """Well-formed XML, which is stricter than HTML."""
    return ET.fromstring(str(picture))


def positions(picture: Markup, class_: str) -> list[float]:
    """x in percent of every mark with this class, from the nested element that places it."""
    return [
        float(nested.attrib["x"].rstrip("%"))
        for nested in parsed(picture).iter("svg")
        for path in nested.findall("path")
        if path.attrib["class"] == class_
    ]


def test_tag_escapes_text_and_attributes() -> None:
    made = svg.tag("text", HOSTILE, data_name=HOSTILE, class_="a", skipped=None)
    element = parsed(made)
    assert element.text == HOSTILE.replace("\x00", "\ufffd")
    assert element.attrib == {"data-name": HOSTILE.replace("\x00", "\ufffd"), "class": "a"}


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_are_round_and_inside(low: float, width: float) -> None:
    high = low + width
    values = svg.ticks(low, high)
    assert 2 <= len(values) <= 7
    assert all(low - 1e-6 * width <= v <= high + 1e-6 * width for v in values)
    step = values[1] - values[0]
    mantissa = step / 10 ** math.floor(math.log10(step) + 1e-6)
    assert min(abs(mantissa - m) for m in (1, 2, 5)) < 1e-3


def test_tick_text_has_the_decimals_it_needs() -> None:
    assert [svg.tick_text(v, [-0.5, 0.0, 0.5]) for v in (-0.5, 0.0)] == ["\u22120.5", "0.0"]
    assert svg.tick_text(-0.0, [-10.0, 0.0]) == "0"


def test_scale_is_linear_and_holds_values_inside() -> None:
    scale = svg.Scale(-4, 0, start=10, end=90)
    assert [scale(v) for v in (-4, -2, 0, 5, -9)] == [10, 50, 90, 90, 10]
    assert scale.covers(-4) and not scale.covers(0.1)


def test_extent_of_nothing_one_and_many() -> None:
    assert svg.extent([]) == (0, 1)
    assert svg.extent([None, math.nan]) == (0, 1)
    low, high = svg.extent([0.0])
    assert low < 0 < high
    low, high = svg.extent([-2.0, 2.0])
    assert low < -2 < 2 < high


def test_dot_plot_keeps_order_and_distance() -> None:
    values = [-3.0, -2.0, -1.0, 0.0]
    drawn = pictures.dot_plot(
        [Row(f"policy {v}", (Mark(v, "test", (v - 0.1, v + 0.1), "test"),)) for v in values],
        title="t",
        description="d",
        axis="return",
    )
    x = positions(drawn, "mark test")
    gaps = [b - a for a, b in itertools.pairwise(x)]
    assert all(g > 0 for g in gaps)
    assert max(gaps) - min(gaps) < 0.05


def test_dot_plot_draws_an_outlier_as_an_arrow_with_its_value() -> None:
    rows = [Row(f"policy {k}", (Mark(-1 - 0.2 * k, "test", None, "test"),)) for k in range(5)]
    drawn = pictures.dot_plot(
        [*rows, Row("random", (Mark(-30, "test"),))], title="t", description="d", axis="x"
    )
    low, high = pictures.focus([*rows, Row("random", (Mark(-30, "test"),))])
    assert low > -3 and high > -1
    assert svg.SHAPES["left"] in drawn
    assert ">\u221230.00<" in drawn


def test_focus_shows_everything_where_nothing_lies_far_off() -> None:
    rows = [Row("", (Mark(v, "test"),)) for v in (-9.0, -6.0, -3.0, 0.0)]
    low, high = pictures.focus(rows)
    assert low < -9 and high > 0
    few = [Row("", (Mark(v, "test"),)) for v in (-90.0, -1.0, 0.0)]
    assert pictures.focus(few)[0] < -90
    same = [Row("", (Mark(v, "test"),)) for v in (-90.0, -1.0, -1.0, -1.0, -1.0)]
    assert pictures.focus(same)[0] < -90


def test_focus_leaves_out_several_outliers_together_lines_too() -> None:
    rows = [Row("", (Mark(v, "test"),)) for v in (-8.0, -3.0, -2.0, -1.5, -1.0, -0.5)]
    lines = [Line("uniform", -9.0), Line("optimum", -0.4)]
    low, high = pictures.focus(rows, lines)
    assert -3.5 < low < -3.0 and high > -0.4
    drawn = pictures.dot_plot(rows, lines, title="t", description="d", axis="x")
    assert ">uniform \u22129.00<" in drawn
    assert len([e for e in parsed(drawn).iter("line") if e.attrib["class"] == "reference"]) == 1


def test_dot_plot_never_loses_a_reference_and_no_labels_share_a_line() -> None:
    rows = [Row("a", (Mark(0.0, "train"), Mark(-1.0, "test")))]
    lines = [Line(f"reference {k}", -0.01 * k) for k in range(6)]
    drawn = parsed(pictures.dot_plot(rows, lines, title="t", description="d", axis="x"))
    names = [t for t in drawn.iter("text") if t.attrib.get("class") == "reference-name"]
    assert len({t.attrib["y"] for t in names}) == len(lines)
    assert {re.sub(r" \S+$", "", t.text or "") for t in names} == {line.label for line in lines}


def test_marks_of_different_kinds_have_different_shapes() -> None:
    assert pictures.MARKS["train"] != pictures.MARKS["test"]
    assert pictures.MARKS["promised"] != pictures.MARKS["got"]
    assert pictures.MARKS["train"] != pictures.MARKS["validation"]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_dot_plot_leaves_out_what_is_not_finite(value: float) -> None:
    rows = [Row("a", (Mark(value, "test", (value, value)),)), Row("b", (Mark(1.0, "test", (value, 2.0)),))]
    drawn = pictures.dot_plot(rows, [Line("r", value)], title="t", description="d", axis="x")
    assert len(positions(drawn, "mark test")) == 1
    assert "nan" not in drawn and "inf" not in drawn


def test_line_chart_maps_points_into_its_box() -> None:
    series = Series("s", [0, 50, 100], [0.0, math.nan, 1.0], "validation", [-0.1, 0, 0.9], [0.1, 1, 1.1])
    drawn = parsed(
        pictures.line_chart([series], title="t", description="d", y_range=(0.0, 1.0), x_range=(0.0, 100.0))
    )
    (curve,) = drawn.iter("polyline")
    assert curve.attrib["points"] == "0.0,1000.0 1000.0,0.0"
    (band,) = drawn.iter("polygon")
    assert band.attrib["points"] == "0.0,900.0 1000.0,-100.0 1000.0,100.0 0.0,1100.0"


def test_belief_bars_are_proportional() -> None:
    drawn = parsed(pictures.belief_bars(["a", "b"], [0.25, 0.75], title="t", description="d"))
    full = float(drawn.attrib["data-full"])
    widths = [float(r.attrib["width"].rstrip("%")) for r in drawn.iter("rect") if r.attrib["class"] == "bar"]
    assert widths == pytest.approx([0.25 * full, 0.75 * full], abs=0.01)


def test_small_bars_leave_a_gap_for_what_is_ruled_out() -> None:
    drawn = parsed(pictures.small_bars([0.0, 0.5, 0.5], 1, "t"))
    paths = {p.attrib["class"]: p.attrib["d"] for p in drawn.iter("path")}
    assert {k: d.count("M") for k, d in paths.items()} == {"other": 1, "chosen": 1}


def test_reliability_puts_calibrated_bins_on_the_diagonal() -> None:
    bins = [Reliability(p, p, 10) for p in (0.0, 0.3, 1.0)] + [Reliability(0.5, 0.1, 0)]
    drawn = parsed(pictures.reliability(bins, title="t", description="d"))
    dots = [(float(c.attrib["cx"]), float(c.attrib["cy"])) for c in drawn.iter("circle")]
    ((x0, y0), (x1, y1), (x2, y2)) = dots
    assert (x1 - x0) / (x2 - x0) == pytest.approx(0.3, abs=0.01)
    assert (y1 - y0) / (y2 - y0) == pytest.approx(0.3, abs=0.01)


def test_every_picture_has_a_text_alternative_and_survives_hostile_names() -> None:
    row = Row(HOSTILE, (Mark(0.0, "train", None, HOSTILE),))
    words = {"title": HOSTILE, "description": HOSTILE}
    drawn = [
        pictures.dot_plot([row], [Line(HOSTILE, 0.0)], axis=HOSTILE, **words),
        pictures.line_chart([Series(HOSTILE, [1], [1.0], "train")], y_range=(0, 2), x_range=(0, 1), **words),
        pictures.belief_bars([HOSTILE], [1.0], **words),
        pictures.small_bars([1.0], 0, HOSTILE),
        pictures.reliability([Reliability(0.5, 0.5, 3)], **words),
    ]
    assert "".join(parsed(pictures.key(("train", HOSTILE))).itertext()) == HOSTILE.replace("\x00", "\ufffd")
    for picture in drawn:
        root = parsed(picture)
        assert root.attrib["role"] == "img"
        assert root.findtext("title") == HOSTILE.replace("\x00", "\ufffd")
        assert "<script" not in picture
