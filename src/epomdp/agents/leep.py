"""LEEP, linked ensembles for the epistemic POMDP (Ghosh et al. 2021, arXiv 2107.06277, section 6).

Each of n members i has its own bootstrap resample M_i of the training contexts and maximises

    J_{M_i}(pi_i) - alpha E_{s from pi_i in M_i}[KL(pi_i(.|s) || pi(.|s))],   pi(a|s) = max_i pi_i(a|s) / Z(s),

and the link pi is deployed by sampling from its probabilities. The members' own objective is PPO's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from epomdp.agents import networks, ops, policies, ppo
from epomdp.agents.base import Agent
from epomdp.agents.members import Strategy, choose_strategy, for_each_member
from epomdp.agents.networks import Params
from epomdp.envs.base import Transition
from epomdp.envs.host import AnyEnvironment
from epomdp.errors import BadInput


@dataclass(frozen=True)
class Config:
    """Hyperparameters of LEEP; each member learns with those of PPO."""

    members: Annotated[int, "n, members of the ensemble"] = 4
    alpha: Annotated[float, "weight of KL(member || link); 0 is the unlinked ensemble"] = 0.1
    link: Annotated[ops.Link, "how members are joined: max (LEEP) or mean"] = "max"
    bootstrap: Annotated[bool, "whether each member has a bootstrap resample of its own"] = True
    strategy: Annotated[Strategy, "how members are run: map, unroll, vmap, or auto: by the backend"] = "auto"
    ppo: ppo.Config = field(default_factory=ppo.Config)

    def __post_init__(self):
        if self.members < 1:
            raise BadInput(f"members is {self.members}; an ensemble has at least one")
        if not 0 <= self.alpha < math.inf:
            raise BadInput(
                f"alpha is {self.alpha}; it weighs a penalty and must be zero or above, and finite"
            )
        for name, kind in (("link", ops.Link), ("strategy", Strategy)):
            if getattr(self, name) not in get_args(kind):
                raise BadInput(
                    f"{name} is '{getattr(self, name)}'; choose one of {', '.join(get_args(kind))}"
                )


def penalty(
    logits: Float[Array, "B A"], peers: Float[Array, "m B A"], alpha: float, kind: ops.Link
) -> tuple[Float[Array, ""], ppo.Metrics]:
    """alpha E[KL(pi_i || link)] with the other members' log-probabilities `peers` held fixed."""
    own = jax.nn.log_softmax(logits)
    divergence = jnp.mean(ops.kl(own, ops.link(jnp.concatenate([own[None], peers]), kind)))
    return alpha * divergence, {"link_kl": divergence}


def peer_log_probs(params: Params, observation: PyTree, strategy: Strategy) -> Float[Array, "n T N m A"]:
    """What the m = n - 1 other members would do in each member's own states (leaves (n, T, N, ...))."""

    def log_probs(params, observation):
        return jax.nn.log_softmax(networks.outputs(params, observation)[0])

    members = jax.tree.leaves(params)[0].shape[0]
    shifted = [
        for_each_member(log_probs, strategy)(
            jax.tree.map(lambda x, k=k: jnp.roll(x, k, axis=0), params), observation
        )
        for k in range(1, members)
    ]
    return jnp.stack(shifted, axis=-2)


def agent(config: Config, env: AnyEnvironment) -> Agent:
    """LEEP for an environment: n PPO learners that share nothing but the link."""
    n = config.members
    linked = config.alpha > 0 and n > 1
    network = networks.choose(config.ppo.network, env.observation, config.ppo.channels)
    strategy = choose_strategy(config.strategy, network)

    def init(key: Array) -> ppo.Learner:
        keys = jax.random.split(key, n)
        return jax.vmap(lambda k: ppo.init(config.ppo, env.observation, env.num_actions, k))(keys)

    def link_penalty(logits, peers):
        return penalty(logits, jnp.moveaxis(peers, -2, 0), config.alpha, config.link)

    def update(learners: ppo.Learner, rollouts: Transition, key: Array):
        def one(learner, rollout, key, peers):
            learner, rollout = ppo.scale_rewards(learner, rollout)
            batch = ppo.prepare(config.ppo, learner.params, rollout, env.shortest_truncation, peers)
            return ppo.learn(config.ppo, learner, batch, key, link_penalty if linked else ppo.no_penalty)

        peers = peer_log_probs(learners.params, rollouts.observation, strategy) if linked else None
        learners, metrics = for_each_member(one, strategy)(
            learners, rollouts, jax.random.split(key, n), peers
        )
        return learners, jax.tree.map(jnp.mean, metrics)

    def distribution(params: Params, observation: PyTree):
        logits, _ = jax.vmap(lambda p: p(observation))(params)
        return ops.link(jax.nn.log_softmax(logits), config.link)

    return Agent(
        members=n,
        num_envs=config.ppo.num_envs,
        num_steps=config.ppo.num_steps,
        init=init,
        params=lambda learners: learners.params,
        act=ppo.act,
        update=update,
        distribution=distribution,
        policies=policies.standard(
            distribution,
            env.num_actions,
            env.max_episode_steps,
            of="the linked policy",
            sampled_name="linked",
        ),
        network=network,
        bootstrap=config.bootstrap,
        strategy=strategy,
    )
