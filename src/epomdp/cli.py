"""The command line. Each command is parsed here and done in `epomdp.commands`."""

from __future__ import annotations

import argparse
import difflib
import importlib
import math
import os
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple, NoReturn

from epomdp import __version__
from epomdp.errors import BadInput, EpomdpError, unknown_name


class _Parser(argparse.ArgumentParser):
    """Errors as one line that says what, where and the mend."""

    def error(self, message: str) -> NoReturn:
        raise BadInput(f"{message}; see {self.prog} --help")

    def refuse(self, word: str) -> NoReturn:
        """An argument that this command does not have."""
        known = [option for action in self._actions for option in action.option_strings]
        near = difflib.get_close_matches(word.split("=")[0], known, n=1)
        mend = f"did you mean {near[0]}?" if near else f"see {self.prog} --help"
        raise BadInput(f"unknown argument '{word}'; {mend}")


def _number(text: str) -> int:
    """A whole number, also written 1e6 or 100_000."""
    try:
        return int(text)
    except ValueError:
        value = float(text)
    if not math.isfinite(value) or value != int(value):
        raise ValueError
    return int(value)


_number.__name__ = "whole number"


def _add_training(parser: argparse.ArgumentParser) -> None:
    from epomdp.agents import registry

    parser.add_argument("--env", help="environment, see epomdp list")
    parser.add_argument("--agent", help="agent, see epomdp list")
    parser.add_argument(
        "--protocol",
        help="defaults under a published name (default: the environment's first; procgen: easy-200)",
    )
    for name, meaning in (
        ("train-contexts", "contexts the agent learns from"),
        ("validation-contexts", "further contexts that it never learns from, for curves and choices"),
        ("test-contexts", "held-out contexts, different in content from all others"),
        ("steps", "environment steps over the whole ensemble"),
    ):
        parser.add_argument(f"--{name}", type=_number, help=f"{meaning} (default: the environment's)")
    parser.add_argument("--seed", type=_number, help="of the split, the resamples and the run (default 0)")
    parser.add_argument("--evaluations", type=_number, help="points of the learning curves (default 20)")
    parser.add_argument("--out", metavar="DIR", help="run directory (default: runs/ENV-AGENT-SEED)")
    parser.add_argument("--resume", metavar="DIR", help="continue the run in DIR to the same bits")
    parser.add_argument(
        "--checkpoint-seconds", type=float, default=30.0, help="wall time between checkpoints"
    )
    parser.add_argument("--track", action="store_true", help="TensorBoard files in DIR/tensorboard")
    data = parser.add_argument_group("options of the environments")
    data.add_argument(
        "--data", help="guess: digits, an IDX folder or image file, a folder of images, an .npz"
    )
    data.add_argument("--size", type=_number, help="board games: squares on a side of the board (default 11)")
    data.add_argument(
        "--view", help="board games: centred on the agent, or board, as it lies (default centred)"
    )
    data.add_argument(
        "--themes", action="store_true", default=None, help="board games: a plane of clutter without meaning"
    )
    data.add_argument("--max-episode-steps", type=_number, help="step at which an episode is cut off")
    data.add_argument(
        "--step-seconds",
        type=float,
        help="gym: wall time that a step may take, before it is ended (default 60)",
    )
    data.add_argument("--distribution", help="procgen: easy or hard levels (default: the protocol's)")
    data.add_argument(
        "--start-level", type=_number, help="procgen: seed of the first training level (default 0)"
    )
    data.add_argument(
        "--test-start-level",
        type=_number,
        help="procgen: of the first test level (default: after the training ones)",
    )
    agents = parser.add_argument_group("hyperparameters of the agents (those that the chosen agent has)")
    for name, (default, meaning) in registry.all_options().items():
        agents.add_argument(f"--{name.replace('_', '-')}", help=f"{meaning} (default {default})")


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="DIR", help="run directory")
    parser.add_argument("--contexts", choices=("train", "test"), help="one split only (default: both)")
    parser.add_argument("--episodes", type=_number, default=10, help="episodes in each context")
    parser.add_argument("--seed", type=_number, default=0, help="of the episodes")
    parser.add_argument(
        "--novel", action="store_true", help="only test contexts whose content no training context has"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def _add_compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs", metavar="DIR", nargs="+", help="run directories; seeds of a setting are grouped"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--out", metavar="PAGE.html", help="also write a page")


