"""The documentation tells the truth: its code runs and prints what it says, its options, keys and links exist."""

import argparse
import builtins
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from epomdp import cli, results
from epomdp.agents import registry
from epomdp.envs.images import load_images
from epomdp.exact.guessing import guessing_family
from epomdp.train import Settings, train

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
BLOCK = re.compile(r"```python\n(.*?)```(?:\n+```(text|console)\n(.*?)```)?", re.S)


def read(page):
    return (DOCS / page).read_text(encoding="utf-8")


def section(page, title):
    """What stands under a heading of the second rank."""
    return read(page).split(f"\n## {title}\n")[1].split("\n## ")[0]


def keys(text):
    """The names in the first cells of the tables of `text`."""
    cells = re.findall(r"^\| (`[^|]*`) +\|", text, re.M)
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


# Python


def statistics_names():
    draw = np.random.default_rng(0)
    records = [draw.normal(size=(8, 2)) for _ in range(3)]
    ids = [[str(i) for i in range(8)]] * 3
    same = dict.fromkeys(("returns", "train_returns", "test_returns", "leep", "ppo"), records)
    return same | {"solved": [record > 0 for record in records], "ids": ids}


def references_names():
    digits = load_images("digits")
    return {
        "train_images": digits.images[:60],
        "train_labels": digits.labels[:60],
        "test_images": digits.images[60:90],
        "test_labels": digits.labels[60:90],
    }


def family_file():
    guessing_family([0.6, 0.3, 0.1], discount=0.9).save("mazes.npz")
    return {}


# What a page takes for granted.
GIVEN = {
    "statistics.md": statistics_names,
    "references.md": references_names,
    "exact/formats.md": family_file,
}
# Pages on which a comment beside a print quotes what is printed, and a block below all that the code prints
# (of a console block the numbers, which come from training, are another machine's).
QUOTING = {
    "agents/leep.md",
    "contexts.md",
    "environments/contract.md",
    "environments/guess.md",
    "exact/theory.md",
    "first-steps.md",
    "idea.md",
}
NUMBER = re.compile(r"-?\d+(?:\.\d*)?")


def digits_out(text):
    return re.sub(r" *-?\d+(\.\d*)?", " #", text)


def same(shown, printed):
    """Equal text, with numbers equal to the digits shown."""
    numbers = list(zip(NUMBER.findall(shown), NUMBER.findall(printed), strict=False))
    unit = [10.0 ** -len(a.partition(".")[2]) for a, _ in numbers]
    close = all(abs(float(a) - float(b)) <= 0.51 * u for (a, b), u in zip(numbers, unit, strict=True))
    return close and digits_out(shown) == digits_out(printed)


def test_quotes_are_compared_to_the_digits_shown():
    assert same("-0.85 -3.0", "-0.8500000000000001 -3.0") and same("[0.  0.75]", "[0.  0.75]")
    assert not same("-0.85", "-0.86") and not same("1.5 2", "1.5 -2") and not same("True", "False")
    assert not same("1 2", "1") and not same("corridor keeps", "corridor breaks")


