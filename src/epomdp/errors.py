"""The errors a user meets. Each message is one line: what is wrong, where, and the mend."""


class EpomdpError(Exception):
    """Base of every error that epomdp raises on purpose."""

    exit_status = 1


class BadInput(EpomdpError, ValueError):
    """The input cannot be used as it is. The command line prints the message and exits with status 2."""

    exit_status = 2


class RunFailed(EpomdpError, RuntimeError):
    """A run stopped by itself (divergence, a full disk, a broken environment). Exit status 1."""
