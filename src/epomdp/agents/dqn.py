"""Deep Q-learning (Mnih et al. 2015): double, duelling, with n-step targets and a replay on the device.

With Q the online network, Q' the target network, a copy of it that is renewed now and then, and k <= n steps from s
to s' within one episode, each gradient step fits Q(s, a) to

    r_0 + gamma r_1 + ... + gamma^{k-1} r_{k-1} + gamma^k Q'(s', argmax_b Q(s', b)),

without the last term where the episode terminated. Actions are greedy, or with probability epsilon any.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PyTree

from epomdp.agents import networks, ops, policies, replay
from epomdp.agents.base import Agent
from epomdp.agents.networks import Params
from epomdp.agents.replay import Drawn, Replay
from epomdp.envs.base import Transition
from epomdp.envs.host import AnyEnvironment
from epomdp.errors import BadInput


@dataclass(frozen=True)
class Config:
    """Hyperparameters of DQN."""

    num_envs: Annotated[int, "environments stepped side by side"] = 64
    num_steps: Annotated[int, "steps of each environment between two updates"] = 8
    learning_rate: Annotated[float, "Adam step size"] = 5e-4
    gamma: Annotated[float, "discount factor"] = 0.99
    n_step: Annotated[int, "steps that a target looks ahead"] = 3
    replay_size: Annotated[int, "last steps kept, rounded down to whole rollouts"] = 50_000
    batch_size: Annotated[int, "transitions of a gradient step"] = 256
    replay_ratio: Annotated[float, "transitions learned from for each environment step"] = 4.0
    target_period: Annotated[int, "gradient steps between two copies to the target network"] = 200
    exploration_steps: Annotated[int, "environment steps until epsilon has fallen from 1"] = 100_000
    epsilon: Annotated[float, "probability of a random action from then on"] = 0.05
    max_grad_norm: Annotated[float, "largest global norm of a gradient"] = 10.0
    network: Annotated[networks.Network, networks.MEANING] = "auto"
    channels: Annotated[tuple[int, ...], networks.CHANNELS_MEANING] = ()
    hidden: Annotated[tuple[int, ...], networks.HIDDEN_MEANING] = ()

    def __post_init__(self):
        for name in ("num_envs", "num_steps", "n_step", "batch_size", "target_period", "exploration_steps"):
            if getattr(self, name) < 1:
                raise BadInput(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("learning_rate", "replay_ratio", "max_grad_norm"):
            if not 0 < getattr(self, name) < math.inf:
                raise BadInput(f"{name} is {getattr(self, name)}; it must be above zero and finite")
        if not 0 < self.gamma <= 1 or not 0 <= self.epsilon <= 1:
            raise BadInput(f"gamma {self.gamma} and epsilon {self.epsilon} must lie in (0, 1] and [0, 1]")
        if self.n_step >= self.num_steps:
            raise BadInput(
                f"n_step is {self.n_step}; it must be less than num_steps, which is {self.num_steps}"
            )
        if self.rows < self.num_steps:
            raise BadInput(
                f"replay_size is {self.replay_size}; it must hold a rollout of {self.num_envs} x "
                f"{self.num_steps} steps at least"
            )
        least = self.batch_size / (self.num_envs * self.num_steps)
        if self.replay_ratio < least:
            raise BadInput(
                f"replay_ratio is {self.replay_ratio}; with batch_size {self.batch_size} and rollouts of "
                f"{self.num_envs} x {self.num_steps} steps it must be at least {least}, one batch an update"
            )
        networks.check(self.network, self.channels, self.hidden)

    @property
    def rows(self) -> int:
        """Steps of each environment that the replay holds."""
        return self.replay_size // (self.num_envs * self.num_steps) * self.num_steps

    @property
    def gradient_steps(self) -> int:
        """Gradient steps of an update."""
        return round(self.replay_ratio * self.num_envs * self.num_steps / self.batch_size)


class Acting(NamedTuple):
    """What acts: the network, and how often it is not asked."""

    network: Params
    epsilon: Float[Array, ""]


class Learner(NamedTuple):
    """Online and target network, optimizer, replay, and gradient steps done."""

    online: Params
    target: Params
    opt_state: PyTree
    replay: Replay
    gradient_steps: Int[Array, ""]


Metrics = dict[str, Float[Array, ""]]


def init(config: Config, env: AnyEnvironment, key: Array) -> Learner:
    """A fresh network, its copy, and an empty replay."""
    online: Params = networks.make(
        config.network, env.observation, env.num_actions, config.channels, config.hidden, key
    )
    empty = replay.init(config.rows, config.num_envs, env.shortest_truncation, env.observation)
    return Learner(
        online,
        online,
        ops.optimizer(config.learning_rate, config.max_grad_norm).init(online),
        empty,
        jnp.zeros((), jnp.int32),
    )


def q_values(network: Params, observation: PyTree) -> Float[Array, " A"]:
    """Q of every action for one observation; the two heads are the advantages and the value of a duelling network."""
    return ops.duelling(*network(observation))


def exploration(config: Config, steps: Int[Array, ""]) -> Float[Array, ""]:
    """Epsilon after so many environment steps: from 1 in a straight line to the configured one."""
    done = jnp.minimum(steps.astype(jnp.float32) / config.exploration_steps, 1.0)
    return 1.0 + (config.epsilon - 1.0) * done


def act(acting: Acting, observation: PyTree, key: Array) -> tuple[Int[Array, " N"], dict[str, Any]]:
    """The greedy action for each of N observations, or with probability epsilon any."""
    q = jax.vmap(q_values, in_axes=(None, 0))(acting.network, observation)
    key_explore, key_any = jax.random.split(key)
    explore = jax.random.uniform(key_explore, q.shape[:1]) < acting.epsilon
    anything = jax.random.randint(key_any, q.shape[:1], 0, q.shape[-1])
    return jnp.where(explore, anything, jnp.argmax(q, axis=-1)), {}


def targets(online: Params, target: Params, drawn: Drawn) -> Float[Array, " B"]:
    """What Q(s, a) is fitted to: the n-step return, and the discounted value of what follows it."""
    following = jax.vmap(q_values, in_axes=(None, 0))
    value = ops.double_q(following(online, drawn.successor), following(target, drawn.successor))
    return drawn.reward + drawn.discount * value


def loss(online: Params, drawn: Drawn, target: Float[Array, " B"]) -> tuple[Float[Array, ""], Metrics]:
    """Huber loss of the temporal differences (a squared error whose gradient is clipped to [-1, 1])."""
    q = jax.vmap(q_values, in_axes=(None, 0))(online, drawn.observation)
    chosen = jnp.take_along_axis(q, drawn.action[:, None], axis=-1)[:, 0]
    total = jnp.mean(optax.losses.huber_loss(chosen, target))
    return total, {"loss": total, "q_value": jnp.mean(chosen), "td_error": jnp.mean(jnp.abs(chosen - target))}


def learn(config: Config, learner: Learner, key: Array, shortest_truncation: int) -> tuple[Learner, Metrics]:
    """The gradient steps of one update; the metrics are means over them."""
    optimize, memory = ops.optimizer(config.learning_rate, config.max_grad_norm), learner.replay

    def gradient_step(carry, key):
        online, target, opt_state, count = carry
        drawn = replay.draw(memory, key, config.batch_size, config.n_step, shortest_truncation, config.gamma)
        gradient, metrics = jax.grad(loss, has_aux=True)(online, drawn, targets(online, target, drawn))
        updates, opt_state = optimize.update(gradient, opt_state)
        online, count = optax.apply_updates(online, updates), count + 1
        renew = count % config.target_period == 0
        target = jax.tree.map(lambda new, old: jnp.where(renew, new, old), online, target)
        return (online, target, opt_state, count), metrics

    carry = (learner.online, learner.target, learner.opt_state, learner.gradient_steps)
    keys = jax.random.split(key, config.gradient_steps)
    (online, target, opt_state, count), metrics = jax.lax.scan(gradient_step, carry, keys)
    return Learner(online, target, opt_state, memory, count), jax.tree.map(jnp.mean, metrics)


def agent(config: Config, env: AnyEnvironment) -> Agent:
    """DQN for an environment: an ensemble of one."""
    limit, shortest = env.max_episode_steps, env.shortest_truncation

    def params(learners: Learner) -> Acting:
        return Acting(learners.online, exploration(config, learners.replay.time * config.num_envs))

    def update(learners: Learner, rollouts: Transition, key: Array):
        learner, rollout = jax.tree.map(lambda x: x[0], (learners, rollouts))
        learner = learner._replace(replay=replay.add(learner.replay, rollout, shortest))
        learner, metrics = learn(config, learner, key, shortest)
        metrics["epsilon"] = params(learner).epsilon
        return jax.tree.map(lambda x: x[None], learner), metrics

    def q_of_first(acting: Acting, observation: PyTree):
        return q_values(jax.tree.map(lambda x: x[0], acting.network), observation)

    def exploring(acting: Acting, observation: PyTree):
        q, epsilon = q_of_first(acting, observation), acting.epsilon[0]
        greedy = jnp.arange(env.num_actions) == jnp.argmax(q)
        return jnp.log(jnp.where(greedy, 1.0 - epsilon, 0.0) + epsilon / env.num_actions)

    def distribution(acting: Acting, observation: PyTree):
        greedy = jnp.arange(env.num_actions) == jnp.argmax(q_of_first(acting, observation))
        return jnp.where(greedy, 0.0, -jnp.inf)

    return Agent(
        members=1,
        num_envs=config.num_envs,
        num_steps=config.num_steps,
        init=lambda key: jax.tree.map(lambda x: x[None], init(config, env, key)),
        params=params,
        act=act,
        update=update,
        distribution=distribution,
        policies={
            "greedy": policies.greedy(q_of_first, "the action of the highest value, always"),
            "epsilon": policies.sampled(
                exploring, "the action of the highest value, or with the exploration's probability any"
            ),
            "elimination": policies.eliminating(
                q_of_first,
                env.num_actions,
                limit,
                "the action of the highest value not yet shown useless in this episode",
            ),
            "backtracking": policies.backtracking(
                q_of_first,
                env.num_actions,
                limit,
                "the action of the highest value after which this episode has not come back here",
            ),
        },
        network=networks.choose(config.network, env.observation, config.channels),
    )
