"""Each way a `.pomdp` file can be wrong: one line that names the file, line, column, fault and mend."""

import re
import tracemalloc

import pytest

from epomdp.errors import BadInput
from epomdp.exact.formats import pomdp

GOOD = """discount: 0.95
values: reward
states: left right
actions: listen open
observations: hear-left hear-right
start: uniform
T: listen identity
T: open : left uniform
T: open : right 0.5 0.5
O: listen
0.85 0.15
0.15 0.85
O: open uniform
R: listen : * : * : * -1
R: open : left : right : hear-left 10
"""


def message(path) -> str:
    with pytest.raises(BadInput) as caught:
        pomdp.read(path)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(str(path))
    return text.removeprefix(str(path))


def of_text(tmp_path, text: str) -> str:
    path = tmp_path / "x.pomdp"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return message(path)


def test_the_file_that_the_others_are_made_from_is_good(tmp_path):
    (tmp_path / "x.pomdp").write_text(GOOD)
    assert pomdp.read(tmp_path / "x.pomdp").num_states == 2


@pytest.mark.parametrize(
    ("old", "new", "line", "column", "says"),
    [
        # the preamble
        ("discount: 0.95", "discuont: 0.95", 1, 1, "unknown section 'discuont'; did you mean 'discount'"),
        ("discount: 0.95", "discount: zero", 1, 11, "expected the discount, found 'zero'"),
        ("discount: 0.95", "discount: 1.0", 1, 11, r"discount 1 is outside \[0, 1\)"),
        ("discount: 0.95", "discount: -0.5", 1, 11, r"discount -0.5 is outside \[0, 1\)"),
        ("discount: 0.95", "discount: nan", 1, 11, "expected the discount, found 'nan'"),
        ("discount: 0.95", "discount: 0.95 0.5", 1, 16, "takes one number and nothing else, found 2 words"),
        ("discount: 0.95", "discount:", 1, 1, "takes one number and nothing else, found 0 words"),
        ("discount: 0.95", ": 0.95", 1, 1, "':' with no name before it"),
        ("discount: 0.95", "0.95 discount: 0.95", 1, 1, "unknown section '0.95'"),
        ("discount: 0.95\n", "", 6, 1, "the line 'discount:' is missing"),
        ("values: reward\n", "", 6, 1, "the line 'values:' is missing"),
        ("states: left right\n", "", 6, 1, "the line 'states:' is missing"),
        ("actions: listen open\n", "", 6, 1, "the line 'actions:' is missing"),
        ("observations: hear-left hear-right\n", "", 6, 1, "the line 'observations:' is missing"),
        ("values: reward", "values: rewards", 2, 9, "unknown values 'rewards'; write reward or cost"),
        ("values: reward", "values: reward\nvalues: cost", 3, 1, "'values:' is given twice"),
        ("states: left right", "states:", 3, 1, "'states:' is empty"),
        ("states: left right", "states: 0", 3, 9, "0 states are not possible; give 1 to"),
        ("states: left right", "states: 99999999999", 3, 9, "99999999999 states are not possible"),
        ("states: left right", "states: 2 3", 3, 9, "'2' cannot name a state; begin names with a letter"),
        ("states: left right", "states: left 2nd", 3, 14, "'2nd' cannot name a state"),
        ("states: left right", "states: left *", 3, 14, r"'\*' cannot name a state"),
        ("states: left right", "states: left left", 3, 14, "'left' is named twice"),
        ("actions: listen open", "actions: listen open listen", 4, 22, "'listen' is named twice"),
        ("start: uniform", "start: 0.5", 6, 8, "'start:' takes 2 probabilities.*found 1"),
        ("start: uniform", "start: 0.5 0.25 0.25", 6, 17, "'start:' takes 2 probabilities.*found 3"),
        ("start: uniform", "start: 0.5 0.25", 6, 1, "start probabilities sum to 0.75; make it 1"),
        ("start: uniform", "start: 1.5 -0.5", 6, 8, r"probability 1.5 is outside \[0, 1\]"),
        ("start: uniform", "start: 0.5 half", 6, 12, "expected a probability, found 'half'"),
        ("start: uniform", "start: rigth", 6, 8, "unknown state 'rigth'; did you mean 'right'"),
        ("start: uniform", "start: 2", 6, 8, "there is no state 2; states are numbered from 0 to 1"),
        ("start: uniform", "start:", 6, 1, "'start:' is empty"),
        ("start: uniform", "start include: left middle", 6, 21, "unknown state 'middle'"),
        ("start: uniform", "start exclude: left right", 6, 1, "every state is excluded"),
        ("start: uniform", "start: left\nstart exclude: left", 7, 1, "start is given twice"),
        ("start: uniform", "start: reset", 6, 8, "unknown state 'reset'"),
        # entries
        ("T: listen identity", "T: lisen identity", 7, 4, "unknown action 'lisen'; did you mean 'listen'"),
        ("T: open : left", "T open : left", 8, 3, "expected ':' after 'T', found 'open'"),
        ("T: listen identity", "T: 2 identity", 7, 4, "there is no action 2; actions are numbered from 0 to 1"),
        ("T: listen identity", "T: : identity", 7, 4, "expected a name, a number or \\* for the action, found ':'"),
        ("T: listen identity", "T: listen idenity", 7, 11, "number .1 of the 4 of this 'T:' entry.*'idenity'"),
        ("T: listen identity", "T: listen 1 0 0", 8, 1, "expected a number .4 of the 4 .*found 'T'; give the entry 4"),
        ("T: listen identity", "T: listen 1 0 0 1 0", 7, 19, "found '0'; the entry before takes 4 numbers only"),
        ("T: listen identity", "T: listen : left identity", 7, 18, "'identity' cannot stand here.*whole matrix"),
        ("left uniform", "lfet uniform", 8, 11, "unknown state 'lfet'; did you mean 'left'"),
        ("left uniform", "2 uniform", 8, 11, "there is no state 2; states are numbered from 0 to 1"),
        ("left uniform", "left : right : left 1", 8, 24, "expected a number .1 of the 1.*found ':'"),
        ("right 0.5 0.5", "right 0.5 0.25", 9, 21, "T: probabilities of action 'open' in state 'right' sum to 0.75"),
        ("right 0.5 0.5", "right -0.5 1.5", 9, 17, r"probability -0.5 is outside \[0, 1\]"),
        ("right 0.5 0.5", "right 0.5 1e1", 9, 21, r"probability 1e1 is outside \[0, 1\]"),
        ("right 0.5 0.5", "right 0.5 o.5", 9, 21, "expected a number .2 of the 2.*found 'o.5'"),
        ("right 0.5 0.5", "right nan 0.5", 9, 17, "expected a number.*found 'nan'"),
        ("right 0.5 0.5", "right : 2 0.5", 9, 19, "there is no state 2"),
        ("T: open : right 0.5 0.5\n", "", 15, 1, "no T: entry covers action 'open' in state 'right'; add 'T: "),
        ("O: open uniform\n", "", 15, 1, "no O: entry covers action 'open' in state 'left'"),
        ("O: open uniform", "O: open reset", 13, 9, "'reset' cannot stand here; observations may be 'uniform'"),
        ("O: open uniform", "O: open identity", 13, 9, "'identity' cannot stand here"),
        ("O: open uniform", "O: open : left : hear 1", 13, 18, "unknown observation 'hear'"),
        ("O: open uniform", "O: open : * : hear-left 0.5", 13, 25, "of action 'open' in state 'left' sum to 0.5"),
        ("0.15 0.85\nO", "0.15 0.75\nO", 12, 6, "O: probabilities of action 'listen' in state 'right' sum to 0.9"),
        ("* : * : * -1", "* : * : * ten", 14, 23, "expected a number.*found 'ten'"),
        ("* : * : * -1", "* : * : * 1e999", 14, 23, "the number 1e999 is too large"),
        ("R: listen : * : * : * -1", "R: listen -1", 14, 11, "'R: action' takes a start state at least"),
        ("R: listen : * : * : * -1", "R: listen : * uniform", 14, 15, "'uniform' cannot stand here; rewards"),
        ("R: listen : * : * : * -1", "R: listen : * : * 1 2 3", 14, 23, "'3'; the entry before takes 2 numbers"),
        ("R: listen", "Q: listen", 14, 1, "expected an entry 'T:', 'O:' or 'R:', found 'Q'"),
        ("R: listen", "states: 3\nR: listen", 14, 1, "found 'states'; move 'states:' before the first entry"),
        ("hear-left 10", "hear-left", 16, 1, "expected a number .1 of the 1.*the file ends.*cut off here"),
        ("hear-left 10", "hear-left -", 15, 36, "expected a number"),
    ],
)  # fmt: skip
def test_a_fault_is_named_with_its_place(tmp_path, old, new, line, column, says):
    assert GOOD.count(old) == 1
    text = of_text(tmp_path, GOOD.replace(old, new))
    assert re.match(rf", line {line}, column {column}: .*({says})", text), text


