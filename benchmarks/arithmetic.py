"""Floating-point operations that networks for boards cost, counted from the shapes of their layers.

A matrix product of (B, a) with (a, b) counts 2 B a b; a convolution counts as the product of its patches with its
weights. Activations, normalisation and the optimizer are left out.
"""

from __future__ import annotations

import itertools
import math

import numpy as np

from epomdp.agents import networks, ppo
from epomdp.envs.base import Environment


def layers(config: ppo.Config, env: Environment, outputs: int) -> list[float]:
    """Operations of each layer on one observation, the last one of so many outputs."""
    counts, size = [], math.prod(env.observation.shape)
    if networks.choose(config.network, env.observation, config.channels) == "board":
        sides = np.array(env.observation.shape[:2])
        for i, (a, b) in enumerate(itertools.pairwise((env.observation.shape[-1], *config.channels))):
            sides = (sides - 2) if i else (sides - 1) // 2
            size = b * int(sides.prod())
            counts.append(2.0 * 9 * a * size)
    return counts + [2.0 * a * b for a, b in itertools.pairwise((size, *config.hidden, outputs))]


def learning(counts: list[float], config: ppo.Config) -> float:
    """Operations of learning, for each environment step: every epoch goes forward once and backward twice (weights,
    inputs), but nothing needs the gradient of the observation."""
    return config.update_epochs * (3 * sum(counts) - counts[0])


def ppo_step(config: ppo.Config, env: Environment) -> tuple[float, float]:
    """Operations of our PPO for each environment step: acting, and learning.

    One torso serves policy and value. Acting asks the network once a step, and for the values at the ends of rollouts
    and at truncations.
    """
    counts = layers(config, env, env.num_actions + 1)
    asked = min(config.num_steps, config.num_steps // env.max_episode_steps + 1) + 1
    return sum(counts) * (1 + asked / config.num_steps), learning(counts, config)
