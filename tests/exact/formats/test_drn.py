"""DRN files, read by a small parser written here: distributions, observations, and the value they hold."""

import re

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from epomdp.errors import BadInput
from epomdp.exact.family import Family
from epomdp.exact.formats import drn
from epomdp.exact.pomdp import Pomdp


class Model:
    """The states of a file: observation, labels, and for each action its label, reward and successors."""

    def __init__(self, text: str):
        header, body = text.split("@model\n")
        assert re.search(r"^@type: POMDP$", header, re.M)
        self.states, choices = [], 0
        for line in body.splitlines():
            if match := re.fullmatch(r"state (\d+) \{(\d+)\} \[0\](?: (\w+))?", line):
                assert int(match[1]) == len(self.states)
                self.states.append((int(match[2]), match[3], []))
            elif match := re.fullmatch(r"\taction (\S+) \[(\S+)\]", line):
                self.states[-1][2].append((match[1], float(match[2]), {}))
                choices += 1
            else:
                successor, probability = re.fullmatch(r"\t\t(\d+) : (\S+)", line).groups()
                row = self.states[-1][2][-1][2]
                assert int(successor) not in row
                row[int(successor)] = float(probability)
        assert re.search(rf"@nr_states\n{len(self.states)}\n@nr_choices\n{choices}\n", header)

    def value(self, steps: int) -> float:
        """Best expected total reward of the first steps, by going through all histories."""

        def best(belief, steps):
            if steps == 0:
                return 0.0
            actions = self.states[next(iter(belief))][2]
            return max(outcome(belief, a, steps) for a in range(len(actions)))

        def outcome(belief, a, steps):
            total, after = 0.0, {}
            for s, p in belief.items():
                _, reward, row = self.states[s][2][a]
                total += p * reward
                for s2, p2 in row.items():
                    seen = after.setdefault(self.states[s2][0], {})
                    seen[s2] = seen.get(s2, 0.0) + p * p2
            return total + sum(best(b, steps - 1) for b in after.values())

        (start,) = [i for i, (_, label, _) in enumerate(self.states) if label == "init"]
        return best({start: 1.0}, steps)

    def check(self):
        for observation, _, actions in self.states:
            for _, _, row in actions:
                assert sum(row.values()) == pytest.approx(1, abs=1e-12)
                assert all(p > 0 for p in row.values())
            labels = [label for label, _, _ in actions]
            same = [[a[0] for a in other[2]] for other in self.states if other[0] == observation]
            assert all(others == labels for others in same)


def written(tmp, model, **options) -> Model:
    drn.write(model, tmp / "x.drn", **options)
    result = Model((tmp / "x.drn").read_text())
    result.check()
    return result


def family_value(family: Family, observe_rewards: bool, steps: int) -> float:
    T, R = family.dense_transitions(), family.rewards

    def value(s, weights, steps):
        if steps == 0:
            return 0.0
        best = -np.inf
        for a in range(family.num_actions):
            groups = (
                [R[:, s, a] == r for r in set(R[:, s, a])] if observe_rewards else [np.ones(len(R), bool)]
            )
            after = [(s2, weights * T[:, s, a, s2] * g) for s2 in range(family.num_states) for g in groups]
            future = sum(value(s2, w, steps - 1) for s2, w in after if w.sum() > 0)
            best = max(best, weights @ R[:, s, a] + family.discount * future)
        return best

    return sum(p * value(s, family.weights, steps) for s, p in enumerate(family.initial) if p > 0)


