"""Time the solver on families and classic POMDPs whose values are known, beside SARSOP's times.

    python benchmarks/solve_families.py --data FOLDER [--json FILE] [--long SECONDS] [--only NAME]

FOLDER holds `families/*.npz` and `pomdp/*.pomdp` (Cassandra's collection); what is missing is skipped. Each problem is
solved a few times in one process after compilation, preparation included, and the median is reported; the long ones
(hallway, tag-avoid, rand_s10a3m20) once. `first` and `second` are the wall-clock seconds of `epomdp solve` on the
tiger with an empty and with a filled compilation cache, start-up included.

SARSOP's figures are those of the C++ original, on a busy machine of two cores: orders of magnitude.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from epomdp.exact.formats import read_any
from epomdp.exact.solve import solve


class Case(NamedTuple):
    """A problem, the gap to reach, the best known bounds, SARSOP's seconds (flat, factored).

    `sarsop_gap` is where SARSOP stood after its seconds, if not at `gap`.
    """

    file: str
    gap: float
    known: tuple[float, float]
    sarsop: tuple[float | None, float | None]
    sarsop_gap: float | None = None


CASES = (
    Case("families/rand_s5a3m4.npz", 1e-2, (9.5669, 9.5672), (0.62, 0.13)),
    Case("families/synth3.npz", 1e-2, (16.7695, 16.7705), (8.7, 0.67)),
    Case("families/grid5m8.npz", 1e-2, (0.6951685706, 0.6951685706), (0.06, 0.01)),
    Case("families/grid8m12.npz", 1e-2, (0.5269057493, 0.5269057493), (110.0, 1.3)),
    Case("families/grid5m8.npz", 1e-6, (0.6951685706, 0.6951685706), (None, None)),
    Case("families/grid8m12.npz", 1e-6, (0.5269057493, 0.5269057493), (None, None)),
    Case("pomdp/tiger.95.pomdp", 1e-4, (19.3713, 19.3714), (0.02, None)),
    Case("pomdp/4x3.95.pomdp", 1e-4, (1.8899, 1.8900), (1.6, None)),
    Case("pomdp/cheese.95.pomdp", 1e-4, (3.4861, 3.4862), (None, None)),
    Case("pomdp/shuttle.95.pomdp", 1e-4, (32.8896, 32.8897), (None, None)),
    Case("pomdp/4x5x2.95.pomdp", 1e-4, (2.0825, 2.0826), (9.0, None)),
)
LONG = (
    Case("families/rand_s10a3m20.npz", 2e-2, (5.5856, 5.6240), (41.0, 40.0), 0.091),
    Case("pomdp/hallway.pomdp", 1e-3, (0.9989, 1.2046), (255.0, None), 0.2057),
    Case("pomdp/tag-avoid.pomdp", 1e-3, (-6.164, -2.425), (302.0, None), 3.739),
)
COLUMNS = (
    "problem", "gap asked", "lower", "upper", "gap", "seconds", "known", "agrees", "SARSOP flat s",
    "SARSOP factored s", "faster than flat", "faster than factored",
)  # fmt: skip


def run(case: Case, data: Path, repeats: int, limit: float | None) -> dict[str, Any]:
    """Solve one problem and compare."""
    problem = read_any(data / case.file)
    solve(problem, observe_rewards=False, gap=case.gap, time_limit=1.0 if limit else None)
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        solution = solve(problem, observe_rewards=False, gap=case.gap, time_limit=limit)
        seconds.append(time.perf_counter() - begin)
    median = statistics.median(seconds)
    flat, factored = case.sarsop
    # Bounds are printed with few digits where they were published with few.
    slack = 1e-4 if case.known[0] != case.known[1] else 1e-6
    agrees = solution.lower <= case.known[1] + slack and solution.upper >= case.known[0] - slack
    values = (
        Path(case.file).stem, case.gap, solution.lower, solution.upper, solution.gap, median, list(case.known),
        agrees, flat, factored, flat and flat / median, factored and factored / median,
    )  # fmt: skip
    row = dict(zip(COLUMNS, values, strict=True))
    if case.sarsop_gap is not None:
        reached = next((t for t, low, high in solution.history if high - low <= case.sarsop_gap), None)
        row |= {"SARSOP gap": case.sarsop_gap, "seconds to that": reached}
    return row


def starts(data: Path) -> dict[str, float]:
    """Wall-clock seconds of the command on the tiger, with an empty cache and again."""
    with tempfile.TemporaryDirectory() as cache:
        seconds = []
        for _ in range(2):
            begin = time.perf_counter()
            subprocess.run(
                [sys.executable, "-m", "epomdp", "solve", str(data / "pomdp/tiger.95.pomdp"), "--json"],
                env=os.environ | {"NUMBA_CACHE_DIR": cache},
                check=True,
                stdout=subprocess.DEVNULL,
            )
            seconds.append(time.perf_counter() - begin)
    return dict(zip(("first", "second"), seconds, strict=True))


def show(value: Any) -> str:
    """A cell of the table."""
    if isinstance(value, list):
        return " to ".join(f"{v:.8g}" for v in dict.fromkeys(value))
    return "" if value is None else f"{value:.7g}" if isinstance(value, float) else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--long", type=float, default=60.0, help="seconds for each long problem; 0 leaves them out"
    )
    parser.add_argument("--only", help="problems whose name contains this")
    parser.add_argument("--no-start", action="store_true", help="do not time the start of the command")
    options = parser.parse_args()
    print("| " + " | ".join(COLUMNS) + " |")
    print("| " + " | ".join("---" for _ in COLUMNS) + " |")
    rows = []
    work = [(case, options.repeats, None) for case in CASES]
    work += [(case, 1, options.long) for case in LONG if options.long > 0]
    for case, repeats, limit in work:
        if (options.data / case.file).exists() and (options.only or "") in case.file:
            rows.append(run(case, options.data, repeats, limit))
            print("| " + " | ".join(show(rows[-1][column]) for column in COLUMNS) + " |", flush=True)
    for row in rows:
        if "SARSOP gap" in row:
            print(f"\n{row['problem']}: SARSOP's gap of {row['SARSOP gap']} after {row['seconds to that']} s")
    start = {} if options.no_start else starts(options.data)
    if start:
        print(f"\n`epomdp solve` on the tiger: first {start['first']:.2f} s, second {start['second']:.2f} s")
    if options.json:
        options.json.write_text(
            json.dumps({"problems": rows, "start": start}, indent=1) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
