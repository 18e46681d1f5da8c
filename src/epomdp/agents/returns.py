"""Rewards divided by the running standard deviation of returns, as in OpenAI's baselines.

`VecNormalize(ob=False)` of baselines is part of the published Procgen protocol. It keeps each environment's
discounted return R <- .99 R + r, takes up all R of a step into a running variance, gives out
r / sqrt(variance + 1e-8), clipped to +-10, and sets R to zero where an episode ended. The discount is the wrapper's
own, whatever the agent's is.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

DISCOUNT = 0.99
LARGEST = 10.0


class Scale(NamedTuple):
    """Mean and variance of all `seen` returns so far, and the return of each environment's episode so far."""

    mean: Float[Array, ""]
    variance: Float[Array, ""]
    seen: Float[Array, ""]
    returns: Float[Array, " N"]


def init(num_envs: int) -> Scale:
    """Before the first step: one ten-thousandth of a return, with variance 1."""
    return Scale(jnp.zeros(()), jnp.ones(()), jnp.full((), 1e-4), jnp.zeros(num_envs))


def normalise(
    scale: Scale, reward: Float[Array, "T N"], ended: Bool[Array, "T N"]
) -> tuple[Scale, Float[Array, "T N"]]:
    """Go through the steps of a rollout; each step's rewards are divided by the scale that includes them."""

    def step(scale: Scale, now):
        reward, ended = now
        returns = DISCOUNT * scale.returns + reward
        scale = _take_up(scale, returns)
        scaled = reward / jnp.sqrt(scale.variance + 1e-8)
        kept = jnp.where(ended, 0.0, returns)
        return scale._replace(returns=kept), jnp.clip(scaled, -LARGEST, LARGEST)

    return jax.lax.scan(step, scale, (reward, ended))


def _take_up(scale: Scale, returns: Float[Array, " N"]) -> Scale:
    """Mean and variance of two samples together (Chan, Golub and LeVeque 1979)."""
    seen = scale.seen + returns.size
    share = returns.size / seen
    apart = jnp.mean(returns) - scale.mean
    variance = scale.variance + share * (jnp.var(returns) - scale.variance + (1.0 - share) * apart**2)
    return Scale(scale.mean + share * apart, variance, seen, scale.returns)
