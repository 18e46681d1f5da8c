"""Play a game in the terminal, with the arrow keys, to learn how hard it is.

The screen shows where everything is. Agents also see what it does not show, such as when a fish will move.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console, Group
from rich.text import Text

from epomdp import problems
from epomdp.contexts import ContextSet
from epomdp.envs import render
from epomdp.envs.base import Environment
from epomdp.envs.bigfish import QUOTA, Bigfish, BigfishState
from epomdp.envs.boards import BoardGame, levels
from epomdp.envs.registration import GAMES, make_game
from epomdp.errors import BadInput

ARROWS = {"\x1b[A": "up", "\x1b[B": "down", "\x1b[C": "right", "\x1b[D": "left"}
LETTERS = {"w": "up", "s": "down", "d": "right", "a": "left"}
INTERRUPT = "\x03"
SHADES = 256


class Game(NamedTuple):
    """What can be played: levels by number, how a state is drawn, and the action of a key.

    Attributes:
        level: number -> (context, its name).
        keys: key as it is read -> action.
        help: the keys in words.
        status: what of a state the picture does not tell, in words.
    """

    env: Environment
    level: Callable[[int], tuple[Any, str]]
    draw: Callable[[Any], Text]
    keys: dict[str, int]
    help: str
    status: Callable[[Any], str] | None = None


def run_play(arguments: argparse.Namespace) -> None:
    """Let a person play until q is pressed; prints nothing but the screen."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise BadInput("play: standard input or output is no terminal; run epomdp play in one")
    game, number = _game(arguments)
    with _keyboard() as read_key:
        _play(game, number, read_key, Console(highlight=False))


def _game(arguments: argparse.Namespace) -> tuple[Game, int]:
    name, number = arguments.env, _level_number(arguments.level, arguments.env)
    if name in GAMES:
        return board_game(make_game(name, {"view": arguments.view or "board"})), number
    problems.entry(name)
    if name != "guess":
        raise BadInput(f"play: '{name}' cannot be played; choose guess or one of {', '.join(GAMES)}")
    if arguments.view:
        raise BadInput("play: --view is for board games; leave it out for guess")
    problem = problems.make("guess", {})
    return guessing_game(problem), number


def _level_number(level: str, env: str) -> int:
    """`17` or `maze-17`."""
    digits = level.removeprefix(f"{env}-")
    if not digits.isdecimal() or int(digits) >= 2**32:
        raise BadInput(f"play: --level is '{level}'; give a number such as 17, or {env}-17")
    return int(digits)


def board_game(env: BoardGame) -> Game:
    """A board game: arrows or WASD move, the space bar does what is no move (stay or throw)."""
    names = env.action_names
    keys = {key: names.index(move) for key, move in (ARROWS | LETTERS).items() if move in names}
    extra = [k for k, name in enumerate(names) if name not in ARROWS.values()]
    spoken = ["arrow keys or WASD"]
    # The last of them is the game's own; one before it is "stay", under the full stop.
    for key, word, action in zip((" ", "."), ("space", "."), reversed(extra), strict=False):
        keys[key] = action
        spoken.append(f"{word} {names[action]}")

    def level(number: int) -> tuple[Any, str]:
        made = levels(env, [number])
        return made.context(0), made.ids[0]

    status = _meals if isinstance(env, Bigfish) else None
    return Game(env, level, lambda state: _board(env, state), keys, ", ".join(spoken), status)


def _meals(state: BigfishState) -> str:
    return f"meals {int(state.meals)} of {QUOTA}   "


