"""The time limit for environments: what hangs in Python is interrupted, what hangs in native code ends the process."""

import contextlib
import subprocess
import sys
import threading
import time

import pytest

from epomdp.envs import watchdog
from epomdp.envs.watchdog import Watchdog
from epomdp.errors import RunFailed

REST = "took longer than step_seconds, which is 0.2"
MESSAGE = f"call 3 {REST}"


@pytest.fixture
def dog():
    dog = Watchdog(0.2)
    yield dog
    dog.close()


def spin():
    while True:
        pass


def swallow():
    while True:
        with contextlib.suppress(Exception):
            spin()


@pytest.mark.parametrize("hang", [spin, swallow, lambda: time.sleep(60)], ids=["loop", "swallow", "sleep"])
def test_a_hang_in_python_is_interrupted_with_the_message(dog, hang):
    with pytest.raises(RunFailed, match=MESSAGE), dog.watching():
        for number in range(3):
            dog.call(lambda number=number: f"call {number}")
        dog.call(lambda: "call 3")
        hang()


def test_in_another_thread_too(dog):
    raised = []

    def run():
        with pytest.raises(RunFailed) as caught, dog.watching():
            dog.call(lambda: "call 3")
            spin()
        raised.append(str(caught.value))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert raised == [MESSAGE]


def test_the_limit_is_of_one_call_and_not_of_what_runs_between(dog):
    for _ in range(2):
        with dog.watching():
            for _ in range(4):
                dog.call(lambda: "call")
                time.sleep(0.1)
        time.sleep(0.3)


def test_a_call_that_comes_back_late_is_reported_too(dog):
    # Whatever catches the interruption and goes on has broken the limit all the same.
    with pytest.raises(RunFailed, match=MESSAGE), dog.watching():
        dog.call(lambda: "call 3")
        try:
            spin()
        except BaseException as caught:
            assert type(caught) is watchdog._Interruption


def test_who_swallows_the_interruption_is_named_and_not_who_comes_next(dog):
    with pytest.raises(RunFailed, match=MESSAGE), dog.watching():
        dog.call(lambda: "call 3")
        with contextlib.suppress(BaseException):
            spin()
        dog.call(lambda: "call 4")


def test_other_errors_go_through(dog):
    with pytest.raises(KeyError), dog.watching():
        dog.call(lambda: "call 3")
        raise KeyError
    with dog.watching():
        dog.call(lambda: "call 4")


PROGRAM = """
import ctypes
from epomdp.envs import watchdog

watchdog.GRACE = 0.3
lib = ctypes.CDLL(None)
mutex = ctypes.create_string_buffer(64)
dog = watchdog.Watchdog(0.2)
with dog.watching():
    dog.call(lambda: "toy: context 5, step 3:")
    lib.pthread_mutex_lock(mutex)
    lib.pthread_mutex_lock(mutex)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a mutex of zeros is Linux's")
def test_a_hang_in_native_code_ends_the_process():
    # No signal gets a thread out of a mutex that it has locked twice.
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    ending = "(it could not be interrupted, so this process ends)"
    assert done.stderr == f"epomdp: toy: context 5, step 3: {REST} {ending}\n"


def test_a_process_that_was_stopped_is_not_late(dog):
    with dog.watching():
        dog.call(lambda: "call 3")
        with dog._lock:  # as if nothing had run meanwhile, the watchdog's thread included
            time.sleep(1.5)
        time.sleep(0.1)
