"""Compiled kernels without a cache directory, and work shared out over threads."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from epomdp.errors import BadInput
from epomdp.exact import compiled as compiled_module
from epomdp.exact import memory
from epomdp.exact.compiled import share_out

PROGRAM = """
from epomdp.exact.compiled import compiled
import sys

@compiled
def twice(x):
    return 2 * x

print(twice(21), type(twice._cache).__name__)
"""


@pytest.mark.parametrize("writable, cache", [(True, "FunctionCache"), (False, "NullCache")])
def test_kernels_work_with_and_without_a_place_for_their_cache(tmp_path, writable, cache):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    # A file where a directory should be made cannot be written to, whoever runs this.
    blocked = tmp_path / "file"
    blocked.touch()
    places = {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    if not writable:
        (tmp_path / "__pycache__").touch()
        places = {"HOME": str(blocked), "XDG_CACHE_HOME": str(blocked / "cache")}
    path = {"PYTHONPATH": ":".join(p for p in sys.path if p), "PATH": "/usr/bin:/bin"}
    ran = subprocess.run([sys.executable, str(program)], env=path | places, capture_output=True, text=True)
    assert ran.stdout.split() == ["42", cache], ran.stderr


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 7, 100])
def test_every_item_is_worked_on_once(monkeypatch, threads, count):
    monkeypatch.setattr("numba.config.NUMBA_NUM_THREADS", threads)
    done = np.zeros(count, dtype=int)

    def kernel(first, last):
        done[first:last] += 1

    share_out(kernel, count)
    share_out(kernel, count, least=3)
    assert (done == 2).all()


def test_a_failing_kernel_is_heard(monkeypatch):
    monkeypatch.setattr("numba.config.NUMBA_NUM_THREADS", 2)

    def kernel(first, last):
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        share_out(kernel, 10)


def test_memory_is_asked_for_before_it_is_used(monkeypatch, tmp_path):
    assert 2**20 < memory.available_bytes() < 2**60
    memory.require_memory(1.0, "a family", "buy more")
    with pytest.raises(
        BadInput, match=r"a family: needs about 1e\+12 GB of memory, .* GB are free; buy more"
    ):
        memory.require_memory(1e21, "a family", "buy more")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text("5000\n")
    (tmp_path / "memory.current").write_text("2000\n")
    assert memory.available_bytes() == 3000.0
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.available_bytes() > 3000.0


def test_a_kernel_is_compiled_anew_when_one_that_it_calls_has_changed(tmp_path):
    package = tmp_path / "kernels"
    package.mkdir()
    (package / "__init__.py").touch()
    shutil.copy(compiled_module.__file__, package / "compiled.py")
    head = "from kernels.compiled import compiled\n"
    (package / "caller.py").write_text(
        head + "from kernels.called import called\n\n\n@compiled\ndef caller(x):\n    return called(x) + 1\n"
    )
    program = "from kernels.caller import caller; print(caller(10), sum(caller.stats.cache_hits.values()))"

    def write(factor):
        source = f"{head}\n\n@compiled\ndef called(x):\n    return {factor} * x\n"
        (package / "called.py").write_text(source)

    def run():
        cache = {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
        arguments = [sys.executable, "-c", program]
        ran = subprocess.run(arguments, cwd=tmp_path, env=os.environ | cache, capture_output=True, text=True)
        return ran.stdout.split() or ran.stderr

    write(2)
    assert run() == ["21", "0"]
    assert run() == ["21", "1"]
    write(31)
    assert run() == ["311", "0"]
    assert run() == ["311", "1"]
