"""What every format shares about files: reading whole, pointing at a place, writing atomically."""

from __future__ import annotations

import difflib
import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from epomdp.errors import BadInput, RunFailed
from epomdp.exact.memory import require_memory

# Suggestions compare spellings one by one, so they look at this many names at most.
_NAMES_COMPARED = 2000


class Source:
    """A text file in memory, and the errors that point into it.

    Attributes:
        path: the file's name as the user gave it.
        data: its bytes, UTF-8 without a byte order mark.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self.data = self._checked(self._read())

    def _read(self) -> bytes:
        try:
            size = os.stat(self.path).st_size
            require_memory(size, f"{self.path}: reading it", "use a larger machine")
            return Path(self.path).read_bytes()
        except FileNotFoundError:
            raise BadInput(f"{self.path}: there is no such file; check the name and the folder") from None
        except IsADirectoryError:
            raise BadInput(f"{self.path}: this is a directory; name a file in it") from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise BadInput(f"{self.path}: cannot be read ({reason}); check the name and its rights") from None

    def _checked(self, data: bytes) -> bytes:
        if not data:
            raise BadInput(f"{self.path}: the file is empty (0 bytes); write or download it again")
        if data.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise BadInput(f"{self.path}: the text is UTF-16; save it as UTF-8")
        data = data.removeprefix(b"\xef\xbb\xbf")
        zero = data.find(b"\0")
        if zero >= 0:
            raise BadInput(
                f"{self.path}: byte {zero} is zero, so this is no text file; check that it is the right file"
            )
        return data

    def place(self, offset: int) -> tuple[int, int]:
        """Line and column of a byte offset, both counted from 1, the column in characters."""
        before = self.data[:offset]
        # A carriage return ends a line unless a line feed follows it.
        lines = before.count(b"\n") + before.count(b"\r") - before.count(b"\r\n")
        start = max(before.rfind(b"\n"), before.rfind(b"\r")) + 1
        return lines + 1, len(before[start:].decode("utf-8", errors="replace")) + 1

    def error(self, offset: int, what: str) -> BadInput:
        """The one-line error `what`, said of the place at `offset`."""
        line, column = self.place(offset)
        return BadInput(f"{self.path}, line {line}, column {column}: {printable(what)}")

    def word(self, start: int, end: int) -> str:
        """The bytes start .. end as text short enough for a one-line message."""
        text = self.data[start : min(end, start + 40)].decode("utf-8", errors="replace")
        return text + ("..." if end - start > 40 else "")


def printable(text: str) -> str:
    """The text with line ends and control characters, which could upset a terminal, as question marks."""
    return "".join(c if c.isprintable() else "?" for c in text)


def suggestion(name: str, known: Sequence[str] | Iterable[str], otherwise: str) -> str:
    """`did you mean 'x'?` for the nearest known name, else the mend given in `otherwise`."""
    names = list(known)[:_NAMES_COMPARED]
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6) if len(name) <= 100 else []
    return f"did you mean '{near[0]}'?" if near else otherwise


def check_target(
    path: str | os.PathLike[str], source: str | os.PathLike[str], suffixes: Sequence[str]
) -> None:
    """Make sure, before the work is done, that its result can be written to `path`.

    Raises:
        BadInput: the ending is another, `path` is the file read or a directory, or its folder is missing or not
            writable.
    """
    target = Path(path)
    if target.suffix.lower() not in suffixes:
        raise BadInput(f"{target}: cannot be written; give a name that ends in {', '.join(suffixes)}")
    if target.exists() and Path(source).exists() and os.path.samefile(target, source):
        raise BadInput(f"{target}: is the file that is read; give another name to write to")
    temporary = _beside(target)
    _open_new(target, temporary).close()
    temporary.unlink()


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a new file that takes the place of `path` when the block ends well, and vanishes when it does not.

    Raises:
        BadInput: the target is a directory, or its folder is missing or not writable.
        RunFailed: writing failed, as on a full disk. What stood at `path` before is untouched.
    """
    target = Path(path)
    temporary = _beside(target)
    out = _open_new(target, temporary)
    try:
        with out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        os.replace(temporary, target)
    except OSError as error:
        raise RunFailed(
            f"{target}: writing failed ({error.strerror}); free some space and try again"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _beside(target: Path) -> Path:
    """A name in the same folder that no other file has."""
    return target.with_name(f".{target.name[:80]}.{secrets.token_hex(6)}")


def _open_new(target: Path, temporary: Path) -> BinaryIO:
    if target.is_dir():
        raise BadInput(f"{target}: this is a directory; give the name of a file to write")
    try:
        return open(temporary, "xb")
    except OSError as error:
        raise BadInput(f"{target}: cannot be written ({error.strerror}); check the folder") from None
