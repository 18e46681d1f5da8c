"""Playing in the terminal, through a pseudo-terminal as a person would."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from epomdp import cli
from epomdp.commands import play
from epomdp.envs.bigfish import Bigfish
from epomdp.envs.boards import levels
from epomdp.envs.dodgeball import Dodgeball
from epomdp.envs.maze import Maze

PATIENCE = 120
ARROWS = {"up": "\x1b[A", "down": "\x1b[B", "right": "\x1b[C", "left": "\x1b[D"}


class Terminal:
    """A command in a pseudo-terminal, and what it has written since the last look."""

    def __init__(self, *argv):
        self.master, self.slave = pty.openpty()
        termios.tcsetwinsize(self.slave, (50, 120))
        self.before = termios.tcgetattr(self.slave)
        ends = {"stdin": self.slave, "stdout": self.slave, "stderr": self.slave}
        environment = os.environ | {"TERM": "xterm-256color"}
        self.process = subprocess.Popen([sys.executable, "-m", "epomdp", *argv], env=environment, **ends)
        self.text = ""

    def press(self, keys):
        self.text = ""
        os.write(self.master, keys.encode())

    def wait_for(self, words):
        """Read until the words are there, and return all since the last key."""
        end = time.monotonic() + PATIENCE
        while words not in self.text:
            ready = select.select([self.master], [], [], max(0, end - time.monotonic()))[0]
            assert ready, f"no '{words}' in {self.text[-500:]!r}"
            self.text += os.read(self.master, 65536).decode()
        return self.text

    def as_before(self):
        return termios.tcgetattr(self.slave) == self.before

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def terminal():
    opened = []

    def start(*argv):
        opened.append(Terminal(*argv))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


def test_a_maze_is_played_to_its_end(terminal):
    game = Maze()
    state, _ = game.reset(None, levels(game, [3]).context(0))
    step, optimal = jax.jit(game.step), jax.jit(game.optimal)
    screen = terminal("play", "maze", "--level", "maze-3")
    screen.wait_for("maze-3   score 0   step 0")
    assert not screen.as_before()
    steps = 0
    while not state.terminated:
        action = int(optimal(state))
        state, shown = step(None, state, jnp.int32(action))
        steps += 1
        screen.press(ARROWS[game.action_names[action]])
        screen.wait_for(f"score {float(shown.reward):g}   step {steps}   ")
    screen.wait_for(f"score 10   step {steps}   solved")
    screen.press("w")  # an ended episode stays as it is
    screen.press("r")
    screen.wait_for("maze-3   score 0   step 0")
    screen.press("n")
    drawn = screen.wait_for("maze-4   score 0   step 0")
    walls = int(np.sum(np.asarray(game.reset(None, levels(game, [4]).context(0))[1])[..., 0]))
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", drawn)
    assert plain.count("##") == walls and plain.count("@") == 1
    screen.press("q")
    assert screen.process.wait(PATIENCE) == 0
    assert screen.as_before()


def test_guess_is_played_by_digits_and_a_kill_leaves_the_terminal_as_it_was(terminal):
    screen = terminal("play", "guess", "--level", "5")
    screen.wait_for("score 0   step 0")
    screen.press("0123456789")
    score = re.search(r"score (-?\d+)   step (\d+)   solved", screen.wait_for("solved"))
    assert int(score[1]) == 1 - int(score[2])
    assert not screen.as_before()
    screen.process.send_signal(signal.SIGTERM)
    assert screen.process.wait(PATIENCE) == 128 + signal.SIGTERM
    assert screen.as_before()


def test_space_does_what_is_no_move():
    game = play.board_game(Dodgeball())
    names = game.env.action_names
    assert (names[game.keys[" "]], names[game.keys["."]]) == ("throw", "stay")
    assert [names[game.keys[key]] for key in "wasd"] == ["up", "left", "down", "right"]
    maze = play.board_game(Maze())
    assert set(maze.keys.values()) == set(range(4)) and " " not in maze.keys


def keys_read(written):
    reader, writer = os.pipe()
    os.write(writer, written.encode())
    os.close(writer)
    found = []
    while key := play._read_key(reader):
        found.append(key)
    os.close(reader)
    return found


def test_an_escape_sequence_is_one_key():
    assert keys_read("\x1b[AW\x1bOB ") == ["\x1b[A", "w", "\x1b[B", " "]
    # Arrows with Ctrl and Shift, Delete, F5, an escape with a letter, and an escape alone at the end.
    unknown = ["\x1b[1;5D", "\x1b[1;2A", "\x1b[3~", "\x1b[15~", "\x1bd"]
    assert keys_read("".join(unknown) + "q\x1b") == [*unknown, "q", "\x1b"]
    assert not {*unknown, "\x1b"} & play.board_game(Maze()).keys.keys()


def test_after_the_last_level_comes_the_first(monkeypatch):
    numbers, keys = [], iter("nq")
    game = play.board_game(Maze())

    def level(number):
        numbers.append(number)
        return game.level(number)

    monkeypatch.setattr(play, "_show", lambda *_: None)
    play._play(game._replace(level=level), 2**32 - 1, lambda: next(keys), None)
    assert numbers == [2**32 - 1, 0]


def test_bigfish_tells_meals():
    game = play.board_game(Bigfish())
    state, _ = game.env.reset(None, levels(game.env, [0]).context(0))
    assert game.status(state._replace(meals=jnp.int8(3))) == "meals 3 of 8   "
    assert play.board_game(Maze()).status is None


def test_the_centred_view_has_the_player_in_the_middle():
    env = Maze(view="centred")
    state, _ = env.reset(None, levels(env, [1]).context(0))
    lines = play.board_game(env).draw(state).plain.split("\n")
    assert lines[5][10] == "@"


def test_without_a_terminal_it_is_one_line(capsys):
    # pytest's own input and output are none.
    assert cli.main(["play", "maze"]) == 2
    error = capsys.readouterr().err
    assert "standard input or output is no terminal" in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["mazes"], "did you mean 'maze'?"),
        (["maze", "--level", "heist-3"], "give a number such as 17, or maze-17"),
        (["maze", "--level", "-3"], "--level"),
        (["guess", "--view", "board"], "--view is for board games"),
    ],
)
def test_bad_input_is_one_line(capsys, monkeypatch, argv, message):
    class Screen:
        def isatty(self):
            return True

    monkeypatch.setattr("sys.stdin", Screen())
    monkeypatch.setattr("sys.stdout", Screen())
    assert cli.main(["play", *argv]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