def _add_report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", metavar="DIR", nargs="+", help="run directories")
    parser.add_argument("--out", metavar="PAGE.html", help="where to (default: report.html in the first run)")


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", metavar="DIR", default="epomdp-demo", help="where runs and page go")
    parser.add_argument("--seeds", type=_number, default=5, help="splits of the images, each trained anew")
    parser.add_argument("--steps", type=_number, help="environment steps of each agent")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def _add_solve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="family (.npz), .pomdp or .pomdpx")
    parser.add_argument(
        "--gap", type=float, default=1e-2, help="upper minus lower bound at the start (default 0.01)"
    )
    parser.add_argument(
        "--time-limit", type=float, metavar="S", help="seconds after which the bounds reached count"
    )
    parser.add_argument("--hidden-rewards", action="store_true", help="the agent does not see its rewards")
    parser.add_argument("--policy", metavar="POLICY.npz", help="also save the policy found")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--out", metavar="PAGE.html", help="also write a page")


def _add_convert(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="FILE", help=".npz, .pomdp or .pomdpx")
    parser.add_argument("target", metavar="OUT", help=".npz, .pomdp, .pomdpx or .drn")
    parser.add_argument(
        "--hidden-rewards", action="store_true", help="write no rewards into the observations"
    )


def _add_play(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("env", metavar="ENV", help="maze, heist, bigfish, dodgeball or guess")
    parser.add_argument(
        "--level", "--seed", default="0", help="level to begin with: 17, or maze-17 (default 0)"
    )
    parser.add_argument(
        "--view", choices=("board", "centred"), help="board games: board (default) or centred"
    )


class Command(NamedTuple):
    """A command's meaning, an example, its options, and the module of `epomdp.commands` that does it."""

    meaning: str
    example: str
    add: Callable[[argparse.ArgumentParser], None]
    module: str = "learning"


COMMANDS: dict[str, Command] = {
    "demo": Command(
        "the guessing game on real images: agents beside the exact optimum", "epomdp demo", _add_demo
    ),
    "list": Command("environments and agents, a line each", "epomdp list", lambda parser: None),
    "solve": Command(
        "bound what any policy can reach in a family of environments or a POMDP",
        "epomdp solve family.npz --gap 0.001 --json",
        _add_solve,
        "exact",
    ),
    "convert": Command(
        "convert between file formats", "epomdp convert family.npz family.pomdp", _add_convert, "exact"
    ),
    "train": Command(
        "train an agent on a few contexts",
        "epomdp train --env guess --agent leep --seed 1 --out runs/leep-1",
        _add_training,
    ),
    "evaluate": Command(
        "play a run's policies on its training and test contexts",
        "epomdp evaluate runs/leep-1 --json",
        _add_evaluate,
    ),
    "compare": Command(
        "compare evaluated runs, paired by seed",
        "epomdp compare runs/ppo-* runs/leep-* --out page.html",
        _add_compare,
    ),
    "play": Command("play a game in the terminal", "epomdp play maze --level 17", _add_play, "play"),
    "report": Command("write a self-contained page about runs", "epomdp report runs/leep-1", _add_report),
}


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse a command line; only the chosen command's options are built, so that --help stays quick.

    Raises:
        BadInput: what cannot be understood.
    """
    parser = _Parser(
        prog="epomdp", description="Generalization in reinforcement learning.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)
    chosen = next((word for word in argv if not word.startswith("-")), None)
    if chosen is not None and chosen not in COMMANDS:
        raise unknown_name("command", chosen, COMMANDS)
    parsers: dict[str, _Parser] = {}
    for name, entry in COMMANDS.items():
        parsers[name] = command = commands.add_parser(
            name,
            help=entry.meaning,
            description=entry.meaning[0].upper() + entry.meaning[1:] + ".",
            epilog=f"example: {entry.example}",
            allow_abbrev=False,
        )
        if name == chosen:
            entry.add(command)
    arguments, unknown = parser.parse_known_args(argv)
    if unknown:
        parsers.get(arguments.command, parser).refuse(unknown[0])
    if arguments.command is None:
        parser.print_help()
        raise SystemExit(0)
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit status is 0, 1 (a failed run), 2 (bad input) or 130 (interrupted)."""
    try:
        arguments = parse(sys.argv[1:] if argv is None else argv)
        module = importlib.import_module(f"epomdp.commands.{COMMANDS[arguments.command].module}")
        from epomdp.console import plain_warnings

        with plain_warnings():
            getattr(module, f"run_{arguments.command}")(arguments)
        return 0
    except EpomdpError as error:
        return _fail(str(error), error.exit_status)
    except KeyboardInterrupt as interrupt:
        return _fail(str(interrupt) or "interrupted", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        where = error.filename or "standard output or a file being written"
        return _fail(f"{where}: {error.strerror or error}; mend that and run the command again", 1)


def _fail(message: str, status: int) -> int:
    print("epomdp: " + " ".join(message.split()), file=sys.stderr)
    return status
