"""Does an environment keep the contract? `check_environment` says what is wrong with it, and where."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.core import Tracer
from jaxtyping import Array, Bool, PyTree

from epomdp.contexts import ContextSet
from epomdp.envs.base import Environment, Step
from epomdp.envs.findings import Check, Findings, Report, leaves_by_path
from epomdp.errors import BadInput

_CONTEXTS = 4  # examined call by call
_EPISODES = 16  # played to their end
_AFTER_END = 3  # steps taken past the limit


def check_environment(env: Environment, contexts: ContextSet, *, seed: int = 0, steps: int = 20) -> Report:
    """Examine an environment against the written contract (docs/environments/contract.md).

    Up to 4 contexts are stepped call by call: each call is made twice, then compiled, then for all contexts at
    once under `vmap`, with the same arguments. Then up to 16 episodes are played past their end. A fault is
    reported once, where it first shows; faults of types end the examination, since they would show everywhere.

    Args:
        env: the environment, yours or ours.
        contexts: some of its contexts; at least two that differ, to show that the context is traced.
        seed: of the keys and actions.
        steps: how many are compared call by call in each context.
    """
    if steps < 1:
        raise BadInput(f"check: steps must be at least 1, got {steps}")
    found = Findings()
    attributes = dict(vars(env))
    if _check_attributes(env, found):
        with found.catch("call"):
            eager = _check_eager(env, contexts, seed, steps, found)
        if found.clean("call", "shapes"):
            with found.catch("jit"):
                _check_vmap(env, _check_jit(env, eager, found), found)
        if found.clean("call", "shapes", "jit", "leak"):
            with found.catch("jit"):
                _check_episodes(env, contexts, seed, found)
        _check_purity(env, attributes, found)
    return Report(
        str(getattr(env, "name", type(env).__name__)), tuple(found.problems.values()), tuple(found.notes)
    )


class _Call(NamedTuple):
    """One call made and what came of it, fields by name."""

    method: str
    place: str
    args: tuple
    result: dict[str, PyTree]


def _methods(env: Environment) -> dict[str, Callable[..., dict[str, PyTree]]]:
    """The environment's methods with their results as fields by name."""

    def reset(key, context):
        state, observation = env.reset(key, context)
        return {"state": state, "observation": observation}

    def step(key, state, action):
        state, shown = env.step(key, state, action)
        if not isinstance(shown, Step):
            raise TypeError(f"must return (state, Step), got (state, {type(shown).__name__})")
        return {"state": state, **shown._asdict(), "solved": env.solved(state, shown)}

    return {"reset": reset, "step": step}


# ---- the checks, in order


def _check_attributes(env: Environment, found: Findings) -> bool:
    for field in ("num_actions", "max_episode_steps"):
        value = getattr(env, field, None)
        if not isinstance(value, int) or value < 1:
            found.add("attributes", field, f"must be an integer of at least 1, is {value!r}")
    if not isinstance(getattr(env, "name", None), str):
        found.add("attributes", "name", "must be a string")
    if not isinstance(getattr(env, "observation", None), jax.ShapeDtypeStruct):
        found.add("attributes", "observation", "must be a jax.ShapeDtypeStruct")
    with found.catch("attributes"):
        hash(env)
    return not found.problems


