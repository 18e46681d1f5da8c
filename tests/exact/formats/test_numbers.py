"""Reading and writing of decimal numbers, against Python's own."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from epomdp.exact.formats import numbers


def parse(text: str):
    data = np.frombuffer(text.encode(), np.uint8)
    return numbers.parse_number(data, 0, len(data))


DECIMALS = st.one_of(
    st.floats(0, 1).map(repr),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.from_regex(r"[+-]?([0-9]{1,25}\.?[0-9]{0,25}|\.[0-9]{1,25})([eE][+-]?[0-9]{1,3})?", fullmatch=True),
)


@settings(deadline=None)
@given(DECIMALS)
@example("0.30000000000000004")
@example("9007199254740993")
@example("1e23")
@example("0.1e-22")
@example("123456789012345678e-22")
@example("1." + 30 * "0")
@example("." + 30 * "0" + "1")
def test_numbers_read_as_exact_are_what_python_reads(text):
    value, how = parse(text)
    exact = float(text)
    if how == numbers.EXACT:
        assert value == exact
    else:
        # The caller asks float() itself, and wants to know the order of magnitude only.
        assert how == numbers.NEARLY
        if 1e-290 < abs(exact) < 1e290:
            assert value == pytest.approx(exact, rel=1e-12)


@settings(deadline=None)
@given(st.floats(1e-5, 1.0))
def test_probabilities_take_the_fast_way(value):
    assert parse(repr(value)) == (value, numbers.EXACT)


@pytest.mark.parametrize(
    "text", ["", "+", "-", ".", "e5", "1e", "1e+", "1.2.3", "0x1", "nan", "inf", "1_0", "1 2", "--1", "1-"]
)
def test_what_is_no_number(text):
    assert parse(text)[1] == numbers.NO_NUMBER


@settings(deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
@example([0.0, -0.0, 1.0, 1e15, 1e16, 1e-6, 9.999999999999999e-7, 0.1 + 0.2, 5e-324, 1.7976931348623157e308])
@example([2.0**k for k in range(-60, 60, 7)])
@example([10.0**k for k in range(-22, 23)])
def test_written_numbers_read_back_to_the_same_bits(values):
    block = b"".join(numbers.lines(("", "\n"), (), np.array(values)))
    assert [float(text) for text in block.split()] == values


@pytest.mark.parametrize(
    ("value", "text"), [(0.05, "0.05"), (1.0, "1.0"), (-100.0, "-100.0"), (0.1 + 0.2, "0.30000000000000004")]
)
def test_common_numbers_are_written_short(value, text):
    assert numbers.joined(np.array([value])) == text


def test_lines_put_columns_names_and_values_in_place(monkeypatch):
    monkeypatch.setattr(numbers, "_BLOCK", 2)
    names, others = numbers.Texts(["up", "down", "ö"]), numbers.Texts(["x"])
    columns = (
        np.array([7, 0, 1234567890123]),
        numbers.Named(names, np.array([2, 0, 1])),
        numbers.Named(others, np.zeros(3, int)),
        numbers.Named(names, np.array([1, 1, 0])),
    )
    text = b"".join(numbers.lines(("<", " ", " ", " ", " ", ">\n"), columns, np.array([0.5, 1e-9, -2.0])))
    assert text.decode() == "<7 ö x down 0.5>\n<0 up x down 1e-09>\n<1234567890123 down x up -2.0>\n"
