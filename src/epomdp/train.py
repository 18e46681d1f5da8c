"""The training loop: collect, update, log, checkpoint. One for all agents and environments."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

from epomdp import contexts, drivers, problems
from epomdp.agents import registry
from epomdp.agents.base import Agent
from epomdp.contexts import ContextSet, Split
from epomdp.drivers import Driver
from epomdp.errors import BadInput, EnvironmentFailed, RunFailed
from epomdp.evaluate import evaluate
from epomdp.problems import Problem
from epomdp.runs import Checkpoint, Run, check_free

CURVE_CONTEXTS = 256
"""Contexts of each split that a learning curve is measured on."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """What defines a run; with the package's versions it determines every bit of it on a CPU.

    What is left out comes from the protocol, and where that says nothing, from the environment and the agent.

    Attributes:
        protocol: a name among the environment's protocols; by default its first one, if it has any.
        steps: environment steps over the whole ensemble; rounded up to whole updates.
        evaluations: points of the learning curves along the run.
    """

    env: str
    agent: str
    env_options: dict[str, Any] = dataclasses.field(default_factory=dict)
    agent_options: dict[str, Any] = dataclasses.field(default_factory=dict)
    train_contexts: int | None = None
    validation_contexts: int | None = None
    test_contexts: int | None = None
    steps: int | None = None
    seed: int = 0
    evaluations: int = 20
    protocol: str | None = None

    def resolved(self) -> Settings:
        """Every default filled in; BadInput where something cannot be."""
        entry = problems.entry(self.env)
        name, protocol = problems.protocol(self.env, self.protocol)
        sizes = ("train_contexts", "validation_contexts", "test_contexts", "steps")
        filled = {size: protocol.sizes.get(size, getattr(entry, size)) for size in sizes}
        known = registry.options(registry.entry(self.agent).config)
        suited = {option: value for option, value in entry.agent_options.items() if option in known}
        if protocol.agent_options.keys() <= known.keys():
            suited |= protocol.agent_options
        settings = dataclasses.replace(
            self,
            protocol=name,
            env_options=entry.options | protocol.options | self.env_options,
            agent_options=registry.options(registry.configure(self.agent, suited | self.agent_options)),
            **{size: value for size, value in filled.items() if getattr(self, size) is None},
        )
        for name, least in (
            ("steps", 1),
            ("train_contexts", 1),
            ("test_contexts", 1),
            ("validation_contexts", 0),
        ):
            if getattr(settings, name) < least:
                raise BadInput(
                    f"--{name.replace('_', '-')} is {getattr(settings, name)}; it must be at least {least}"
                )
        check_seed(settings.seed)
        if settings.evaluations < 0:
            raise BadInput(f"--evaluations is {settings.evaluations}; it must not be negative")
        return settings


def check_seed(seed: int) -> None:
    """Raise BadInput unless a seed can be told apart from every other one by JAX's keys."""
    if not 0 <= seed < 2**32:
        raise BadInput(f"--seed is {seed}; it must be from 0 to {2**32 - 1}")


def as_stored(value: Any) -> Any:
    """A setting as it comes back from `config.json`."""
    return json.loads(json.dumps(value))


class Progress(NamedTuple):
    """How far a run is, for a progress bar; returns are NaN until first measured."""

    update: int
    updates: int
    steps: int
    total_steps: int
    train_return: float
    validation_return: float


class Setup(NamedTuple):
    """What a run acts in and learns with."""

    problem: Problem
    parts: Split
    agent: Agent
    resamples: np.ndarray


def prepare(settings: Settings) -> Setup:
    """Make the problem, draw the contexts and build the agent; deterministic in the settings."""
    problem = problems.make(settings.env, settings.env_options)
    parts = problems.draw(
        problem,
        train=settings.train_contexts or 0,
        validation=settings.validation_contexts or 0,
        test=settings.test_contexts or 0,
        seed=settings.seed,
    )
    config = registry.configure(settings.agent, settings.agent_options)
    agent = registry.build(settings.agent, config, problem.env)
    everything = np.tile(np.arange(len(parts.train), dtype=np.int32), (agent.members, 1))
    resamples = (
        contexts.bootstrap(settings.seed, len(parts.train), agent.members) if agent.bootstrap else everything
    )
    return Setup(problem, parts, agent, resamples)


