"""Uniform random play on Procgen beside that in the original: python benchmarks/procgen_random.py

For each game the first episodes of 256 levels outside training, one in each, are played with uniformly random actions.
The original's figures are those that the report page shows.
"""

import argparse
import math

import numpy as np

from epomdp.envs.procgen import NUM_ACTIONS, Procgen
from epomdp.report import published

FIRST = 200


def play(game: str, episodes: int, seed: int) -> np.ndarray:
    """Returns of one episode in each of as many levels."""
    random = np.random.default_rng(seed)
    lanes = Procgen(game).open(episodes)
    lanes.start(range(episodes), [{"level": np.int32(FIRST + i)} for i in range(episodes)])
    returns, going = np.zeros(episodes), True
    while going:
        lanes.send(random.integers(0, NUM_ACTIONS, episodes))
        step = lanes.receive()
        # An ended lane repeats itself with zero reward.
        returns += step.reward
        going = not (step.terminated | step.truncated).all()
    lanes.close()
    return returns


def main() -> None:
    """A row of a table for each game, and whether the means are within three standard errors of their difference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--games", nargs="+", default=["maze", "heist", "bigfish", "dodgeball"])
    parser.add_argument("--episodes", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rows = published.read("procgen_easy_200.csv")
    reference = {row["game"]: row for row in rows if row["source"] == "uniform random play"}
    print("| game | here | the original | difference in standard errors |")
    print("| --- | --- | --- | --- |")
    for game in options.games:
        returns = play(game, options.episodes, options.seed)
        mean, error = returns.mean(), returns.std(ddof=1) / math.sqrt(returns.size)
        known, known_error = (float(reference[game][name]) for name in ("test", "standard_error"))
        apart = (mean - known) / math.hypot(error, known_error)
        print(f"| {game} | {mean:.2f} ± {error:.2f} | {known} ± {known_error} | {apart:+.1f} |", flush=True)


if __name__ == "__main__":
    main()
