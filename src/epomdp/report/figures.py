"""The main comparison as an image file, for documents that cannot hold the page."""

import os

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from epomdp.report.contents import Page
from epomdp.report.text import number

BLUE, GREY = "#0072b2", "#5b6570"  # of the Okabe-Ito palette, as in the page's style sheet


def save_returns(page: Page, path: str | os.PathLike[str]) -> None:
    """Save the page's returns per policy with intervals and exact references; the format follows the suffix."""
    rows = [row for row in page.policies if row.train or row.test]
    figure = Figure(figsize=(8, 1.4 + 0.45 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    kinds = (("train", "o", GREY, "white", -0.13), ("test", "D", BLUE, BLUE, 0.13))
    for kind, shape, colour, face, shift in kinds:
        for place, row in enumerate(rows):
            score = row.train if kind == "train" else row.test
            if score is None:
                continue
            if score.interval is not None:
                axes.plot(score.interval, [place + shift] * 2, color=colour, linewidth=1.8)
            axes.plot(score.mean, place + shift, shape, color=colour, markerfacecolor=face, markersize=6)
        axes.plot([], [], shape, color=colour, markerfacecolor=face, label=f"{kind} contexts")
    for reference in page.references:
        axes.axvline(reference.value, color="black", linestyle=":", linewidth=1)
        words = f"{reference.label} {number(reference.value)}".replace("$", r"\$")
        axes.text(reference.value, -0.75, words, rotation=35, fontsize=8, ha="left", va="bottom")
    axes.set_yticks(range(len(rows)), [row.label.replace("$", r"\$") for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.6)
    axes.set_xlabel("mean return per episode")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower right", ncols=2, fontsize=8, frameon=False)
    figure.savefig(path, dpi=150)
