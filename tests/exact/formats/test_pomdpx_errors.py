"""Each way a `.pomdpx` file can be wrong: one line that names the file, the line, the fault and the mend."""

import re

import pytest

from epomdp.errors import BadInput
from epomdp.exact.formats import markup, pomdpx

GOOD = """<pomdpx version="1.0" id="x">
<Discount>0.9</Discount>
<Variable>
<StateVar vnamePrev="s_0" vnameCurr="s_1"><ValueEnum>left right</ValueEnum></StateVar>
<ObsVar vname="hear"><ValueEnum>l r</ValueEnum></ObsVar>
<ActionVar vname="act"><NumValues>2</NumValues></ActionVar>
<RewardVar vname="pay"/>
</Variable>
<InitialStateBelief>
<CondProb><Var>s_0</Var><Parent>null</Parent><Parameter type="TBL">
<Entry><Instance>-</Instance><ProbTable>0.5 0.5</ProbTable></Entry>
</Parameter></CondProb>
</InitialStateBelief>
<StateTransitionFunction>
<CondProb><Var>s_1</Var><Parent>act s_0</Parent><Parameter type="TBL">
<Entry><Instance>a0 - -</Instance><ProbTable>identity</ProbTable></Entry>
<Entry><Instance>a1 left right</Instance><ProbTable>1.0</ProbTable></Entry>
<Entry><Instance>a1 right -</Instance><ProbTable>0.25 0.75</ProbTable></Entry>
</Parameter></CondProb>
</StateTransitionFunction>
<ObsFunction>
<CondProb><Var>hear</Var><Parent>s_1</Parent><Parameter type="DD">
<DAG><Node var="s_1">
<Edge val="left"><SubDAG type="deterministic" var="hear" val="l"/></Edge>
<Edge val="right"><Node var="hear"><Edge val="r"><Terminal>1</Terminal></Edge></Node></Edge>
</Node></DAG>
</Parameter></CondProb>
</ObsFunction>
<RewardFunction>
<Func><Var>pay</Var><Parent>act</Parent><Parameter type="TBL">
<Entry><Instance>a1</Instance><ValueTable>-3</ValueTable></Entry>
</Parameter></Func>
</RewardFunction>
</pomdpx>
"""


def message(path) -> str:
    with pytest.raises(BadInput) as caught:
        pomdpx.read(path)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(str(path))
    return text.removeprefix(str(path))


def test_the_file_that_the_others_are_made_from_is_good(tmp_path):
    (tmp_path / "x.pomdpx").write_text(GOOD)
    assert pomdpx.read(tmp_path / "x.pomdpx").num_states == 2


