"""The ladder of values as data: what each class of policies can reach, how certain that is, what each step buys."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from epomdp.errors import BadInput
from epomdp.report.text import number


@dataclass(frozen=True)
class Rung:
    """One class of policies.

    lower: a value that is attained (or a certified lower bound); upper: proved, None where nothing is proved. They
    are equal where the value is exact. gain: what the step from the next rung up to this one is called.
    """

    name: str
    label: str
    lower: float
    upper: float | None
    gain: str = ""
    description: str = ""

    def __post_init__(self) -> None:
        if self.upper is not None and not self.lower <= self.upper + 1e-9 * max(1.0, abs(self.upper)):
            raise BadInput(
                f"rung {self.name}: the lower bound {self.lower} is above the upper one {self.upper}"
            )

    @property
    def exact(self) -> bool:
        """Whether the bounds are one number, up to the solvers' precision of 1e-6."""
        return self.upper is not None and self.upper - self.lower <= 1e-6 * max(1.0, abs(self.upper))


@dataclass(frozen=True)
class Purchase:
    """What a step of the ladder buys: between `low` and `high`, as far as the bounds tell."""

    what: str
    low: float
    high: float


def rungs_from_json(solved: Mapping[str, Any]) -> tuple[Rung, ...]:
    """The ladder from `epomdp solve --json`.

    Parts that are missing or null are left out (a flat POMDP has bounds only). `stochastic`
    and `deterministic` may have a proved "bound" beside their value.
    """
    rungs = []
    if solved.get("informed") is not None:
        value = solved["informed"]
        about = "told the environment: a bound that nobody can reach in general"
        rungs.append(Rung("informed", "Informed", value, value, "being told the environment", about))
    if solved.get("bayes_optimal"):
        lower, upper = solved["bayes_optimal"]["lower"], solved["bayes_optimal"]["upper"]
        about = "best adaptive policy: the optimum of the epistemic POMDP"
        rungs.append(Rung("bayes_optimal", "Bayes-optimal", lower, upper, "memory", about))
    kinds = (("stochastic", "randomness"), ("deterministic", "planning over the posterior"))
    for kind, gain in kinds:
        if solved.get(kind):
            part = solved[kind]
            upper = part["value"] if part["certified"] else part.get("bound")
            about = f"best {kind} policy that sees the current state only"
            rungs.append(Rung(kind, f"Memoryless, {kind}", part["value"], upper, gain, about))
    equivalent = solved.get("certainty_equivalent") or {}
    for kind, words in (("map", "the most likely environment"), ("mean", "the posterior-mean environment")):
        if equivalent.get(kind) is not None:
            value = equivalent[kind]
            rungs.append(Rung(f"certainty-{kind}", f"Optimum of {words}", value, value, "", "run as it is"))
    return tuple(rungs)


def purchases(rungs: Sequence[Rung]) -> list[Purchase]:
    """What each step buys. The last rungs, which buy nothing themselves, count as one: the best of them.

    A rung without a proved upper bound can be as high as the one above it.
    """
    steps = [rung for rung in rungs if rung.gain]
    rest = [rung for rung in rungs if not rung.gain]
    if rest:
        steps.append(max(rest, key=lambda rung: rung.lower))
    found = []
    for above, below in pairwise(steps):
        top = math.inf if above.upper is None else above.upper
        ceiling = top if below.upper is None else min(top, below.upper)
        low = max(0.0, above.lower - ceiling)
        found.append(Purchase(above.gain, low, max(low, top - below.lower)))
    return found


def decimals(rungs: Sequence[Rung]) -> int:
    """Enough decimals to tell the rungs apart: two, more where the whole ladder is short."""
    values = [v for rung in rungs for v in (rung.lower, rung.upper) if v is not None and math.isfinite(v)]
    spread = max(values, default=0.0) - min(values, default=0.0)
    return 2 if spread <= 0 else min(6, max(2, 2 - math.floor(math.log10(spread))))


def amount(purchase: Purchase, places: int) -> str:
    """`0.42`, `0.30 to 0.42`, `at most 0.42`, `at least 0.30` or `nothing`."""
    low, high = number(purchase.low, places), number(purchase.high, places)
    nothing = number(0.0, places)
    if high == nothing:
        return "nothing"
    if math.isinf(purchase.high):
        return "an unknown amount" if low == nothing else f"at least {low}"
    if low == high:
        return low
    return f"at most {high}" if low == nothing else f"{low} to {high}"


def what_it_buys(rungs: Sequence[Rung]) -> str:
    """One sentence: what memory and randomness buy, without the informed bound, which nothing can buy."""
    places = decimals(rungs)
    steps = [step for step in purchases(rungs) if step.what != "being told the environment"]
    if not steps:
        return ""
    first, *rest = (
        f"{step.what} {'' if k else 'buys '}{amount(step, places)}" for k, step in enumerate(steps)
    )
    sentence = ", ".join([first, *rest[:-1]]) + (f" and {rest[-1]}" if rest else "")
    return f"{sentence[0].upper()}{sentence[1:]}."