def train(
    settings: Settings,
    out: str | Path,
    *,
    on_progress: Callable[[Progress], None] | None = None,
    **options: Any,
) -> Run:
    """Train in a new run directory.

    Args:
        on_progress: called after every update.
        options: `checkpoint_seconds`, `tracker`, `on_start` as in `resume`.

    Raises:
        BadInput: settings or directory that cannot be used; nothing has been written then.
        RunFailed: divergence or a full disk; the last good checkpoint stays.
        KeyboardInterrupt: after the checkpoint is safe.
    """
    settings = settings.resolved()
    check_free(Path(out))
    setup = prepare(settings)
    agent = setup.agent
    updates = math.ceil((settings.steps or 0) / agent.steps_per_update)
    accounting = {
        "network": agent.network,
        "strategy": agent.strategy,
        "max_episode_steps": setup.problem.env.max_episode_steps,
        "updates": updates,
        "total_steps": updates * agent.steps_per_update,
        "steps_per_member": updates * agent.steps_per_update // agent.members,
    }
    described = {name: getattr(setup.parts, name).describe() for name in ("train", "validation", "test")}
    run = Run.create(
        out,
        dataclasses.asdict(settings) | accounting,
        described | {"overlap": setup.parts.overlap._asdict(), "resamples": setup.resamples.tolist()},
    )
    return _go_on(run, setup, settings, on_progress, **options)


def resume(path: str | Path, *, on_progress: Callable[[Progress], None] | None = None, **options: Any) -> Run:
    """Continue a run to the same bits as if it had never stopped (on a CPU, with the same versions).

    Args:
        checkpoint_seconds: wall time between checkpoints.
        tracker: called with (metrics, steps) after every update, for TensorBoard and the like.
        on_start: called with the run's Setup before the first update.

    Raises:
        BadInput: not a run, or its data have changed since.
        RunFailed: as in `train`.
    """
    run, setup, settings = load(path)
    return _go_on(run, setup, settings, on_progress, **options)


def load(path: str | Path) -> tuple[Run, Setup, Settings]:
    """A run and what it acts in and learns with, made again from its settings and checked by content hash."""
    run = Run(path)
    names = [field.name for field in dataclasses.fields(Settings)]
    needed = (*(name for name in names if name != "protocol"), "updates", "total_steps")
    missing = [name for name in needed if name not in run.config]
    if missing:
        raise BadInput(f"{path}: its config.json lacks '{missing[0]}'; train it again in another directory")
    recorded = run.contexts
    try:
        settings = Settings(**{name: run.config[name] for name in names if name in run.config})
        setup = prepare(settings)
    except (TypeError, AttributeError):
        raise BadInput(f"{path}: its config.json is damaged; train it again in another directory") from None
    for name in ("train", "validation", "test"):
        if list(getattr(setup.parts, name).hashes) != recorded[name]["hashes"]:
            raise BadInput(
                f"{path}: the {name} contexts are not those it was started with; restore the data it used"
            )
    return run, setup, settings


def restore(run: Run, setup: Setup, settings: Settings) -> Checkpoint:
    """The newest good checkpoint, or the start of the run where there is none."""
    with closing(_driver(setup)) as driver:
        return _newest(run, driver, settings)


def _newest(run: Run, driver: Driver, settings: Settings) -> Checkpoint:
    key = jax.random.fold_in(jax.random.key(settings.seed), 2**31)
    found = run.load(jax.eval_shape(driver.initial, key))
    return found or Checkpoint(driver.initial(key), 0, 0)


def _driver(setup: Setup) -> Driver:
    return drivers.make(setup.problem.env, setup.agent, setup.parts.train, setup.resamples)


