"""Feed the `.pomdp` and `.pomdpx` readers mutated files: each must give a model or a one-line error.

    python benchmarks/fuzz_formats.py --files 1000000 --seed 0

File number i of a seed is always the same. A traceback, a file that takes longer than `--limit` seconds, or a
dead process is a failure; the file is kept and named. Exit status 1 if there was any.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np

from epomdp.errors import BadInput
from epomdp.exact import formats, memory
from epomdp.exact.family import Family

SMALL = """# a small model with every form
discount: 0.9
values: cost
states: left mid right
actions: stay go
observations: 2
start include: left 1
T: stay identity
T: go : left uniform
T: go : mid reset
T: go : right 0.2 0.3 0.5
T: go : right : left 0.25
T: go : right : mid 0.25
O: * : * : 0 0.25
O: * : * : 1 0.75
O: go : 2 1e0 0.0
R: * : * : * : * 1
R: go : left
1 2
3 4
5 - 6
R: go : right : mid 1 .5
"""

FACTORED = """<?xml version="1.0" encoding="UTF-8"?>
<pomdpx version="1.0" id="small"><Description>x</Description><Discount>0.9</Discount>
<Variable><StateVar vnamePrev="p_0" vnameCurr="p_1" fullyObs="true"><NumValues>2</NumValues></StateVar>
<StateVar vnamePrev="h_0" vnameCurr="h_1"><ValueEnum>good bad</ValueEnum></StateVar>
<ObsVar vname="o"><ValueEnum>yes no</ValueEnum></ObsVar>
<ActionVar vname="a"><ValueEnum>look move</ValueEnum></ActionVar><RewardVar vname="r"/></Variable>
<InitialStateBelief><CondProb><Var>p_0</Var><Parent>null</Parent><Parameter type="TBL">
<Entry><Instance>-</Instance><ProbTable>0.5 0.5</ProbTable></Entry></Parameter></CondProb>
<CondProb><Var>h_0</Var><Parent>p_0</Parent><Parameter type="TBL">
<Entry><Instance>* -</Instance><ProbTable>uniform</ProbTable></Entry></Parameter></CondProb></InitialStateBelief>
<StateTransitionFunction><CondProb><Var>p_1</Var><Parent>a p_0</Parent><Parameter type="TBL">
<Entry><Instance>* - -</Instance><ProbTable>identity</ProbTable></Entry>
<Entry><Instance>move s0 s0</Instance><ProbTable>0.25</ProbTable></Entry>
<Entry><Instance>move s0 s1</Instance><ProbTable>0.75</ProbTable></Entry></Parameter></CondProb>
<CondProb><Var>h_1</Var><Parent>h_0</Parent><Parameter type="DD"><DAG>
<SubDAG type="persistent" var="h_1"/></DAG></Parameter></CondProb></StateTransitionFunction>
<ObsFunction><CondProb><Var>o</Var><Parent>a h_1</Parent><Parameter type="DD"><DAG><Node var="a">
<Edge val="look"><SubDAG type="template" idref="t"/></Edge>
<Edge val="move"><SubDAG type="uniform" var="o"/></Edge></Node></DAG><SubDAGTemplate id="t"><Node var="h_1">
<Edge val="good"><SubDAG type="deterministic" var="o" val="yes"/></Edge>
<Edge val="bad"><Node var="o"><Edge val="yes"><Terminal>0.2</Terminal></Edge><Edge val="no"><Terminal>.8</Terminal>
</Edge></Node></Edge></Node></SubDAGTemplate></Parameter></CondProb></ObsFunction>
<RewardFunction><Func><Var>r</Var><Parent>a p_1 o</Parent><Parameter type="TBL">
<Entry><Instance>move - *</Instance><ValueTable>1 -1e1</ValueTable></Entry></Parameter></Func></RewardFunction>
</pomdpx>
"""

# What a mutation may write: the words and signs of both grammars, and numbers at the edges.
WORDS = [
    b"T:", b"O:", b"R:", b":", b"*", b"-", b"+", b"#", b"uniform", b"identity", b"reset", b"start:", b"start include:",
    b"start exclude:", b"discount:", b"values:", b"states:", b"actions:", b"observations:", b"reward", b"cost",
    b"0", b"1", b"2", b"-1", b"0.5", b".5", b"1e-400", b"1e999", b"nan", b"inf", b"99999999999999999999", b"1000000",
    b"123456789", b"0.30000000000000004", b"<", b">", b"&", b"&amp;", b"&#0;", b"<!--", b"-->", b"<![CDATA[", b"]]>",
    b"<!DOCTYPE x>", b"<Entry>", b"</Entry>", b"<Instance>", b"</Instance>", b"<ProbTable>", b"</ProbTable>",
    b"<Parameter>", b"</Parameter>", b"<Node var=\"h_1\">", b"</Node>", b"<Terminal>1</Terminal>",
    b"fullyObs=\"true\"",
    b"\0", b"\xff", b"\xc3\xa9", b"\n", b"\r", b"\t", b" ", b"",
]  # fmt: skip
PIECE = re.compile(rb"[A-Za-z_]\w*|[-+.\d]+|\s+|.", re.S)
# A process may take this much; declared sizes beyond it must be refused before anything is allocated.
MEMORY = 2**27


def seeds() -> dict[str, list[bytes]]:
    """Good files of both formats, by ending."""
    rng = np.random.default_rng(0)
    family = Family.from_arrays(
        rng.dirichlet(np.ones(3), (2, 3, 2)),
        rng.choice([0.0, 1.0], (2, 3, 2)),
        [0.5, 0.5, 0],
        [0.5, 0.5],
        0.9,
    )
    made: dict[str, list[bytes]] = {".pomdp": [SMALL.encode()], ".pomdpx": [FACTORED.encode()]}
    with tempfile.TemporaryDirectory() as folder:
        family.save(Path(folder) / "family.npz")
        for ending in made:
            for observed in (True, False):
                formats.convert(Path(folder) / "family.npz", Path(folder) / f"x{ending}", observed)
                made[ending].append((Path(folder) / f"x{ending}").read_bytes())
    return made


def mutated(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """`data` after one to four changes."""
    for _ in range(rng.choice((1, 1, 1, 2, 3, 4))):
        pieces = PIECE.findall(data)
        i, j = rng.randrange(len(pieces) + 1), rng.randrange(len(pieces) + 1)
        a, b = min(i, j), max(i, j)
        kind = rng.randrange(10)
        if kind == 0:
            pieces[i : i + 1] = [rng.choice(WORDS)]
        elif kind == 1:
            pieces.insert(i, rng.choice(WORDS))
        elif kind == 2:
            del pieces[i : i + rng.randrange(1, 8)]
        elif kind == 3:
            pieces[i:i] = pieces[a : min(b, a + 60)] * rng.randrange(1, 3)
        elif kind == 4 and i < len(pieces) and j < len(pieces):
            pieces[i], pieces[j] = pieces[j], pieces[i]
        elif kind == 5:
            del pieces[i:]
        elif kind == 6:
            other = PIECE.findall(rng.choice(others))
            pieces[a:b] = other[a:b]
        elif kind == 7:
            pieces[i : i + 1] = [rng.randbytes(rng.randrange(1, 5))]
        elif kind == 8:
            numbers = [k for k, piece in enumerate(pieces) if piece[:1].isdigit()]
            if numbers:
                pieces[rng.choice(numbers)] = repr(rng.choice((0, 1, 2, 5, 0.1, 1 / 3, 1e7))).encode()
        else:
            flat = bytearray(b"".join(pieces))
            if flat:
                flat[rng.randrange(len(flat))] ^= 1 << rng.randrange(8)
            pieces = [bytes(flat)]
        data = b"".join(pieces) or b" "
    return data


def make(seed: int, number: int, good: dict[str, list[bytes]]) -> tuple[str, bytes]:
    """Ending and content of one file."""
    rng = random.Random(f"{seed}:{number}")
    ending = rng.choice(tuple(good))
    return ending, mutated(rng.choice(good[ending]), good[ending], rng)


def outcome(path: Path) -> str:
    """`model` or `refused`; anything else is raised."""
    try:
        formats.read_any(path)
    except BadInput as error:
        if "\n" in str(error) or not str(error).isprintable():
            raise AssertionError(f"not one printable line: {error!r}") from error
        return "refused"
    return "model"


def prepare(folder: str) -> None:
    """Limit a process's memory, and compile all there is to compile before anything is timed."""
    memory.available_bytes = lambda: float(MEMORY)
    good.update(seeds())
    for ending, files in good.items():
        for i, data in enumerate(files):
            path = Path(folder) / f"good-{os.getpid()}-{i}{ending}"
            path.write_bytes(data)
            assert outcome(path) == "model"
            path.unlink()


