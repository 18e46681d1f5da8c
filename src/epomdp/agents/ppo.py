"""Proximal policy optimization (Schulman et al. 2017, arXiv 1707.06347) with the details of OpenAI's ppo2."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PyTree

from epomdp.agents import networks, ops, policies, returns
from epomdp.agents.base import Agent
from epomdp.agents.members import for_each_member
from epomdp.agents.networks import Params
from epomdp.envs.base import Transition
from epomdp.envs.host import AnyEnvironment
from epomdp.errors import BadInput


@dataclass(frozen=True)
class Config:
    """Hyperparameters of PPO."""

    num_envs: Annotated[int, "environments stepped side by side"] = 64
    num_steps: Annotated[int, "steps of each environment between two updates"] = 32
    learning_rate: Annotated[float, "Adam step size"] = 1e-3
    gamma: Annotated[float, "discount factor"] = 0.99
    gae_lambda: Annotated[float, "lambda of the advantage estimates"] = 0.95
    update_epochs: Annotated[int, "passes over each batch"] = 3
    num_minibatches: Annotated[int, "minibatches of a pass"] = 8
    clip_coef: Annotated[float, "clipping range of the ratio and of the value"] = 0.2
    ent_coef: Annotated[float, "weight of the entropy bonus"] = 0.01
    vf_coef: Annotated[float, "weight of the value loss"] = 0.5
    max_grad_norm: Annotated[float, "largest global norm of a gradient"] = 0.5
    network: Annotated[networks.Network, networks.MEANING] = "auto"
    channels: Annotated[tuple[int, ...], networks.CHANNELS_MEANING] = ()
    hidden: Annotated[tuple[int, ...], networks.HIDDEN_MEANING] = ()
    compute: Annotated[networks.Compute, "precision within the network: float32, or bfloat16 for GPUs"] = (
        "float32"
    )
    normalise_returns: Annotated[bool, "divide rewards by the running deviation of returns (Procgen)"] = False

    def __post_init__(self):
        positive = ("num_envs", "num_steps", "update_epochs", "num_minibatches", "learning_rate", "clip_coef")
        for name in (*positive, "max_grad_norm", "ent_coef", "vf_coef"):
            value = getattr(self, name)
            least = "above zero" if name in positive or name == "max_grad_norm" else "zero or above"
            if not math.isfinite(value) or value < 0 or (value == 0 and least == "above zero"):
                raise BadInput(f"{name} is {value}; it must be {least} and finite")
        if not 0 < self.gamma <= 1 or not 0 <= self.gae_lambda <= 1:
            raise BadInput(
                f"gamma {self.gamma} and gae_lambda {self.gae_lambda} must lie in (0, 1] and [0, 1]"
            )
        networks.check(self.network, self.channels, self.hidden, self.compute)
        if self.num_envs * self.num_steps % self.num_minibatches:
            raise BadInput(
                f"num_minibatches {self.num_minibatches} does not divide the batch of "
                f"{self.num_envs} x {self.num_steps} steps; choose one that does"
            )


class Learner(NamedTuple):
    """One network, its optimizer, and the scale of its returns: () where they are left as they are."""

    params: Params
    opt_state: PyTree
    scale: returns.Scale | tuple[()] = ()


class Batch(NamedTuple):
    """A rollout, flattened to B = T N steps, with its targets; `extra` is for a penalty."""

    observation: PyTree
    action: Int[Array, " B"]
    log_prob: Float[Array, " B"]
    value: Float[Array, " B"]
    advantage: Float[Array, " B"]
    target: Float[Array, " B"]
    extra: PyTree


Metrics = dict[str, Float[Array, ""]]
Penalty = Callable[[Float[Array, "B A"], PyTree], tuple[Float[Array, ""], Metrics]]
"""From a minibatch's logits and its `extra` to a term added to the loss, and metrics."""


def no_penalty(logits: Float[Array, "B A"], extra: PyTree) -> tuple[Float[Array, ""], Metrics]:
    """PPO as it is."""
    return jnp.zeros(()), {}


def init(config: Config, observation: jax.ShapeDtypeStruct, num_actions: int, key: Array) -> Learner:
    """A fresh network and optimizer."""
    params: Params = networks.make(
        config.network, observation, num_actions, config.channels, config.hidden, key, config.compute
    )
    opt_state = ops.optimizer(config.learning_rate, config.max_grad_norm).init(params)
    return Learner(params, opt_state, returns.init(config.num_envs) if config.normalise_returns else ())


def act(params: Params, observation: PyTree, key: Array) -> tuple[Int[Array, " N"], dict[str, Any]]:
    """Sample actions for N observations; the extras are what `prepare` needs of the moment of acting."""
    logits, value = jax.vmap(params)(observation)
    action = ops.sample(key, logits)
    return action, {"log_prob": ops.log_prob(logits, action), "value": value}


def next_values(params: Params, rollout: Transition, max_episode_steps: int) -> Float[Array, "T N"]:
    """V(s_{t+1}) of each step's true successor.

    Within an episode the next step has computed it already. The critic is asked only at the rollout's end and
    where a truncation replaced the successor, which an environment can do at most T / max_episode_steps times.
    """
    value = rollout.extras["value"]
    T, N = value.shape
    truncations, columns = ops.truncations(rollout.truncated, max_episode_steps)
    asked = jnp.concatenate([truncations, jnp.full((1, N), T - 1)])
    observation = jax.tree.map(lambda x: x[asked, columns], rollout.next_observation)
    _, boundary = networks.outputs(params, observation)
    shifted = jnp.concatenate([value[1:], boundary[-1:]])
    replaced = jnp.where(rollout.truncated[asked, columns], boundary, shifted[asked, columns])
    return shifted.at[asked, columns].set(replaced)


