"""How the members of an ensemble are run: the same function over the leading axis of its arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from epomdp.agents.networks import Network

Strategy = Literal["auto", "map", "unroll", "vmap"]


def choose_strategy(strategy: Strategy, network: Network) -> Strategy:
    """What "auto" comes to on this backend.

    On a CPU "map": one member at a time fits the caches (measured). Elsewhere "vmap" for networks of dense layers,
    whose products are too small to fill a GPU one by one, and "map" for those with convolutions, which `vmap`
    would turn into grouped ones, and whose memory is that of one member (reasoned, not measured).
    """
    if strategy != "auto":
        return strategy
    return "vmap" if network == "mlp" and jax.default_backend() != "cpu" else "map"


def for_each_member(function: Callable[..., Any], strategy: Strategy = "vmap") -> Callable[..., Any]:
    """Map `function` over the leading (member) axis of every argument and of its results.

    "vmap" batches the members' operations, "unroll" compiles one copy a member, "map" runs them one after the
    other in a loop. The results agree up to float rounding; which is fastest depends on the network and the
    backend; "auto" has to be settled before.

    Raises:
        ValueError: no such strategy.
    """
    if strategy == "vmap":
        return jax.vmap(function)
    if strategy == "map":
        return lambda *args: jax.lax.map(lambda each: function(*each), args)
    if strategy != "unroll":
        raise ValueError(f"members cannot be run by '{strategy}'")

    def unrolled(*args):
        n = jax.tree.leaves(args)[0].shape[0]
        results = [function(*jax.tree.map(lambda x, i=i: x[i], args)) for i in range(n)]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *results)

    return unrolled
