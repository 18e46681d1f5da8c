"""DQN: its targets by hand, mistakes seen in public code, exploration, and a problem that it must solve."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from epomdp import drivers
from epomdp.agents import dqn, ops, registry
from epomdp.agents.replay import Drawn
from epomdp.contexts import ContextSet
from epomdp.envs.base import Environment, Step
from epomdp.envs.guess import Guess
from epomdp.errors import BadInput
from epomdp.evaluate import evaluate

SMALL = {"num_envs": 4, "num_steps": 8, "hidden": (8,), "batch_size": 16, "replay_size": 64}
ENV = Guess((3,), 4, 5)


class Chain(Environment):
    """Six places in a row; right leads on and left back to the start; 1 and the end at the last place.

    A fresh policy that acts at random gets there in a limit of ten steps once in about seventeen episodes.
    """

    name, num_actions, max_episode_steps = "chain", 2, 10
    observation = jax.ShapeDtypeStruct((6,), jnp.uint8)

    def reset(self, key, context):
        state = (jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))
        return state, self._see(state[0])

    def _see(self, place):
        return (jnp.arange(6) == place).astype(jnp.uint8)

    def step(self, key, state, action):
        place, steps = jnp.where(action == 1, state[0] + 1, 0), state[1] + 1
        terminated = place == 5
        truncated = ~terminated & (steps >= self.max_episode_steps)
        return (place, steps), Step(self._see(place), terminated.astype(jnp.float32), terminated, truncated)


@functools.cache
def setup(**changes):
    config = dqn.Config(**(SMALL | changes))
    agent = dqn.agent(config, ENV)
    return config, agent, jax.jit(agent.init)(jax.random.key(0))


def first(tree):
    return jax.tree.map(lambda x: x[0], tree)


def q_by_hand(network, observation):
    advantage, value = (np.asarray(x, np.float64) for x in network(observation))
    return value + advantage - advantage.mean()


def some_drawn(size=16, seed=0):
    rng = np.random.default_rng(seed)
    observation, successor = jnp.asarray(rng.random((2, size, 3)), jnp.float32)
    action, reward = (
        jnp.asarray(rng.integers(0, 4, size), jnp.int32),
        jnp.asarray(rng.normal(size=size), jnp.float32),
    )
    discount = jnp.asarray(np.where(rng.random(size) < 0.4, 0.0, 0.9), jnp.float32)
    return Drawn(observation, action, reward, discount, successor)


def two_networks():
    online, target = (first(setup()[1].init(jax.random.key(seed))).online for seed in (1, 2))
    # The heads of fresh networks say next to nothing.
    louder = functools.partial(jax.tree.map, lambda w: 8 * w + 0.1)
    return louder(online), louder(target)


def test_targets_are_double_and_duelling_by_hand():
    online, target = two_networks()
    drawn = some_drawn()
    found = np.asarray(dqn.targets(online, target, drawn))
    chosen_by_target = 0
    for i in range(16):
        asked, worth = q_by_hand(online, drawn.successor[i]), q_by_hand(target, drawn.successor[i])
        expected = float(drawn.reward[i]) + float(drawn.discount[i]) * worth[np.argmax(asked)]
        assert found[i] == pytest.approx(expected, rel=1e-4, abs=1e-3)
        chosen_by_target += np.argmax(asked) != np.argmax(worth)
    assert chosen_by_target > 0, "the networks must disagree, or the test cannot fail"


def test_a_duelling_head_gives_advantages_mean_zero_around_the_value():
    rng = np.random.default_rng(0)
    advantage, value = rng.normal(size=(7, 4)), rng.normal(size=7)
    q = ops.duelling(jnp.asarray(advantage), jnp.asarray(value))
    np.testing.assert_allclose(np.mean(q, axis=-1), value, atol=1e-6)
    np.testing.assert_allclose(
        q - np.mean(q, axis=-1, keepdims=True), advantage - advantage.mean(axis=-1, keepdims=True), atol=1e-6
    )


def test_the_loss_is_hubers_and_its_gradient_reaches_the_online_network_only():
    online, target = two_networks()
    drawn = some_drawn()
    wanted = dqn.targets(online, target, drawn)
    total, metrics = dqn.loss(online, drawn, wanted)
    q = np.array([q_by_hand(online, drawn.observation[i])[drawn.action[i]] for i in range(16)])
    error = np.abs(q - np.asarray(wanted))
    expected = np.mean(np.where(error <= 1, 0.5 * error**2, error - 0.5))
    assert float(total) == pytest.approx(expected, rel=1e-3)
    assert float(metrics["td_error"]) == pytest.approx(error.mean(), rel=1e-3)

    # What the targets are made of is held fixed: the loss of fixed targets has the same gradient.
    def whole(online):
        return dqn.loss(online, drawn, jax.lax.stop_gradient(dqn.targets(online, target, drawn)))[0]

    fixed = jax.grad(lambda online: dqn.loss(online, drawn, wanted)[0])(online)
    for a, b in zip(jax.tree.leaves(jax.grad(whole)(online)), jax.tree.leaves(fixed), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def run(agent, env, updates, contexts=None, seed=0):
    """Train without a run directory."""
    some = ContextSet.from_values(contexts)
    driver = drivers.make(env, agent, some, jnp.zeros((1, len(some)), jnp.int32))
    loop = driver.initial(jax.random.key(seed))
    rows = []
    for i in range(updates):
        loop, metrics = driver.iterate(loop, jax.random.fold_in(jax.random.key(seed), i))
        rows.append(jax.tree.map(float, metrics))
    return loop, rows


def guess_contexts():
    return {"image": jnp.asarray([[0.2, 0.9, 0.4]]), "label": jnp.asarray([2], jnp.int32)}


def test_the_target_network_is_a_copy_renewed_on_time_and_only_then():
    config, agent, _ = setup(target_period=6, replay_ratio=1.0)
    assert config.gradient_steps == 2, "so that a copy is due after three updates"
    loops = [run(agent, ENV, updates, guess_contexts())[0].learners for updates in (1, 2, 3, 4, 6)]
    weights = [[np.asarray(jax.tree.leaves(x)[0]) for x in (each.online, each.target)] for each in loops]
    (first_online, fresh), (_, second), (third_online, third), (_, fourth), (sixth_online, sixth) = weights
    assert np.array_equal(fresh, second) and not np.array_equal(fresh, first_online)
    assert np.array_equal(third, third_online) and np.array_equal(third, fourth)
    assert np.array_equal(sixth, sixth_online) and not np.array_equal(sixth, third)


def test_epsilon_falls_in_a_straight_line_and_reaches_act_through_params():
    _, agent, _ = setup(exploration_steps=128, epsilon=0.1)
    learners, rows = run(agent, ENV, 6, guess_contexts())
    np.testing.assert_allclose(
        [row["epsilon"] for row in rows], [0.775, 0.55, 0.325, 0.1, 0.1, 0.1], atol=1e-6
    )
    np.testing.assert_allclose(agent.params(learners.learners).epsilon, [0.1], atol=1e-6)
    fresh = agent.params(agent.init(jax.random.key(0)))
    assert fresh.epsilon.shape == (1,) and float(fresh.epsilon[0]) == 1.0


@pytest.mark.parametrize("epsilon", [0.0, 0.4, 1.0])
def test_actions_are_greedy_but_for_epsilon(epsilon):
    online, _ = two_networks()
    observation = jnp.tile(jnp.asarray([0.2, 0.9, 0.4]), (20_000, 1))
    actions, _ = dqn.act(dqn.Acting(online, jnp.asarray(epsilon)), observation, jax.random.key(0))
    found = np.bincount(actions, minlength=4) / 20_000
    best = np.argmax(q_by_hand(online, observation[0]))
    np.testing.assert_allclose(found, (1 - epsilon) * (np.arange(4) == best) + epsilon / 4, atol=0.02)


def test_deployed_policies_are_greedy_first_then_epsilon_and_elimination():
    _, agent, _ = setup()
    online, _ = two_networks()
    acting = jax.tree.map(lambda x: x[None], dqn.Acting(online, jnp.asarray(1.0)))
    observation = jnp.asarray([0.2, 0.9, 0.4])
    q = q_by_hand(online, observation)
    assert list(agent.policies) == ["greedy", "epsilon", "elimination", "backtracking"]

    def chosen(name, memory=None):
        policy = agent.policies[name]
        memory = policy.init() if memory is None else memory
        return policy.act(acting, observation, jnp.zeros(()), memory, jax.random.key(3))

    # Greedy also where exploration is at its full, so that probabilities say nothing.
    assert int(chosen("greedy")[0]) == np.argmax(q)
    np.testing.assert_allclose(np.exp(agent.distribution(acting, observation)), np.arange(4) == np.argmax(q))
    for name in ("elimination", "backtracking"):
        action, memory = chosen(name)
        tried = [int(action)]
        for _ in range(3):
            action, memory = chosen(name, memory)
            tried.append(int(action))
        assert tried == list(np.argsort(-q))


def test_it_solves_a_chain_and_its_values_are_right():
    """The optimal value of a place is gamma to the power of the moves that are left, after the first."""
    env, contexts = Chain(), ContextSet.from_values({"level": np.zeros(1, np.int32)})
    options = {"num_envs": 8, "num_steps": 8, "hidden": (32,), "batch_size": 64, "replay_size": 4096}
    more = {"learning_rate": 2e-3, "exploration_steps": 4000, "target_period": 50, "replay_ratio": 8.0}
    agent = dqn.agent(dqn.Config(gamma=0.9, **options, **more), env)
    loop, _ = run(agent, env, 150, jax.tree.map(jnp.asarray, contexts.values))
    params = agent.params(loop.learners)
    episodes = evaluate(env, agent.policies["greedy"], params, contexts, episodes=1, seed=0)
    assert episodes.returns.item() == 1.0 and episodes.lengths.item() == 5
    q = jax.vmap(lambda place: dqn.q_values(first(params.network), env._see(place)))(jnp.arange(5))
    np.testing.assert_allclose(q[:, 1], 0.9 ** np.arange(4, -1, -1), atol=0.08)
    np.testing.assert_allclose(q[:, 0], 0.9 * q[0, 1], atol=0.08)


@pytest.mark.parametrize(
    "changes",
    [
        {"num_envs": 0},
        {"n_step": 0},
        {"n_step": 8},
        {"replay_size": 511},
        {"batch_size": 0},
        {"replay_ratio": float("nan")},
        {"target_period": 0},
        {"exploration_steps": 0},
        {"epsilon": 1.5},
        {"gamma": 0.0},
        {"learning_rate": float("inf")},
        {"max_grad_norm": 0.0},
        {"hidden": (0,)},
        {"network": "resnet"},
    ],
)
def test_bad_hyperparameters_are_refused_in_one_line(changes):
    with pytest.raises(BadInput) as refused:
        dqn.Config(**changes)
    assert "\n" not in str(refused.value) and str(next(iter(changes.values()))) in str(refused.value)


def test_a_replay_ratio_of_less_than_a_batch_an_update_is_refused():
    with pytest.raises(
        BadInput, match=r"replay_ratio is 0\.01; .* must be at least 0\.5, one batch an update"
    ):
        dqn.Config(replay_ratio=0.01)
    assert dqn.Config(replay_ratio=0.5).gradient_steps == 1
    assert dqn.Config(num_envs=3, batch_size=8, replay_ratio=8 / 24).gradient_steps == 1


def test_it_can_be_named_and_configured():
    config = registry.configure("dqn", {"epsilon": "0.1", "replay_size": "4096", "n_step": 1})
    assert (config.epsilon, config.replay_size, config.n_step) == (0.1, 4096, 1)
    assert registry.build("dqn", config, ENV).members == 1
