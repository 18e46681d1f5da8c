"""Networks: from one observation to action logits and a value."""

from __future__ import annotations

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Params = Any
"""A network: a pytree of arrays that is called with one observation and gives (logits, value)."""


def _linear(size_in: int, size_out: int, scale: float, key: Array) -> eqx.nn.Linear:
    """Linear layer with orthogonal weights of the given gain and zero biases."""
    layer = eqx.nn.Linear(size_in, size_out, key=key)
    weight = scale * orthogonal(key, size_out, size_in)
    return eqx.tree_at(lambda x: (x.weight, x.bias), layer, (weight, jnp.zeros(size_out)))


def orthogonal(key: Array, rows: int, columns: int) -> Float[Array, "rows columns"]:
    """A uniformly random matrix of orthonormal rows, or columns where these are fewer (Saxe et al. 2014).

    By Gram and Schmidt, each vector twice ("twice is enough", Giraud, Langou and Rozloznik 2005). Not by
    `jnp.linalg.qr`: under `vmap` over members LAPACK's batches wait, in threads of XLA's pool, for threads of
    the same pool, and on a machine of two cores two such calls at a time wait for ever.
    """
    few, many = sorted((rows, columns))
    gaussian = jax.random.normal(key, (few, many))

    def add(i, basis):
        vector = gaussian[i]
        for _ in range(2):
            vector = vector - basis.T @ (basis @ vector)
        return basis.at[i].set(vector / jnp.linalg.norm(vector))

    basis = jax.lax.fori_loop(0, few, add, jnp.zeros_like(gaussian))
    return basis if rows == few else basis.T


class ActorCritic(eqx.Module):
    """Fully connected torso with ReLU, shared by an actor and a critic head.

    Call it with one observation of any shape; it is flattened.
    """

    torso: tuple[eqx.nn.Linear, ...]
    actor: eqx.nn.Linear
    critic: eqx.nn.Linear

    def __init__(
        self, observation: jax.ShapeDtypeStruct, num_actions: int, hidden: tuple[int, ...], key: Array
    ):
        sizes = (math.prod(observation.shape), *hidden)
        keys = jax.random.split(key, len(hidden) + 2)
        self.torso = tuple(
            _linear(a, b, math.sqrt(2.0), k) for a, b, k in zip(sizes, hidden, keys[2:], strict=False)
        )
        self.actor = _linear(sizes[-1], num_actions, 0.01, keys[0])
        self.critic = _linear(sizes[-1], 1, 1.0, keys[1])

    def __call__(self, observation: Float[Array, ...]) -> tuple[Float[Array, " A"], Float[Array, ""]]:
        x = jnp.ravel(observation).astype(jnp.float32)
        for layer in self.torso:
            x = jax.nn.relu(layer(x))
        return self.actor(x), self.critic(x)[0]
