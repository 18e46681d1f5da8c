"""Small host environments, for every test that trains or plays on the host."""

import jax
import jax.numpy as jnp
import numpy as np

from epomdp.contexts import ContextSet
from epomdp.envs.host import HostEnvironment, HostStep, Lanes
from epomdp.errors import RunFailed


class Walk:
    """One episode: right to the end of a corridor, which terminates it. A pure function of context and actions."""

    def __init__(self, env, context):
        self.env, self.seed, self.end = env, int(context["seed"]), int(context["length"])
        self.at = self.steps = 0
        self.over = (False, False)

    def observe(self):
        return np.array([self.at, self.end, self.steps, self.seed], np.float32)

    def step(self, action):
        if any(self.over):
            return 0.0
        luck = np.random.default_rng([self.seed, self.steps]).random()
        self.steps += 1
        self.at = max(self.at + (action - 1 if luck > 0.2 else 0), 0)
        self.over = (self.at == self.end, self.at != self.end and self.steps >= self.env.max_episode_steps)
        return 10.0 if self.over[0] else luck - 1


class CorridorLanes(Lanes):
    def __init__(self, env, num_lanes):
        self.env, self.walks, self.started, self.closed = env, [None] * num_lanes, [], False
        env.opened.append(self)

    def start(self, lanes, contexts):
        for lane, context in zip(lanes, contexts, strict=True):
            self.walks[lane] = Walk(self.env, self.env.alter(context))
            self.started.append((lane, int(context["seed"])))
        return np.stack([self.walks[lane].observe() for lane in lanes])

    def send(self, actions):
        assert len(actions) == len(self.walks)
        self.sent = [int(action) for action in actions]

    def receive(self):
        self.env.steps += 1
        if self.env.steps == self.env.fail_at:
            raise RunFailed(
                f"corridor: context seed {self.walks[0].seed} crashed at step {self.walks[0].steps}"
            )
        reward = [walk.step(action) for walk, action in zip(self.walks, self.sent, strict=True)]
        terminated, truncated = np.array([walk.over for walk in self.walks]).T
        observation = np.stack([walk.observe() for walk in self.walks])
        return HostStep(observation, np.array(reward), terminated, truncated, terminated)

    def close(self):
        self.closed = True


class Corridor(HostEnvironment):
    """Corridors of several lengths; observation (where, length, steps, seed); actions left, stay, right.

    Args:
        fail_at: the call of `receive`, from 1, that raises.
        alter: from the context that an episode is asked for to the one that it gets.
    """

    name = "corridor"
    num_actions = 3
    observation = jax.ShapeDtypeStruct((4,), jnp.float32)
    max_episode_steps = 9
    shortest_truncation = 9

    def __init__(self, fail_at=None, alter=lambda context: context):
        self.fail_at, self.alter, self.steps, self.opened = fail_at, alter, 0, []

    def open(self, num_lanes):
        return CorridorLanes(self, num_lanes)


def corridors(n):
    """Corridor i has seed i and length 1 + i % 4."""
    return ContextSet.from_values(
        {"seed": np.arange(n, dtype=np.int32), "length": 1 + np.arange(n, dtype=np.int32) % 4}
    )


class StepByStep(HostEnvironment):
    """A JAX environment without chance, stepped on the host one lane after the other."""

    def __init__(self, env):
        self.env, self.name, self.num_actions = env, env.name, env.num_actions
        self.observation, self.max_episode_steps = env.observation, env.max_episode_steps
        self.shortest_truncation = env.shortest_truncation
        key = jax.random.key(0)
        self.reset = jax.jit(lambda context: env.reset(key, context))

        def step(state, action):
            state, shown = env.step(key, state, action)
            return state, shown, env.solved(state, shown)

        self.step = jax.jit(step)

    def open(self, num_lanes):
        return StepByStepLanes(self, num_lanes)


class StepByStepLanes(Lanes):
    def __init__(self, env, num_lanes):
        self.env, self.states = env, [None] * num_lanes

    def start(self, lanes, contexts):
        begun = [self.env.reset(context) for context in contexts]
        for lane, (state, _) in zip(lanes, begun, strict=True):
            self.states[lane] = state
        return np.stack([np.asarray(observation) for _, observation in begun])

    def send(self, actions):
        self.sent = actions

    def receive(self):
        stepped = [self.env.step(*each) for each in zip(self.states, self.sent, strict=True)]
        self.states = [state for state, _, _ in stepped]
        shown = jax.tree.map(lambda *x: np.stack(x), *[step for _, step, _ in stepped])
        return HostStep(*shown, np.array([solved for _, _, solved in stepped]))
