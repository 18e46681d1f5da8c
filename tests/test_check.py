"""`check.py`, the one command that runs every check."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def check():
    spec = importlib.util.spec_from_file_location("check_script", ROOT / "check.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("failing", [set(), {"ruff"}, {"mkdocs", "pytest"}])
def test_every_step_runs_and_any_failure_is_reported(check, capsys, monkeypatch, failing):
    ran = []

    def fake(command, cwd):
        assert (command[:2], cwd) == ([sys.executable, "-m"], ROOT)
        ran.append(command[2:])
        return subprocess.CompletedProcess(command, command[2] in failing)

    monkeypatch.setattr(check.subprocess, "run", fake)
    monkeypatch.setattr(sys, "argv", ["check.py", "tests/test_check.py", "-x"])
    assert check.main() == (1 if failing else 0)
    assert [words[0] for words in ran] == ["ruff", "ruff", "pyright", "mkdocs", "pytest"]
    assert ran[-1][-2:] == ["tests/test_check.py", "-x"]
    assert ("all checks passed" in capsys.readouterr().out) == (not failing)
