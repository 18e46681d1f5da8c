"""Maze's steps a second beside jaxued's maze and MiniGrid through EnvPool, random actions, in one run.

pip install jaxued envpool && python benchmarks/maze_peers.py --json maze_peers.json

All play boards of 11 x 11 squares of which everything is seen, as it lies, except MiniGrid's, which shows 7 x 7
squares of a 9 x 9 board and makes a level anew at every reset. jaxued plays our levels; it ends, like ours, in a
fresh level drawn from the same pool. As its own wrappers do, its loop computes a reset of every environment at every
step; "epomdp, resets" is our game in that very loop, to tell the harness from the environment.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import env_speed
import envpool
import jax
import jax.numpy as jnp
import numpy as np
import timing
from jaxued.environments.maze import Level
from jaxued.environments.maze import Maze as TheirMaze

from epomdp import problems
from epomdp.problems import Problem

STEPS = env_speed.STEPS
MINIGRID = "MiniGrid-SimpleCrossingS9N3-v0"


def jaxued(problem: Problem, num_envs: int):
    size = problem.env.size
    env = TheirMaze(max_height=size, max_width=size, fully_obs=True)
    params = env.default_params.replace(max_steps_in_episode=problem.env.max_episode_steps)
    values = jax.tree.map(jnp.asarray, problem.contexts.values)
    pool = len(problem.contexts)

    def begin(key, i):
        level = Level(
            wall_map=values["walls"][i] == 1,
            goal_pos=values["goal"][i][::-1].astype(jnp.uint32),
            agent_pos=values["start"][i][::-1].astype(jnp.uint32),
            agent_dir=jnp.uint8(0),
            width=size,
            height=size,
        )
        return env.reset_env_to_level(key, level, params)

    def advance(carry, random):
        observation, state = carry
        key, action, chosen = random
        action = (action + observation.image[0, 0, 0]) % 3  # as ours: what is seen must be made
        observation, state, reward, done, _ = env.step_env(key, state, action, params)
        fresh = begin(key, chosen)
        return jax.tree.map(lambda a, b: jnp.where(done, a, b), fresh, (observation, state)), reward

    def turn(carry, random):
        return jax.vmap(advance)(carry, random)

    @jax.jit
    def play(carry, key):
        shape = (STEPS, num_envs)
        actions = jax.random.randint(key, shape, 0, 3)  # left, right, forward: the rest does nothing
        chosen = jax.random.randint(key, shape, 0, pool)
        carry, reward = jax.lax.scan(turn, carry, (jax.random.split(key, shape), actions, chosen))
        return carry, reward.sum()

    keys = jax.random.split(jax.random.key(0), num_envs)
    start = jax.jit(jax.vmap(begin))(keys, jnp.arange(num_envs) % pool)
    # Times and flags of a fresh state are Python numbers; a first step gives them their types.
    typed = jax.tree.map(
        lambda x, y: x.astype(y.dtype), start, jax.eval_shape(jax.jit(play), start, keys[0])[0]
    )
    return lambda: play(typed, jax.random.key(1))


def resets(problem: Problem, num_envs: int):
    """Our game in jaxued's loop."""
    env = problem.env
    values = jax.tree.map(jnp.asarray, problem.contexts.values)
    pool = len(problem.contexts)

    def begin(key, i):
        return env.reset(key, jax.tree.map(lambda leaf: leaf[i], values))

    def advance(carry, random):
        state, observation = carry
        key, action, chosen = random
        action = (action + observation[0, 0, 0]) % env.num_actions
        state, step = env.step(key, state, action)
        done = step.terminated | step.truncated
        going, fresh = (state, step.observation), begin(key, chosen)
        return jax.tree.map(lambda a, b: jnp.where(done, a, b), fresh, going), step.reward

    @jax.jit
    def play(carry, key):
        shape = (STEPS, num_envs)
        actions = jax.random.randint(key, shape, 0, env.num_actions)
        chosen = jax.random.randint(key, shape, 0, pool)
        random = (jax.random.split(key, shape), actions, chosen)
        carry, reward = jax.lax.scan(jax.vmap(advance), carry, random)
        return carry, reward.sum()

    keys = jax.random.split(jax.random.key(0), num_envs)
    start = jax.jit(jax.vmap(begin))(keys, jnp.arange(num_envs) % pool)
    return lambda: play(start, jax.random.key(1))


def minigrid(num_envs: int):
    env = envpool.make_gymnasium(MINIGRID, num_envs=num_envs, seed=0)
    env.reset()
    actions = np.random.default_rng(0).integers(0, 3, (STEPS, num_envs)).astype(np.int32)

    def go():
        for action in actions:
            env.step(action)

    return go


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to a file")
    options = parser.parse_args()
    problem = problems.make("maze", problems.entry("maze").options | {"view": "board"})
    contestants: timing.Contestants = {}
    counts = {}
    for num_envs in (1024, 4096):
        made = {
            "epomdp": env_speed.compiled(problem, num_envs),
            "epomdp, resets": resets(problem, num_envs),
            "jaxued": jaxued(problem, num_envs),
            "EnvPool MiniGrid": minigrid(num_envs),
        }
        contestants |= {f"{name}, {num_envs}": go for name, go in made.items()}
        counts |= {f"{name}, {num_envs}": num_envs for name in made}
    seconds = timing.alternate(contestants, options.rounds)
    speed = {name: counts[name] * STEPS / values for name, values in seconds.items()}
    rows = [
        [
            name,
            timing.middle(values, 0),
            timing.middle(speed[f"epomdp, {counts[name]}"] / values),
        ]
        for name, values in speed.items()
    ]
    report = {"machine": timing.machine(), "steps_per_second": speed}
    print(
        f"{report['machine']}\n\n{timing.markdown(['maze, episodes at once', 'steps/s', 'epomdp/it'], rows)}"
    )
    timing.write(options.json, report)


if __name__ == "__main__":
    main()
