"""How many of Procgen's test levels look like one of the 200 training levels: python benchmarks/procgen_leaks.py

Levels 0 to 199 are trained on and 200 to 1199 tested on. Two levels look alike if their first frames, not centred and
without backgrounds, are equal. They also stay alike if they are equal still after 25 steps without a move, which tells
apart games in which the rest of the level comes later.
"""

import argparse

import numpy as np

from epomdp.contexts import ContextSet, leaks
from epomdp.envs.procgen import GAMES, Procgen
from epomdp.envs.procgen_levels import level_parts

STILL = 4


def later(game: str, distribution: str, levels: ContextSet, steps: int) -> ContextSet:
    """The same levels, told apart by their first frame and the one after some steps without a move."""
    env = Procgen(game, distribution, centred=False, backgrounds=False)
    lanes = env.open(len(levels))
    first = lanes.start(range(len(levels)), [levels.context(i) for i in range(len(levels))])
    last = first
    for _ in range(steps):
        lanes.send(np.full(len(levels), STILL))
        last = lanes.receive().observation
    lanes.close()
    return ContextSet.from_values(levels.values, levels.ids, content=np.stack([first, last], axis=1))


def main() -> None:
    """A row of a table for each game."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--games", nargs="+", choices=GAMES, default=GAMES)
    parser.add_argument("--distribution", default="easy")
    options = parser.parse_args()
    print(
        "| game | different among 200 | test levels that look like one of them | and stay alike for 25 steps |"
    )
    print("| --- | --- | --- | --- |")
    for game in options.games:
        parts = level_parts(game, options.distribution, 0, None, train=200, validation=0, test=1000)
        found = len(leaks(parts.train, parts.test))
        train, test = (later(game, options.distribution, part, 25) for part in (parts.train, parts.test))
        shares = f"{found / 10:.1f} % | {len(leaks(train, test)) / 10:.1f} %"
        print(f"| {game} | {len(set(parts.train.hashes))} | {shares} |", flush=True)


if __name__ == "__main__":
    main()
