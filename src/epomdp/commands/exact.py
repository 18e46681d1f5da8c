"""The exact half's commands: solve and convert. They need no JAX and start quickly."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from epomdp import console
from epomdp.errors import BadInput, RunFailed
from epomdp.exact import formats
from epomdp.exact.formats.files import check_target
from epomdp.exact.ladder import Ladder, ladder


def run_solve(arguments: argparse.Namespace) -> None:
    """Bound the Bayes-optimal value of a family or a POMDP, and for a family the whole ladder of values."""
    if not arguments.gap > 0:
        raise BadInput(f"--gap is {arguments.gap}; it must be above zero")
    if arguments.time_limit is not None and not arguments.time_limit > 0:
        raise BadInput(f"--time-limit is {arguments.time_limit}; it must be above zero seconds")
    # Found out before the work is done rather than after it.
    if arguments.policy:
        check_target(arguments.policy, arguments.file, (".npz",))
    if arguments.out:
        check_target(arguments.out, arguments.file, (".html",))
    problem = formats.read_any(arguments.file)
    with console.solving_bar(arguments.file) as advance:
        found = ladder(
            problem,
            observe_rewards=not arguments.hidden_rewards,
            gap=arguments.gap,
            time_limit=arguments.time_limit,
            callback=advance,
        )
    if arguments.policy:
        found.solution.save(arguments.policy)
    if arguments.out:
        from epomdp.report.from_ladder import write_ladder_page

        write_ladder_page(
            found,
            problem,
            arguments.out,
            title=Path(arguments.file).name,
            observe_rewards=not arguments.hidden_rewards,
            command=f"epomdp solve {arguments.file} --gap {arguments.gap:g}"
            + (" --hidden-rewards" if arguments.hidden_rewards else ""),
        )
    if arguments.json:
        print(_json(found))
    else:
        _show(arguments.file, found)


def _json(found: Ladder) -> str:
    try:
        return json.dumps(found.to_json(), allow_nan=False)
    except ValueError:
        raise RunFailed("a value is no finite number; divide all rewards by a common number") from None


def _show(name: str, found: Ladder) -> None:
    solved = found.to_json()
    rows = [["Bayes-optimal (adaptive)", f"{found.lower:.6f} to {found.upper:.6f}", "certified bounds"]]
    if found.informed is not None:
        rows.insert(0, ["informed (told the environment)", f"{found.informed:.6f}", "exact"])
        for row in ("stochastic", "deterministic"):
            rows.append([f"best memoryless {row}", f"{solved[row]['value']:.6f}", _proof(solved[row])])
        for row, label in (("map", "most likely environment"), ("mean", "posterior-mean MDP")):
            rows.append(
                [f"certainty-equivalent: {label}", f"{solved['certainty_equivalent'][row]:.6f}", "exact"]
            )
    console.show_table(
        f"{name}: {found.status} in {found.seconds:.2f} s", ["policies", "value", "proof"], rows
    )
    print(found.what_it_buys())


def _proof(row: dict[str, Any]) -> str:
    return "proved optimal" if row["certified"] else f"attained; at most {row['bound']:.6f}"


def run_convert(arguments: argparse.Namespace) -> None:
    """Convert between a family file (.npz) and .pomdp, .pomdpx, and to .drn."""
    formats.convert(arguments.source, arguments.target, observe_rewards=not arguments.hidden_rewards)
    print(arguments.target)
