"""A small Gymnasium environment, for tests of contexts and of failures."""

import gymnasium
import numpy as np


class Walk(gymnasium.Env):
    """Walk to a goal that one sees, and that the seed decides where no length is given."""

    action_space = gymnasium.spaces.Discrete(2)
    observation_space = gymnasium.spaces.Box(0.0, 99.0, (2,), np.float32)

    def __init__(self, length=None):
        self.length = length

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.goal = self.length or int(self.np_random.integers(2, 90))
        self.at = self.steps = 0
        return self.observe(), {}

    def step(self, action):
        self.steps += 1
        self.at += int(action)
        return self.observe(), 0.0, self.at == self.goal, False, {}

    def observe(self):
        return np.array([self.at, self.goal], np.float32)