good: dict[str, list[bytes]] = {}


def run(seed: int, first: int, last: int, limit: int, folder: str) -> dict:
    """Read the files first .. last - 1: counts of outcomes, the longest time, and what failed."""
    counts: Counter[tuple[str, str]] = Counter()
    failures, slowest = [], 0.0

    def too_long(*_: object) -> None:
        raise TimeoutError(f"longer than {limit} s")

    signal.signal(signal.SIGALRM, too_long)
    for number in range(first, last):
        ending, data = make(seed, number, good)
        path = Path(folder) / f"{os.getpid()}{ending}"
        path.write_bytes(data)
        began = time.perf_counter()
        signal.alarm(limit)
        try:
            counts[ending, outcome(path)] += 1
        except Exception:
            kept = Path(folder) / f"failed-{seed}-{number}{ending}"
            kept.write_bytes(data)
            failures.append(f"{kept}: {traceback.format_exc(limit=-3)}")
        signal.alarm(0)
        slowest = max(slowest, time.perf_counter() - began)
    return {"counts": counts, "failures": failures, "slowest": slowest}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first file, to run in parts")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--limit", type=int, default=30, help="seconds that one file may take")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="fuzz-")
    began = time.perf_counter()
    counts: Counter[tuple[str, str]] = Counter()
    failures: list[str] = []
    slowest, size, last = 0.0, 2000, options.first + options.files
    with ProcessPoolExecutor(options.processes, initializer=prepare, initargs=(folder,)) as pool:
        parts = [
            pool.submit(run, options.seed, first, min(first + size, last), options.limit, folder)
            for first in range(options.first, last, size)
        ]
        for done, part in enumerate(parts, 1):
            try:
                result = part.result()
            except BrokenProcessPool:
                failures.append(f"a process died; the files read last are in {folder}")
                break
            counts += result["counts"]
            failures += result["failures"]
            slowest = max(slowest, result["slowest"])
            if done % 10 == 0:
                print(f"{sum(counts.values())} files, {len(failures)} failures", file=sys.stderr)
    seconds = time.perf_counter() - began
    figures = {
        "files": sum(counts.values()),
        "first": options.first,
        "seed": options.seed,
        "outcomes": {f"{ending} {what}": n for (ending, what), n in sorted(counts.items())},
        "failures": len(failures),
        "seconds": round(seconds, 1),
        "files_per_second": round(sum(counts.values()) / seconds, 1),
        "slowest_file_seconds": round(slowest, 3),
        "processes": options.processes,
    }
    print(json.dumps(figures, indent=1))
    print(*failures[:5], sep="\n", file=sys.stderr)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