def scale_rewards(learner: Learner, rollout: Transition) -> tuple[Learner, Transition]:
    """A learner that has taken up a rollout's returns, and the rollout with rewards on their scale."""
    if not isinstance(learner.scale, returns.Scale):
        return learner, rollout
    ended = rollout.terminated | rollout.truncated
    scale, reward = returns.normalise(learner.scale, rollout.reward, ended)
    return learner._replace(scale=scale), rollout._replace(reward=reward)


def prepare(
    config: Config, params: Params, rollout: Transition, max_episode_steps: int, extra: PyTree = None
) -> Batch:
    """Advantages and value targets of a rollout (T, N), flattened; `extra` leaves are (T, N, ...)."""
    value = rollout.extras["value"]
    following = next_values(params, rollout, max_episode_steps)
    advantage = ops.gae(
        rollout.reward,
        value,
        following,
        rollout.terminated,
        rollout.truncated,
        config.gamma,
        config.gae_lambda,
    )
    batch = Batch(
        rollout.observation,
        rollout.action,
        rollout.extras["log_prob"],
        value,
        advantage,
        advantage + value,
        extra,
    )
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)


def loss(params: Params, config: Config, batch: Batch, penalty: Penalty) -> tuple[Float[Array, ""], Metrics]:
    """Clipped policy loss + vf_coef value loss - ent_coef entropy + penalty, and its parts.

    All of them are means over the batch, whose advantages are taken as they are.
    """
    logits, value = jax.vmap(params)(batch.observation)
    log_ratio = ops.log_prob(logits, batch.action) - batch.log_prob
    policy_loss = ops.clipped_policy_loss(log_ratio, batch.advantage, config.clip_coef)
    value_loss = ops.clipped_value_loss(value, batch.value, batch.target, config.clip_coef)
    entropy = jnp.mean(ops.entropy(logits))
    penalty_loss, penalty_metrics = penalty(logits, batch.extra)
    total = policy_loss + config.vf_coef * value_loss - config.ent_coef * entropy + penalty_loss
    metrics = {
        "loss": total,
        "policy_loss": policy_loss,
        "value_loss": value_loss,
        "entropy": entropy,
        "approx_kl": jnp.mean(jnp.exp(log_ratio) - 1.0 - log_ratio),
        "clip_fraction": jnp.mean(jnp.abs(jnp.expm1(log_ratio)) > config.clip_coef),
    }
    return total, metrics | penalty_metrics


def gradient(
    params: Params, config: Config, batch: Batch, indices: Int[Array, " b"], penalty: Penalty
) -> tuple[Params, Metrics]:
    """Gradient of the loss on a minibatch, whose advantages are normalised, and its metrics.

    As the mean over slices that a network is best shown at a time.
    """
    advantage = ops.normalise(batch.advantage[indices])
    size = networks.at_once(params, indices.size)

    def of_slice(indices, advantage):
        part = jax.tree.map(lambda x: x[indices], batch)._replace(advantage=advantage)
        return jax.grad(loss, has_aux=True)(params, config, part, penalty)

    if size == indices.size:
        return of_slice(indices, advantage)

    def add(total, part):
        return jax.tree.map(jnp.add, total, of_slice(*part)), None

    slices = (indices.reshape(-1, size), advantage.reshape(-1, size))
    nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(of_slice, *_first(slices)))
    total, _ = jax.lax.scan(add, nothing, slices)
    return jax.tree.map(lambda x: x * (size / indices.size), total)


def learn(
    config: Config, learner: Learner, batch: Batch, key: Array, penalty: Penalty = no_penalty
) -> tuple[Learner, Metrics]:
    """A few epochs of minibatch gradient steps; the metrics are means over them."""
    size = batch.action.shape[0]
    optimize = ops.optimizer(config.learning_rate, config.max_grad_norm)

    def minibatch_step(carry, indices: Int[Array, " b"]):
        params, opt_state = carry
        slope, metrics = gradient(params, config, batch, indices, penalty)
        updates, opt_state = optimize.update(slope, opt_state)
        return (optax.apply_updates(params, updates), opt_state), metrics

    order = ops.shuffles(key, config.update_epochs, size)
    (params, opt_state), metrics = jax.lax.scan(
        minibatch_step,
        (learner.params, learner.opt_state),
        order.reshape(-1, size // config.num_minibatches),
    )
    return learner._replace(params=params, opt_state=opt_state), jax.tree.map(jnp.mean, metrics)


def _first(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda x: x[0], tree)


def agent(config: Config, env: AnyEnvironment) -> Agent:
    """PPO for an environment: an ensemble of one."""

    def update(learners: Learner, rollouts: Transition, key: Array):
        def one(learner, rollout, key):
            learner, rollout = scale_rewards(learner, rollout)
            batch = prepare(config, learner.params, rollout, env.shortest_truncation)
            return learn(config, learner, batch, key)

        learners, metrics = for_each_member(one, "unroll")(learners, rollouts, key[None])
        return learners, jax.tree.map(jnp.mean, metrics)

    def distribution(params: Params, observation: PyTree):
        logits, _ = _first(params)(observation)
        return jax.nn.log_softmax(logits)

    return Agent(
        members=1,
        num_envs=config.num_envs,
        num_steps=config.num_steps,
        init=lambda key: jax.tree.map(lambda x: x[None], init(config, env.observation, env.num_actions, key)),
        params=lambda learners: learners.params,
        act=act,
        update=update,
        distribution=distribution,
        policies=policies.standard(
            distribution, env.num_actions, env.max_episode_steps, of="the policy", sampled_name="sampled"
        ),
        network=networks.choose(config.network, env.observation, config.channels),
    )
