"""PPO on Procgen: steps a second beside a plain loop, stable-baselines3, and the floor.

    python benchmarks/procgen_throughput.py --json procgen_throughput.json

The network `small` and the settings of the protocol easy-200 but for the network, on 200 levels of `--game`. In every
round each of these does one update (64 environments x 256 steps), one after the other:

- epomdp: as `epomdp train` does it, one half of the environments stepping while the other acts;
- plain: the same environment, acting and update, but all lanes step while nobody acts;
- stable-baselines3: the same EnvPool game, network, batch and epochs, with the threads of PyTorch that learn faster;
- environment: our lanes alone, random actions, ended episodes begun again in random levels;
- EnvPool: its own pool alone, random actions;
- acting, updating: the network alone, on a fixed rollout.

The floor is the time of the slower of environment and network (acting and updating) alone. Where both want the same
cores the sum of the two is what can be had; it is shown too. Wants the extras `procgen` and `bench`.
"""

from __future__ import annotations

import argparse
import functools
import os
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import sb3_procgen
import stable_baselines3
import timing
import torch

from epomdp import drivers
from epomdp import train as training
from epomdp.agents import ppo, registry
from epomdp.envs.base import Transition
from epomdp.envs.host import HostEnvironment, Lanes

OPTIONS = {"network": "small"}


class Ours:
    """Training as `epomdp train` does it, and its parts."""

    def __init__(self, game: str, num_steps: int) -> None:
        options = OPTIONS | {"num_steps": num_steps}
        self.settings = training.Settings(
            f"procgen:{game}", "ppo", agent_options=options, test_contexts=1, evaluations=0
        ).resolved()
        setup = training.prepare(self.settings)
        self.env, self.agent, self.levels = setup.problem.env, setup.agent, setup.parts.train
        self.driver = drivers.make(self.env, self.agent, setup.parts.train, setup.resamples)
        self._loop, self._done = self.driver.initial(jax.random.key(0)), 0

    @property
    def config(self) -> ppo.Config:
        return registry.configure("ppo", self.settings.agent_options)

    def update(self) -> None:
        self._loop, metrics = self.driver.iterate(self._loop, jax.random.key(self._done))
        jax.tree.map(float, metrics)
        self._done += 1


class Played:
    """All lanes of an environment, started again in random levels where an episode has ended."""

    def __init__(self, env: HostEnvironment, levels: Any, num_envs: int) -> None:
        self.lanes: Lanes = env.open(num_envs)
        self._levels, self._random = levels, np.random.default_rng(0)
        self.observation = np.zeros((num_envs, *env.observation.shape), np.uint8)
        self.start(np.arange(num_envs))

    def start(self, lanes: np.ndarray) -> None:
        rows = self._random.integers(len(self._levels), size=len(lanes))
        first = self.lanes.start(lanes.tolist(), [self._levels.context(row) for row in rows])
        self.observation[lanes] = first

    def step(self, action: np.ndarray):
        self.lanes.send(action)
        step = self.lanes.receive()
        self.observation = step.observation.copy()
        ended = np.flatnonzero(step.terminated | step.truncated)
        if ended.size:
            self.start(ended)
        return step


class Plain:
    """Collect, then update; nothing at the same time as anything else."""

    def __init__(self, ours: Ours) -> None:
        self.agent, self.played = ours.agent, Played(ours.env, ours.levels, ours.agent.num_envs)
        self._act, self._learn = jax.jit(self.agent.act), jax.jit(self.agent.update, donate_argnums=0)
        self._learners = jax.jit(self.agent.init)(jax.random.key(0))

    def collect(self) -> Transition:
        params = jax.tree.map(lambda x: x[0], self.agent.params(self._learners))
        rows = []
        for key in jax.random.split(jax.random.key(0), self.agent.num_steps):
            seen = self.played.observation
            action, extras = jax.tree.map(np.asarray, self._act(params, seen, key))
            step = self.played.step(action)
            rows.append(
                Transition(
                    seen, action, step.reward, step.terminated, step.truncated, step.observation, extras
                )
            )
        return jax.tree.map(lambda *x: np.stack(x)[None], *rows)

    def update(self) -> None:
        self._learners, metrics = self._learn(self._learners, self.collect(), jax.random.key(0))
        jax.tree.map(float, metrics)