def run_block(code, page, names):
    """Run a block; what it printed, as (line within the block, text)."""
    printed = []

    def record(*values, **options):
        printed.append((sys._getframe(1).f_lineno, " ".join(str(value) for value in values)))
        builtins.print(*values, **options)

    names["print"] = record
    exec(compile(code, page, "exec"), names)
    return printed


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the run that the pages speak of, only smaller."""
    folder = tmp_path_factory.mktemp("docs")
    tiny = {"num_envs": 4, "num_steps": 8, "num_minibatches": 2, "hidden": (8,)}
    sizes = {"train_contexts": 12, "validation_contexts": 4, "test_contexts": 12}
    train(Settings("guess", "leep", agent_options=tiny, steps=256, **sizes), folder / "runs" / "leep-1")
    results.evaluate_run(folder / "runs" / "leep-1", episodes=1)
    return folder


@pytest.mark.parametrize("page", [page for page in PAGES if "```python" in read(page)])
def test_python_runs_and_prints_what_the_page_says(page, folder, monkeypatch):
    monkeypatch.chdir(folder)
    names = {"__name__": "example", **GIVEN.get(page, dict)()}
    for code, kind, shown in BLOCK.findall(read(page)):
        printed = run_block(code, page, names)
        if page in QUOTING:
            lines = code.splitlines()
            if shown:
                told = "\n".join(text for _, text in printed) + "\n"
                assert told == shown or (kind == "console" and digits_out(told) == digits_out(shown))
            for line, text in printed:
                quoted = re.search(r"\) +# (.*)$", lines[line - 1])
                assert shown or quoted, f"{page}: nothing is said of what '{lines[line - 1]}' prints"
                assert not quoted or same(quoted[1], text), f"{page}: '{lines[line - 1]}' prints {text}"


# Commands and options


def commands():
    """(page, command line) of every `epomdp` command in a shell block."""
    for page in [*PAGES, "../README.md"]:
        for block in re.findall(r"```sh\n(.*?)```", read(page), re.S):
            for line in block.replace("$seed", "1").replace("$agent", "leep").splitlines():
                words = shlex.split(line, comments=True)
                if words[:1] == ["epomdp"]:
                    yield page, tuple(words[1:])


@pytest.mark.parametrize(("page", "words"), sorted(set(commands())))
def test_commands_are_understood(page, words):
    if "--help" in words:
        with pytest.raises(SystemExit, match="0"):
            cli.parse(words)
        return
    arguments = vars(cli.parse(words))
    if arguments["command"] == "train" and not arguments["resume"]:
        known = registry.all_options()
        chosen = {name: value for name, value in arguments.items() if name in known and value is not None}
        registry.configure(arguments["agent"], chosen)


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_option_is_documented_and_no_other(command):
    parser = argparse.ArgumentParser(add_help=False)
    cli.COMMANDS[command].add(parser)
    options = {option for action in parser._actions for option in action.option_strings}
    listed = {name.split()[0] for name in keys(section("command-line.md", command)) if name.startswith("--")}
    assert listed == options


def test_there_is_no_section_for_a_command_that_does_not_exist():
    assert set(re.findall(r"^## (.*)$", read("command-line.md"), re.M)) == set(cli.COMMANDS)


@pytest.mark.parametrize("page", ["command-line.md", "agents/leep.md"])
def test_defaults_of_hyperparameters_are_those_of_the_code(page):
    rows = dict(re.findall(r"^\| `--([\w-]+)` \| ([^ |]+)", read(page), re.M))
    known = {name.replace("_", "-"): default for name, (default, _) in registry.all_options().items()}
    compared = {name: shown.strip(",(") for name, shown in rows.items() if name in known}
    assert len(compared) >= 5
    for name, shown in compared.items():
        default = known[name]
        # No widths stand for the network's own.
        widths = isinstance(default, tuple)
        plain = (",".join(map(str, default)) or "own") if widths else str(default).lower()
        assert shown == plain, name


# Files


def test_every_metric_is_in_the_glossary_and_no_other(folder):
    logged = results.Run(folder / "runs" / "leep-1").metrics()
    ppo, leep = (keys(section(f"agents/{agent}.md", "Metrics")) for agent in ("ppo", "leep"))
    assert set().union(*logged) == ppo | leep
    assert leep - ppo == {"link_kl"}


def test_every_key_of_a_run_is_documented_and_no_other(folder):
    run = results.Run(folder / "runs" / "leep-1")
    assert keys(section("run-directory.md", "config.json")) == set(run.config)
    text = section("run-directory.md", "contexts.json")
    assert set(run.contexts) <= set(re.findall(r"`(\w+)`", text))


# Links


def test_the_site_builds_without_a_warning(tmp_path):
    # mkdocs resolves every link and anchor between pages, and every entry of the navigation.
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_links_of_the_readme_resolve():
    targets = re.findall(r"\]\((?!http)([^)#]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(targets) > 10
    assert [target for target in targets if not (ROOT / target).is_file()] == []
