"""Networks for pixels: frames a second, acting and learning, beside the floor that their operations set.

    python benchmarks/pixel_networks.py --json pixel_networks.json

Frames of 64 x 64 x 3 bytes, 15 actions. Acting is a forward pass of 64 frames; learning is PPO's gradient of a
minibatch of the Procgen protocol (2,048 frames; a sixteenth of that for impala), gathered and sliced as PPO does. The
floor is the number of multiplications and additions in matrix products, over the speed of a product of two matrices
of 1,024 x 1,024 in the same rounds. Processor time is shown beside wall time, for machines that are not quiet; all
are the least of the rounds.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import timing

from epomdp.agents import networks, ppo

FRAME, ACTIONS, LANES = (64, 64, 3), 15, 64
MINIBATCH = {"small": 2048, "impala": 128}
SIDE = 1024


def layers(kind: str) -> list[float]:
    """Multiplications and additions of each layer in a forward pass of one frame, the first layer first."""
    channels, hidden = networks.CHANNELS[kind], networks.HIDDEN[kind]
    planes, found = (FRAME[-1], *channels), []
    sides = networks._sides(kind, FRAME[0], len(channels))
    for i, width in enumerate(channels):
        kernel = 16 if kind == "small" and i == 0 else 9
        # Impala's stages begin before their pool, and go on after it.
        first = sides[i] if kind == "impala" else sides[i + 1]
        found.append(2.0 * first**2 * kernel * planes[i] * width)
        if kind == "impala":
            found += [2.0 * sides[i + 1] ** 2 * kernel * width * width] * 4
    sizes = (channels[-1] * sides[-1] ** 2, *hidden, ACTIONS + 1)
    return found + [2.0 * a * b for a, b in itertools.pairwise(sizes)]


def operations(kind: str) -> dict[str, float]:
    """Of one frame: forward; and with gradients of weights, and of all inputs but the frame's."""
    counts = layers(kind)
    return {"acting": sum(counts), "learning": 3 * sum(counts) - counts[0]}


def batch(size: int) -> ppo.Batch:
    frames = jax.random.randint(jax.random.key(0), (size, *FRAME), 0, 256, jnp.int32).astype(jnp.uint8)
    numbers = jax.random.normal(jax.random.key(1), (4, size))
    action = jax.random.randint(jax.random.key(2), (size,), 0, ACTIONS)
    return ppo.Batch(frames, action, 0.1 * numbers[0] - 2.7, *numbers[1:], None)


def contestants(compute: networks.Compute) -> dict[tuple[str, str], tuple[int, functools.partial]]:
    """Frames and call of each."""
    seen = jax.ShapeDtypeStruct(FRAME, jnp.uint8)
    act = jax.jit(networks.outputs)

    @jax.jit
    def learn(network, data, rows):
        return ppo.gradient(network, ppo.Config(), data, rows, ppo.no_penalty)

    found = {}
    for kind, size in MINIBATCH.items():
        network = jax.jit(functools.partial(networks.make, kind, seen, ACTIONS, (), (), compute=compute))(
            key=jax.random.key(3)
        )
        data, rows = batch(size), jax.random.permutation(jax.random.key(4), size)
        lanes = data.observation.reshape(-1, LANES, *FRAME)
        found[kind, "acting"] = size, functools.partial(act, network, lanes)
        found[kind, "learning"] = size, functools.partial(learn, network, data, rows)
    return found


def measure(rounds: int, compute: networks.Compute) -> dict:
    square = jax.random.normal(jax.random.key(5), (SIDE, SIDE))
    product = jax.jit(jnp.matmul)
    calls = {("product", ""): (1, functools.partial(product, square, square))} | contestants(compute)
    best: dict[tuple[str, str], list[float]] = {}
    for _ in range(rounds + 1):
        for key, (_, go) in calls.items():
            wall, processor = time.perf_counter(), time.process_time()
            jax.block_until_ready(go())
            spent = [time.perf_counter() - wall, time.process_time() - processor]
            best[key] = [min(pair) for pair in zip(best.get(key, spent), spent, strict=True)]
    peak = [2.0 * SIDE**3 / seconds for seconds in best.pop(("product", ""))]
    rows = [
        {
            "network": kind,
            "what": what,
            "operations": operations(kind)[what],
            "frames_per_second": [calls[kind, what][0] / s for s in seconds],
            "floor": [speed / operations(kind)[what] for speed in peak],
        }
        for (kind, what), seconds in best.items()
    ]
    return {"machine": timing.machine(), "compute": compute, "peak": peak, "rows": rows}


def table(report: dict) -> str:
    columns = ["network", "", "operations a frame", "frames/s", "floor", "frames a processor second", "floor"]
    rows = []
    for row in report["rows"]:
        pairs = zip(row["frames_per_second"], row["floor"], strict=True)
        speeds = [f"{x:,.0f}" for pair in pairs for x in pair]
        rows.append([row["network"], row["what"], f"{row['operations'] / 1e6:.2f} million", *speeds])
    return timing.markdown(columns, rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compute", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to a file")
    options = parser.parse_args()
    report = measure(options.rounds, options.compute)
    wall, processor = (f"{speed / 1e9:.0f}" for speed in report["peak"])
    print(f"{report['machine']}\nproducts of matrices: {wall} Gflop/s, {processor} a processor second\n")
    print(table(report))
    timing.write(options.json, report)


if __name__ == "__main__":
    main()
