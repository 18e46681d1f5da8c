"""Over a whole run, a member of LEEP plays in its own resample of levels and in nothing else."""

import pytest

from epomdp.envs import envpool_procgen
from epomdp.envs.envpool_procgen import Played, Pool
from epomdp.errors import BadInput
from epomdp.train import Settings, load, train

MEMBERS, ENVS, STEPS = 3, 4, 32
SMALL = {
    "network": "mlp",
    "hidden": (8,),
    "members": MEMBERS,
    "num_envs": ENVS,
    "num_steps": STEPS,
    "num_minibatches": 2,
}


@pytest.fixture
def _playable():
    try:
        envpool_procgen.load()
    except BadInput as reason:
        pytest.skip(str(reason))


@pytest.mark.usefixtures("_playable")
def test_members_play_their_own_levels_only(tmp_path, monkeypatch):
    seen = [set() for _ in range(MEMBERS)]

    def receive(pool):
        """The pool's own, which also notes the level that EnvPool itself names for each lane."""
        frames, reward, terminated, truncated, info = pool._envpool.recv()
        # Lanes of a half: those of the first member, then of the second, and so on.
        members = pool.lane[info["env_id"]] // (ENVS // 2)
        for member, level in zip(members, info["level_seed"], strict=True):
            seen[member].add(int(level))
        return Played(frames, reward, terminated, truncated, info["prev_level_complete"] != 0)

    monkeypatch.setattr(Pool, "receive", receive)
    sizes = {"train_contexts": 8, "test_contexts": 30, "steps": MEMBERS * ENVS * STEPS * 10}
    settings = Settings("procgen:bigfish", "leep", agent_options=SMALL, evaluations=0, **sizes)
    run = train(settings, tmp_path / "run")
    setup = load(run.path)[1]
    levels = setup.parts.train.values["level"]
    own = [set(levels[rows].tolist()) for rows in setup.resamples]
    assert all(played <= allowed < set(levels.tolist()) for played, allowed in zip(seen, own, strict=True))
    assert len(set(map(frozenset, own))) == MEMBERS and min(map(len, seen)) > 2
    assert not set().union(*seen) & set(setup.parts.test.values["level"].tolist())