def _check_eager(
    env: Environment, contexts: ContextSet, seed: int, steps: int, found: Findings
) -> list[list[_Call]]:
    """Determinism, and shapes and dtypes, call by call; a list of calls for each context."""
    chosen = contexts[np.unique(np.linspace(0, len(contexts) - 1, _CONTEXTS).astype(int))]
    keys = jax.random.split(jax.random.key(seed), (len(chosen), steps + 1))
    actions = np.random.default_rng(seed).integers(0, env.num_actions, (len(chosen), steps)).astype(np.int32)
    methods = _methods(env)

    def call(method: str, place: str, *args: Any) -> _Call:
        found.at(method, place)
        result = methods[method](*args)
        found.compare("determinism", "the same call made again", methods[method](*args), result)
        return _Call(method, place, args, result)

    record = []
    for i, name in enumerate(chosen.ids):
        found.at("contexts", f"context {name}")
        context = jax.tree.map(jnp.asarray, chosen.context(i))
        calls = [call("reset", f"context {name}", keys[i, 0], context)]
        for t in range(steps):
            place = f"context {name}, step {t + 1}"
            calls.append(
                call("step", place, keys[i, t + 1], calls[-1].result["state"], jnp.asarray(actions[i, t]))
            )
            _check_shapes(env, calls[0], calls[-1], found)
            if not found.clean("shapes"):
                return record
        record.append(calls)
    first = record[0][0]
    found.at(first.method, first.place)
    found.compare(
        "history",
        "the same call before other episodes were played",
        methods["reset"](*first.args),
        first.result,
    )
    return record


def _check_shapes(env: Environment, reset: _Call, step: _Call, found: Findings) -> None:
    """Shapes and dtypes as declared, and the state's as `reset` made it."""
    scalar = {"reward": np.float32, "terminated": np.bool_, "truncated": np.bool_, "solved": np.bool_}
    expected = {"observation": (env.observation.shape, np.dtype(env.observation.dtype))}
    expected |= {field: ((), np.dtype(dtype)) for field, dtype in scalar.items()}
    for call in (reset, step):
        found.at(call.method, call.place)
        for field in expected.keys() & call.result.keys():
            array = jnp.asarray(call.result[field])
            if (array.shape, array.dtype) != expected[field]:
                shape, dtype = expected[field]
                found.add("shapes", field, f"is {array.dtype}{array.shape}, must be {dtype}{shape}")
    states = [
        {k: (v.shape, v.dtype) for k, v in leaves_by_path(call.result["state"]).items()}
        for call in (reset, step)
    ]
    for field in states[0].keys() | states[1].keys():
        before, after = (f"{s[field][1]}{s[field][0]}" if field in s else "missing" for s in states)
        if before != after:
            found.add(
                "shapes", f"state.{field}", f"is {after}, but {before} in the state that reset returned"
            )


def _check_jit(env: Environment, record: list[list[_Call]], found: Findings) -> list[list[_Call]]:
    """The recorded calls, compiled: same results, one compilation for all contexts and steps."""
    traces: Counter[str] = Counter()

    def counted(name: str, function: Callable) -> Callable:
        def traced(*args):
            traces[name] += 1
            return function(*args)

        return jax.jit(traced)

    compiled = {name: counted(name, function) for name, function in _methods(env).items()}
    results = []
    for calls in record:
        results.append([])
        for call in calls:
            found.at(call.method, call.place)
            result = compiled[call.method](*call.args)
            found.compare("jit", "the same call without jit", result, call.result)
            results[-1].append(call._replace(result=result))
    for name, count in traces.items():
        if count > 1:
            found.at(name)
            what = f"compiled {count} times for values of the same shapes"
            found.add("retrace", "", f"{what}; give every number in the state an explicit dtype")
    return results


def _check_vmap(env: Environment, record: list[list[_Call]], found: Findings) -> None:
    """The recorded calls, all contexts in one."""
    batched = {name: jax.jit(jax.vmap(function)) for name, function in _methods(env).items()}
    for calls in zip(*record, strict=True):
        found.at(calls[0].method)
        args = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(call.args for call in calls))
        result = leaves_by_path(batched[calls[0].method](*args))
        for i, call in enumerate(calls):
            found.at(call.method, call.place)
            one = {field: values[i] for field, values in result.items()}
            found.compare("vmap", "the same call without vmap", one, call.result)


