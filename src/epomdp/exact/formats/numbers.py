"""Numbers as text, fast both ways: decimal numbers read with correct rounding, lines of numbers written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from epomdp.exact.compiled import compiled

# How a number was read: exactly as Python's float() would, only nearly so, or not at all.
EXACT, NEARLY, NO_NUMBER = 0, 1, 2

# The powers of ten that a double holds exactly.
_POWERS = 10.0 ** np.arange(23)
_TEN_POWERS = 10 ** np.arange(18)
# Doubles below this hold every whole number.
_WHOLE = 9007199254740992.0
# Lines made at a time: few enough to stay in the cache, many enough to hide the cost of a call.
_BLOCK = 1 << 17
# The longest number as text: a sign, seventeen digits and what goes with them.
_LONGEST = 26


@compiled
def parse_number(text, start, end):
    """The decimal number in text[start:end] and how well it was read: (value, EXACT | NEARLY | NO_NUMBER).

    Up to 19 digits with a power of ten of at most 22 are rounded correctly; anything longer is NEARLY, for
    the caller to hand to float().
    """
    at = start
    negative = False
    if at < end and (text[at] == 43 or text[at] == 45):  # + -
        negative = text[at] == 45
        at += 1
    mantissa, digits, kept, exponent, dropped = np.uint64(0), 0, 0, 0, False
    point = False
    while at < end:
        c = text[at]
        if c == 46 and not point:  # .
            point = True
        elif 48 <= c <= 57:
            digits += 1
            if kept < 19:
                mantissa = mantissa * np.uint64(10) + np.uint64(c - 48)
                kept += 1 if mantissa > 0 else 0
                exponent -= 1 if point else 0
            else:
                dropped = dropped or c != 48
                exponent += 0 if point else 1
        else:
            break
        at += 1
    if digits == 0:
        return 0.0, NO_NUMBER
    if at < end and (text[at] == 101 or text[at] == 69):  # e E
        at += 1
        down = False
        if at < end and (text[at] == 43 or text[at] == 45):
            down = text[at] == 45
            at += 1
        power, first = 0, at
        while at < end and 48 <= text[at] <= 57:
            power = min(power * 10 + (text[at] - 48), 100_000)
            at += 1
        if at == first:
            return 0.0, NO_NUMBER
        exponent += -power if down else power
    if at != end:
        return 0.0, NO_NUMBER
    value, how = _scaled(mantissa, exponent)
    return (-value if negative else value), (NEARLY if dropped else how)


@compiled
def _product(x, y):
    """x * y as a rounded product and its exact error (Dekker 1971)."""
    product = x * y
    split_x, split_y = x * 134217729.0, y * 134217729.0
    x_high, y_high = split_x - (split_x - x), split_y - (split_y - y)
    x_low, y_low = x - x_high, y - y_high
    return product, ((x_high * y_high - product) + x_high * y_low + x_low * y_high) + x_low * y_low


@compiled
def _scaled(mantissa, exponent):
    """mantissa * 10 ** exponent: (value, EXACT where it is the nearest double, else NEARLY)."""
    if mantissa == 0:
        return 0.0, EXACT
    high = np.float64(mantissa)
    if exponent == 0 and high < _WHOLE:
        return high, EXACT
    if not -22 <= exponent <= 22 or (exponent >= 0 and high >= _WHOLE):
        return high * 10.0**exponent, NEARLY
    if exponent >= 0:
        return high * _POWERS[exponent], EXACT
    power = _POWERS[-exponent]
    quotient = high / power
    if high < _WHOLE:
        return quotient, EXACT
    # The rest of the division in twice the precision; `low` is what float64 lost of the mantissa.
    low = np.float64(np.int64(mantissa - np.uint64(high)))
    product, error = _product(quotient, power)
    return quotient + (((high - product) - error) + low) / power, EXACT


@compiled
def parse_numbers(text, spans, values, how):
    """Read text[spans[i, 0]:spans[i, 1]] into values[i] and how[i]."""
    for i in range(len(spans)):
        values[i], how[i] = parse_number(text, spans[i, 0], spans[i, 1])


@compiled
def _decimal(value):
    """Digits m and places k with m / 10 ** k reading back to `value`; k is -1 where that takes another way.

    The seventeen digits of the exact product are cut to fifteen or sixteen where these do.
    """
    if not 1e-6 <= value < 1e15:
        return 0, -1
    k = 16 - int(np.floor(np.log10(value)))
    product, error = _product(value, _POWERS[min(k, 22)])
    if product < 1e16:
        k += 1
    elif product >= 1e17:
        k -= 1
    if not 0 <= k <= 22:
        return 0, -1
    product, error = _product(value, _POWERS[k])
    digits = np.int64(product) + np.int64(np.rint(error))
    for cut in (100, 10):
        less, fewer = (digits + cut // 2) // cut, k - (2 if cut == 100 else 1)
        if fewer >= 0 and _scaled(np.uint64(less), -fewer)[0] == value:
            digits, k = less, fewer
            break
    while k > 1 and digits % 10 == 0:
        digits //= 10
        k -= 1
    return digits, k


@compiled
def _put_whole(out, at, number, least):
    """Write a whole number with at least `least` digits; where it ends."""
    count = 1
    while count < 18 and number >= _TEN_POWERS[count]:
        count += 1
    count = max(count, least)
    for i in range(at + count - 1, at - 1, -1):
        out[i] = 48 + number % 10
        number //= 10
    return at + count


@compiled
def _put_number(out, at, value, text):
    """Write a number as a decimal, or as `text` where that takes an exponent or more digits; where it ends."""
    if value < 0:
        out[at] = 45
        at, value = at + 1, -value
    digits, places = _decimal(value)
    if places < 0:
        out[at : at + len(text)] = text
        return at + len(text)
    if places >= 18:
        out[at], out[at + 1] = 48, 46
        return _put_whole(out, at + 2, digits, places)
    at = _put_whole(out, at, digits // _TEN_POWERS[places], 1)
    out[at] = 46
    return _put_whole(out, at + 1, digits % _TEN_POWERS[places], max(places, 1))


@compiled
def _other_way(values):
    """Which numbers `_put_number` needs a text for."""
    chosen = np.empty(len(values), np.bool_)
    for i in range(len(values)):
        chosen[i] = _decimal(abs(values[i]))[1] < 0
    return chosen


@compiled
def _fill(out, pieces, piece_ends, columns, named, values, texts, text_ends, ids):
    """Write one line for each value and return the number of bytes written."""
    at = 0
    n, width = columns.shape
    for i in range(n):
        begin = 0
        for j in range(width + 2):
            for k in range(begin, piece_ends[j]):
                out[at] = pieces[k]
                at += 1
            begin = piece_ends[j]
            if j < width and named[j]:
                for k in range(text_ends[columns[i, j]], text_ends[columns[i, j] + 1]):
                    out[at] = texts[k]
                    at += 1
            elif j < width:
                at = _put_whole(out, at, columns[i, j], 1)
            elif j == width:
                at = _put_number(out, at, values[i], texts[text_ends[ids[i]] : text_ends[ids[i] + 1]])
    return at


@dataclass
class Named:
    """A column of names: names[i] for each i in `index`."""

    names: Texts
    index: NDArray[np.integer]


class Texts:
    """Texts one after the other, as kernels take them."""

    def __init__(self, texts: Sequence[str]) -> None:
        encoded = [text.encode() for text in texts]
        self.joint = np.frombuffer(b"".join(encoded), np.uint8)
        self.ends = np.cumsum([0, *map(len, encoded)])
        self.longest = max(map(len, encoded), default=0)


def lines(
    pieces: Sequence[str], columns: Sequence[NDArray[np.integer] | Named], values: NDArray[np.float64]
) -> Iterator[memoryview]:
    """Yield blocks of bytes that hold a line for each value.

    Args:
        pieces: K + 2 texts: before each column, before the value, and after it.
        columns: K arrays (n,) of indices, not negative, or columns of names.
        values: (n,) finite numbers, written so that they read back to the same double.
    """
    fixed = Texts(pieces)
    named = np.array([isinstance(column, Named) for column in columns], np.bool_)
    tables = list({id(c.names): c.names for c in columns if isinstance(c, Named)}.values())
    begins = np.cumsum([0, *(len(table.ends) - 1 for table in tables)])
    longest = max((table.longest for table in tables), default=0)
    room = len(fixed.joint) + max(20, longest) * len(columns) + _LONGEST
    for first in range(0, len(values), _BLOCK):
        block = np.ascontiguousarray(values[first : first + _BLOCK], np.float64)
        cells = np.empty((len(block), len(columns)), np.int64)
        for j, column in enumerate(columns):
            index = column.index if isinstance(column, Named) else column
            cells[:, j] = index[first : first + _BLOCK]
            if isinstance(column, Named):
                cells[:, j] += begins[tables.index(column.names)]
        chosen = np.flatnonzero(_other_way(block))
        distinct, which = np.unique(np.abs(block[chosen]), return_inverse=True)
        numbers = Texts([repr(value) for value in distinct.tolist()] or [""])
        ids = np.full(len(block), begins[-1])
        ids[chosen] += which
        parts = [*tables, numbers]
        joint = np.concatenate([part.joint for part in parts])
        offsets = np.cumsum([0, *(len(part.joint) for part in parts)])
        ends = np.concatenate([[0], *(part.ends[1:] + o for part, o in zip(parts, offsets, strict=False))])
        out = np.empty(len(block) * room, np.uint8)
        yield out[: _fill(out, fixed.joint, fixed.ends[1:], cells, named, block, joint, ends, ids)].data


def joined(values: NDArray[np.float64]) -> str:
    """The values as text, blanks between."""
    return b"".join(lines(("", " "), (), values)).decode().rstrip()
