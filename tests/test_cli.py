"""The command line as a user meets it: exit statuses, one-line errors, JSON on standard output alone."""

import json
import subprocess
import sys

import pytest

from epomdp import cli

TINY = [
    "--num-envs",
    "4",
    "--num-steps",
    "8",
    "--num-minibatches",
    "2",
    "--hidden",
    "8",
    "--evaluations",
    "2",
]
SIZES = ["--train-contexts", "12", "--validation-contexts", "4", "--test-contexts", "20"]


def run(capsys, *argv):
    """Exit status, standard output, standard error."""
    status = cli.main([str(word) for word in argv])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two seeds of PPO and one of LEEP, evaluated."""
    folder = tmp_path_factory.mktemp("runs")
    for agent, seed, steps in (("ppo", 0, 64), ("ppo", 1, 64), ("leep", 0, 256)):
        out = folder / f"{agent}-{seed}"
        train = ["train", "--env", "guess", "--agent", agent, "--seed", seed, "--steps", steps, "--out", out]
        assert cli.main([str(word) for word in [*train, *TINY, *SIZES]]) == 0
        assert cli.main(["evaluate", str(out), "--episodes", "2"]) == 0
    return folder


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["trian"], "unknown command 'trian'; did you mean 'train'?"),
        (["train", "--env", "gues", "--agent", "ppo"], "unknown environment 'gues'; did you mean 'guess'?"),
        (["train", "--env", "guess", "--agent", "lep"], "unknown agent 'lep'; did you mean 'leep'?"),
        (
            ["train", "--env", "guess", "--agent", "ppo", "--stepz", "3"],
            "unknown argument '--stepz'; did you mean --steps?",
        ),
        (["train", "--env", "guess"], "--agent is missing; see epomdp list"),
        (
            ["train", "--env", "guess", "--agent", "ppo", "--steps", "many"],
            "invalid whole number value: 'many'",
        ),
        (
            ["train", "--env", "guess", "--agent", "ppo", "--steps", "0"],
            "--steps is 0; it must be at least 1",
        ),
        (["train", "--env", "guess", "--agent", "ppo", "--train-contexts", "-3"], "--train-contexts is -3"),
        (
            ["train", "--env", "guess", "--agent", "ppo", "--train-contexts", "9999"],
            "found 1797 of 1797; ask for fewer",
        ),
        (
            ["train", "--env", "guess", "--agent", "ppo", "--alpha", "1"],
            "unknown hyperparameter of ppo 'alpha'",
        ),
        (["train", "--env", "guess", "--agent", "leep", "--members", "0"], "members is 0"),
        (
            ["train", "--env", "guess", "--agent", "ppo", "--bootstrap", "perhaps"],
            "unknown hyperparameter of ppo",
        ),
        (
            ["train", "--env", "guess", "--agent", "leep", "--bootstrap", "perhaps"],
            "wants a value true or false",
        ),
        (["train", "--env", "guess", "--agent", "ppo", "--data", "nowhere"], "nowhere"),
        (["train", "--env", "guess", "--agent", "ppo", "--view", "board"], "unknown option of guess 'view'"),
        (["train", "--env", "maze", "--agent", "ppo", "--data", "digits"], "unknown option of maze 'data'"),
        (["train", "--env", "maze", "--agent", "ppo", "--view", "bord"], "did you mean 'board'"),
        (["train", "--env", "maze", "--agent", "ppo", "--size", "12"], "size must be odd"),
        (["train", "--resume", "nowhere"], "nowhere: is no run"),
        (["train", "--resume", "nowhere", "--agent", "ppo"], "--agent cannot be changed in a run under way"),
        (["evaluate", "nowhere"], "nowhere: is no run"),
        (["evaluate"], "the following arguments are required: DIR"),
        (["compare", "nowhere"], "nowhere: is no run"),
        (["report", "nowhere"], "nowhere: is no run"),
        (["demo", "--seeds", "0"], "--seeds is 0"),
        (["demo", "--steps", "-5"], "--steps is -5"),
        (
            ["train", "--env", "guess", "--agent", "ppo", "--steps", "inf"],
            "invalid whole number value: 'inf'",
        ),
        (["train", "--resume", "nowhere", "--seed", "7"], "--seed cannot be changed in a run under way"),
        (["solve", "nowhere.npz"], "nowhere.npz"),
        (["solve", "x.npz", "--gap", "-1"], "--gap is -1.0"),
        (["convert", "nowhere.npz", "x.pomdp"], "nowhere.npz"),
    ],
)
def test_bad_input_is_one_line_and_exit_status_2(capsys, tmp_path, monkeypatch, argv, message):
    monkeypatch.chdir(tmp_path)
    status, out, err = run(capsys, *argv)
    assert (status, out) == (2, "")
    assert message in err and err.startswith("epomdp: ") and err.count("\n") == 1, err
    assert not list(tmp_path.iterdir()), "nothing is written"


def test_an_output_directory_that_holds_something_else_is_refused(capsys, tmp_path):
    (tmp_path / "thesis.txt").write_text("x")
    train = ["train", "--env", "guess", "--agent", "ppo", "--out", tmp_path]
    status, _, err = run(capsys, *train)
    assert status == 2 and "is not empty and holds no run" in err
    status, _, err = run(capsys, "demo", "--out", tmp_path)
    assert status == 2 and "thesis.txt" in err
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_run_is_not_started_over(capsys, trained):
    status, _, err = run(capsys, "train", "--env", "guess", "--agent", "ppo", "--out", trained / "ppo-0")
    assert status == 2 and "holds a run already; continue it with --resume" in err


def test_a_run_of_a_newer_format_is_refused(capsys, tmp_path):
    (tmp_path / "config.json").write_text('{"format": 99}')
    for command in (["train", "--resume"], ["evaluate"], ["report"], ["compare"]):
        status, _, err = run(capsys, *command, tmp_path)
        assert status == 2 and "format 99" in err and "upgrade" in err


def test_training_says_which_network_was_chosen_and_records_how_members_are_run(capsys, tmp_path):
    train = ["train", "--env", "guess", "--agent", "leep", "--members", "2", "--steps", "64"]
    status, out, err = run(capsys, *train, *TINY, *SIZES, "--out", tmp_path / "run")
    # 64 pixels to 8, 8 to ten actions and a value.
    assert status == 0 and "network: mlp (8 x 8 numbers), 619 weights in each of 2 members\n" in err
    assert out == f"{tmp_path / 'run'}\n"
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["network"], config["strategy"]) == ("mlp", "map")
    assert config["agent_options"]["strategy"] == "auto"


def test_divergence_is_exit_status_1(capsys, tmp_path):
    train = ["train", "--env", "guess", "--agent", "ppo", "--steps", "640", "--learning-rate", "1e30"]
    status, _, err = run(capsys, *train, *TINY, *SIZES, "--out", tmp_path / "run")
    assert status == 1 and "--learning-rate is the usual mend" in err


@pytest.mark.filterwarnings("always")
def test_a_corrupt_newest_checkpoint_is_warned_of_and_the_one_before_is_used(capsys, tmp_path):
    train = ["train", "--env", "guess", "--agent", "ppo", "--steps", "96", "--checkpoint-seconds", "0"]
    assert run(capsys, *train, *TINY, *SIZES, "--out", tmp_path / "run")[0] == 0
    newest = sorted((tmp_path / "run" / "checkpoints").glob("*.safetensors"))[-1]
    newest.write_bytes(newest.read_bytes()[:-9])
    status, out, err = run(capsys, "evaluate", tmp_path / "run", "--json", "--episodes", "1")
    assert status == 0 and json.loads(out)["steps"] == 64
    assert f"warning: {newest.with_suffix('')}: damaged" in err


def test_evaluate_reports_the_object_of_the_contract(capsys, trained):
    status, out, _ = run(capsys, "evaluate", trained / "leep-0", "--json", "--episodes", "3")
    report = json.loads(out)
    assert status == 0 and out.count("\n") == 1
    assert (report["agent"], report["env"], report["steps"]) == ("leep", "guess", 256)
    assert set(report["policies"]) == {"linked", "greedy", "elimination", "backtracking"}
    for scores in (report, *report["policies"].values()):
        for split, contexts in (("train", 12), ("test", 20)):
            assert {"mean", "interval", "iqm", "solve_rate", "contexts", "episodes", "seeds"} <= scores[
                split
            ].keys()
            assert (scores[split]["contexts"], scores[split]["episodes"]) == (contexts, 3 * contexts)
            assert scores[split]["interval"][0] <= scores[split]["mean"] <= scores[split]["interval"][1]
        assert scores["gap"]["mean"] == pytest.approx(scores["train"]["mean"] - scores["test"]["mean"])
    assert report["test"] == report["policies"]["linked"]["test"]


def test_one_split_can_be_evaluated_alone(capsys, trained):
    _, out, _ = run(capsys, "evaluate", trained / "ppo-1", "--json", "--contexts", "test", "--episodes", "2")
    report = json.loads(out)
    assert "test" in report and "train" not in report and "gap" not in report
    run(capsys, "evaluate", trained / "ppo-1", "--episodes", "2")


def test_compare_pairs_seeds_and_reads_what_evaluate_wrote(capsys, trained, tmp_path):
    page = tmp_path / "page.html"
    runs = [trained / "ppo-0", trained / "ppo-1", trained / "leep-0"]
    status, out, _ = run(capsys, "compare", *runs, "--json", "--out", page)
    compared = json.loads(out)
    assert status == 0 and page.stat().st_size > 10_000
    assert compared["groups"]["ppo"]["seeds"] == [0, 1]
    (pair,) = compared["comparisons"]
    assert (pair["a"], pair["b"], pair["seeds"]) == ("ppo", "leep", [0])
    evaluations = [json.loads((run / "evaluation.json").read_text()) for run in (runs[0], runs[2])]
    means = []
    for evaluation, policy in zip(evaluations, ("sampled", "linked"), strict=True):
        returns = evaluation["policies"][policy]["test"]["returns"]
        means.append(sum(sum(row) for row in returns) / sum(len(row) for row in returns))
    assert pair["difference"]["mean"] == pytest.approx(means[0] - means[1])


def test_runs_that_cannot_be_compared_are_refused(capsys, trained, tmp_path):
    status, _, err = run(capsys, "compare", trained / "ppo-0", trained / "ppo-0")
    assert status == 2 and "name each run once" in err
    train = ["train", "--env", "guess", "--agent", "ppo", "--steps", "32", "--max-episode-steps", "5"]
    assert run(capsys, *train, *TINY, *SIZES, "--out", tmp_path / "run")[0] == 0
    status, _, err = run(capsys, "compare", trained / "ppo-0", tmp_path / "run")
    assert status == 2 and "is not evaluated yet; run: epomdp evaluate" in err
    run(capsys, "evaluate", tmp_path / "run", "--episodes", "1")
    status, _, err = run(capsys, "compare", trained / "ppo-0", tmp_path / "run")
    assert status == 2 and "different environments" in err


def test_a_run_played_on_one_split_only_cannot_be_compared_on_test(capsys, trained):
    run(capsys, "evaluate", trained / "ppo-0", "--contexts", "train", "--episodes", "2")
    status, _, err = run(capsys, "compare", trained / "ppo-0", trained / "leep-0")
    assert status == 2 and "training contexts only" in err
    run(capsys, "evaluate", trained / "ppo-0", "--episodes", "2")


def test_the_options_of_gymnasium_environments_reach_them(capsys, tmp_path):
    for option in ("--step-seconds", "--max-episode-steps"):
        train = [
            "train",
            "--env",
            "gym:CartPole-v1",
            "--agent",
            "ppo",
            option,
            "0",
            "--out",
            tmp_path / "run",
        ]
        status, _, err = run(capsys, *train)
        name = option.strip("-").replace("-", "_")
        assert status == 2 and f"gym:CartPole-v1: {name} is 0" in err


def test_report_writes_a_page_beside_the_run(capsys, trained):
    status, out, _ = run(capsys, "report", trained / "leep-0")
    assert status == 0 and out.strip() == str(trained / "leep-0" / "report.html")
    assert "generalization gap" in (trained / "leep-0" / "report.html").read_text().lower()


def test_list_names_environments_and_agents(capsys):
    status, out, _ = run(capsys, "list")
    assert status == 0
    for name in ("guess", "ppo", "leep", "unlinked"):
        assert f"  {name} " in out


def test_track_writes_tensorboard_files(capsys, tmp_path):
    pytest.importorskip("tensorboardX")
    train = ["train", "--env", "guess", "--agent", "ppo", "--steps", "64", "--track"]
    assert run(capsys, *train, *TINY, *SIZES, "--out", tmp_path / "run")[0] == 0
    assert list((tmp_path / "run" / "tensorboard").glob("events*"))


def test_every_command_has_help_with_an_example():
    for command in cli.COMMANDS:
        with pytest.raises(SystemExit) as done:
            cli.parse([command, "--help"])
        assert done.value.code == 0


def test_help_starts_without_jax_and_solve_does_too():
    code = "import sys; from epomdp import cli; cli.main(sys.argv[1:]); sys.exit('jax' in sys.modules)"
    for argv in ([], ["solve", "nowhere.npz"], ["convert", "nowhere.npz", "x.pomdp"]):
        done = subprocess.run([sys.executable, "-c", code, *argv], capture_output=True, check=False)
        assert done.returncode == 0, (argv, done.stderr)
