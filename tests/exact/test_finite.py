"""The exact mode: which families have few beliefs, and that passes over the graph of beliefs solve them."""

import numpy as np
import pytest

from epomdp.exact import solve as solver
from epomdp.exact.belief import EpistemicPOMDP
from epomdp.exact.family import Family
from epomdp.exact.policy_evaluation import evaluate
from epomdp.exact.solve import solve
from epomdp.exact.solving.bounds import family_bounds
from epomdp.exact.solving.engine import Engine
from epomdp.exact.solving.finite import finish, finite_beliefs
from epomdp.exact.solving.model import family_problem


def hidden_goal(side=4, goals=7, slip=0.2, discount=0.95, tell=0.0):
    """A grid; stepping onto the goal pays 1 and ends the episode. `tell` makes a slip likelier in environment 0.

    A slip is a step to the right of where one wanted to go.
    """
    cells, end = side * side, side * side
    transitions = np.zeros((goals, cells + 1, 4, cells + 1))
    rewards = np.zeros((goals, cells + 1, 4))
    moves = ((-1, 0), (0, 1), (1, 0), (0, -1))
    places = np.random.default_rng(0).choice(np.arange(1, cells), goals, replace=False)
    for m, goal in enumerate(places):
        for cell, a in np.ndindex(cells, 4):
            likelihood = slip + (tell if m == 0 else 0.0)
            for move, chance in ((moves[a], 1 - likelihood), (moves[(a + 1) % 4], likelihood)):
                row, column = (
                    min(max(at + by, 0), side - 1) for at, by in zip(divmod(cell, side), move, strict=True)
                )
                target = row * side + column
                transitions[m, cell, a, end if target == goal else target] += chance
                rewards[m, cell, a] += chance * (target == goal)
        transitions[m, end, :, end] = 1.0
    return Family.from_arrays(transitions, rewards, np.eye(cells + 1)[0], np.full(goals, 1 / goals), discount)


def prepared(family, observed=False):
    problem = family_problem(family, observed, family.weights)
    engine = Engine(problem, family_bounds(problem, family, 1e-3), 1e-9)
    return problem, engine


def test_hidden_goals_leave_few_beliefs_and_uneven_slips_do_not():
    assert finite_beliefs(prepared(hidden_goal())[0])
    assert not finite_beliefs(prepared(hidden_goal(tell=0.05))[0])


def test_the_graph_is_solved_exactly_and_trials_agree(monkeypatch):
    family = hidden_goal()
    monkeypatch.setattr(solver, "_FEW_BELIEFS", 10_000)
    exact = solve(family, observe_rewards=False, gap=1e-3)
    assert exact.iterations == 0 and exact.gap <= 1e-8
    monkeypatch.setattr(solver, "_FEW_BELIEFS", 0)
    trials = solve(family, observe_rewards=False, gap=1e-5)
    assert trials.iterations > 0
    assert trials.lower <= exact.upper + 1e-12 and exact.lower <= trials.upper + 1e-12
    for solution in (exact, trials):
        found = evaluate(EpistemicPOMDP(family, False), solution)
        assert solution.lower - 1e-9 <= found.lower <= solution.upper + 1e-9


def test_the_search_turns_to_the_exact_mode_when_trials_take_long(monkeypatch):
    monkeypatch.setattr(solver, "_FEW_BELIEFS", 0)
    monkeypatch.setattr(solver, "_FIRST_ATTEMPT", 300)
    monkeypatch.setattr(solver, "_NEXT_ATTEMPT", 2)
    solution = solve(hidden_goal(), observe_rewards=False, gap=2e-8)
    assert solution.status == "solved" and solution.gap <= 2e-8
    assert solution.iterations >= 300
    again = solve(hidden_goal(), observe_rewards=False, gap=2e-8)
    assert (solution.lower, solution.upper, solution.iterations) == (
        again.lower,
        again.upper,
        again.iterations,
    )


def test_it_gives_up_when_there_are_too_many_and_the_search_goes_on():
    _, engine = prepared(hidden_goal())
    assert not finish(engine, 1e-9, 20)
    done = engine.run(1e-3, 100_000)
    assert done
    lower, upper = engine.bounds
    exact = solve(hidden_goal(), observe_rewards=False, gap=1e-6)
    assert lower <= exact.upper and exact.lower <= upper and upper - lower <= 1e-3


def test_it_gives_up_when_told_to():
    _, engine = prepared(hidden_goal())
    assert not finish(engine, 1e-9, 10_000, stop=lambda: True)


@pytest.mark.parametrize("observed", [False, True])
def test_arrays_grow_as_needed(observed):
    family = hidden_goal(goals=10)
    _, engine = prepared(family, observed)
    start = len(engine.search.children)
    assert finish(engine, 1e-9, 100_000)
    exact = engine.bounds
    if not observed:
        assert len(engine.search.children) > start
    trials = solve(family, observe_rewards=observed, gap=1e-3)
    assert trials.lower <= exact[1] + 1e-9 and exact[0] <= trials.upper + 1e-9