def _check_episodes(env: Environment, contexts: ContextSet, seed: int, found: Findings) -> None:
    """Whole episodes past their end: flags, limit, rewards, and that an ended episode stays as it ended."""
    n = min(_EPISODES, len(contexts))
    length = env.max_episode_steps + _AFTER_END
    chosen = contexts[np.linspace(0, len(contexts) - 1, n).astype(int)]
    # Half of the episodes act at random, half repeat one action, which reaches the limit more often.
    actions = np.random.default_rng(seed).integers(0, env.num_actions, (n, length)).astype(np.int32)
    actions[::2] = actions[::2, :1]
    keys = jax.random.split(jax.random.key(seed + 1), n)
    methods = _methods(env)

    def play(key, context, actions):
        start, later = jax.random.split(key)

        def advance(before, key_and_action):
            key, action = key_and_action
            after = methods["step"](key, before["state"], action)
            kept = {name: after[name] for name in ("state", "observation")}
            moved = jax.tree.map(_differ, kept, before)
            finite = jnp.isfinite(jnp.asarray(after["observation"], jnp.float32)).all()
            flags = {name: after[name] for name in ("reward", "terminated", "truncated")}
            return kept, {**flags, "finite": finite, "moved": moved}

        return jax.lax.scan(
            advance, methods["reset"](start, context), (jax.random.split(later, length), actions)
        )[1]

    found.at("step", "in a whole episode")
    seen = jax.jit(jax.vmap(play))(keys, jax.tree.map(jnp.asarray, chosen.values), actions)
    moved = leaves_by_path(seen.pop("moved"))
    seen = {name: np.asarray(values) for name, values in seen.items()}
    for i, name in enumerate(chosen.ids):
        one = {field: values[i] for field, values in seen.items()}
        _check_episode(name, one, {field: values[i] for field, values in moved.items()}, env, found)
    for flag in ("terminated", "truncated"):
        if not seen[flag].any():
            found.note(f"no episode of {n} was {flag}: what follows such an end was not seen")


def _differ(one: Array, other: Array) -> Bool[Array, ""]:
    """Whether two arrays (or keys) differ anywhere; a NaN that stays is no difference."""
    return ~jnp.all((one == other) | ((one != one) & (other != other)))


def _check_episode(
    name: str, seen: dict[str, npt.NDArray], moved: dict[str, npt.NDArray], env: Environment, found: Findings
) -> None:
    """One episode; `seen` and `moved` have one row a step."""

    def expect(right: npt.NDArray, check: Check, field: str, what: str, offset: int = 1) -> None:
        if not right.all():
            found.at("step", f"context {name}, step {right.argmin() + offset}")
            found.add(check, field, what)

    limit = env.max_episode_steps
    terminated, truncated, reward = seen["terminated"], seen["truncated"], seen["reward"]
    ended = terminated | truncated
    expect(np.isfinite(reward), "values", "reward", "is NaN or infinite")
    expect(seen["finite"], "values", "observation", "has NaN or infinite values")
    expect(
        ~(terminated & truncated), "flags", "truncated", "is set together with terminated; termination wins"
    )
    expect(np.atleast_1d(ended[:limit].any()), "limit", "truncated", "is not set at max_episode_steps", limit)
    early = (truncated & ~terminated)[: limit - 1] & (np.cumsum(ended[: limit - 1]) == 1)
    expect(~early, "limit", "truncated", f"is set before max_episode_steps, which is {limit}")
    if not ended.any():
        return
    end = int(ended.argmax())
    after = slice(end + 1, None)
    why = f"after the episode ended with step {end + 1}"
    for field, flag in (("terminated", terminated), ("truncated", truncated)):
        expect(flag[after] == flag[end], "ended", field, f"changes {why}", end + 2)
    expect(reward[after] == 0, "ended", "reward", f"is not zero {why}", end + 2)
    for field, changes in moved.items():
        expect(~changes[after], "ended", field, f"changes {why}", end + 2)


def _check_purity(env: Environment, attributes: dict[str, Any], found: Findings) -> None:
    """The object must be as it was: what changes belongs in the state."""
    found.at("attributes", "after the calls")
    for field, value in vars(env).items():
        if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(value)):
            found.add("leak", field, "holds a traced value; keep such values in the state")
        elif field in attributes and attributes[field] is not value:
            found.add("purity", field, "was changed by reset or step; keep what changes in the state")
