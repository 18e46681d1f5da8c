"""The plan of docs/architecture.md is the plan of the code: the rooms exist, and imports point one way."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "epomdp"
PLAN = (
    (ROOT / "docs" / "architecture.md")
    .read_text(encoding="utf-8")
    .split("```text\nsrc/epomdp/")[1]
    .split("```")[0]
)
MODULES = sorted(path.relative_to(SOURCE) for path in SOURCE.rglob("*.py"))

# Each unit may import those of an earlier row, and itself.
ROWS = (
    {"errors"},
    {"exact", "contexts", "files", "resampling", "tracking"},
    {"envs", "statistics", "runs"},
    {"agents", "calibration", "problems"},
    {"episodes"},
    {"evaluate_host"},
    {"references", "evaluate", "collect"},
    {"collect_host"},
    {"drivers"},
    {"train"},
    {"results", "console"},
    {"report"},
    {"demo"},
    {"commands"},
    {"cli"},
    {"__main__"},
)
RANK = {unit: rank for rank, row in enumerate(ROWS) for unit in row}


def unit(path):
    return path.parts[0].removesuffix(".py")


def imported(path):
    """Dotted names below `epomdp` that a module imports, also within functions."""
    for node in ast.walk(ast.parse((SOURCE / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "epomdp":
            below = node.module.split(".")[1:]
            for alias in node.names:
                yield ".".join([*below, alias.name])
        elif isinstance(node, ast.Import):
            yield from (a.name.removeprefix("epomdp.") for a in node.names if a.name.startswith("epomdp."))


@pytest.mark.parametrize("path", [path for path in MODULES if path != Path("__init__.py")], ids=str)
def test_imports_point_one_way(path):
    here = unit(path)
    for name in imported(path):
        there = name.split(".")[0]
        if there in ("__version__", here):
            continue
        assert RANK[there] < RANK[here], f"{path} imports {name}"
        if here == "exact":
            assert there == "errors", f"{path} imports {name}"
        if here == "report" and not path.name.startswith("from_"):
            assert there == "errors", f"{path} imports {name}"


def planned():
    """Paths that the plan names: by two spaces a room or a file, by four what is in the room above."""
    room = Path()
    for line in PLAN.splitlines():
        inside = line.startswith("    ")
        if not inside:
            room = Path()
        yield from (room / name for name in re.findall(r"\b\w+\.py\b", line))
        if opened := re.match(r"  +(\w+)/", line):
            yield room / opened[1]
            room = room if inside else Path(opened[1])


def test_the_plan_names_only_what_exists():
    assert [str(path) for path in planned() if not (SOURCE / path).exists()] == []


def test_the_plan_names_every_module_but_the_insides_of_exact_and_report():
    shown = {
        path for path in MODULES if unit(path) not in ("exact", "report") and not path.stem.startswith("__")
    }
    assert shown - set(planned()) == set()