@pytest.mark.parametrize("length", range(1, len(GOOD.rstrip()) - 2))
def test_a_file_cut_off_anywhere_is_no_model(tmp_path, length):
    """Except where only whole reward entries are lost, which nothing can tell."""
    whole_without_rewards = length >= GOOD.index("R: listen") - 1
    path = tmp_path / "x.pomdp"
    path.write_text(GOOD[:length])
    if whole_without_rewards:
        try:
            pomdp.read(path)
        except BadInput as error:
            assert "\n" not in str(error)
    else:
        assert message(path)


def test_columns_count_characters_and_lines_count_every_end(tmp_path):
    text = GOOD.replace("left right", "ö right").replace("T: open : left uniform", "T: open : ö lala")
    text = text.replace("open : left :", "open : ö :").replace("\n", "\r\n")
    assert of_text(tmp_path, text).startswith(", line 8, column 13: expected a number")


def test_numbered_states_are_asked_for_by_number(tmp_path):
    text = GOOD.replace("left right", "2", 1).replace(": left", ": 0").replace(": right", ": up")
    assert "unknown state 'up'; the states have no names; number them from 0 to 1" in of_text(tmp_path, text)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "0 bytes"),
        (b"\n\n  # only a note\n", "this is no .pomdp file"),
        (b"hello world", "this is no .pomdp file"),
        (GOOD.encode("utf-16"), "UTF-16; save it as UTF-8"),
        (GOOD.encode("utf-16-le"), "byte 1 is zero, so this is no text file"),
        (b"PK\x03\x04" + bytes(range(256)), "is zero, so this is no text file"),
        (bytes(range(1, 256)) * 4, "section"),
        (
            GOOD.replace("left right", "l\u00e9ft right").encode("latin-1"),
            "line 3, column 10: this is not UTF-8",
        ),
        (b"discount: 0.95\nvalues: reward\nstates: 3", "line 3, column 10: the line 'actions:' is missing"),
        (GOOD[: GOOD.index("T:")].encode(), "no T: entry covers action 'listen' in state 'left'"),
    ],
)
def test_files_that_are_something_else(tmp_path, data, says):
    path = tmp_path / "x.pomdp"
    path.write_bytes(data)
    assert says in message(path)