FAULTS = [
    # the document
    ("<pomdpx version", "<pomdp version", "line 34, column 3: .*mismatched tag"),
    ("</pomdpx>", "", "line 3[56], column [01]: .*no element found|unclosed"),
    ("<Discount>0.9</Discount>", "<Discount>0.9</Discount>&nbsp;", "line 2.*undefined entity"),
    ("<Discount>0.9</Discount>", "", "line 1, column 1: <Discount> is missing; add it"),
    ("<Discount>0.9</Discount>", "<Discount>1</Discount>", r"line 2, column 1: the discount is '1'; .*\[0, 1\)"),
    ("<Discount>0.9</Discount>", "<Discount>much</Discount>", "line 2, column 1: the discount is 'much'"),
    ("<Variable>", "<Discount>0.9</Discount><Variable>", "line 3, column 1: <Discount> is given twice"),
    ("<Variable>", "<Variables/><Variable>", "line 3, column 1: unknown section <Variables>; remove it"),
    # variables
    ('<RewardVar vname="pay"/>', "<Reward/>", "line 7, column 1: unknown .* <Reward>; did you mean 'RewardVar'"),
    (' vname="hear"', "", 'line 5, column 1: <ObsVar> needs vname="..."'),
    ('vname="hear"', 'vname="h ear"', 'line 5, column 1: <ObsVar> needs vname="..."'),
    ('vname="act"', 'vname="hear"', "line 6, column 1: the variable 'hear' is declared twice"),
    ('vnameCurr="s_1"', 'vnameCurr="s_0"', "line 4, column 1: vnamePrev and vnameCurr are both 's_0'"),
    ('vnameCurr="s_1"', 'vnameCurr="s_1" fullyObs="yes"', "line 4, column 1: fullyObs is 'yes'; write true or false"),
    ("<NumValues>2</NumValues>", "", "line 6, column 1: <ActionVar> needs one <ValueEnum> or <NumValues>"),
    ("<NumValues>2</NumValues>", "<NumValues>two</NumValues>", "line 6.*<NumValues> is 'two'; give 1 or more"),
    ("<NumValues>2</NumValues>", "<NumValues>0</NumValues>", "line 6.*<NumValues> is '0'"),
    ("<ValueEnum>l r</ValueEnum>", "<ValueEnum/>", "line 5.*<ValueEnum> is empty"),
    ("<ValueEnum>l r</ValueEnum>", "<ValueEnum>l l</ValueEnum>", "line 3.*hear has the value 'l' twice"),
    ('<ActionVar vname="act"><NumValues>2</NumValues></ActionVar>', "", "line 3.*there is no <ActionVar>"),
    # tables
    ("<Var>s_0</Var>", "", "line 10, column 1: <CondProb> needs one <Var>, found 0"),
    ("<Var>s_0</Var>", "<Var>s_2</Var>", "line 10.*unknown variable 's_2'; did you mean 's_"),
    ("<Var>s_0</Var>", "<Var>s_1</Var>", "line 10.*s_1 has no place in <InitialStateBelief>; it is for s_0"),
    ("<Var>s_0</Var>", "<Var>s_0 s_1</Var>", "line 10.*<Var> takes one variable"),
    ("<Var>pay</Var>", "<Var>payy</Var>", "line 30.*unknown reward variable 'payy'; did you mean 'pay'"),
    ("<Parent>act</Parent>", "<Parent></Parent>", "line 30.*<Parent> is empty"),
    ("<Parent>act s_0</Parent>", "<Parent>act s_0 s_0</Parent>", "line 15.*<Parent> names a variable twice"),
    ("<Parent>act s_0</Parent>", "<Parent>act s_1</Parent>", "line 15.*<Parent> names a variable twice"),
    ("<Parent>null</Parent>", "<Parent>act</Parent>", "line 11.*too few values; .* for each of: act s_0"),
    ('<Parameter type="DD">', '<Parameter type="BDD">', "line 22.*unknown parameter type 'BDD'; write TBL or DD"),
    ('<Parameter type="DD">', "<Parameter>", "line 23.*one <Instance> and one <ProbTable>, found <DAG>"),
    ("<Instance>-</Instance>", "", "line 11.*expected <Entry> with one <Instance>"),
    ("<Instance>-</Instance>", "<Instance>- -</Instance>", "line 11.*too many values; .* for each of: s_0"),
    ("<Instance>a0 - -<", "<Instance>a0 -<", "line 16.*too few values; give one, . or - for each of: act s_0 s_1"),
    ("<Instance>a0 - -<", "<Instance>a2 - -<", "line 16.*unknown value 'a2' of act"),
    ("<Instance>a0 - -<", "<Instance>a0 left -<", "line 16.*'identity' does not fit the instance"),
    ("<Instance>a0 - -<", "<Instance>- - -<", "line 16.*'identity' does not fit the instance"),
    ("identity", "uniform 1", "line 16.*too many numbers"),
    ("identity", "idenity", "line 16.*expected a number, found 'idenity'"),
    ("0.25 0.75", "0.25", "line 18.*the table has too few numbers"),
    ("0.25 0.75", "0.25 0.5 0.25", "line 18.*the table has too many numbers"),
    ("0.25 0.75", "0.25 x", "line 18.*expected a number, found 'x'"),
    ("0.25 0.75", "-0.25 1.25", r"line 18.*probability -0.25 is outside \[0, 1\]"),
    ("0.25 0.75", "0.25 0.25", "line 15, column 1: .* s_1 for act = a1, s_0 = right sum to 0.5; make"),
    ("<Entry><Instance>a1 right -</Instance><ProbTable>0.25 0.75</ProbTable></Entry>\n", "", "15.*right sum to 0;"),
    ("<ProbTable>0.5 0.5<", "<ProbTable>0.5 0.25<", "line 10.*the probabilities of s_0 sum to 0.75"),
    ("<ValueTable>-3<", "<ValueTable>1e999<", "line 31.*the number 1e999 is too large"),
    ("<ValueTable>-3<", "<ValueTable>nan<", "line 31.*expected a number, found 'nan'"),
    # diagrams
    ('<Node var="s_1">', '<Node var="s_0">', "line 23.*unknown variable 's_0'; did you mean 's_1'"),
    ('<Node var="hear">', '<Node var="s_1">', "line 25.*s_1 is decided twice on one path"),
    ('<Edge val="left">', '<Edge val="lefd">', "line 24.*unknown value 'lefd'; did you mean 'left'"),
    ("<Terminal>1</Terminal>", "<Terminal>one</Terminal>", "line 25.*expected a number, found 'one'"),
    ("<Terminal>1</Terminal>", "<Terminal>2</Terminal>", r"line 25.*probability 2 is outside \[0, 1\]"),
    ("<Terminal>1</Terminal>", "", "line 25.*<Edge> needs one <Node>, <Terminal> or <SubDAG>"),
    ("<Terminal>1</Terminal>", "<Leaf>1</Leaf>", "line 25.*expected <Node>, <Terminal> or <SubDAG>, found <Leaf>"),
    ('type="deterministic"', 'type="certain"', "line 24.*unknown type of <SubDAG> 'certain'"),
    ('type="deterministic" var="hear" val="l"', 'type="persistent" var="hear"', "line 24.*persistent needs the"),
    ('type="deterministic" var="hear" val="l"', 'type="template" idref="t"', "line 24.*unknown template 't'"),
    ("</Node></DAG>", '</Node></DAG><DAG/>', "line 22.*a parameter of type DD needs one <DAG>"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "says"), FAULTS)
