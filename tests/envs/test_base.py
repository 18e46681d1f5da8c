"""The contract's own types, and the written contract: its examples run, and its checks are the checker's."""

import re
import typing
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from epomdp.envs import check, findings
from epomdp.envs.base import Environment, Step, Transition

DOCS = Path(__file__).parents[2] / "docs"
CONTRACT = (DOCS / "environments" / "contract.md").read_text(encoding="utf-8")


@pytest.fixture
def contract_names():
    """What the Python blocks of the contract define; that they print what they say is tests/test_docs.py's."""
    names = {"__name__": "example"}
    for block in re.findall(r"```python\n(.*?)```", CONTRACT, re.S):
        exec(compile(block, "contract.md", "exec"), names)
    return names


def test_the_fault_shown_in_the_contract_is_what_the_checker_says(contract_names):
    names = contract_names

    class Late(names["Doors"]):
        def step(self, key, state, action):
            state, step = super().step(key, state, action)
            return state, step._replace(truncated=jnp.bool_(False))

    shown = re.search(r"```text\n(.*?)```", CONTRACT, re.S).group(1)
    told = str(check.check_environment(Late(), names["contexts"]))
    assert [re.sub(r"context \d", "", line) for line in told.splitlines()[:2]] == [
        re.sub(r"context \d", "", line) for line in shown.splitlines()
    ]


def test_the_contract_lists_every_check_and_no_other():
    table = CONTRACT.split("| check | finds |")[1].split("\n\n")[0]
    listed = set(re.findall(r"^\| (\w+) \|", table, re.M))
    assert listed == set(typing.get_args(findings.Check))
    marked = {
        word
        for group in re.findall(r"\[([a-z, \]\[]+)\](?!\()", CONTRACT)
        for word in re.findall(r"\w+", group)
    }
    assert listed <= marked


def test_environment_is_abstract_and_solved_means_terminated():
    with pytest.raises(TypeError, match="abstract"):
        Environment()

    class Once(Environment):
        def reset(self, key, context):
            return None, None

        def step(self, key, state, action):
            return None, Step(None, 0.0, action == 1, action == 2)

    for action, expected in ((0, False), (1, True), (2, False)):
        solved = Once().solved(None, Once().step(None, None, action)[1])
        assert solved.dtype == bool
        assert bool(solved) is expected


def test_records_are_pytrees_that_scan_and_vmap_stack():
    def record(t):
        step = Step(jnp.full(3, t, jnp.float32), -1.0 * t, t > 1, t > 2)
        return Transition(step.observation, t, *step[1:], step.observation + 1, {"value": t / 2})

    batch = jax.vmap(jax.vmap(record))(jnp.arange(8).reshape(4, 2))
    assert batch.observation.shape == batch.next_observation.shape == (4, 2, 3)
    assert batch.extras["value"].shape == (4, 2)
    np.testing.assert_array_equal(batch.terminated, np.arange(8).reshape(4, 2) > 1)
    np.testing.assert_array_equal(batch.truncated, np.arange(8).reshape(4, 2) > 2)
