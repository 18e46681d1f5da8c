"""PPO's training steps a second on Maze, side by side with rejax's, both in JAX on the very same environment.

    pip install rejax && python benchmarks/ppo_rejax.py --json ppo_rejax.json

Same environments, batch, minibatches and epochs, in one process and in turns; compilation is left out. rejax has an
actor and a critic with a torso each, where ours share one: the last column divides that out, as the ratio of the
operations a step of each. Both run with the fully connected torso (2 x 128), which is rejax's own, and with the board
network; rejax's is of flax's convolutions. Activations are ReLU.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from types import SimpleNamespace

import arithmetic
import jax
import jax.numpy as jnp
import timing
from flax import linen as nn
from gymnax.environments import spaces
from rejax import PPO
from rejax.networks import DiscretePolicy, VNetwork

from epomdp.agents import networks, ppo


class Board(nn.Module):
    """The torso of our board network in flax."""

    channels: tuple[int, ...]
    hidden: tuple[int, ...]

    @nn.compact
    def __call__(self, x):
        for i, width in enumerate(self.channels):
            x = nn.relu(nn.Conv(width, (3, 3), 1 if i else 2, padding="VALID")(x.astype(jnp.float32)))
        x = x.reshape(x.shape[0], -1)
        for width in self.hidden:
            x = nn.relu(nn.Dense(width)(x))
        return x


class BoardPolicy(DiscretePolicy):
    torso: nn.Module | None = None

    def setup(self):
        self.features = self.torso
        self.action_logits = nn.Dense(self.action_dim)


class BoardValue(VNetwork):
    torso: nn.Module | None = None

    @nn.compact
    def __call__(self, x):
        return nn.Dense(1)(self.torso(x)).squeeze(1)


class MazeForThem:
    """Our environment with the calls that rejax makes: an ended episode is replaced in the same step."""

    default_params = SimpleNamespace(max_steps_in_episode=100)

    def __init__(self, env, contexts) -> None:
        self.env, self.values = env, jax.tree.map(jnp.asarray, contexts.values)

    def __deepcopy__(self, memo):
        return self

    def reset(self, key, params):
        key_context, key_reset = jax.random.split(key)
        chosen = jax.random.randint(key_context, (), 0, jax.tree.leaves(self.values)[0].shape[0])
        state, observation = self.env.reset(key_reset, jax.tree.map(lambda x: x[chosen], self.values))
        return observation, state

    def step(self, key, state, action, params):
        key_step, key_reset = jax.random.split(key)
        state, step = self.env.step(key_step, state, action)
        done = step.terminated | step.truncated
        fresh, going = self.reset(key_reset, params), (step.observation, state)
        observation, state = jax.tree.map(lambda a, b: jnp.where(done, a, b), fresh, going)
        return observation, state, step.reward, done, {}

    def action_space(self, params):
        return spaces.Discrete(self.env.num_actions)

    def observation_space(self, params):
        shown = self.env.observation
        return spaces.Box(0, 255, shown.shape, shown.dtype)


class Theirs:
    """rejax's PPO, an update at a time."""

    def __init__(self, config: ppo.Config, ours: timing.Trainer) -> None:
        hidden, board = config.hidden, Board(config.channels, config.hidden)
        algorithm = PPO.create(
            env=MazeForThem(ours.env, ours.contexts),
            env_params=None,
            agent_kwargs={"hidden_layer_sizes": hidden, "activation": "relu"},
            num_envs=config.num_envs,
            num_steps=config.num_steps,
            num_epochs=config.update_epochs,
            num_minibatches=config.num_minibatches,
            learning_rate=config.learning_rate,
            gamma=config.gamma,
            gae_lambda=config.gae_lambda,
            clip_eps=config.clip_coef,
            vf_coef=config.vf_coef,
            ent_coef=config.ent_coef,
            max_grad_norm=config.max_grad_norm,
        )
        if ours.agent.network == "board":
            algorithm = algorithm.replace(
                actor=BoardPolicy(ours.env.num_actions, hidden, nn.relu, board),
                critic=BoardValue(hidden, nn.relu, board),
            )
        self._state = algorithm.init_state(jax.random.key(0))
        self._update = jax.jit(algorithm.train_iteration)

    def run(self, updates: int) -> None:
        for _ in range(updates):
            self._state = jax.block_until_ready(self._update(self._state))


def their_operations(config: ppo.Config, env) -> float:
    """Operations of rejax's PPO for each environment step: both networks are asked at every step and learn apart."""
    actor, critic = (arithmetic.layers(config, env, outputs) for outputs in (env.num_actions, 1))
    acting = sum(actor) + sum(critic) * (1 + 1 / config.num_steps)
    return acting + arithmetic.learning(actor, config) + arithmetic.learning(critic, config)


def measure(rounds: int, updates: int) -> dict:
    going, more = {}, {}
    for network in ("mlp", "board"):
        config = ppo.Config(
            network=network, channels=networks.CHANNELS["board"], hidden=networks.HIDDEN["mlp"]
        )
        ours = timing.Trainer("ppo", {"network": network}, "maze")
        theirs = Theirs(config, ours)
        more[network] = their_operations(config, ours.env) / sum(arithmetic.ppo_step(config, ours.env))
        going[f"epomdp, {network}"] = lambda t=ours: t.run(updates)
        going[f"rejax, {network}"] = lambda t=theirs: t.run(updates)
    seconds = timing.alternate(going, rounds)
    steps = updates * ours.agent.steps_per_update
    speed = {name: steps / values for name, values in seconds.items()}
    times = {name: speed[f"epomdp, {name}"] / speed[f"rejax, {name}"] for name in more}
    return {
        "machine": timing.machine(),
        "steps_per_second": speed,
        "times": times,
        "their_operations_over_ours": more,
        "times_at_equal_operations": {name: times[name] / more[name] for name in more},
    }


def table(report: dict) -> str:
    rows = []
    for name, speed in report["steps_per_second"].items():
        whose, network = name.split(", ")
        ratios = [report[kind][network] for kind in ("times", "times_at_equal_operations")]
        shown = [timing.middle(ratio) if whose == "epomdp" else "" for ratio in ratios]
        rows.append([name, timing.middle(speed, 0), *shown])
    return timing.markdown(["PPO, network", "steps/s", "times rejax", "at equal operations"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--updates", type=int, default=8, help="of each, in each round")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to a file")
    options = parser.parse_args()
    report = measure(options.rounds, options.updates)
    print(f"{report['machine']}\n\n{table(report)}")
    timing.write(options.json, report)


if __name__ == "__main__":
    main()