def test_a_fault_is_named_with_its_place(tmp_path, old, new, says):
    assert GOOD.count(old) == 1
    (tmp_path / "x.pomdpx").write_text(GOOD.replace(old, new))
    text = message(tmp_path / "x.pomdpx")
    assert re.search(says, text), text


@pytest.mark.parametrize(
    "section", ["Variable", "InitialStateBelief", "StateTransitionFunction", "ObsFunction", "RewardFunction"]
)
def test_a_section_that_is_missing(tmp_path, section):
    start, end = GOOD.index(f"<{section}>"), GOOD.index(f"</{section}>") + len(section) + 3
    (tmp_path / "x.pomdpx").write_text(GOOD[:start] + GOOD[end:])
    assert f"<{section}> is missing; add it" in message(tmp_path / "x.pomdpx")


@pytest.mark.parametrize("section", ["InitialStateBelief", "StateTransitionFunction", "ObsFunction"])
@pytest.mark.parametrize("times", [0, 2])
def test_a_variable_without_its_one_table(tmp_path, section, times):
    start = GOOD.index("<CondProb>", GOOD.index(f"<{section}>"))
    end = GOOD.index("</CondProb>", start) + len("</CondProb>")
    (tmp_path / "x.pomdpx").write_text(GOOD[:start] + times * GOOD[start:end] + GOOD[end:])
    assert f"has {times} tables in <{section}>; give it one" in message(tmp_path / "x.pomdpx")


@pytest.mark.parametrize(
    "head",
    [
        '<!DOCTYPE pomdpx [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;"><!ENTITY c "&b;&b;&b;">]>\n',
        '<!DOCTYPE pomdpx SYSTEM "file:///etc/passwd">\n',
        "<!DOCTYPE pomdpx>\n",
    ],
)
def test_a_document_type_is_refused(tmp_path, head):
    (tmp_path / "x.pomdpx").write_text(head + GOOD.replace("0.9<", "&c;<"))
    assert re.match(r", line 1, column \d+: a document type is refused", message(tmp_path / "x.pomdpx"))


@pytest.mark.parametrize("length", range(1, len(GOOD) - 1, 7))
def test_a_file_cut_off_anywhere(tmp_path, length):
    (tmp_path / "x.pomdpx").write_text(GOOD[:length])
    assert "well-formed" in message(tmp_path / "x.pomdpx")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "0 bytes"),
        (b"discount: 0.95", "not well-formed"),
        (b"<html><body/></html>", "expected <pomdpx>, found <html>"),
        (b"<pomdpx/>", "<Discount> is missing"),
        (GOOD.encode("utf-16"), "UTF-16"),
        (b"PK\x03\x04\0\0", "no text file"),
        (b'<?xml version="1.0" encoding="klingon"?><pomdpx/>', "encoding"),
        (GOOD.replace("left", "l\u00e9ft").encode("latin-1"), "not well-formed"),
        (b"<a>" * 100_000, "more than 200 deep"),
    ],
)
def test_files_that_are_something_else(tmp_path, data, says):
    (tmp_path / "x.pomdpx").write_bytes(data)
    assert says in message(tmp_path / "x.pomdpx")


