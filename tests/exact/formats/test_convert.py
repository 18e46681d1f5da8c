"""Conversion between files, by their endings."""

import re
from pathlib import Path

import numpy as np
import pytest

from epomdp.errors import BadInput
from epomdp.exact import formats
from epomdp.exact.family import Family
from epomdp.exact.pomdp import Pomdp

TIGER = """discount: 0.95
values: reward
states: tiger-left tiger-right
actions: listen open-left open-right
observations: tiger-left tiger-right
T: listen identity
T: open-left uniform
T: open-right uniform
O: listen
0.85 0.15
0.15 0.85
O: open-left uniform
O: open-right uniform
R: listen : * : * : * -1
R: open-left : tiger-left : * : * -100
R: open-left : tiger-right : * : * 10
R: open-right : tiger-left : * : * 10
R: open-right : tiger-right : * : * -100
"""


@pytest.fixture
def family_file(tmp_path):
    rng = np.random.default_rng(1)
    family = Family.from_arrays(
        rng.dirichlet(np.ones(4), (3, 4, 2)),
        rng.choice([0.0, 0.3, 1.0], (3, 4, 2)),
        [0.25, 0.75, 0, 0],
        [0.2, 0.3, 0.5],
        0.9,
    )
    family.save(tmp_path / "family.npz")
    return tmp_path / "family.npz"


def assert_close(a: Family, b: Family):
    for name in ("rewards", "initial", "weights", "probabilities"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), atol=1e-12)
    np.testing.assert_array_equal(a.successors, b.successors)
    assert a.discount == b.discount


@pytest.mark.parametrize("observe_rewards", [True, False])
@pytest.mark.parametrize(
    "ways", [[".pomdp"], [".pomdpx"], [".pomdpx", ".pomdp"], [".pomdp", ".pomdpx", ".pomdp"]]
)
def test_a_family_comes_back_by_any_way(family_file, tmp_path, ways, observe_rewards):
    source = family_file
    for i, suffix in enumerate([*ways, ".npz"]):
        target = tmp_path / f"step{i}{suffix}"
        formats.convert(source, target, observe_rewards)
        source = target
    assert_close(Family.load(source), Family.load(family_file))


def test_what_each_ending_reads_as(family_file, tmp_path):
    for suffix, kind in ((".npz", Family), (".pomdp", Pomdp), (".pomdpx", Family)):
        formats.convert(family_file, tmp_path / f"x{suffix}")
        assert isinstance(formats.read_any(tmp_path / f"x{suffix}"), kind)


def test_endings_may_be_in_capitals(tmp_path):
    (tmp_path / "TIGER.POMDP").write_text(TIGER)
    assert formats.read_any(tmp_path / "TIGER.POMDP").discount == 0.95


def test_a_pomdp_goes_to_storm_and_back_to_itself(tmp_path):
    (tmp_path / "tiger.pomdp").write_text(TIGER)
    formats.convert(tmp_path / "tiger.pomdp", tmp_path / "tiger.drn")
    assert (tmp_path / "tiger.drn").read_text().count("state ") == 2 + 2 + 4
    formats.convert(tmp_path / "tiger.pomdp", tmp_path / "tiger.pomdpx")
    formats.convert(tmp_path / "tiger.pomdpx", tmp_path / "again.pomdp")
    formats.convert(tmp_path / "tiger.pomdp", tmp_path / "once.pomdp")
    assert (tmp_path / "again.pomdp").read_bytes() == (tmp_path / "once.pomdp").read_bytes()


@pytest.mark.parametrize(
    ("source", "target", "says"),
    [
        ("tiger.pomdp", "out.npz", "tiger.pomdp: this POMDP is not that of a family: its state 'tiger-left'"),
        (
            "tiger.pomdp",
            "out.txt",
            r"out.txt: files with '.txt' cannot be written; use .npz, .pomdp, .pomdpx, .drn",
        ),
        ("tiger.pomdp", "out", "out: files with no ending cannot be written"),
        ("tiger.drn", "out.pomdp", "tiger.drn: files with '.drn' cannot be read; use .npz, .pomdp, .pomdpx"),
        ("none.pomdp", "out.npz", "none.pomdp: there is no such file"),
        ("none.npz", "out.pomdp", "none.npz: "),
        ("tiger.pomdp", "none/out.pomdp", "cannot be written"),
    ],
)
def test_what_cannot_be_converted(tmp_path, source, target, says):
    (tmp_path / "tiger.pomdp").write_text(TIGER)
    with pytest.raises(BadInput, match=says) as caught:
        formats.convert(tmp_path / source, tmp_path / target)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["tiger.pomdp"]


def test_the_example_of_the_documentation(family_file, tmp_path, monkeypatch):
    family_file.rename(tmp_path / "mazes.npz")
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[3] / "docs" / "exact" / "formats.md").read_text(encoding="utf-8")
    exec(re.search(r"```python\n(.*?)```", page, re.S)[1], {})
    assert_close(Family.load("again.npz"), Family.load("mazes.npz"))
    assert Path("flat.pomdp").exists()