def play_at_random(played: Played, steps: int) -> None:
    random = np.random.default_rng(0)
    for action in random.integers(0, 15, (steps, len(played.observation))):
        played.step(action)


def run_pool(pool: sb3_procgen.EnvPool, steps: int) -> None:
    random = np.random.default_rng(0)
    for action in random.integers(0, 15, (steps, pool.num_envs)):
        pool.step(action)


def alone(agent: Any, rollout: Transition) -> timing.Contestants:
    """The network's part: acting as the driver does, on both halves of a fixed rollout, and updating from it."""
    act, learn = jax.jit(agent.act), jax.jit(agent.update)
    learners = jax.jit(agent.init)(jax.random.key(0))
    params = jax.tree.map(lambda x: x[0], agent.params(learners))
    half = agent.num_envs // 2

    def acting() -> None:
        for frames in rollout.observation[0]:
            for part in (frames[:half], frames[half:]):
                jax.tree.map(np.asarray, act(params, part, jax.random.key(0)))

    def updating() -> None:
        jax.block_until_ready(learn(learners, rollout, jax.random.key(1)))

    return {"acting": acting, "updating": updating}


def learn(model: Any, steps: int) -> None:
    model.learn(steps, reset_num_timesteps=False)


def faster_threads(model: Any, steps: int) -> int:
    """One thread of PyTorch or as many as there are cores, whichever learns faster here."""
    seconds = {}
    for threads in (1, len(os.sched_getaffinity(0))):
        torch.set_num_threads(threads)
        started = time.perf_counter()
        learn(model, steps)
        seconds[threads] = time.perf_counter() - started
    return min(seconds, key=seconds.__getitem__)


def measure(game: str, num_steps: int, rounds: int) -> dict:
    ours = Ours(game, num_steps)
    config, steps = ours.config, ours.agent.steps_per_update
    plain, cores = Plain(ours), len(os.sched_getaffinity(0))
    task, levels = f"{game.capitalize()}Easy-v0", len(ours.levels)
    model = sb3_procgen.make(task, config, levels, cores)
    threads = faster_threads(model, steps)
    torch.set_num_threads(threads)
    pool = sb3_procgen.EnvPool(task, config.num_envs, levels, cores)
    pool.reset()
    played = Played(ours.env, ours.levels, config.num_envs)
    seconds = timing.alternate(
        {
            "epomdp": ours.update,
            "plain": plain.update,
            "stable-baselines3": functools.partial(learn, model, steps),
            "environment": functools.partial(play_at_random, played, num_steps),
            "EnvPool": functools.partial(run_pool, pool, num_steps),
            **alone(ours.agent, jax.tree.map(jnp.asarray, plain.collect())),
        },
        rounds,
    )
    network = seconds["acting"] + seconds["updating"]
    floors = {
        "the slower of both alone": np.maximum(seconds["environment"], network),
        "both one after the other": seconds["environment"] + network,
    }
    ours.driver.close()
    versions = {"torch": torch.__version__, "sb3": stable_baselines3.__version__}
    return {
        "machine": timing.machine() | versions | {"threads_of_torch": threads},
        "settings": {"game": game, "num_envs": config.num_envs, "num_steps": num_steps, "rounds": rounds},
        "steps_per_second": {name: steps / spent for name, spent in (seconds | {"network": network}).items()},
        "floors": {name: steps / spent for name, spent in floors.items()},
        "share_of_floor": {name: spent / seconds["epomdp"] for name, spent in floors.items()},
        "times": {name: seconds[name] / seconds["epomdp"] for name in ("plain", "stable-baselines3")},
    }


def table(report: dict) -> str:
    rows = []
    for name, speed in (report["steps_per_second"] | report["floors"]).items():
        times = report["times"].get(name)
        share = report["share_of_floor"].get(name)
        rows.append(
            [
                name,
                timing.middle(speed, 0),
                "" if times is None else timing.middle(times),
                "" if share is None else timing.middle(100 * share, 0),
            ]
        )
    return timing.markdown(["", "steps/s", "epomdp is faster by", "epomdp reaches of it, %"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--game", default="bigfish")
    parser.add_argument("--num-steps", type=int, default=256, help="of each environment between two updates")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to a file")
    options = parser.parse_args()
    report = measure(options.game, options.num_steps, options.rounds)
    print(f"{report['machine']}\n\n{table(report)}")
    timing.write(options.json, report)


if __name__ == "__main__":
    main()
