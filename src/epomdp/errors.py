"""The errors a user meets. Each message is one line: what is wrong, where, and the mend."""

import difflib
from collections.abc import Iterable


class EpomdpError(Exception):
    """Base of every error that epomdp raises on purpose."""

    exit_status = 1


class BadInput(EpomdpError, ValueError):
    """The input cannot be used as it is. The command line prints the message and exits with status 2."""

    exit_status = 2


class RunFailed(EpomdpError, RuntimeError):
    """A run stopped by itself (divergence, a full disk, a broken environment). Exit status 1."""


class EnvironmentFailed(RunFailed):
    """An environment stepped on the host, or a function given with it, has raised, hung or shown what it may not.

    What was learned before is good.
    """


def unknown_name(kind: str, name: str, known: Iterable[str]) -> BadInput:
    """The error for a name that is not among the known ones, with the nearest suggested."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    mend = f"did you mean '{near[0]}'?" if near else f"choose one of {', '.join(known)}"
    return BadInput(f"unknown {kind} '{name}'; {mend}")
