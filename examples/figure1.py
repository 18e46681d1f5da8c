"""The post's figure 1 in figures: the demo's returns as a picture and a data file.

    python examples/figure1.py --out epomdp-demo --data figure1.json --picture figure1.png

Trains what `epomdp demo` trains, or uses what a finished demo left in `--out`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from epomdp import demo, files
from epomdp.demo.page import REFERENCES
from epomdp.report import from_runs
from epomdp.report.contents import Page, Reference
from epomdp.report.figures import save_returns


def picture(report: dict, path: Path) -> None:
    """Save training and test returns of every policy beside the exact references."""
    page = Page(
        title="The guessing game on scikit-learn's digits",
        verdict="",
        policies=[from_runs.policy_row(name, name, scores) for name, scores in report["policies"].items()],
        references=[
            Reference(name, REFERENCES[name][0], value) for name, value in report["references"].items()
        ],
    )
    save_returns(page, path)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", default="epomdp-demo", help="the demo's folder")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--data", type=Path, default=Path("figure1.json"))
    parser.add_argument("--picture", type=Path, default=Path("figure1.png"))
    arguments = parser.parse_args()
    report = demo.run(arguments.out, seeds=arguments.seeds)
    files.write_json(arguments.data, {name: value for name, value in report.items() if name != "page"})
    picture(report, arguments.picture)
    demo.show(report)


if __name__ == "__main__":
    main()
