"""solve and convert as commands: where results may go is found out before any work, and inputs stay as they are."""

import json

import numpy as np
import pytest

from epomdp import cli
from epomdp.commands import exact
from epomdp.errors import BadInput
from epomdp.exact.family import Family
from epomdp.exact.solving.solution import Progress


@pytest.fixture
def family(tmp_path, monkeypatch):
    """The name of a family file in the working directory."""
    monkeypatch.chdir(tmp_path)
    rewards = np.array([[[1.0, 0.0]], [[0.0, 1.0]]])
    Family.from_arrays(np.ones((2, 1, 2, 1)), rewards, [1.0], [0.5, 0.5], 0.5).save("family.npz")
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "page.html").mkdir()
    (tmp_path / "link.npz").symlink_to("family.npz")
    return tmp_path / "family.npz"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--policy", "family.npz"], "family.npz: is the file that is read; give another name"),
        (["--policy", "link.npz"], "link.npz: is the file that is read"),
        (["--policy", "./family.npz"], "is the file that is read"),
        (["--policy", "absent/policy.npz"], "absent/policy.npz: cannot be written (No such file"),
        (["--policy", "folder.npz"], "folder.npz: this is a directory"),
        (["--policy", "policy.txt"], "policy.txt: cannot be written; give a name that ends in .npz"),
        (["--out", "family.npz"], "family.npz: cannot be written; give a name that ends in .html"),
        (["--out", "page.html"], "page.html: this is a directory"),
        (["--out", "absent/page.html"], "absent/page.html: cannot be written (No such file"),
    ],
)
def test_a_place_for_the_result_is_looked_for_before_solving(capsys, monkeypatch, family, arguments, message):
    monkeypatch.setattr(exact, "ladder", lambda *_, **__: pytest.fail("was solved first"))
    before, names = family.read_bytes(), sorted(family.parent.iterdir())
    assert cli.main(["solve", "family.npz", *arguments]) == 2
    err = capsys.readouterr().err
    assert message in err and err.startswith("epomdp: ") and err.count("\n") == 1
    assert family.read_bytes() == before and sorted(family.parent.iterdir()) == names


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("family.npz", "is the file that is read"),
        ("link.npz", "is the file that is read"),
        ("absent/x.pomdp", "cannot be written (No such file"),
        ("folder.npz", "this is a directory"),
    ],
)
def test_a_file_is_not_converted_onto_itself(capsys, family, target, message):
    before = family.read_bytes()
    assert cli.main(["convert", "family.npz", target]) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1
    assert family.read_bytes() == before and not (family.parent / "absent").exists()


def test_numbers_that_json_cannot_say_are_an_error(capsys, monkeypatch, family):
    class Broken:
        def to_json(self):
            return {"informed": float("inf")}

    monkeypatch.setattr(exact, "ladder", lambda *_, **__: Broken())
    assert cli.main(["solve", "family.npz", "--json"]) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and "no finite number" in captured.err and captured.err.count("\n") == 1


def test_policy_and_page_are_written_where_they_may_be(capsys, family):
    assert cli.main(["solve", "family.npz", "--json", "--policy", "p.npz", "--out", "p.html"]) == 0
    assert json.loads(capsys.readouterr().out)["status"] == "solved"
    assert sorted(path.name for path in family.parent.glob("p.*")) == ["p.html", "p.npz"]


def test_an_error_after_the_progress_line_is_one_line(capsys, monkeypatch, family):
    def fails(*_, callback, **__):
        callback(Progress(0.0, 1.0, 0.1, None))
        raise BadInput("stopped; go on")

    monkeypatch.setattr(exact, "ladder", fails)
    assert cli.main(["solve", "family.npz"]) == 2
    assert capsys.readouterr().err == "epomdp: stopped; go on\n"
