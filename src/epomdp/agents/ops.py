"""Maths shared by the agents: advantages, clipped losses, categorical distributions, links.

A is the number of actions, n the number of ensemble members, T and N the steps and environments of a rollout.
"""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

Link = Literal["max", "mean"]


def optimizer(learning_rate: float, max_grad_norm: float) -> optax.GradientTransformation:
    """Adam (epsilon 1e-5) on gradients clipped by their global norm, over all weights as one vector."""
    return optax.flatten(
        optax.chain(optax.clip_by_global_norm(max_grad_norm), optax.adam(learning_rate, eps=1e-5))
    )


def log_prob(logits: Float[Array, "*b A"], action: Int[Array, "*b"]) -> Float[Array, "*b"]:
    """log pi(a) of a categorical distribution given by its logits."""
    return jnp.take_along_axis(jax.nn.log_softmax(logits), action[..., None], axis=-1)[..., 0]


def sample(key: Array, logits: Float[Array, "*b A"]) -> Int[Array, "*b"]:
    """Draw from a categorical distribution by inverting its cumulative sums.

    One random number a draw, where `jax.random.categorical` takes one an action. An action of probability
    zero is never drawn.
    """
    cumulative = jnp.cumsum(jax.nn.softmax(logits), axis=-1)
    uniform = jax.random.uniform(key, (*logits.shape[:-1], 1))
    return jnp.sum(cumulative <= uniform * cumulative[..., -1:], axis=-1)


def shuffles(key: Array, count: int, size: int) -> Int[Array, "count size"]:
    """`count` random orders of 0 .. size - 1, good enough for minibatches.

    Elements whose 32 - log2(size) random bits are equal keep their order.
    """
    # Sorting words with the index in their low bits is several times faster than sorting keys with values.
    low = jnp.uint32((1 << (size - 1).bit_length()) - 1)
    bits = jax.random.bits(key, (count, size), jnp.uint32)
    words = (bits & ~low) | jnp.arange(size, dtype=jnp.uint32)
    return (jnp.sort(words, axis=-1) & low).astype(jnp.int32)


def entropy(logits: Float[Array, "*b A"]) -> Float[Array, "*b"]:
    """H(pi) = -sum_a pi(a) log pi(a), in nats."""
    log_p = jax.nn.log_softmax(logits)
    return -jnp.sum(jnp.exp(log_p) * log_p, axis=-1)


def kl(log_p: Float[Array, "*b A"], log_q: Float[Array, "*b A"]) -> Float[Array, "*b"]:
    """KL(p || q) = sum_a p(a) (log p(a) - log q(a)) of normalised log-probabilities, in nats."""
    return jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)


def link(log_p: Float[Array, "n *b A"], kind: Link = "max") -> Float[Array, "*b A"]:
    """Log-probabilities of the linked policy of n members.

    "max": pi(a) = max_i pi_i(a) / Z with Z = sum_a max_i pi_i(a), so that 1 <= Z <= n and
    KL(pi_i || pi) <= log Z <= log n. "mean": pi(a) = mean_i pi_i(a).

    References: Ghosh et al. 2021, arXiv 2107.06277, section 6 (the max link).
    """
    if kind == "max":
        joined = jnp.max(log_p, axis=0)
    else:
        joined = jax.nn.logsumexp(log_p, axis=0)
    return joined - jax.nn.logsumexp(joined, axis=-1, keepdims=True)


def gae(
    reward: Float[Array, "T N"],
    value: Float[Array, "T N"],
    next_value: Float[Array, "T N"],
    terminated: Bool[Array, "T N"],
    truncated: Bool[Array, "T N"],
    gamma: float,
    gae_lambda: float,
) -> Float[Array, "T N"]:
    """Generalized advantage estimates.

    A_t = delta_t + gamma lambda A_{t+1} [episode goes on], delta_t = r_t + gamma V(s_{t+1}) [not terminated] - V(s_t).
    `next_value` is the value of the true successor, so a truncated step still bootstraps and nothing
    crosses an episode's end.

    References: Schulman et al. 2016, arXiv 1506.02438, equation 16.
    """
    delta = reward + gamma * jnp.where(terminated, 0.0, next_value) - value
    decay = gamma * gae_lambda * (1.0 - (terminated | truncated).astype(value.dtype))

    def backward(advantage, step):
        delta, decay = step
        advantage = delta + decay * advantage
        return advantage, advantage

    _, advantages = jax.lax.scan(backward, jnp.zeros_like(delta[0]), (delta, decay), reverse=True)
    return advantages


