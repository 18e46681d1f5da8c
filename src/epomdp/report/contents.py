"""What a page of results can hold. Every part is optional: a page leaves out the sections that it has no data for.

The shapes follow the command line's JSON: `Score` is its R, read with `Score.from_json`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from epomdp.errors import BadInput

Interval = tuple[float, float]


@dataclass(frozen=True)
class Estimate:
    """A number with its confidence interval."""

    mean: float
    interval: Interval | None = None


@dataclass(frozen=True)
class Score:
    """Returns of one policy on one set of contexts. Counts and shares that are unknown are None."""

    mean: float
    interval: Interval | None = None
    iqm: float | None = None
    solve_rate: float | None = None
    contexts: int | None = None
    episodes: int | None = None
    seeds: int | None = None

    @classmethod
    def from_json(cls, result: Mapping[str, Any]) -> "Score":
        """From `{"mean": v, "interval": [lo, hi], "iqm": v, "solve_rate": v, "contexts": n, ...}`."""
        if "mean" not in result:
            raise BadInput(
                f"a result without a mean (keys: {sorted(result)}): give at least mean and interval"
            )
        bounds = result.get("interval")
        known = {k: result.get(k) for k in ("iqm", "solve_rate", "contexts", "episodes", "seeds")}
        return cls(mean=result["mean"], interval=tuple(bounds) if bounds else None, **known)


@dataclass(frozen=True)
class PolicyRow:
    """A policy with its scores. `name` is the machine name of the JSON, `label` what a reader sees."""

    name: str
    label: str
    description: str = ""
    train: Score | None = None
    test: Score | None = None


@dataclass(frozen=True)
class Reference:
    """An exact value to hold the policies against.

    value: expected return on the test contexts with their true answers; promised: what the epistemic POMDP said of
    it beforehand, under its own posterior (shown as calibration); interval: of `value` over splits or contexts.
    """

    name: str
    label: str
    value: float
    promised: float | None = None
    interval: Interval | None = None
    description: str = ""


@dataclass(frozen=True)
class Claim:
    """Something expected before the run and what came of it. holds: True, False, or None for not decided.

    difference: of the two returns, paired; probability: of improvement, in [0, 1].
    """

    statement: str
    holds: bool | None
    difference: Estimate | None = None
    probability: float | None = None


@dataclass(frozen=True)
class Gap:
    """The generalization gap of a policy: training minus test return, same protocol."""

    name: str
    label: str
    mean: float
    interval: Interval | None = None


@dataclass(frozen=True)
class Curve:
    """Return over environment steps. split: train, validation or test; low and high may be empty (no interval).

    Curves with the same `name` share a panel, headed by `label`.
    """

    name: str
    label: str
    split: str
    steps: Sequence[float]
    mean: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()

    def __post_init__(self) -> None:
        lengths = {len(self.steps), len(self.mean)} | {len(x) for x in (self.low, self.high) if len(x)}
        if len(lengths) > 1:
            raise BadInput(
                f"curve {self.name}, {self.split}: steps, mean, low and high differ in length {lengths}"
            )
        if self.split not in ("train", "validation", "test"):
            raise BadInput(f"curve {self.name}: split {self.split!r} is not train, validation or test")


@dataclass(frozen=True)
class Bin:
    """Cases whose promised probability was alike: its mean, the share that came true, their number."""

    confidence: float
    accuracy: float
    count: int


@dataclass(frozen=True)
class Calibration:
    """Whether the posterior's probabilities come true on the test contexts.

    posterior: which one, in words; error: expected calibration error in [0, 1].
    """

    posterior: str
    bins: Sequence[Bin] = ()
    error: float | None = None


@dataclass(frozen=True)
class Split:
    """A set of contexts: how many and the hash of their content hashes."""

    name: str
    contexts: int
    digest: str = ""


@dataclass(frozen=True)
class Leaks:
    """The check that no test context was seen in training, by content.

    overlap: contexts outside training whose content equals a training context's; removed: how many of them were taken
    out before evaluation; hashes_file: where the hash of every context is written down; held_out: contexts outside
    training, of how many.
    """

    splits: Sequence[Split]
    overlap: int = 0
    removed: int = 0
    hashes_file: str = ""
    examples: Sequence[str] = ()
    held_out: int | None = None


@dataclass(frozen=True)
class Guesses:
    """What one policy did with one image.

    guesses: label indices in order; beliefs: the probabilities over labels it acted on before each guess, or a single
    row where they never change, or nothing.
    """

    name: str
    label: str
    guesses: Sequence[int]
    beliefs: Sequence[Sequence[float]] = ()
    description: str = ""


@dataclass(frozen=True)
class GuessEpisode:
    """A test image and the guesses of several policies: the post's figure 1.

    image: (H, W) or (H, W, 3), uint8 or floats in [0, 1]; labels: K names; truth: index of the right one.
    """

    name: str
    image: ArrayLike
    labels: Sequence[str]
    truth: int
    lanes: Sequence[Guesses]
    digest: str = ""

    def __post_init__(self) -> None:
        size = len(self.labels)
        if not 0 <= self.truth < size:
            raise BadInput(f"episode {self.name}: the truth {self.truth} is not one of {size} labels")
        for lane in self.lanes:
            self._check(lane, size)

    def _check(self, lane: Guesses, size: int) -> None:
        where = f"episode {self.name}, {lane.name}"
        if any(not 0 <= guess < size for guess in lane.guesses):
            raise BadInput(f"{where}: a guess is not one of {size} labels")
        if len(lane.beliefs) not in (0, 1, len(lane.guesses)):
            raise BadInput(
                f"{where}: {len(lane.beliefs)} beliefs for {len(lane.guesses)} guesses; give one for each"
            )
        for row in lane.beliefs:
            if len(row) != size or any(not math.isfinite(p) or p < 0 for p in row):
                raise BadInput(f"{where}: a belief is not {size} probabilities")


@dataclass(frozen=True)
class BoardPlay:
    """What one policy did on one level of a board game, in L steps.

    film: (L + 1, H, W) indices into the replay's tiles, from the start to the end; actions: L names; returns: L sums
    of rewards so far; repeated: for each step whether the episode had done the same on the same observation before.
    """

    name: str
    label: str
    film: ArrayLike
    actions: Sequence[str]
    returns: Sequence[float]
    solved: bool
    repeated: Sequence[bool] = ()
    description: str = ""


@dataclass(frozen=True)
class BoardReplay:
    """A level and what several policies did on it: the post's figure 2.

    tiles: for each tile what draws it on the square from (0, 0) to (1, 1), as trusted SVG; the first is the ground.
    """

    name: str
    tiles: Sequence[str]
    plays: Sequence[BoardPlay]
    digest: str = ""

    def __post_init__(self) -> None:
        for play in self.plays:
            film, steps = np.asarray(play.film), len(play.actions)
            where = f"replay {self.name}, {play.name}"
            if film.ndim != 3 or len(film) != steps + 1 or len(play.returns) != steps:
                raise BadInput(
                    f"{where}: {steps} actions need as many returns and a film of one picture more"
                )
            if film.min() < 0 or film.max() >= len(self.tiles):
                raise BadInput(f"{where}: a picture has an index that is none of {len(self.tiles)} tiles")
            if len(play.repeated) not in (0, steps):
                raise BadInput(f"{where}: give repeated for each of the {steps} steps, or not at all")


@dataclass(frozen=True)
class Standing:
    """A run's or a publication's returns beside others'.

    steps: environment steps, and how they or anything else differ from the protocol, in words; novel: on the test
    contexts whose content no training context has; normalised: the test return on the scale of the constants.
    """

    label: str
    steps: str
    train: Estimate | None = None
    test: Estimate | None = None
    novel: Estimate | None = None
    normalised: float | None = None
    own: bool = False


@dataclass(frozen=True)
class Standings:
    """A table of one's own results and published ones. explanation: sentences on where the figures are from."""

    rows: Sequence[Standing]
    explanation: Sequence[str] = ()


@dataclass(frozen=True)
class Page:
    """A report. title and verdict are sentences; provenance may be nested and is written down flat."""

    title: str
    verdict: str
    setting: str = ""
    command: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    policies: Sequence[PolicyRow] = ()
    references: Sequence[Reference] = ()
    claims: Sequence[Claim] = ()
    curves: Sequence[Curve] = ()
    gaps: Sequence[Gap] = ()
    calibration: Calibration | None = None
    leaks: Leaks | None = None
    standings: Standings | None = None
    episodes: Sequence[GuessEpisode] = ()
    replays: Sequence[BoardReplay] = ()
    notes: Sequence[str] = ()
