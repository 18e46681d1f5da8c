"""How members are best run: four members one after the other, unrolled, or batched, for each kind of network.

    python benchmarks/strategies.py --json strategies.json

Two figures for each network and strategy, in alternation: the gradient of one minibatch of every member (forward and
backward), and LEEP's whole update (peers, advantages, minibatches), on made-up rollouts, in seconds; the median and
range of the rounds. The first call, which compiles, is shown apart.
"""

from __future__ import annotations

import argparse
import functools
import time
from pathlib import Path
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import timing

from epomdp.agents import leep, ppo
from epomdp.agents.members import Strategy, choose_strategy, for_each_member
from epomdp.envs.base import Transition
from epomdp.envs.guess import Guess

MEMBERS, ACTIONS = 4, 6
STRATEGIES = [strategy for strategy in get_args(Strategy) if strategy != "auto"]
# Observation, steps of 64 environments, minibatches of a pass.
NETWORKS = {
    "mlp": ((64,), 32, 8),
    "board": ((11, 11, 6), 32, 8),
    "small": ((64, 64, 3), 16, 2),
    "impala": ((64, 64, 3), 2, 2),
}


def rollouts(shape: tuple[int, ...], steps: int) -> Transition:
    rng = np.random.default_rng(0)
    size = (MEMBERS, steps, 64)
    observation = jnp.asarray(rng.integers(0, 2 if shape[0] < 64 else 256, (*size, *shape)).astype(np.uint8))
    action = jnp.asarray(rng.integers(0, ACTIONS, size), jnp.int32)
    reward, value = jnp.asarray(rng.normal(size=(2, *size)), jnp.float32)
    log_prob = jnp.full(size, -np.log(ACTIONS), jnp.float32)
    ended = jnp.asarray(rng.random(size) < 0.02)
    extras = {"log_prob": log_prob, "value": value}
    return Transition(observation, action, reward, ended, jnp.zeros_like(ended), observation, extras)


def contestants(kind: str) -> timing.Contestants:
    shape, steps, minibatches = NETWORKS[kind]
    config = ppo.Config(num_steps=steps, num_minibatches=minibatches, network=kind, update_epochs=1)
    env = Guess((3,), ACTIONS, 20)
    env.observation = jax.ShapeDtypeStruct(shape, jnp.uint8)
    data, rows = rollouts(shape, steps), jnp.arange(64 * steps // minibatches)

    def slope(learner, rollout):
        batch = ppo.prepare(config, learner.params, rollout, env.shortest_truncation)
        return ppo.gradient(learner.params, config, batch, rows, ppo.no_penalty)

    found: timing.Contestants = {}
    for strategy in STRATEGIES:
        agent = leep.agent(leep.Config(members=MEMBERS, strategy=strategy, ppo=config), env)
        learners = jax.jit(agent.init)(jax.random.key(0))
        gradient = jax.jit(for_each_member(slope, strategy))
        found[f"{kind}, {strategy}, gradient"] = functools.partial(gradient, learners, data)
        update = jax.jit(agent.update)
        found[f"{kind}, {strategy}, update"] = functools.partial(update, learners, data, jax.random.key(1))
    return found


def measure(kinds: list[str], rounds: int) -> dict:
    report = {"machine": timing.machine(), "backend": jax.default_backend(), "networks": {}}
    for kind in kinds:
        calls, first = contestants(kind), {}
        for name, go in calls.items():
            started = time.perf_counter()
            jax.block_until_ready(go())
            first[name] = time.perf_counter() - started
        seconds = timing.alternate(calls, rounds)
        chosen = choose_strategy("auto", kind)
        report["networks"][kind] = {"chosen": chosen, "first_call": first, "seconds": seconds}
    return report


def table(report: dict) -> str:
    columns = ["network, strategy", "gradient, s", "update, s", "first update, s"]
    rows = []
    for kind, found in report["networks"].items():
        for strategy in STRATEGIES:
            name = f"{kind}, {strategy}"
            label = name + (" (auto)" if strategy == found["chosen"] else "")
            speeds = [
                timing.middle(found["seconds"][f"{name}, {what}"], 3) for what in ("gradient", "update")
            ]
            rows.append([label, *speeds, f"{found['first_call'][f'{name}, update']:.1f}"])
    return timing.markdown(columns, rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to a file")
    options = parser.parse_args()
    report = measure(options.networks, options.rounds)
    print(f"{report['machine']}, {report['backend']}\n\n{table(report)}")
    timing.write(options.json, report)


if __name__ == "__main__":
    main()
