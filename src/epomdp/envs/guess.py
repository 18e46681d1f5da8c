"""The guessing game: one image a context, one guess a step, until the label is named."""

from __future__ import annotations

from typing import NamedTuple, TypedDict

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from epomdp.envs.base import Environment, Key, Step
from epomdp.errors import BadInput


class GuessContext(TypedDict):
    """An image with pixels in [0, 1] and its label in 0 .. num_labels - 1."""

    image: Float[Array, "*pixels"]
    label: Int[Array, ""]


class GuessState(NamedTuple):
    """The context, the guesses made, and how the episode ended, if it has."""

    context: GuessContext
    guesses: Int[Array, ""]
    terminated: Bool[Array, ""]
    truncated: Bool[Array, ""]


class Guess(Environment):
    """Name the label of an image: -1 for a wrong guess, 0 and the end for the right one.

    The observation is the image at every step, so a deterministic memoryless policy repeats a wrong guess for
    ever. The game of Ghosh et al. 2021, https://arxiv.org/abs/2107.06277.

    Args:
        image_shape: (H, W) or (H, W, C); any shape will do.
        num_labels: K, the labels and the actions; at least 2.
        max_episode_steps: guesses after which an unsolved episode is truncated.
    """

    name = "guess"

    def __init__(self, image_shape: tuple[int, ...], num_labels: int, max_episode_steps: int = 20) -> None:
        if num_labels < 2:
            raise BadInput(f"guess: num_labels must be at least 2, got {num_labels}")
        if max_episode_steps < 1:
            raise BadInput(f"guess: max_episode_steps must be at least 1, got {max_episode_steps}")
        self.num_actions = num_labels
        self.observation = jax.ShapeDtypeStruct(tuple(image_shape), jnp.float32)
        self.max_episode_steps = max_episode_steps

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Guess) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((self.observation, self.num_actions, self.max_episode_steps))

    def reset(self, key: Key, context: GuessContext) -> tuple[GuessState, Float[Array, "*pixels"]]:
        context = {
            "image": jnp.asarray(context["image"], jnp.float32),
            "label": jnp.asarray(context["label"], jnp.int32),
        }
        going = jnp.asarray(False)
        return GuessState(context, jnp.asarray(0, jnp.int32), going, going), context["image"]

    def step(self, key: Key, state: GuessState, action: Int[Array, ""]) -> tuple[GuessState, Step]:
        ended = state.terminated | state.truncated
        right = action == state.context["label"]
        guesses = jnp.where(ended, state.guesses, state.guesses + 1)
        terminated = jnp.where(ended, state.terminated, right)
        truncated = jnp.where(ended, state.truncated, ~right & (guesses >= self.max_episode_steps))
        reward = jnp.where(ended | right, 0.0, -1.0).astype(jnp.float32)
        state = GuessState(state.context, guesses, terminated, truncated)
        return state, Step(state.context["image"], reward, terminated, truncated)

    def mistake(self, before: GuessState, action: Int[Array, ""]) -> Bool[Array, ""]:
        return action != before.context["label"]
