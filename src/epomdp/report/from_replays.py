"""From policies to replays: play levels of a board game and keep what a page shows of them."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import numpy as np
from jaxtyping import PyTree

from epomdp.agents.policies import Policy
from epomdp.contexts import ContextSet
from epomdp.envs import render
from epomdp.envs.boards import BoardGame
from epomdp.evaluate import Trace, trace
from epomdp.report.contents import BoardPlay, BoardReplay


def board_replays(
    game: BoardGame,
    levels: ContextSet,
    policies: Mapping[str, tuple[Policy, PyTree]],
    *,
    seed: int,
) -> list[BoardReplay]:
    """Play every policy on every level, for `Page(replays=...)`: the post's figure 2.

    Args:
        levels: what to play, usually a few of the test levels; an episode for each policy on each.
        policies: label -> the policy and what it acts with; its description is shown under the label.
        seed: of the episodes, which are the first ones that `evaluate` plays with the same seed.
    """
    tiles = [render.svg_square(game.tiles, k) for k in range(len(game.tiles))]
    observe = jax.jit(game.observe)

    def show(state):
        return render.picture(game, state), np.asarray(observe(state)).tobytes()

    def play(label: str, index: int) -> BoardPlay:
        policy, params = policies[label]
        played = trace(game, policy, params, levels, index, seed=seed, show=show)
        return _board_play(game, label, policy.description, played)

    return [
        BoardReplay(name, tiles, [play(label, index) for label in policies], levels.hashes[index])
        for index, name in enumerate(levels.ids)
    ]


def _board_play(game: BoardGame, label: str, description: str, played: Trace) -> BoardPlay:
    pictures, observations = zip(*played.shown, strict=True)
    done = set()
    repeated = []
    for pair in zip(observations[:-1], played.actions.tolist(), strict=True):
        repeated.append(pair in done)
        done.add(pair)
    return BoardPlay(
        name=label,
        label=label,
        film=np.stack(pictures),
        actions=[game.action_names[action] for action in played.actions],
        returns=np.cumsum(played.rewards).tolist(),
        solved=played.solved,
        repeated=repeated,
        description=description,
    )
