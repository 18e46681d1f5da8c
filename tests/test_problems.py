"""Names of problems, and protocols: what they fill in, and what goes before them."""

import dataclasses
import json
import re

import pytest

from epomdp import problems
from epomdp.agents import registry
from epomdp.envs.maze import Maze
from epomdp.envs.procgen import GAMES
from epomdp.errors import BadInput
from epomdp.train import Settings

# The table of theory: PPO on 200 easy levels.
EASY = {
    "network": "impala",
    "normalise_returns": True,
    "num_envs": 64,
    "num_steps": 256,
    "num_minibatches": 8,
    "update_epochs": 3,
    "learning_rate": 5e-4,
    "gamma": 0.999,
    "gae_lambda": 0.95,
    "ent_coef": 0.01,
    "vf_coef": 0.5,
    "clip_coef": 0.2,
    "max_grad_norm": 0.5,
}


@pytest.mark.parametrize("agent", ["ppo", "leep", "leep-mean", "unlinked"])
def test_the_protocol_is_procgens_default(agent):
    settings = Settings("procgen:maze", agent).resolved()
    assert settings.protocol == "easy-200"
    assert EASY.items() <= settings.agent_options.items()
    assert (settings.train_contexts, settings.validation_contexts, settings.test_contexts) == (200, 0, 1000)
    assert settings.steps == 25_000_000 and settings.env_options["distribution"] == "easy"
    assert problems.departures(dataclasses.asdict(settings), 25_000_000) == ("25,000,000 steps", [])
    # What is stored resolves to itself.
    assert settings.resolved() == settings


def test_another_protocol():
    settings = Settings("procgen:heist", "ppo", protocol="hard-500").resolved()
    assert settings.train_contexts == 500 and settings.steps == 200_000_000
    assert settings.env_options["distribution"] == "hard" and settings.agent_options["num_envs"] == 256


def test_what_is_chosen_goes_before_the_protocol_and_is_named():
    settings = Settings(
        "procgen:maze",
        "ppo",
        env_options={"distribution": "hard"},
        agent_options={"network": "small", "gamma": 0.999},
        test_contexts=100,
        steps=50_000,
    ).resolved()
    assert settings.agent_options["network"] == "small" and settings.agent_options["num_steps"] == 256
    assert problems.departures(dataclasses.asdict(settings), 49_152) == (
        "49,152 of 25,000,000 steps",
        [
            "test_contexts 100 instead of 1000",
            "distribution hard instead of easy",
            "network small instead of impala",
        ],
    )


def test_other_levels_widths_and_precision_are_departures_too():
    options = {"channels": [4, 4, 4], "hidden": (32,), "compute": "bfloat16"}
    settings = Settings("procgen:maze", "leep", env_options={"start_level": 5000}, agent_options=options)
    _, others = problems.departures(
        json.loads(json.dumps(dataclasses.asdict(settings.resolved()))), 25_000_000
    )
    assert others == [
        "start_level 5000 instead of 0",
        "channels 4,4,4 instead of the network's own",
        "hidden 32 instead of the network's own",
        "compute bfloat16 instead of float32",
    ]


def test_what_an_old_run_has_not_recorded_is_unknown():
    stored = dataclasses.asdict(Settings("procgen:maze", "leep").resolved())
    del stored["env_options"]["start_level"]
    assert problems.departures(stored, 25_000_000)[1] == ["start_level unknown instead of 0"]


def test_an_agent_that_lacks_hyperparameters_of_the_protocol_keeps_its_own():
    settings = Settings("procgen:maze", "dqn").resolved()
    assert settings.agent_options == registry.options(registry.entry("dqn").config)
    assert settings.steps == 25_000_000
    _, others = problems.departures(dataclasses.asdict(settings), 25_000_000)
    assert others == ["dqn instead of an agent with the protocol's hyperparameters"]


def test_problems_without_protocols_have_none():
    settings = Settings("maze", "ppo").resolved()
    assert settings.protocol is None and problems.departures(dataclasses.asdict(settings), 5) == (
        "5 steps",
        [],
    )


def test_wide_boards_have_smaller_pools(monkeypatch):
    monkeypatch.setattr(problems, "levels", lambda game, seeds: len(seeds))
    pools = [problems._pool.__wrapped__(Maze(size=size)) for size in (11, 25, 27, 63)]
    assert pools == [20_000, 20_000, 17_146, 3_149]
    known = problems.entry("maze")
    assert known.train_contexts + known.validation_contexts + known.test_contexts < pools[-1]


def test_every_game_has_an_entry():
    assert all(problems.entry(f"procgen:{game}").protocols for game in GAMES)


@pytest.mark.parametrize(
    ("env", "protocol", "message"),
    [
        ("procgen:mase", None, "unknown game of Procgen 'mase'; did you mean 'maze'?"),
        ("procgen", None, "unknown environment 'procgen'; did you mean 'procgen:GAME'?"),
        ("procgen:maze", "easy200", "unknown protocol of procgen:maze 'easy200'; did you mean 'easy-200'?"),
        ("maze", "easy-200", "--protocol is easy-200, and maze has none; leave it out"),
    ],
)
def test_wrong_names(env, protocol, message):
    with pytest.raises(BadInput, match=re.escape(message)):
        Settings(env, "ppo", protocol=protocol).resolved()
