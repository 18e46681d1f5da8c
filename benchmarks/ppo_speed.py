"""PPO's training steps a second, side by side with stable-baselines3 and with the machine's own limit.

    pip install -e .[bench] && python benchmarks/ppo_speed.py --json ppo_speed.json
    python benchmarks/ppo_speed.py --env maze --json ppo_speed_maze.json

Both train on the guessing game, or on Maze, with the same network, batch, minibatches and epochs, in one process and
in turns; compilation is left out. stable-baselines3 runs with one or two threads, whichever is faster, on two or
three versions of the game: `GymnasiumEnv`, N of them in its own `DummyVecEnv` (how a Gymnasium environment is used
there); `GymnasiumVectorEnv`, N at once in one compiled call; and, of the guessing game, one in plain NumPy, N at
once, the cheapest there is, so that only the algorithms differ.

The floor is the time that the arithmetic alone takes: the operations of acting and learning over the rate of matrix
products, measured in the same rounds. Rates depend on the shapes, so there are two: the rates at the network's own
shapes (acting: N x 128 x 128; learning: minibatch x 128 x 128), where XLA uses one core, and the peak
(2048 x 2048 x 2048), where it uses all.
"""

from __future__ import annotations

import argparse
import functools
import math
import time
from pathlib import Path

import arithmetic
import jax
import jax.numpy as jnp
import numpy as np
import sb3_guess
import stable_baselines3
import timing
import torch
from gymnasium.vector import AutoresetMode
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from epomdp.agents import networks, ppo
from epomdp.envs.to_gymnasium import GymnasiumEnv, GymnasiumVectorEnv

PRODUCTS = 400
PEAK = 2048


@jax.jit
def products(x: jax.Array, w: jax.Array) -> jax.Array:
    return jax.lax.scan(lambda x, _: (x @ w, None), x, length=PRODUCTS)[0]


@jax.jit
def one_product(x: jax.Array, w: jax.Array) -> jax.Array:
    return x @ w


def their_models(config: ppo.Config, ours: timing.Trainer) -> dict[str, PPO]:
    """stable-baselines3's PPO on each version of the game."""
    env, contexts, n = ours.env, ours.contexts, config.num_envs
    single = [functools.partial(GymnasiumEnv, env, contexts, seed=i) for i in range(n)]
    vector = GymnasiumVectorEnv(env, contexts, n, seed=0, autoreset_mode=AutoresetMode.SAME_STEP)
    envs: dict[str, VecEnv] = {
        "DummyVecEnv of GymnasiumEnv": DummyVecEnv(single),
        "GymnasiumVectorEnv": sb3_guess.FromGymnasium(vector),
    }
    if env.name == "guess":
        images = np.asarray(contexts.values["image"], np.float32)
        labels = np.asarray(contexts.values["label"])
        plain = sb3_guess.NumpyGuess(images, labels, env.num_actions, n, env.max_episode_steps)
        envs["NumPy"] = sb3_guess.FromGymnasium(plain)
    board = ours.agent.network == "board"
    return {name: sb3_guess.make(each, config, board) for name, each in envs.items()}


def faster_threads(model: PPO, steps: int) -> int:
    """One or two threads of PyTorch, whichever learns faster here."""
    seconds = {1: math.inf, 2: math.inf}
    for threads in (1, 2, 1, 2, 1, 2):
        torch.set_num_threads(threads)
        started = time.perf_counter()
        model.learn(steps, reset_num_timesteps=False)
        seconds[threads] = min(seconds[threads], time.perf_counter() - started)
    return min(seconds, key=seconds.__getitem__)


def measure(env: str, rounds: int, updates: int, theirs: int) -> dict:
    config = ppo.Config(channels=networks.CHANNELS["board"], hidden=networks.HIDDEN["mlp"])
    ours = timing.Trainer("ppo", env=env)
    models = their_models(config, ours)
    steps, width = ours.agent.steps_per_update, config.hidden[0]
    threads = faster_threads(list(models.values())[-1], steps)
    torch.set_num_threads(threads)
    minibatch = steps // config.num_minibatches
    seconds = timing.alternate(
        {
            "epomdp": lambda: ours.run(updates),
            **{
                name: functools.partial(model.learn, theirs * steps, reset_num_timesteps=False)
                for name, model in models.items()
            },
            "acting": lambda: products(jnp.ones((config.num_envs, width)), jnp.eye(width)),
            "learning": lambda: products(jnp.ones((minibatch, width)), jnp.eye(width)),
            "peak": lambda: one_product(jnp.ones((PEAK, PEAK)), jnp.eye(PEAK)),
        },
        rounds,
    )
    speed = {name: theirs * steps / seconds[name] for name in models}
    mine = updates * steps / seconds["epomdp"]
    acting, learning = arithmetic.ppo_step(config, ours.env)
    rates = {
        "acting": 2.0 * config.num_envs * width**2 * PRODUCTS / seconds["acting"],
        "learning": 2.0 * minibatch * width**2 * PRODUCTS / seconds["learning"],
        "peak": 2.0 * PEAK**3 / seconds["peak"],
    }
    return {
        "machine": timing.machine() | {"torch": torch.__version__, "sb3": stable_baselines3.__version__},
        "threads_of_torch": threads,
        "steps_per_second": {"epomdp": mine} | speed,
        "times": {name: mine / theirs for name, theirs in speed.items()},
        "operations_per_step": {"acting": acting, "learning": learning},
        "rates": rates,
        "times_floor": 1 / mine / (acting / rates["acting"] + learning / rates["learning"]),
        "times_floor_at_peak": 1 / mine / ((acting + learning) / rates["peak"]),
    }


def table(report: dict) -> str:
    speed = {name: timing.middle(values, 0) for name, values in report["steps_per_second"].items()}
    rows = [
        ["epomdp", speed.pop("epomdp"), ""],
        *(
            [f"stable-baselines3, {name}", speed[name], timing.middle(report["times"][name])]
            for name in speed
        ),
    ]
    speeds = timing.markdown(["PPO", "steps/s", "epomdp is faster by"], rows)
    rows = [
        *(
            [f"matrix products, {name}, GFLOP/s", timing.middle(rate / 1e9, 1)]
            for name, rate in report["rates"].items()
        ),
        ["epomdp's time over the floor, rates at the network's shapes", timing.middle(report["times_floor"])],
        ["epomdp's time over the floor, peak rate", timing.middle(report["times_floor_at_peak"])],
    ]
    return speeds + "\n\n" + timing.markdown(["floor", "median (range) of the rounds"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--env", choices=("guess", "maze"), default="guess")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--updates", type=int, default=40, help="of ours, in each round")
    parser.add_argument("--theirs", type=int, default=2, help="updates of stable-baselines3 in each round")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to a file")
    options = parser.parse_args()
    report = measure(options.env, options.rounds, options.updates, options.theirs)
    print(f"{report['machine']}\n\n{table(report)}")
    timing.write(options.json, report)


if __name__ == "__main__":
    main()
