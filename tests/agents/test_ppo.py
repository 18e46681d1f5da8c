"""PPO: its loss by hand, its gradient's direction, its configuration."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.special import log_softmax

from epomdp.agents import ops, ppo
from epomdp.agents.ppo import Batch, Config
from epomdp.envs.guess import Guess
from epomdp.errors import BadInput

CONFIG = Config(num_envs=4, num_steps=4, num_minibatches=2, hidden=(8,), update_epochs=2)
ENV = Guess((3,), 4, 5)


def learner_and_batch(seed=0, size=16):
    rng = np.random.default_rng(seed)
    learner = ppo.init(CONFIG, ENV.observation, ENV.num_actions, jax.random.key(seed))
    observation = jnp.asarray(rng.random((size, 3)), jnp.float32)
    action = jnp.asarray(rng.integers(0, 4, size), jnp.int32)
    log_prob = jnp.asarray(np.log(rng.uniform(0.2, 0.3, size)), jnp.float32)
    value, advantage, target = jnp.asarray(rng.normal(size=(3, size)), jnp.float32)
    return learner, Batch(observation, action, log_prob, value, advantage, target, None)


def test_the_loss_is_the_sum_of_its_parts_by_hand():
    learner, batch = learner_and_batch()
    logits, value = (np.asarray(x, np.float64) for x in jax.vmap(learner.params)(batch.observation))
    log_p = log_softmax(logits, axis=-1)
    ratio = np.exp(log_p[np.arange(16), batch.action] - batch.log_prob)
    advantage = (batch.advantage - np.mean(batch.advantage)) / (np.std(batch.advantage) + 1e-8)
    policy = -np.mean(np.minimum(ratio * advantage, np.clip(ratio, 0.8, 1.2) * advantage))
    clipped = batch.value + np.clip(value - batch.value, -0.2, 0.2)
    critic = 0.5 * np.mean(np.maximum((value - batch.target) ** 2, (clipped - batch.target) ** 2))
    entropy = -np.mean(np.sum(np.exp(log_p) * log_p, axis=-1))
    normalised = batch._replace(advantage=jnp.asarray(advantage))
    total, metrics = ppo.loss(learner.params, CONFIG, normalised, ppo.no_penalty)
    assert float(total) == pytest.approx(policy + 0.5 * critic - 0.01 * entropy, rel=1e-4)
    assert float(metrics["entropy"]) == pytest.approx(entropy, rel=1e-4)
    assert float(metrics["clip_fraction"]) == pytest.approx(np.mean(np.abs(ratio - 1) > 0.2))


def test_the_gradient_is_that_of_the_loss_with_advantages_normalised_in_the_minibatch():
    learner, batch = learner_and_batch()
    rows = jnp.asarray([3, 8, 1, 14, 5, 6])
    found, _ = ppo.gradient(learner.params, CONFIG, batch, rows, ppo.no_penalty)
    part = jax.tree.map(lambda x: x[rows], batch)
    advantage = (part.advantage - np.mean(part.advantage)) / (np.std(part.advantage) + 1e-8)
    expected = jax.grad(ppo.loss, has_aux=True)(
        learner.params, CONFIG, part._replace(advantage=advantage), ppo.no_penalty
    )[0]
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    plain = jax.grad(ppo.loss, has_aux=True)(learner.params, CONFIG, part, ppo.no_penalty)[0]
    assert np.abs(found.actor.weight - plain.actor.weight).max() > 1e-3


def test_a_penalty_is_added_and_its_metrics_are_kept():
    learner, batch = learner_and_batch()

    def penalty(logits, extra):
        return jnp.asarray(3.0), {"own": jnp.asarray(7.0)}

    plain, _ = ppo.loss(learner.params, CONFIG, batch, ppo.no_penalty)
    total, metrics = ppo.loss(learner.params, CONFIG, batch, penalty)
    assert float(total - plain) == pytest.approx(3.0, rel=1e-5) and float(metrics["own"]) == 7.0


def test_learning_makes_good_actions_likelier_and_uses_every_step():
    learner, batch = learner_and_batch()
    logits, _ = jax.vmap(learner.params)(batch.observation)
    batch = batch._replace(
        log_prob=jnp.take_along_axis(jax.nn.log_softmax(logits), batch.action[:, None], 1)[:, 0],
        advantage=jnp.where(batch.action == 2, 1.0, -1.0),
    )
    learn = jax.jit(ppo.learn, static_argnums=0)
    before = jax.nn.softmax(logits)[:, 2].mean()
    for i in range(20):
        learner, _ = learn(CONFIG, learner, batch, jax.random.key(i))
    after = jax.nn.softmax(jax.vmap(learner.params)(batch.observation)[0])[:, 2].mean()
    assert after > before + 0.02
    count = int(optax.tree_utils.tree_get(learner.opt_state, "count"))
    assert count == 20 * CONFIG.update_epochs * CONFIG.num_minibatches


def test_gradients_are_clipped_by_their_global_norm():
    optimize = ops.optimizer(CONFIG.learning_rate, CONFIG.max_grad_norm)
    clip = optimize.init({"a": jnp.zeros(3), "b": jnp.zeros(2)})
    large = {"a": jnp.full(3, 1e3), "b": jnp.full(2, -1e3)}
    updates, _ = optimize.update(large, clip)
    scaled = jax.tree.map(lambda g: g * CONFIG.max_grad_norm / np.sqrt(5e6), large)
    expected, _ = optimize.update(scaled, clip)
    for a, b in zip(jax.tree.leaves(updates), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        {"num_envs": 0},
        {"num_steps": -1},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"gamma": 0.0},
        {"gamma": 1.1},
        {"gae_lambda": -0.1},
        {"num_minibatches": 7},
        {"hidden": (0,)},
        {"compute": "float16"},
        {"clip_coef": -1.0},
        {"ent_coef": float("nan")},
        {"vf_coef": -3.0},
        {"max_grad_norm": 0.0},
        {"learning_rate": float("inf")},
    ],
)
def test_bad_hyperparameters_are_refused_in_one_line(changes):
    with pytest.raises(BadInput) as refused:
        Config(**changes)
    assert "\n" not in str(refused.value) and str(next(iter(changes.values()))) in str(refused.value)
