"""What every agent is to the training loop and to evaluation: a handful of pure functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jaxtyping import PyTree

from epomdp.agents.members import Strategy
from epomdp.agents.networks import Network
from epomdp.agents.policies import Distribution, Policy


@dataclass(frozen=True, eq=False)
class Agent:
    """An algorithm bound to its hyperparameters and to an environment's shapes.

    n is the number of members, T and N the steps and environments of a rollout. PPO is an ensemble of one.

    Attributes:
        members: n; each member acts in its own resample of the training contexts and in nothing else.
        num_envs: N, environments a member steps side by side.
        num_steps: T, steps of each environment between two updates.
        init: key -> state, a pytree whose leaves have the leading axis n.
        params: state -> what acts, leading axis n.
        act: (params of one member, observation (N, ...), key) -> (action (N,), extras stored with the step).
        update: (state, rollouts with leaves (n, T, N, ...), key) -> (state, metrics of shape ()).
        distribution: (whole ensemble's params, one observation) -> log-probabilities (A,) of the deployed policy.
        policies: name -> policy for deployment, the default one first; each takes the whole ensemble's params.
        network: the kind of network that "auto" came to.
        bootstrap: whether each member has a resample of its own; else all act in all training contexts.
        strategy: how members are run.
    """

    members: int
    num_envs: int
    num_steps: int
    init: Callable[..., PyTree]
    params: Callable[[PyTree], PyTree]
    act: Callable[..., tuple[Any, dict[str, Any]]]
    update: Callable[..., tuple[PyTree, dict[str, Any]]]
    distribution: Distribution
    policies: dict[str, Policy]
    network: Network = "auto"
    bootstrap: bool = False
    strategy: Strategy = "unroll"

    @property
    def default_policy(self) -> str:
        """The name of the policy that the agent is meant to be deployed with."""
        return next(iter(self.policies))

    @property
    def steps_per_update(self) -> int:
        """Environment steps, over all members, that one update learns from."""
        return self.members * self.num_envs * self.num_steps