def pomdp_value(pomdp: Pomdp, steps: int) -> float:
    def value(belief, steps):
        if steps == 0:
            return 0.0
        best = -np.inf
        for a in range(pomdp.num_actions):
            after = (belief @ pomdp.transitions[a])[:, None] * pomdp.observations[a].toarray()
            future = sum(value(b, steps - 1) for b in after.T if b.sum() > 0)
            best = max(best, belief @ pomdp.rewards[:, a] + pomdp.discount * future)
        return best

    return value(pomdp.initial, steps)


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 10**6), observe=st.booleans(), discount=st.sampled_from([0.0, 0.5, 0.95]))
def test_a_family_keeps_its_value(seed, observe, discount, tmp_path_factory):
    rng = np.random.default_rng(seed)
    M, S, A = rng.integers(1, 4, 3)
    rewards = rng.choice([0.0, 1.0, -0.5], (M, S, A))
    initial = rng.dirichlet(np.ones(S)) * (rng.random(S) < 0.6) + np.eye(S)[0] * 1e-3
    transitions = rng.dirichlet(np.full(S, 0.5), (M, S, A))
    family = Family.from_arrays(
        transitions, rewards, initial / initial.sum(), rng.dirichlet(np.ones(M)), discount
    )
    model = written(tmp_path_factory.getbasetemp(), family, observe_rewards=observe)
    # One step more, as chance draws the start in the first.
    assert model.value(4) == pytest.approx(family_value(family, observe, 3), abs=1e-9)


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 10**6), shared=st.booleans())
def test_a_flat_pomdp_keeps_its_value(seed, shared, tmp_path_factory):
    rng = np.random.default_rng(seed)
    S, A, count = rng.integers(1, 4, 3)

    def rows(n):
        cells = rng.dirichlet(np.ones(n), S) * (rng.random((S, n)) < 0.7) + np.eye(n)[rng.integers(0, n, S)]
        return sp.csr_array(cells / cells.sum(axis=1, keepdims=True))

    observations = tuple(rows(count) for _ in range(A))
    pomdp = Pomdp(
        tuple(rows(S) for _ in range(A)),
        (observations[0],) * A if shared else observations,
        rng.normal(size=(S, A)),
        rows(S).toarray()[0],
        0.9,
    )
    model = written(tmp_path_factory.getbasetemp(), pomdp)
    assert model.value(4) == pytest.approx(pomdp_value(pomdp, 3), abs=1e-9)


def test_blocks_join_up(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    family = Family.from_arrays(
        rng.dirichlet(np.ones(3), (2, 3, 2)), rng.normal(size=(2, 3, 2)), [1, 0, 0], [0.5, 0.5], 0.9
    )
    drn.write(family, tmp_path / "whole.drn")
    monkeypatch.setattr(drn, "_BLOCK", 4)
    drn.write(family, tmp_path / "parts.drn")
    assert (tmp_path / "whole.drn").read_bytes() == (tmp_path / "parts.drn").read_bytes()


def test_each_step_ends_in_the_sink_with_one_minus_the_discount(tmp_path):
    family = Family.from_arrays(np.ones((1, 1, 1, 1)), [[[2.0]]], [1.0], [1.0], 0.75)
    model = written(tmp_path, family)
    assert model.states[0] == (0, "end", [("__NOLABEL__", 0.0, {0: 1.0})])
    assert model.states[1] == (1, "init", [("__NOLABEL__", 0.0, {2: 1.0})])
    assert model.states[2] == (3, None, [("a0", 2.0, {0: 0.25, 2: 0.75})])


@pytest.mark.parametrize(
    ("name", "label"),
    [("go-left", "go-left"), ("go left", "a0"), ("[0]", "a0"), ("\u00f6", "a0"), ("", "a0")],
)
def test_action_names_that_storm_cannot_read_are_left_out(tmp_path, name, label):
    one = sp.csr_array(np.ones((1, 1)))
    pomdp = Pomdp((one,), (one,), np.zeros((1, 1)), np.ones(1), 0.5, actions=(name,))
    assert written(tmp_path, pomdp).states[2][2][0][0] == label


def test_a_discount_of_one_is_refused(tmp_path):
    family = Family.from_arrays(np.ones((1, 1, 1, 1)), [[[0.0]]], [1.0], [1.0], 1.0)
    with pytest.raises(BadInput, match="discount: is 1"):
        drn.write(family, tmp_path / "x.drn")
    assert not list(tmp_path.iterdir())
