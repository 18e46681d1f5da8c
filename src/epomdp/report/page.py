"""The page of results: one HTML file with the verdict, the pictures and how to do it again.

`render` turns a `Page` (see `contents.py`) into HTML, `write` into a file.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from epomdp.report import boards, pictures, svg
from epomdp.report.contents import Calibration, Curve, Leaks, Page, PolicyRow, Reference, Score
from epomdp.report.html import render_template, write_page
from epomdp.report.pictures import Line, Mark, Reliability, Row, Series
from epomdp.report.player import episode_view, player_data
from epomdp.report.text import count, estimate, number, percent, plural


def render(page: Page) -> str:
    """The page as self-contained HTML. Names and notes are escaped wherever they stand."""
    episodes = [episode_view(episode, k + 1) for k, episode in enumerate(page.episodes)]
    replays = boards.replay_views(page.replays)
    scripts = [name for name, used in (("player.js", episodes), ("boards.js", replays)) if used]
    return render_template(
        "page.html.j2",
        *scripts,
        page=page,
        returns=_returns(page.policies, page.references),
        counts=_common_counts(page.policies),
        panels=_panels(page.curves),
        curve_key=_curve_key(page.curves),
        curves_cut=_cut(page.curves),
        gap_picture=_gap_picture(page),
        calibration=_calibration(page.calibration),
        promises=_promises(page.references),
        leak_verdict=_leak_verdict(page.leaks),
        episodes=episodes,
        player_data=player_data(episodes),
        replays=replays,
        sprites=boards.sprites(page.replays),
        board_data=boards.board_data(page.replays),
        provenance=list(flatten(page.provenance)),
    )


def write(page: Page, path: str | os.PathLike[str]) -> Path:
    """Render the page and put it at `path`, whole or not at all. Errors: see `html.write_page`."""
    return write_page(render(page), path)


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested facts as `("versions.jax", "0.10.2")` pairs, in order; lists joined by commas."""
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from flatten(value, f"{name}.")
        elif isinstance(value, list | tuple):
            yield name, ", ".join(str(x) for x in value)
        else:
            yield name, str(value)


def _marks(row: PolicyRow) -> tuple[Mark, ...]:
    pairs: list[tuple[str, Score | None]] = [("train", row.train), ("test", row.test)]
    return tuple(Mark(score.mean, kind, score.interval, kind) for kind, score in pairs if score is not None)


def _returns(policies: Sequence[PolicyRow], references: Sequence[Reference]) -> Markup | None:
    scored = [row for row in policies if row.train or row.test]
    if not scored:
        return None
    marks = [("train", "training contexts"), ("test", "test contexts")]
    if references:
        marks.append(("reference", "exact value"))
    sentences = []
    for row in scored:
        values = (f"{mark.name} {estimate(mark.value, mark.interval)}" for mark in _marks(row))
        sentences.append(f"{row.label}: {', '.join(values)}.")
    sentences += [f"Reference {r.label}: {number(r.value)}." for r in references]
    drawn = pictures.dot_plot(
        [Row(row.label, _marks(row)) for row in scored],
        [Line(r.label, r.value) for r in references],
        title="Mean return per policy on training and test contexts",
        description=" ".join(sentences),
        axis="mean return per episode",
    )
    return pictures.key(*marks) + drawn


def _common_counts(policies: Sequence[PolicyRow]) -> str | None:
    """Seeds, contexts and episodes in words where every test score has the same ones; else None (they get columns)."""
    scores = [row.test for row in policies if row.test is not None]
    known = {(s.seeds, s.contexts, s.episodes) for s in scores}
    if len(known) != 1:
        return None
    seeds, contexts, episodes = known.pop()
    pairs = ((seeds, "seed"), (contexts, "test context"), (episodes, "test episode"))
    return ", ".join(plural(n, noun) for n, noun in pairs if n is not None)