def _board(env: BoardGame, state: Any) -> Text:
    """The board as the view shows it."""
    drawn = render.picture(env, state)
    if env.view == "centred":
        drawn = np.roll(drawn, env.size // 2 - np.asarray(env.agent(state)), axis=(0, 1))
    return render.text(env.tiles, drawn)


def guessing_game(problem: problems.Problem) -> Game:
    """The guessing game: digit keys name the label."""
    names = problem.label_names or ()
    if len(names) > 10:
        raise BadInput(f"play: guess has {len(names)} labels, more than digit keys; play it with ten at most")
    assert problem.contexts is not None and isinstance(problem.env, Environment)
    contexts: ContextSet = problem.contexts

    def level(number: int) -> tuple[Any, str]:
        index = number % len(contexts)
        return contexts.context(index), contexts.ids[index]

    keys = {str(k): k for k in range(len(names))}
    spoken = ", ".join(f"{k} {name}" if str(k) != name else name for k, name in enumerate(names))
    return Game(problem.env, level, lambda state: _image(state.context["image"]), keys, f"guess {spoken}")


def _image(pixels: Any) -> Text:
    """Pixels in [0, 1], two columns each, as shades of grey."""
    values = np.asarray(pixels, dtype=float)
    grey = values.mean(axis=-1) if values.ndim == 3 else values
    drawn = Text()
    for y, row in enumerate((grey * (SHADES - 1)).astype(int)):
        drawn.append("\n" if y else "")
        for value in row.tolist():
            drawn.append("  ", f"on #{value:02x}{value:02x}{value:02x}")
    return drawn


def _play(game: Game, number: int, read_key: Callable[[], str], console: Console) -> None:
    """The loop of a game: draw, read a key, act."""
    reset, step = jax.jit(game.env.reset), jax.jit(game.env.step)
    key = jax.random.key(0)
    while True:
        context, name = game.level(number)
        state, _ = reset(key, jax.tree.map(jnp.asarray, context))
        score, steps, end = 0.0, 0, ""
        while True:
            told = game.status(state) if game.status else ""
            _show(game, console, state, f"{name}   score {score:g}   step {steps}   {told}{end}")
            pressed = read_key()
            if pressed in ("q", INTERRUPT, ""):
                return
            if pressed in ("r", "n"):
                number = (number + (pressed == "n")) % 2**32
                break
            if pressed in game.keys and not end:
                state, shown = step(key, state, jnp.int32(game.keys[pressed]))
                score, steps = score + float(shown.reward), steps + 1
                end = _end(game.env, state, shown)


def _end(env: Environment, state: Any, shown: Any) -> str:
    if shown.terminated:
        return "solved" if env.solved(state, shown) else "lost"
    return "out of time" if shown.truncated else ""


def _show(game: Game, console: Console, state: Any, line: str) -> None:
    keys = Text(f"{game.help}; r again, n next level, q quit", "dim")
    with console.capture() as drawn:
        console.print(Group(game.draw(state), Text(line, "bold"), keys))
    # Home, the picture with the rest of each line cleared, and whatever was below it.
    text = drawn.get().replace("\n", "\x1b[K\r\n")
    sys.stdout.write(f"\x1b[H{text}\x1b[J")
    sys.stdout.flush()


@contextmanager
def _keyboard() -> Iterator[Callable[[], str]]:
    """A terminal that gives keys as they are pressed; as it was before when left, however that happens.

    Raises:
        BadInput: a system without termios (Windows).
    """
    try:
        import termios
        import tty
    except ImportError:
        raise BadInput("play: needs a Unix terminal; on Windows run it under WSL") from None
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    handlers = {number: signal.signal(number, _leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        tty.setraw(descriptor)
        sys.stdout.write("\x1b[?1049h\x1b[?25l\x1b[2J")  # another screen, no cursor
        yield lambda: _read_key(descriptor)
    finally:
        sys.stdout.write("\x1b[?25h\x1b[?1049l")
        sys.stdout.flush()
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _leave(number: int, frame: Any) -> NoReturn:
    """Told to end: as an exception, so that the terminal is put back first."""
    raise SystemExit(128 + number)


def _read_key(descriptor: int) -> str:
    """One key: a character in lower case, or an arrow's three; nothing where the input has ended.

    Any other escape sequence is read to its end, so that its letters are no keys, and comes back whole.
    """
    pressed = os.read(descriptor, 1)
    # What follows an escape at once belongs to it.
    while _unfinished(pressed) and select.select([descriptor], [], [], 0.05)[0]:
        more = os.read(descriptor, 1)
        if not more:
            break
        pressed += more
    text = pressed.decode(errors="replace").replace("\x1bO", "\x1b[")
    return text.lower() if len(text) == 1 else text


def _unfinished(pressed: bytes) -> bool:
    """Whether more belongs to a key: ESC [ goes on to a byte from 0x40 to 0x7e (ECMA-48), ESC O for one more."""
    if pressed[:2] == b"\x1b[":
        return len(pressed) == 2 or not 0x40 <= pressed[-1] <= 0x7E
    return pressed in (b"\x1b", b"\x1bO")
