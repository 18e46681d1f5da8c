"""The run directory: what is refused, and that nothing good is ever lost."""

import errno
import json

import jax.numpy as jnp
import numpy as np
import pytest

from epomdp import files, runs
from epomdp.errors import BadInput, RunFailed
from epomdp.runs import Checkpoint, DamagedCheckpoint, Run

STATE = {"weights": jnp.arange(6.0).reshape(2, 3), "steps": jnp.asarray(3, jnp.int32), "none": None}


def new_run(path):
    return Run.create(path / "run", {"env": "guess"}, {"train": {"ids": ["0"], "hashes": ["ab"]}})


def save(run, update, scale=1.0):
    state = STATE | {"weights": scale * STATE["weights"]}
    run.save(Checkpoint(state, update, 10 * update))


def test_a_checkpoint_comes_back_bit_for_bit(tmp_path):
    run = new_run(tmp_path)
    assert run.load(STATE) is None
    save(run, 4, scale=1 / 3)
    found = Run(run.path).load(STATE)
    assert (found.update, found.steps) == (4, 40)
    np.testing.assert_array_equal(found.state["weights"], STATE["weights"] / 3)
    assert found.state["steps"].dtype == jnp.int32 and found.state["none"] is None


def test_the_newest_is_used_and_only_a_few_are_kept(tmp_path):
    run = new_run(tmp_path)
    for update in range(1, 8):
        save(run, update, scale=update)
    assert run.load(STATE).update == 7
    assert len(list((run.path / "checkpoints").iterdir())) == 2 * runs.KEPT_CHECKPOINTS


DAMAGES = [
    "truncated",
    "altered",
    "missing",
    "empty note",
    "note without hash",
    "note of another kind",
    "altered note",
    "other shape",
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_is_used(tmp_path, damage):
    run = new_run(tmp_path)
    save(run, 1, scale=1.0)
    save(run, 2, scale=2.0)
    tensors = run.path / "checkpoints" / "000000002.safetensors"
    note = tensors.with_suffix(".json")
    content = tensors.read_bytes()
    if damage == "truncated":
        tensors.write_bytes(content[: len(content) // 2])
    elif damage == "altered":
        tensors.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "missing":
        tensors.unlink()
    elif damage == "empty note":
        note.write_text("")
    elif damage == "note without hash":
        note.write_text("{}")
    elif damage == "note of another kind":
        note.write_text("[]")
    elif damage == "altered note":
        note.write_text(note.read_text().replace('"steps": 20', '"steps": 2000'))
    else:
        run.save(Checkpoint(STATE | {"weights": jnp.zeros(5)}, 2, 20))
    with pytest.warns(DamagedCheckpoint, match="000000002"):
        found = run.load(STATE)
    assert found.update == 1
    np.testing.assert_array_equal(found.state["weights"], STATE["weights"])


def test_when_no_checkpoint_is_whole_the_run_says_so(tmp_path):
    run = new_run(tmp_path)
    save(run, 1)
    (run.path / "checkpoints" / "000000001.safetensors").write_bytes(b"")
    with pytest.warns(DamagedCheckpoint), pytest.raises(RunFailed, match="none of its 1 checkpoints"):
        run.load(STATE)


def test_a_full_disk_keeps_the_old_checkpoints_and_leaves_nothing_half_written(tmp_path, monkeypatch):
    run = new_run(tmp_path)
    save(run, 1)
    before = sorted(p.name for p in (run.path / "checkpoints").iterdir())

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(RunFailed, match=r"No space left.*last good one is 000000001.*--resume"):
        save(run, 2)
    assert sorted(p.name for p in (run.path / "checkpoints").iterdir()) == before
    assert run.load(STATE).update == 1


def test_a_full_disk_while_logging_is_a_failed_run(tmp_path):
    run = new_run(tmp_path)
    (run.path / "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(RunFailed, match=r"metrics.jsonl: could not be written \(No space left.*--resume"):
        run.log({"steps": 1, "filler": "x" * 100_000})


def test_a_line_cut_off_by_a_kill_is_left_out_and_rewinding_forgets_later_lines(tmp_path):
    run = new_run(tmp_path)
    for steps in (10, 20, 30):
        run.log({"steps": steps, "loss": 0.1})
    with open(run.path / "metrics.jsonl", "a") as file:
        file.write('{"steps": 40, "lo')
    assert [row["steps"] for row in run.metrics()] == [10, 20, 30]
    save(run, 2)
    save(run, 3)
    run.rewind(2, 20)
    assert run.load(STATE).update == 2
    run.log({"steps": 30, "loss": 0.2})
    assert [row["steps"] for row in run.metrics()] == [10, 20, 30]
    assert run.metrics()[-1]["loss"] == 0.2


def test_directories_that_cannot_hold_a_run_are_refused_and_untouched(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(BadInput, match="is a file"):
        Run.create(tmp_path / "file", {}, {})
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("x")
    with pytest.raises(BadInput, match="not empty and holds no run"):
        Run.create(tmp_path / "full", {}, {})
    assert [p.name for p in (tmp_path / "full").iterdir()] == ["thesis.txt"]
    run = new_run(tmp_path)
    with pytest.raises(BadInput, match=r"holds a run already.*--resume"):
        Run.create(run.path, {}, {})
    (tmp_path / "empty").mkdir()
    Run.create(tmp_path / "empty", {}, {})


def test_what_a_kill_left_before_a_directory_was_a_run_is_free(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "contexts.json").write_text("{")
    (tmp_path / ".config.json.123.tmp").write_text("{")
    Run.create(tmp_path, {}, {})


@pytest.mark.parametrize("content", [None, "{", "{}", "[]"])
def test_damaged_contexts_are_bad_input(tmp_path, content):
    run = new_run(tmp_path)
    path = run.path / "contexts.json"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(BadInput, match=r"contexts.json is missing or damaged"):
        _ = run.contexts


def test_what_is_no_run_or_from_the_future_is_refused(tmp_path):
    with pytest.raises(BadInput, match="is no run"):
        Run(tmp_path / "nowhere")
    for content in ("", "[]", "{}", "nonsense", "3"):
        (tmp_path / "config.json").write_text(content)
        with pytest.raises(BadInput, match="is no run"):
            Run(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"format": runs.FORMAT + 1}))
    with pytest.raises(BadInput, match=r"format 2.*upgrade"):
        Run(tmp_path)


def test_provenance_names_versions_and_host(tmp_path):
    config = new_run(tmp_path).config
    assert config["format"] == runs.FORMAT
    assert {"python", "jax", "numpy", "epomdp"} <= config["versions"].keys()
    assert config["host"]["backend"] == "cpu"


def test_json_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "x.json"
    files.write_json(path, {"a": np.float64(0.1), "b": np.arange(3), "c": tmp_path})
    assert json.loads(path.read_text()) == {"a": 0.1, "b": [0, 1, 2], "c": str(tmp_path)}
    for bad in (float("nan"), object()):
        with pytest.raises((ValueError, TypeError)):
            files.write_json(path, {"a": bad})
    assert json.loads(path.read_text())["a"] == 0.1
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]
