"""Shared by the speed benchmarks: training as a thing to time, alternation, and the machine's name."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from epomdp import drivers
from epomdp import train as training

Contestants = dict[str, Callable[[], object]]


class Trainer:
    """The training loop's compiled part, as `epomdp train` runs it: act, step the environments, learn."""

    def __init__(self, agent: str, options: dict[str, Any] | None = None, env: str = "guess") -> None:
        settings = training.Settings(env, agent, agent_options=options or {}).resolved()
        setup = training.prepare(settings)
        self.env, self.agent, self.contexts = setup.problem.env, setup.agent, setup.parts.train
        self._driver = drivers.make(self.env, self.agent, self.contexts, setup.resamples)
        self._loop = self._driver.initial(jax.random.key(0))
        self._update = 0

    def run(self, updates: int) -> None:
        """Train; the metrics come to the host after every update, as they do for the log."""
        for _ in range(updates):
            key = jax.random.fold_in(jax.random.key(0), self._update)
            self._loop, metrics = self._driver.iterate(self._loop, key)
            jax.tree.map(float, metrics)
            self._update += 1


def alternate(contestants: Contestants, rounds: int) -> dict[str, np.ndarray]:
    """Seconds (rounds,) of each contestant, one after the other in every round; the first round warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds + 1):
        for name, go in contestants.items():
            started = time.perf_counter()
            jax.block_until_ready(go())
            seconds[name].append(time.perf_counter() - started)
    return {name: np.array(values[1:]) for name, values in seconds.items()}


def machine() -> dict[str, Any]:
    """What the figures were measured on, and how busy it was."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": models[0] if models else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 1),
        "jax": jax.__version__,
    }


def markdown(columns: list[str], rows: list[list[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def middle(values: np.ndarray, digits: int = 2) -> str:
    """Median and range."""
    return f"{np.median(values):.{digits}f} ({values.min():.{digits}f} to {values.max():.{digits}f})"


def write(path: Path | None, report: dict[str, Any]) -> None:
    if path:
        plain = json.dumps(report, indent=1, default=lambda x: x.tolist())
        path.write_text(plain + "\n")
