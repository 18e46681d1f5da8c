"""SIGKILL at random moments of a training run: resumed, it ends with the bits of a run never killed."""

import sys
from pathlib import Path

import numpy as np
import pytest

from epomdp.runs import Checkpoint, Run


@pytest.fixture
def kill_resume(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    import kill_resume

    yield kill_resume
    sys.modules.pop("kill_resume", None)


def test_a_killed_and_resumed_run_ends_with_the_same_bits(tmp_path, kill_resume):
    report = kill_resume.run(tmp_path, "leep", kills=3, updates=120, seed=3)
    assert report["kills"] == 3
    assert report["tensors"] > 10 and report["tensors_equal"]
    assert report["metrics_lines"] == 120 and report["metrics_equal"]
    assert report["left_behind"] == []


def test_moments_spread_over_start_up_and_run(kill_resume):
    drawn = kill_resume.moments(200, 50, 3.0, 0.1, seed=0)
    assert (
        drawn == kill_resume.moments(200, 50, 3.0, 0.1, seed=0) != kill_resume.moments(200, 50, 3.0, 0.1, 1)
    )
    early = [moment.delay for moment in drawn if moment.updates == 0]
    late = [moment for moment in drawn if moment.updates]
    assert 20 < len(early) < 60 and max(early) > 2.5
    assert [moment.updates for moment in late] == sorted(moment.updates for moment in late)
    assert late[0].updates < 5 and 40 < late[-1].updates < 50 and max(moment.delay for moment in late) <= 0.1


def test_what_a_kill_left_half_written_is_removed_and_nothing_else(tmp_path):
    run = Run.create(tmp_path / "run", {}, {})
    folder = run.path / "checkpoints"
    run.save(Checkpoint({"x": np.arange(3)}, 7, 70))
    run.log({"steps": 70})
    kept = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    (folder / "000000008.safetensors").write_bytes(b"whole, but without its note")
    (folder / ".000000008.json.4711.tmp").write_bytes(b"{")
    (run.path / ".metrics.jsonl.4711.tmp").write_bytes(b"")
    run.tidy()
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == kept