def truncations(
    truncated: Bool[Array, "T N"], max_episode_steps: int
) -> tuple[Int[Array, "k N"], Int[Array, " N"]]:
    """Rows and columns of the at most k = T // max_episode_steps + 1 truncations of each environment.

    Rows of environments with fewer are filled up with steps that are none.
    """
    T, N = truncated.shape
    slots = min(T, T // max_episode_steps + 1)
    return jnp.argsort(~truncated, axis=0, stable=True)[:slots], jnp.arange(N)


def n_step_return(
    reward: Float[Array, "n B"],
    terminated: Bool[Array, "n B"],
    truncated: Bool[Array, "n B"],
    gamma: float,
) -> tuple[Float[Array, " B"], Float[Array, " B"], Int[Array, " B"]]:
    """Discounted return of the next n steps, the discount of what follows them, and how many were taken.

    k = n, or fewer where the episode ends before; the return is sum_{j < k} gamma^j r_j, and the discount is
    gamma^k, or 0 where the episode terminated.

    References: Sutton 1988, "Learning to predict by the methods of temporal differences".
    """
    gone_on = jnp.cumprod(~(terminated | truncated), axis=0)
    reached = jnp.concatenate([jnp.ones_like(gone_on[:1]), gone_on[:-1]])
    weight = gamma ** jnp.arange(reward.shape[0], dtype=reward.dtype)
    taken = jnp.sum(reached, axis=0)
    over = jnp.any(terminated & (reached == 1), axis=0)
    discount = jnp.where(over, 0.0, gamma ** taken.astype(reward.dtype))
    return weight @ (reward * reached), discount, taken


def duelling(advantage: Float[Array, "*b A"], value: Float[Array, "*b"]) -> Float[Array, "*b A"]:
    """Q(s, a) = V(s) + A(s, a) - mean_a A(s, a) (Wang et al. 2016, arXiv 1511.06581, equation 9)."""
    return value[..., None] + advantage - jnp.mean(advantage, axis=-1, keepdims=True)


def double_q(online: Float[Array, "*b A"], target: Float[Array, "*b A"]) -> Float[Array, "*b"]:
    """The target network's value of the action that the online one would take (van Hasselt et al. 2016,
    arXiv 1509.06461, equation 4)."""
    best = jnp.argmax(online, axis=-1, keepdims=True)
    return jnp.take_along_axis(target, best, axis=-1)[..., 0]


def clipped_policy_loss(
    log_ratio: Float[Array, " B"], advantage: Float[Array, " B"], clip_coef: float
) -> Float[Array, ""]:
    """-E[min(r A, clip(r, 1 - c, 1 + c) A)] with r = pi(a|s) / pi_old(a|s) (Schulman et al. 2017, equation 7)."""
    ratio = jnp.exp(log_ratio)
    clipped = jnp.clip(ratio, 1.0 - clip_coef, 1.0 + clip_coef)
    return -jnp.mean(jnp.minimum(ratio * advantage, clipped * advantage))


def clipped_value_loss(
    value: Float[Array, " B"], old_value: Float[Array, " B"], target: Float[Array, " B"], clip_coef: float
) -> Float[Array, ""]:
    """E[max((V - G)^2, (clip(V, V_old +- c) - G)^2)] / 2, as in OpenAI's baselines ppo2."""
    clipped = old_value + jnp.clip(value - old_value, -clip_coef, clip_coef)
    return 0.5 * jnp.mean(jnp.maximum((value - target) ** 2, (clipped - target) ** 2))


def normalise(x: Float[Array, " B"]) -> Float[Array, " B"]:
    """Zero mean and unit standard deviation over the batch."""
    return (x - jnp.mean(x)) / (jnp.std(x) + 1e-8)
