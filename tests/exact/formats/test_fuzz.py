"""A few thousand mutated files of both formats: each gives a model or a one-line error, within bounded work."""

import importlib.util
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[3] / "benchmarks" / "fuzz_formats.py"


@pytest.fixture(scope="module")
def fuzz():
    spec = importlib.util.spec_from_file_location("fuzz_formats", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class TooMuch(Exception):
    """A reader made more calls than a file of this size may take."""


class Counter:
    """Counts the calls of Python and C functions made while it is active, and stops at a limit."""

    def __init__(self, limit: int):
        self.left = limit

    def __call__(self, frame, event, argument):
        self.left -= event in ("call", "c_call")
        if self.left < 0:
            sys.setprofile(None)
            raise TooMuch

    def __enter__(self):
        sys.setprofile(self)

    def __exit__(self, *_):
        sys.setprofile(None)


def test_mutated_files_are_read_or_refused(fuzz, tmp_path, monkeypatch):
    """No time is taken here: arrays are bounded by the memory allowed, and calls are counted."""
    monkeypatch.setattr("epomdp.exact.memory.available_bytes", lambda: float(fuzz.MEMORY))
    good = fuzz.seeds()
    for ending, files in good.items():
        for data in files:
            (tmp_path / f"x{ending}").write_bytes(data)
            assert fuzz.outcome(tmp_path / f"x{ending}") == "model"
    outcomes = []
    for number in range(3000):
        ending, data = fuzz.make(7, number, good)
        path = tmp_path / f"x{ending}"
        path.write_bytes(data)
        with Counter(20_000 + 40 * len(data)):
            outcomes.append((ending, fuzz.outcome(path)))
    # Both kinds must occur in number, or the mutations test nothing.
    for ending in good:
        for outcome in ("model", "refused"):
            assert outcomes.count((ending, outcome)) > 50


def test_the_files_of_a_seed_are_always_the_same(fuzz):
    good = fuzz.seeds()
    assert [fuzz.make(3, i, good) for i in range(20)] == [fuzz.make(3, i, good) for i in range(20)]
    assert fuzz.make(3, 0, good) != fuzz.make(4, 0, good)
