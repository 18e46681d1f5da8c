"""The ladder of values: what each class of policies can reach in one epistemic POMDP, and what each step buys."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from epomdp.exact.certainty import CertaintyEquivalent, certainty_equivalent
from epomdp.exact.family import Family
from epomdp.exact.mdp import optimal_values
from epomdp.exact.memoryless import TOLERANCE, MemorylessPolicy, best_deterministic, best_stochastic
from epomdp.exact.pomdp import Pomdp
from epomdp.exact.solve import Solution, check_limits, check_problem, solve
from epomdp.exact.solving.bounds import ROUNDING

# Share of the time that the Bayes-optimal row may take, and of what is left after it the deterministic one.
_BAYES_SHARE = 0.5
_DETERMINISTIC_SHARE = 0.5
# Seconds that each memoryless row may take where there is no time limit: proofs have no natural end.
_MEMORYLESS_SECONDS = 10.0


@dataclass(frozen=True, eq=False)
class Ladder:
    """The values of the policy classes, each at least the next, with certificates.

    Attributes:
        lower, upper: proved bounds of the Bayes-optimal value.
        discount: of the problem.
        seconds: taken in all.
        status: "solved" if the bounds came within the gap that was asked for, else "time-limit" (`solution.status`
            tells whether it was the memory instead).
        solution: the solver's result, with the Bayes-optimal policy (to within its bounds).
        informed: value of being told the environment. This and what follows is None for a flat POMDP.
        stochastic, deterministic: the best memoryless policies found.
        certainty: the certainty-equivalent policies and their values.
    """

    lower: float
    upper: float
    discount: float
    seconds: float
    status: str
    solution: Solution
    informed: float | None = None
    stochastic: MemorylessPolicy | None = None
    deterministic: MemorylessPolicy | None = None
    certainty: CertaintyEquivalent | None = None

    def to_json(self) -> dict[str, Any]:
        """The object of `epomdp solve --json`; rows that a flat POMDP does not have are left out."""
        rows: dict[str, Any] = {"bayes_optimal": {"lower": self.lower, "upper": self.upper}}
        if self.informed is not None and self.stochastic and self.deterministic and self.certainty:
            rows = {
                "informed": self.informed,
                **rows,
                "stochastic": _row(self.stochastic),
                "deterministic": _row(self.deterministic),
                "certainty_equivalent": {
                    "map": self.certainty.map_value,
                    "mean": self.certainty.mean_value,
                },
            }
        return {**rows, "discount": self.discount, "seconds": self.seconds, "status": self.status}

    def what_it_buys(self) -> str:
        """One sentence: what memory, randomness and planning over the posterior add, as far as is proved."""
        if not (self.stochastic and self.deterministic and self.certainty):
            return f"The best policy is worth between {self.lower:.4g} and {self.upper:.4g}."
        stochastic, deterministic = self.stochastic, self.deterministic
        most_stochastic, most_deterministic = _ceiling(stochastic), _ceiling(deterministic)
        certain = max(self.certainty.map_value, self.certainty.mean_value)
        # The least and the most that each step can be, by what is attained and what is proved.
        memory = _amount(self.lower - min(most_stochastic, self.upper), self.upper - stochastic.value)
        randomness = _amount(
            stochastic.value - min(most_deterministic, most_stochastic),
            most_stochastic - deterministic.value,
        )
        planning = _amount(deterministic.value - certain, most_deterministic - certain)
        return f"Memory buys {memory}, randomness {randomness} and planning over the posterior {planning}."


def ladder(
    problem: Family | Pomdp,
    *,
    observe_rewards: bool = True,
    gap: float = 1e-3,
    time_limit: float | None = None,
    seed: int = 0,
    callback: Callable[..., Any] | None = None,
) -> Ladder:
    """All rows of the ladder, or the Bayes-optimal bounds of a flat POMDP.

    The informed and the certainty-equivalent values come first, then the Bayes-optimal bounds in at most half
    of the time, then the deterministic and the stochastic memoryless policies. Each row makes the next cheaper:
    the bounds above are certificates, the policies below are starts.

    Args:
        problem: a family with weights, or a flat POMDP.
        observe_rewards: whether the reward of a step is seen; it changes the Bayes-optimal row only.
        gap: upper minus lower Bayes-optimal bound at which to stop, absolute.
        time_limit: seconds for all rows together; whatever has been reached by then is returned. None: until
            the gap is closed, and at most 10 seconds for each of the memoryless rows.
        seed: of the memoryless searches.
        callback: handed to `solve`.
    """
    check_limits(gap, time_limit)
    check_problem(problem)
    start = time.monotonic()

    def left() -> float:
        return np.inf if time_limit is None else max(0.0, start + time_limit - time.monotonic())

    if isinstance(problem, Pomdp):
        solution = solve(problem, gap=gap, time_limit=time_limit, callback=callback)
        seconds = time.monotonic() - start
        status = "solved" if solution.status == "solved" else "time-limit"
        return Ladder(solution.lower, solution.upper, problem.discount, seconds, status, solution)

    inner = problem.layered() if problem.horizon is not None else problem
    informed = float(problem.weights @ optimal_values(inner) @ inner.initial)
    certainty = certainty_equivalent(problem)
    solution = solve(
        problem,
        observe_rewards=observe_rewards,
        gap=gap,
        time_limit=None if time_limit is None else _BAYES_SHARE * left(),
        callback=callback,
    )
    # The other rows are exact but for rounding, which adds up over an episode: above the gap, they prove nothing.
    rounding = ROUNDING * abs(informed) / (1.0 - problem.discount) if problem.discount < 1.0 else 0.0
    upper = min(solution.upper, informed) if rounding <= gap else solution.upper
    deterministic = best_deterministic(
        problem,
        starts=[certainty.map_actions, certainty.mean_actions],
        upper=upper,
        time_limit=min(_DETERMINISTIC_SHARE * left(), _memoryless_seconds(time_limit)),
        seed=seed,
    )
    stochastic = best_stochastic(
        problem,
        deterministic=deterministic,
        upper=upper,
        time_limit=min(left(), _memoryless_seconds(time_limit)),
        seed=seed,
    )
    # A memoryless policy is one of those that the first row is the best of.
    lower = max(solution.lower, stochastic.value) if rounding <= gap else solution.lower
    status = "solved" if upper - lower + rounding <= gap or solution.status == "solved" else "time-limit"
    seconds = time.monotonic() - start
    return Ladder(
        lower,
        max(upper, lower),
        problem.discount,
        seconds,
        status,
        solution,
        informed,
        stochastic,
        deterministic,
        certainty,
    )


def _memoryless_seconds(time_limit: float | None) -> float:
    return _MEMORYLESS_SECONDS if time_limit is None else np.inf


def _row(found: MemorylessPolicy) -> dict[str, Any]:
    return {"value": found.value, "certified": found.certified, "bound": found.bound}


def _ceiling(found: MemorylessPolicy) -> float:
    """The best value of the class, or what it does not exceed."""
    return found.value if found.certified else found.bound


def _amount(low: float, high: float) -> str:
    """`0.42`, `0.3 to 0.42`, `at most 0.42` or `nothing`, to four significant digits."""
    least, most = f"{low:.4g}", f"{high:.4g}"
    if high <= TOLERANCE:
        return "nothing"
    if low <= TOLERANCE:
        return f"at most {most}"
    return most if least == most else f"{least} to {most}"