def _go_on(
    run: Run,
    setup: Setup,
    settings: Settings,
    on_progress: Callable[[Progress], None] | None,
    *,
    checkpoint_seconds: float = 30.0,
    tracker: Callable[[dict[str, float], int], None] | None = None,
    on_start: Callable[[Setup], None] | None = None,
) -> Run:
    agent, updates = setup.agent, run.config["updates"]
    if on_start:
        on_start(setup)
    _warn_of_leaks(setup.parts)
    run.tidy()
    key = jax.random.key(settings.seed)
    due = _evaluation_points(updates, settings.evaluations)
    curve = {"train_return": math.nan, "validation_return": math.nan}
    with _resumable(run), closing(_driver(setup)) as driver, _deferred_interrupt() as interrupted:
        loop, update, steps = _newest(run, driver, settings)
        run.rewind(update, steps)
        if update < updates:
            # What was evaluated is no longer the newest.
            (run.path / "evaluation.json").unlink(missing_ok=True)
        started, saved = time.monotonic(), time.monotonic()
        while update < updates:
            loop, metrics = driver.iterate(loop, jax.random.fold_in(key, update))
            update, steps = update + 1, steps + agent.steps_per_update
            row = {name: float(value) for name, value in metrics.items()}
            _check_finite(row, run, steps)
            if update in due:
                measured = _curve_point(setup, agent.params(loop.learners), settings)
                row, curve = row | measured, curve | measured
            if tracker:
                tracker(row, steps)
            seconds = round(time.monotonic() - started, 3)
            run.log(
                {"steps": steps, "seconds": seconds} | {k: v for k, v in row.items() if not math.isnan(v)}
            )
            if on_progress:
                on_progress(
                    Progress(
                        update,
                        updates,
                        steps,
                        run.config["total_steps"],
                        curve["train_return"],
                        curve["validation_return"],
                    )
                )
            if update == updates or interrupted() or time.monotonic() - saved > checkpoint_seconds:
                _check_parameters(loop.learners, run, steps)
                run.save(Checkpoint(loop, update, steps))
                saved = time.monotonic()
            if interrupted():
                raise KeyboardInterrupt
    return run


@contextmanager
def _resumable(run: Run) -> Iterator[None]:
    """Where an environment fails and there is a checkpoint, say that the run can go on from it."""
    try:
        yield
    except EnvironmentFailed as failure:
        if not any((run.path / "checkpoints").glob("[0-9]*.json")):
            raise
        raise EnvironmentFailed(
            f"{failure}; the last checkpoint is good: mend the environment and resume the run"
        ) from failure


def _warn_of_leaks(parts: Split) -> None:
    copies = len(contexts.leaks(parts.train, parts.test))
    if copies:
        warnings.warn(
            f"{copies:,} of the {len(parts.test):,} test contexts are equal to a training context, so what an agent "
            "does there says nothing of generalization; contexts.json has their hashes, and "
            "epomdp evaluate --novel leaves them out",
            contexts.Leak,
            stacklevel=2,
        )


def _check_finite(row: dict[str, float], run: Run, steps: int) -> None:
    # No episode may have ended in a rollout, so its mean return alone may be NaN.
    wrong = [name for name, value in row.items() if not math.isfinite(value) and name != "episode_return"]
    if wrong:
        raise _diverged(run, f"{wrong[0]} is {row[wrong[0]]}", steps)


def _check_parameters(learners: PyTree, run: Run, steps: int) -> None:
    """The metrics are those before the last gradient step; what is saved must be finite after it."""
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(learners)):
        raise _diverged(run, "a parameter is not finite", steps)


def _diverged(run: Run, what: str, steps: int) -> RunFailed:
    return RunFailed(
        f"{run.path}: {what} at step {steps}; the checkpoints before it are kept; "
        "a smaller --learning-rate is the usual mend"
    )


def _curve_point(setup: Setup, params: PyTree, settings: Settings) -> dict[str, float]:
    """Mean return of the agent's default policy on each split, one episode a context."""
    agent, env = setup.agent, setup.problem.env
    point = {}
    for name in ("train", "validation", "test"):
        part: ContextSet = getattr(setup.parts, name)
        if len(part):
            some = part[:CURVE_CONTEXTS]
            episodes = evaluate(
                env, agent.policies[agent.default_policy], params, some, episodes=1, seed=settings.seed
            )
            point[f"{name}_return"] = float(np.mean(episodes.returns))
    return point


def _evaluation_points(updates: int, evaluations: int) -> set[int]:
    """The updates after which a curve is measured: evenly spread, the last one among them."""
    return {round(updates * (i + 1) / evaluations) for i in range(evaluations)} - {0}


@contextmanager
def _deferred_interrupt() -> Iterator[Callable[[], bool]]:
    """Ctrl-C asks the loop to stop at the next safe point; a second one stops at once."""
    asked = False

    def ask(signum, frame):
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        # Not by way of sys.stderr, in the middle of whose work this may be.
        os.write(2, b"\nstopping after this update; Ctrl-C again stops at once, from the last checkpoint\n")

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = signal.signal(signal.SIGINT, ask)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)
