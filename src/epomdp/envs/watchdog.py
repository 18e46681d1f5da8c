"""A time limit for code of others: what hangs in Python is interrupted, what hangs in native code ends the process."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterator

from epomdp.errors import EnvironmentFailed

GRACE = 5.0
"""Seconds that an interrupted call has to come back, before the process is ended."""


class _Interruption(BaseException):
    """Raised within a call that takes too long; not an Exception, which the call might catch."""


class Watchdog:
    """Watches calls one after the other, in one thread.

    A thread of its own looks at the clock. A call past its limit is interrupted: in the main thread by a signal, which
    also wakes it from sleeping and from waiting for a connection; in another thread by an exception set in it. A call
    that is still there `GRACE` seconds later is in native code; then the message goes to standard error and the
    process ends with status 1. Native code that keeps Python's global lock for ever stops this thread, too, and can
    only be ended from outside.

    Args:
        seconds: the limit of one call.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._lock = threading.Lock()
        self._deadline = math.inf
        self._describe: Callable[[], str] = str
        self._describe_late = self._describe
        self._watched = 0
        self._interrupted = False
        self._looked = time.monotonic()
        self._closed = threading.Event()
        # The thread must not keep a forgotten watchdog alive.
        threading.Thread(target=_look, args=(weakref.ref(self), self._closed), daemon=True).start()

    def close(self) -> None:
        """End its thread."""
        self._closed.set()

    __del__ = close

    @property
    def interval(self) -> float:
        """Seconds between two looks at the clock."""
        return min(1.0, self.seconds / 4)

    def call(self, describe: Callable[[], str]) -> None:
        """Say that another call begins, within `watching`. `describe` gives the message's beginning."""
        self._describe = describe
        self._deadline = time.monotonic() + self.seconds

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Watch what runs inside.

        Raises:
            EnvironmentFailed: a call was interrupted.
        """
        self._watched = threading.get_ident()
        with contextlib.ExitStack() as stack:
            if _by_signal(self._watched):
                before = signal.signal(signal.SIGALRM, _interrupt_here)
                stack.callback(signal.signal, signal.SIGALRM, before)
            try:
                yield
            except _Interruption:
                self._stop()
                raise EnvironmentFailed(self._message()) from None
            except BaseException:
                self._settle()
                raise
            if self._settle():
                raise EnvironmentFailed(self._message())

    def _stop(self) -> bool:
        """Stop the clock; whether the call has been interrupted."""
        with self._lock:
            interrupted = self._interrupted
            self._deadline, self._interrupted = math.inf, False
        return interrupted

    def _settle(self) -> bool:
        """Stop the clock, and let an interruption that is still on its way arrive here and nowhere else."""
        try:
            if not self._stop():
                return False
            for _ in range(100):
                time.sleep(0.01)
        except _Interruption:
            self._stop()
        return True

    def _message(self) -> str:
        return f"{self._describe_late()} took longer than step_seconds, which is {self.seconds:g}"

    def look(self) -> None:
        """One look at the clock, in the watchdog's own thread."""
        with self._lock:
            now = time.monotonic()
            if now - self._looked > 2 * self.interval + 1:
                # The whole process was stopped, by Ctrl-Z say: that is nobody's fault.
                self._deadline += now - self._looked
            self._looked = now
            late = now - self._deadline
            if late > GRACE and self._interrupted:
                self._end()
            elif late > 0 and not self._interrupted:
                # Who swallows the interruption is blamed all the same, and not the call after it.
                self._interrupted, self._describe_late = True, self._describe
                self._interrupt()

    def _interrupt(self) -> None:
        if _by_signal(self._watched):
            signal.pthread_kill(self._watched, signal.SIGALRM)
        else:
            thread = ctypes.c_ulong(self._watched)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(_Interruption))

    def _end(self) -> None:
        """End the process without its cooperation."""
        message = f"epomdp: {self._message()} (it could not be interrupted, so this process ends)\n"
        os.write(2, message.encode())
        os._exit(EnvironmentFailed.exit_status)


def _by_signal(thread: int) -> bool:
    """Python runs handlers of signals in its main thread alone, and Windows has no such signal."""
    return thread == threading.main_thread().ident and hasattr(signal, "SIGALRM")


def _interrupt_here(number: int, frame: object) -> None:
    raise _Interruption


def _look(watchdog: weakref.ref[Watchdog], closed: threading.Event) -> None:
    interval = 0.0
    while not closed.wait(interval):
        alive = watchdog()
        if alive is None:
            return
        alive.look()
        interval = alive.interval
        del alive
