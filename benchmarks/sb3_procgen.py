"""stable-baselines3's PPO on EnvPool's Procgen, with the network, batch and epochs of ours."""

from __future__ import annotations

import itertools
from typing import Any

import gymnasium
import numpy as np
import sb3_guess
import torch
from numpy.typing import NDArray
from stable_baselines3 import PPO
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from epomdp.agents import networks, ppo
from epomdp.envs.envpool_procgen import load


class EnvPool(VecEnv):
    """EnvPool's own pool, which draws levels and resets by itself, one step after an episode has ended."""

    def __init__(self, task: str, num_envs: int, levels: int, threads: int) -> None:
        self.pool = load().make_gymnasium(
            task, num_envs=num_envs, num_threads=threads, seed=0, start_level=0, num_levels=levels
        )
        self.render_mode = None
        frames = gymnasium.spaces.Box(0, 255, (3, 64, 64), np.uint8)
        super().__init__(num_envs, frames, gymnasium.spaces.Discrete(15))

    def reset(self):
        return self.pool.reset()[0]

    def step_async(self, actions: NDArray) -> None:
        self.actions = np.asarray(actions, np.int32)

    def step_wait(self):
        observation, reward, terminated, truncated, _ = self.pool.step(self.actions)
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        ended = terminated | truncated
        for i in np.flatnonzero(ended):
            cut = bool(truncated[i] and not terminated[i])
            infos[i] = {"terminal_observation": observation[i], "TimeLimit.truncated": cut}
        return observation, reward, ended, infos

    def close(self) -> None:
        self.pool.close()

    def get_attr(self, attr_name, indices=None):
        return [getattr(self, attr_name, None)] * self.num_envs

    def set_attr(self, attr_name, value, indices=None):
        raise NotImplementedError

    def env_method(self, method_name, *method_args, indices=None, **method_kwargs):
        raise NotImplementedError

    def env_is_wrapped(self, wrapper_class, indices=None):
        return [False] * self.num_envs


class Small(BaseFeaturesExtractor):
    """Our network `small` with PyTorch's own convolutions; stable-baselines3 divides the pixels by 255."""

    def __init__(self, observation_space: gymnasium.spaces.Box) -> None:
        channels, (hidden,) = networks.CHANNELS["small"], networks.HIDDEN["small"]
        super().__init__(observation_space, hidden)
        first, *others = itertools.pairwise((observation_space.shape[0], *channels))
        layers: list[torch.nn.Module] = [torch.nn.Conv2d(*first, 4, stride=4), torch.nn.ReLU()]
        for sizes in others:
            layers += [torch.nn.ZeroPad2d((0, 1, 0, 1)), torch.nn.Conv2d(*sizes, 3, 2), torch.nn.ReLU()]
        layers.append(torch.nn.Flatten())
        size = torch.nn.Sequential(*layers)(torch.zeros(1, *observation_space.shape)).shape[1]
        self.layers = torch.nn.Sequential(*layers, torch.nn.Linear(size, hidden), torch.nn.ReLU())

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return self.layers(observations)


def make(task: str, config: ppo.Config, levels: int, threads: int) -> PPO:
    """PPO as `epomdp.agents.ppo` has it: one torso, a linear actor and a linear critic on top."""
    env = VecNormalize(EnvPool(task, config.num_envs, levels, threads), norm_obs=False, gamma=0.99)
    return PPO(
        "CnnPolicy",
        env,
        policy_kwargs={"features_extractor_class": Small, "net_arch": []},
        **sb3_guess.keywords(config),
    )
