"""Networks for boards: observations a second, acting and learning, for several shapes and ways to convolve.

    python benchmarks/board_networks.py --json board_networks.json

Boards of 11 x 11 cells and 6 planes, in minibatches of 256 inside one compiled loop (forward and backward, as PPO
learns), and 64 at a time (forward, as it acts). Processor time is shown beside wall time, for machines that are not
quiet; both are the least of the rounds. `xla` is the same network with XLA's own convolutions.
"""

from __future__ import annotations

import argparse
import functools
import time
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import timing
from jax.typing import DTypeLike

from epomdp.agents import layers
from epomdp.agents.layers import Convolution
from epomdp.agents.networks import ActorCritic

BOARD, ACTIONS, MINIBATCH, MINIBATCHES, LANES = (11, 11, 6), 5, 256, 16, 64
SHAPES = {
    "dense 128, 128": ((), (128, 128)),
    "16, dense 128": ((16,), (128,)),
    "16, 32, dense 128": ((16, 32), (128,)),
    "16, 32, dense 128, 128 (default)": ((16, 32), (128, 128)),
    "32, dense 128": ((32,), (128,)),
    "32, 32, dense 128": ((32, 32), (128,)),
    "32, 64, dense 128": ((32, 64), (128,)),
}


class XlaConvolution(Convolution):
    """The same convolution as XLA has it."""

    def __call__(self, x: jax.Array, dtype: DTypeLike = jnp.float32) -> jax.Array:
        return jax.nn.relu(layers._as_xla_does(x, self.weight, self.stride) + self.bias)


def with_xla(network: ActorCritic) -> ActorCritic:
    def replace(layer: Convolution) -> XlaConvolution:
        other = object.__new__(XlaConvolution)
        for name in ("weight", "bias", "stride", "relu"):
            object.__setattr__(other, name, getattr(layer, name))
        return other

    return eqx.tree_at(lambda n: n.convolutions, network, tuple(map(replace, network.convolutions)))


@jax.jit
def acting(network: ActorCritic, boards: jax.Array) -> jax.Array:
    def act(total, x):
        logits, value = jax.vmap(network)(x)
        return total + jnp.sum(logits) + jnp.sum(value), None

    return jax.lax.scan(act, 0.0, boards.reshape(-1, LANES, *BOARD))[0]


@jax.jit
def learning(network: ActorCritic, boards: jax.Array, order: jax.Array) -> ActorCritic:
    def loss(network, x):
        logits, value = jax.vmap(network)(x)
        return jnp.mean(jax.nn.log_softmax(logits)[:, 0]) + jnp.mean(value**2)

    def step(network, rows):
        gradient = jax.grad(loss)(network, boards[rows])
        return jax.tree.map(lambda w, g: w - 1e-4 * g, network, gradient), None

    return jax.lax.scan(step, network, order)[0]


def measure(rounds: int) -> dict:
    size = MINIBATCH * MINIBATCHES
    boards = jax.random.bernoulli(jax.random.key(0), 0.3, (size, *BOARD)).astype(jnp.uint8)
    order = jax.random.permutation(jax.random.key(1), size).reshape(MINIBATCHES, MINIBATCH)
    seen = jax.ShapeDtypeStruct(BOARD, jnp.uint8)
    contestants = {}
    for name, (channels, hidden) in SHAPES.items():
        kind = "board" if channels else "mlp"
        network = ActorCritic(kind, seen, ACTIONS, channels, hidden, jax.random.key(2))
        kinds = {name: network} | ({f"{name}, xla": with_xla(network)} if "default" in name else {})
        for kind, built in kinds.items():
            contestants["acting", kind] = functools.partial(acting, built, boards)
            contestants["learning", kind] = functools.partial(learning, built, boards, order)
    best: dict[tuple[str, str], list[float]] = {}
    for _ in range(rounds + 1):
        for key, go in contestants.items():
            wall, processor = time.perf_counter(), time.process_time()
            jax.block_until_ready(go())
            spent = [time.perf_counter() - wall, time.process_time() - processor]
            best[key] = [min(pair) for pair in zip(best.get(key, spent), spent, strict=True)]
    found: dict[str, dict[str, list[float]]] = {}
    for (what, kind), seconds in best.items():
        found.setdefault(kind, {})[what] = [size / s for s in seconds]
    return {"machine": timing.machine(), "observations_per_second": found}


def table(report: dict) -> str:
    rows = [
        [kind, *(f"{speed:,.0f}" for what in ("acting", "learning") for speed in figures[what])]
        for kind, figures in report["observations_per_second"].items()
    ]
    columns = ["acting", "acting, a processor second", "learning", "learning, a processor second"]
    return timing.markdown(["channels of the convolutions, dense layers", *columns], rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to a file")
    options = parser.parse_args()
    report = measure(options.rounds)
    print(f"{report['machine']}\n\n{table(report)}")
    timing.write(options.json, report)


if __name__ == "__main__":
    main()