def test_a_declared_encoding_is_used(tmp_path):
    text = '<?xml version="1.0" encoding="ISO-8859-1"?>' + GOOD.replace("left", "l\u00e9ft")
    (tmp_path / "x.pomdpx").write_bytes(text.encode("latin-1"))
    assert pomdpx.read(tmp_path / "x.pomdpx").states == ("l\u00e9ft", "right")


def test_a_directory_and_a_missing_file(tmp_path):
    assert "directory" in message(tmp_path)
    assert "there is no such file" in message(tmp_path / "none.pomdpx")


def test_more_values_than_memory_holds(tmp_path, monkeypatch):
    monkeypatch.setattr("epomdp.exact.memory.available_bytes", lambda: 8e9)
    (tmp_path / "x.pomdpx").write_text(GOOD.replace("<NumValues>2<", "<NumValues>2000000000<"))
    assert "GB of memory" in message(tmp_path / "x.pomdpx")


def test_templates_in_a_circle(tmp_path):
    text = GOOD.replace('type="deterministic" var="hear" val="l"', 'type="template" idref="t"')
    text = text.replace(
        "</DAG>", '</DAG><SubDAGTemplate id="t"><SubDAG type="template" idref="t"/></SubDAGTemplate>'
    )
    (tmp_path / "x.pomdpx").write_text(text)
    assert "templates use each other in a circle" in message(tmp_path / "x.pomdpx")


def test_templates_that_multiply(tmp_path, monkeypatch):
    """Each template uses the next one for every value: two to the power of the number of variables paths."""
    monkeypatch.setattr("epomdp.exact.formats.diagrams._MOST_PATHS", 20)
    names = [f"v{i}" for i in range(5)]
    variables = "".join(
        f'<StateVar vnamePrev="{v}_0" vnameCurr="{v}_1"><NumValues>2</NumValues></StateVar>' for v in names
    )
    belief = "".join(
        f"<CondProb><Var>{v}_0</Var><Parent>null</Parent><Parameter><Entry><Instance>-</Instance>"
        "<ProbTable>uniform</ProbTable></Entry></Parameter></CondProb>"
        for v in names
    )
    moves = belief.replace("_0<", "_1<")
    templates = "".join(
        f'<SubDAGTemplate id="t{i}"><Node var="v{i}_0">'
        + "".join(f'<Edge val="s{j}"><SubDAG type="template" idref="t{i + 1}"/></Edge>' for j in range(2))
        + "</Node></SubDAGTemplate>"
        for i in range(5)
    )
    text = (
        f"<pomdpx><Discount>0.9</Discount><Variable>{variables}"
        "<ActionVar vname='a'><NumValues>1</NumValues></ActionVar>"
        f"<RewardVar vname='r'/></Variable><InitialStateBelief>{belief}</InitialStateBelief>"
        f"<StateTransitionFunction>{moves}</StateTransitionFunction><RewardFunction><Func><Var>r</Var>"
        f"<Parent>{' '.join(f'{v}_0' for v in names)}</Parent><Parameter type='DD'>"
        f"<DAG><SubDAG type='template' idref='t0'/></DAG>{templates}"
        "<SubDAGTemplate id='t5'><Terminal>1</Terminal></SubDAGTemplate></Parameter></Func></RewardFunction></pomdpx>"
    )
    (tmp_path / "x.pomdpx").write_text(text)
    assert "the diagram has more than 20 paths" in message(tmp_path / "x.pomdpx")


def test_faults_in_a_table_that_is_cut_out_have_their_column_too(tmp_path, monkeypatch):
    monkeypatch.setattr(markup, "CUT_FROM", 1)
    (tmp_path / "x.pomdpx").write_text(GOOD.replace("0.25 0.75", "0.25 x"))
    assert ", line 18, column 55: expected a number, found 'x'" in message(tmp_path / "x.pomdpx")


def test_lines_after_a_table_that_is_cut_out_are_still_right(tmp_path, monkeypatch):
    monkeypatch.setattr(markup, "CUT_FROM", 1)
    (tmp_path / "x.pomdpx").write_text(GOOD.replace("<Terminal>1<", "<Terminal>2<"))
    assert ", line 25, column 50: probability 2 is outside" in message(tmp_path / "x.pomdpx")
