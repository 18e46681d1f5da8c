"""stable-baselines3's PPO on our environments, with the network, batch and epochs of ours."""

from __future__ import annotations

import itertools
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray
from stable_baselines3 import PPO
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecEnv

from epomdp.agents import ppo


class NumpyGuess(VectorEnv):
    """The guessing game in plain NumPy, N at once; an ended episode shows the next one's image at once.

    It does no more than the game needs, so that the time measured is that of the algorithm.
    """

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012

    def __init__(self, images: NDArray, labels: NDArray, num_labels: int, num_envs: int, limit: int) -> None:
        self.images, self.labels, self.num_envs, self.limit = images, labels, num_envs, limit
        self.single_observation_space = gymnasium.spaces.Box(0, 1, images.shape[1:], np.float32)
        self.single_action_space = gymnasium.spaces.Discrete(num_labels)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.rng = np.random.default_rng(0)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        self.context = self.rng.integers(len(self.images), size=self.num_envs)
        self.guesses = np.zeros(self.num_envs, np.int64)
        return self.images[self.context], {}

    def step(self, actions: NDArray):
        right = actions == self.labels[self.context]
        self.guesses += 1
        truncated = ~right & (self.guesses >= self.limit)
        ended = right | truncated
        infos = {"final_obs": self.images[self.context]} if ended.any() else {}
        self.guesses[ended] = 0
        self.context = np.where(ended, self.rng.integers(len(self.images), size=self.num_envs), self.context)
        return self.images[self.context], np.where(right, 0.0, -1.0), right, truncated, infos


class FromGymnasium(VecEnv):
    """A Gymnasium vector environment that resets in the same step, as stable-baselines3 wants it."""

    def __init__(self, env: VectorEnv) -> None:
        self.env, self.render_mode = env, None
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)

    def reset(self):
        return self.env.reset()[0]

    def step_async(self, actions: NDArray) -> None:
        self.actions = actions

    def step_wait(self):
        observation, reward, terminated, truncated, shown = self.env.step(self.actions)
        ended = terminated | truncated
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for i in np.flatnonzero(ended):
            infos[i] = {
                "terminal_observation": shown["final_obs"][i],
                "TimeLimit.truncated": bool(truncated[i] and not terminated[i]),
            }
        return observation, reward, ended, infos

    def close(self) -> None:
        self.env.close()

    def get_attr(self, attr_name, indices=None):
        return [getattr(self.env, attr_name, None)] * self.num_envs

    def set_attr(self, attr_name, value, indices=None):
        raise NotImplementedError

    def env_method(self, method_name, *method_args, indices=None, **method_kwargs):
        raise NotImplementedError

    def env_is_wrapped(self, wrapper_class, indices=None):
        return [False] * self.num_envs


class Torso(BaseFeaturesExtractor):
    """The hidden layers that actor and critic share."""

    def __init__(self, observation_space, hidden: tuple[int, ...]) -> None:
        super().__init__(observation_space, hidden[-1])
        sizes = (int(np.prod(observation_space.shape)), *hidden)
        layers: list[torch.nn.Module] = [torch.nn.Flatten()]
        for size_in, size_out in itertools.pairwise(sizes):
            layers += [torch.nn.Linear(size_in, size_out), torch.nn.ReLU()]
        self.layers = torch.nn.Sequential(*layers)

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return self.layers(observations)


class BoardTorso(BaseFeaturesExtractor):
    """The convolutions and hidden layers of a board network; with PyTorch's own convolutions."""

    def __init__(self, observation_space, channels: tuple[int, ...], hidden: tuple[int, ...]) -> None:
        super().__init__(observation_space, hidden[-1])
        layers: list[torch.nn.Module] = []
        for i, (size_in, size_out) in enumerate(itertools.pairwise((observation_space.shape[-1], *channels))):
            layers += [torch.nn.Conv2d(size_in, size_out, 3, 1 if i else 2), torch.nn.ReLU()]
        layers.append(torch.nn.Flatten())
        with torch.no_grad():
            size = torch.nn.Sequential(*layers)(
                self._planes_first(torch.zeros(1, *observation_space.shape))
            ).shape[1]
        for size_in, size_out in itertools.pairwise((size, *hidden)):
            layers += [torch.nn.Linear(size_in, size_out), torch.nn.ReLU()]
        self.layers = torch.nn.Sequential(*layers)

    def _planes_first(self, observations: torch.Tensor) -> torch.Tensor:
        return observations.permute(0, 3, 1, 2)

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return self.layers(self._planes_first(observations))


def keywords(config: ppo.Config) -> dict[str, Any]:
    """Our PPO's settings as stable-baselines3 calls them."""
    return {
        "n_steps": config.num_steps,
        "batch_size": config.num_envs * config.num_steps // config.num_minibatches,
        "n_epochs": config.update_epochs,
        "learning_rate": config.learning_rate,
        "gamma": config.gamma,
        "gae_lambda": config.gae_lambda,
        "clip_range": config.clip_coef,
        "clip_range_vf": config.clip_coef,
        "ent_coef": config.ent_coef,
        "vf_coef": config.vf_coef,
        "max_grad_norm": config.max_grad_norm,
        "device": "cpu",
        "seed": 0,
    }


def make(env: VecEnv, config: ppo.Config, board: bool = False) -> PPO:
    """PPO as `epomdp.agents.ppo` has it: one torso, a linear actor and a linear critic on top."""
    torso: dict[str, Any] = {"hidden": config.hidden} | ({"channels": config.channels} if board else {})
    return PPO(
        "MlpPolicy",
        env,
        policy_kwargs={
            "features_extractor_class": BoardTorso if board else Torso,
            "features_extractor_kwargs": torso,
            "net_arch": [],
            "normalize_images": False,
        },
        **keywords(config),
    )
