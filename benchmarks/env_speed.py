"""Every game's steps a second with random actions, compiled and through Gymnasium.

python benchmarks/env_speed.py --json env_speed.json
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import timing
from gymnasium.vector import AutoresetMode

from epomdp import collect, problems
from epomdp.agents import ppo
from epomdp.envs.to_gymnasium import GymnasiumEnv, GymnasiumVectorEnv

STEPS = 128


def compiled(problem: problems.Problem, num_envs: int):
    """STEPS steps of `num_envs` episodes in one call, drawing a context for each new episode."""
    config = ppo.Config(num_envs=num_envs, num_steps=STEPS)
    env = problem.env

    def act(params, observation, key):
        # An action that hangs on what is seen: an observation that nobody reads would not be made.
        seen = observation.reshape(num_envs, -1)[:, 0].astype(jnp.int32)
        return (jax.random.randint(key, (num_envs,), 0, env.num_actions) + seen) % env.num_actions, {}

    agent = dataclasses.replace(ppo.agent(config, env), act=act)
    values = jax.tree.map(jnp.asarray, problem.contexts.values)
    everything = jnp.arange(len(problem.contexts))

    @jax.jit
    def play(actors, key):
        actors, seen = collect.rollout(env, agent, (), actors, values, everything, key)
        return actors, seen.reward.sum()

    actors = collect.start(env, values, everything, jax.random.key(0), num_envs)
    return lambda: play(actors, jax.random.key(1))


def vector(problem: problems.Problem, num_envs: int):
    env = GymnasiumVectorEnv(
        problem.env, problem.contexts, num_envs, seed=0, autoreset_mode=AutoresetMode.SAME_STEP
    )
    env.reset()
    actions = np.random.default_rng(0).integers(problem.env.num_actions, size=(STEPS, num_envs))

    def go():
        for action in actions:
            env.step(action)

    return go


def single(problem: problems.Problem):
    env = GymnasiumEnv(problem.env, problem.contexts, seed=0)
    actions = np.random.default_rng(0).integers(problem.env.num_actions, size=STEPS)

    def go():
        env.reset()
        for action in actions:
            _, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                env.reset()

    return go


def measure(games: list[str], rounds: int) -> dict:
    going: timing.Contestants = {}
    counts = {}
    for game in games:
        problem = problems.make(game, problems.entry(game).options)
        going[f"{game}, GymnasiumEnv"] = single(problem)
        counts[f"{game}, GymnasiumEnv"] = 1
        for num_envs in (64, 1024, 4096):
            for name, make in (("compiled", compiled), ("GymnasiumVectorEnv", vector)):
                going[f"{game}, {name}, {num_envs}"] = make(problem, num_envs)
                counts[f"{game}, {name}, {num_envs}"] = num_envs
    seconds = timing.alternate(going, rounds)
    return {
        "machine": timing.machine(),
        "steps_per_second": {name: counts[name] * STEPS / values for name, values in seconds.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--games", nargs="+", choices=problems.PROBLEMS, default=list(problems.PROBLEMS))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to a file")
    options = parser.parse_args()
    report = measure(options.games, options.rounds)
    rows = [[name, timing.middle(speed, 0)] for name, speed in report["steps_per_second"].items()]
    print(f"{report['machine']}\n\n{timing.markdown(['game, episodes at once', 'steps/s'], rows)}")
    timing.write(options.json, report)


if __name__ == "__main__":
    main()
