"""The page of a solved family: its figures are the solver's, and its tree the policy's."""

import numpy as np
import pytest

from epomdp.exact.belief import EpistemicPOMDP
from epomdp.exact.family import Family
from epomdp.exact.guessing import guessing_family
from epomdp.exact.ladder import ladder
from epomdp.report.from_ladder import Telling, write_ladder_page


def signpost():
    """Two environments: the goal is left or right; a signpost off the way (action 2) tells which, for a price.

    States: 0 start, 1 told left, 2 told right, 3 the end. A wrong turn costs 5, a right one earns 1.
    """
    transitions = np.zeros((2, 4, 3, 4))
    transitions[:, :, :, 3] = 1.0
    transitions[:, 0, 2, 3] = 0.0
    transitions[0, 0, 2, 1] = transitions[1, 0, 2, 2] = 1.0
    rewards = np.zeros((2, 4, 3))
    for m in range(2):
        rewards[m, :3, m], rewards[m, :3, 1 - m] = 1.0, -5.0
        rewards[m, :3, 2] = [-0.2, -5.0, -5.0]
    return Family.from_arrays(transitions, rewards, [1, 0, 0, 0], [0.6, 0.4], 0.9)


def test_the_tree_says_where_the_policy_pays_for_information():
    family = signpost()
    found = ladder(family, gap=1e-6, time_limit=5)
    root = Telling(EpistemicPOMDP(family), found.solution).tree()
    assert root.action == "action 2" and root.gathers
    assert root.information == pytest.approx(-0.6 * np.log2(0.6) - 0.4 * np.log2(0.4))
    assert root.value == pytest.approx(-0.2 + 0.9 * 1.0)
    assert [(b.observation, b.probability) for b in root.branches] == [
        ("state 1, reward -0.2", pytest.approx(0.6)),
        ("state 2, reward -0.2", pytest.approx(0.4)),
    ]
    for branch, action in zip(root.branches, ("action 0", "action 1"), strict=True):
        assert branch.node.action == action and not branch.node.gathers
        assert branch.node.information == pytest.approx(0.0)


def test_elimination_informs_but_is_not_done_for_the_information():
    family = guessing_family(np.array([0.5, 0.3, 0.2]), discount=0.95)
    found = ladder(family, gap=1e-6, time_limit=5)
    told = Telling(EpistemicPOMDP(family), found.solution)
    root = told.tree()
    assert root.action == "action 0" and root.information > 0.5 and not root.gathers
    first = told.episodes()[2]
    assert first.truth == 2 and [step.action for step in first.steps] == ["action 0", "action 1", "action 2"]
    np.testing.assert_allclose(first.steps[1].belief, [0, 0.6, 0.4], atol=1e-9)


@pytest.mark.chromium
def test_the_page_opens_without_a_complaint(tmp_path, opened):
    family = signpost()
    found = ladder(family, gap=1e-6, time_limit=5)
    path = write_ladder_page(
        found,
        family,
        tmp_path / "page.html",
        title="<signpost>",
        observe_rewards=True,
        command="epomdp solve x.npz",
    )
    shown = opened(path.read_text()).load().find_element("tag name", "main").text
    assert "Ladder of values" in shown and "action 2" in shown and "0.70" in shown