def _panels(curves: Sequence[Curve]) -> list[dict[str, Any]]:
    """A small chart for each policy on shared axes, the others' held-out curves faint behind it."""
    kept = [c for c in curves if len(c.steps)]
    if not kept:
        return []
    x_range = (0.0, max(max(c.steps) for c in kept) or 1.0)
    y_range = _curve_range(kept)
    panels = []
    for name in dict.fromkeys(c.name for c in kept):
        own = [c for c in kept if c.name == name]
        others = [c for c in kept if c.name != name and c.split != "train"]
        series = [Series(c.label, c.steps, c.mean, "faint") for c in others]
        series += [Series(f"{c.label}, {c.split}", c.steps, c.mean, c.split, c.low, c.high) for c in own]
        ends = (f"{c.split} {number(c.mean[0])} to {number(c.mean[-1])}" for c in own)
        drawn = pictures.line_chart(
            series,
            title=f"Learning curves of {own[0].label}",
            description=f"From first to last measurement: {', '.join(ends)}.",
            x_range=x_range,
            y_range=y_range,
        )
        panels.append({"label": own[0].label, "picture": drawn})
    return panels


def _curve_key(curves: Sequence[Curve]) -> Markup:
    splits = {c.split for c in curves}
    words = {"train": "training", "validation": "validation, held out", "test": "test, held out"}
    entries = [(split, text) for split, text in words.items() if split in splits]
    if len({c.name for c in curves}) > 1:
        entries.append(("faint", "the other policies, held out"))
    return pictures.key(*entries, lined=True)


def _curve_range(curves: Sequence[Curve]) -> tuple[float, float]:
    """The vertical range that holds every curve after the first tenth of the steps, where learning starts steeply."""
    start = max(max(c.steps) for c in curves) / 10
    late = [(c, k) for c in curves for k in range(len(c.steps)) if c.steps[k] >= start]
    values = [c.mean[k] for c, k in late]
    values += [bound[k] for c, k in late for bound in (c.low, c.high) if len(bound)]
    return svg.extent(values)


def _cut(curves: Sequence[Curve]) -> bool:
    kept = [c for c in curves if len(c.steps)]
    if not kept:
        return False
    low, high = _curve_range(kept)
    return any(not low <= v <= high for c in kept for v in c.mean)


def _gap_picture(page: Page) -> Markup | None:
    if not page.gaps:
        return None
    sentences = (f"{gap.label}: {estimate(gap.mean, gap.interval)}." for gap in page.gaps)
    return pictures.dot_plot(
        [Row(gap.label, (Mark(gap.mean, "test", gap.interval, ""),)) for gap in page.gaps],
        [Line("no gap", 0.0)],
        title="Generalization gap per policy",
        description=" ".join(sentences),
        axis="training minus test return",
    )


def _promises(references: Sequence[Reference]) -> Markup | None:
    """What the epistemic POMDP promised beside what the test contexts gave."""
    known = [r for r in references if r.promised is not None]
    if not known:
        return None
    rows = [
        Row(
            r.label,
            (Mark(r.promised or 0.0, "promised", None, "promised"), Mark(r.value, "got", r.interval, "got")),
        )
        for r in known
    ]
    sentences = (
        f"{r.label}: promised {number(r.promised)}, got {estimate(r.value, r.interval)}." for r in known
    )
    drawn = pictures.dot_plot(
        rows,
        title="Promised and realised return of the exact policies",
        description=" ".join(sentences),
        axis="mean return per episode",
    )
    return pictures.key(("promised", "promised by the posterior"), ("got", "got on test contexts")) + drawn


def _calibration(calibration: Calibration | None) -> Markup | None:
    if calibration is None or not calibration.bins:
        return None
    bins = [Reliability(b.confidence, b.accuracy, b.count) for b in calibration.bins]
    sentences = (
        f"Promised {percent(b.confidence)}, came true {percent(b.accuracy)} of {b.count}." for b in bins
    )
    return pictures.reliability(bins, title="Reliability of the posterior", description=" ".join(sentences))


def _leak_verdict(leaks: Leaks | None) -> str:
    if leaks is None:
        return ""
    if leaks.overlap == 0:
        return "No held-out context has the content of a training context (compared by hash)."
    found = f"{plural(leaks.overlap, 'held-out context')} had the content of a training context"
    if leaks.removed == leaks.overlap:
        return f"{found}; all were removed before evaluation."
    left = leaks.overlap - leaks.removed
    share = f" ({percent(left / leaks.held_out)} of those held out)" if leaks.held_out else ""
    return f"{found} and {count(left)} of them remain{share}: the scores on them measure memory, not generalization."