def test_a_directory_and_a_missing_file(tmp_path):
    assert "directory" in message(tmp_path)
    assert "there is no such file" in message(tmp_path / "none.pomdp")


def test_control_characters_do_not_reach_the_terminal(tmp_path):
    assert "found '?[31mred'" in of_text(tmp_path, GOOD.replace("right 0.5", "right \x1b[31mred"))


def test_a_row_fault_after_identity_and_reset_is_placed_at_its_own_entry(tmp_path):
    """These two are written out as many entries, which the place must not count."""
    text = GOOD.replace(
        "T: open : left uniform", "T: open : left reset\nT: * identity\nT: listen : left 0.5 0.25"
    )
    assert of_text(tmp_path, text).startswith(", line 10, column 22: the T: probabilities of action 'listen'")


@pytest.mark.parametrize("what", ["states: 2000000000", "actions: 1000000000"])
def test_sizes_that_do_not_fit_are_refused_before_allocating(tmp_path, monkeypatch, what):
    monkeypatch.setattr("epomdp.exact.memory.available_bytes", lambda: 8e9)
    section = what.split(":")[0]
    text = re.sub(rf"{section}: .*", what, GOOD)
    assert "GB of memory" in of_text(tmp_path, text)


def test_wildcards_over_sizes_that_do_not_fit_are_refused_before_allocating(tmp_path, monkeypatch):
    monkeypatch.setattr("epomdp.exact.memory.available_bytes", lambda: 1e8)
    text = "discount: .9 values: reward states: 100000 actions: 2 observations: 2 T: * uniform O: * uniform"
    assert "T needs about" in of_text(tmp_path, text).replace(": needs", " needs")


def test_a_huge_declaration_with_few_entries_is_refused_at_little_cost(tmp_path):
    """What is made before that is a vector over the states, but none over the 27 million rows."""
    text = (
        "discount: .9 values: reward states: 3000000 actions: 9 observations: 2 T: 0 : 0 : 1 1 O: * uniform"
    )
    tracemalloc.start()
    assert "no T: entry covers action 0 in state 1" in of_text(tmp_path, text)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 9 * 3_000_000 / 2
