"""The learning half's commands: demo, list, train, evaluate, compare and report."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import jax

from epomdp import console, problems, results, tracking
from epomdp import train as training
from epomdp.agents import networks, registry
from epomdp.errors import BadInput


def run_list(arguments: argparse.Namespace) -> None:
    """Environments and agents, a line each."""
    environments = problems.PROBLEMS | {family.pattern: family for family in problems.FAMILIES.values()}
    for kind, entries in (("environments", environments), ("agents", registry.AGENTS)):
        print(kind)
        for name, entry in entries.items():
            print(f"  {name:12} {entry.description}")


def run_train(arguments: argparse.Namespace) -> None:
    """Start a run, or continue one; prints its directory."""
    given = {name: value for name, value in vars(arguments).items() if value is not None}
    if arguments.resume:
        _only_with_resume(given)
        path = Path(arguments.resume)
    else:
        for name in ("env", "agent"):
            if name not in given:
                raise BadInput(f"train: --{name} is missing; see epomdp list for what there is")
        name = re.sub("[:/]", "-", arguments.env)
        path = Path(arguments.out or f"runs/{name}-{arguments.agent}-{arguments.seed or 0}")
    options: dict[str, Any] = {"checkpoint_seconds": arguments.checkpoint_seconds}
    with tracking.tensorboard(path, arguments.track) as tracker, console.training_bar(str(path)) as advance:
        options |= {"tracker": tracker, "on_progress": advance, "on_start": _show_network}
        try:
            if arguments.resume:
                training.resume(path, **options)
            else:
                training.train(_settings(given), path, **options)
        except KeyboardInterrupt:
            started = (path / "config.json").exists()
            mend = f"continue with: epomdp train --resume {path}" if started else "nothing has been written"
            raise KeyboardInterrupt(f"interrupted; {mend}") from None
    print(path)


def _show_network(setup: training.Setup) -> None:
    agent = setup.agent
    params = jax.eval_shape(lambda: agent.params(agent.init(jax.random.key(0))))
    described = networks.describe(agent.network, setup.problem.env.observation, params)
    console.error_console.print(f"network: {described}", markup=False, highlight=False, soft_wrap=True)


ENVIRONMENT_OPTIONS = (
    *("data", "size", "view", "themes", "max_episode_steps", "step_seconds"),
    *("distribution", "start_level", "test_start_level"),
)


def _only_with_resume(given: dict[str, Any]) -> None:
    allowed = {"command", "resume", "checkpoint_seconds", "track"}
    extra = sorted(given.keys() - allowed)
    if extra:
        option = extra[0].replace("_", "-")
        raise BadInput(f"train: --{option} cannot be changed in a run under way; leave it out of --resume")


def _settings(given: dict[str, Any]) -> training.Settings:
    sizes = ("train_contexts", "validation_contexts", "test_contexts", "steps")
    others = ("seed", "evaluations", "protocol")
    hyperparameters = registry.all_options()
    return training.Settings(
        env=given["env"],
        agent=given["agent"],
        env_options={name: given[name] for name in ENVIRONMENT_OPTIONS if name in given},
        agent_options={name: given[name] for name in hyperparameters if name in given},
        **{name: given[name] for name in (*sizes, *others) if name in given},
    )


def run_evaluate(arguments: argparse.Namespace) -> None:
    """Play a run's policies and print their returns."""
    splits = (arguments.contexts,) if arguments.contexts else results.SPLITS
    evaluation = results.evaluate_run(
        arguments.run, splits=splits, episodes=arguments.episodes, seed=arguments.seed, novel=arguments.novel
    )
    report = results.run_report(evaluation)
    if arguments.json:
        print(json.dumps(report))
        return
    title = f"{report['agent']} on {report['env']} after {report['steps']:,} steps: mean return"
    _show_policies(title, report["policies"])
    copies = report.get("leaks", {"contexts": 0})
    if copies["contexts"]:
        print(
            f"{copies['contexts']:,} of the test contexts ({copies['share']:.1%}) look like a training context; "
            + ("they are left out" if report["novel"] else "--novel leaves them out")
        )


def _show_policies(title: str, policies: dict[str, Any]) -> None:
    rows = [
        [
            name,
            console.score_cell(row.get("train")),
            console.score_cell(row.get("test")),
            console.share_cell(row.get("test")),
            console.loops_cell(row.get("test")),
            console.score_cell(row.get("gap")),
        ]
        for name, row in policies.items()
    ]
    console.show_table(
        title, ["policy", "train", "test", "test solved", "test failures in loops", "gap"], rows
    )


def run_compare(arguments: argparse.Namespace) -> None:
    """Compare evaluated runs, paired by seed."""
    groups = results.group([results.read_evaluation(path) for path in arguments.runs])
    compared = results.comparison(groups)
    if arguments.out:
        from epomdp.report.from_runs import write_runs_page

        write_runs_page(arguments.runs, arguments.out)
    if arguments.json:
        print(json.dumps(compared))
        return
    for name, described in compared["groups"].items():
        seeds = len(described["seeds"])
        _show_policies(f"{name}, {described['steps']:,} steps, {seeds} seeds", described["policies"])
    for pair in compared["comparisons"]:
        print(
            f"{pair['a']} minus {pair['b']} on test: {console.score_cell(pair['difference'])}; "
            f"probability of improvement {console.score_cell(pair['probability_of_improvement'])}"
        )


def run_report(arguments: argparse.Namespace) -> None:
    """Write a page about runs and print where it is."""
    from epomdp.report.from_runs import write_runs_page

    print(write_runs_page(arguments.runs, arguments.out or Path(arguments.runs[0]) / "report.html"))


def run_demo(arguments: argparse.Namespace) -> None:
    """The main job: train, evaluate and report the guessing game."""
    from epomdp import demo

    outcome = demo.run(arguments.out, seeds=arguments.seeds, steps=arguments.steps)
    if arguments.json:
        print(json.dumps(outcome))
        return
    demo.show(outcome)
