"""The table of published results: what is in it, and on which scale."""

import numpy as np
import pytest

from epomdp.evaluate import Episodes
from epomdp.report import published
from epomdp.report.contents import Page, Standings
from epomdp.report.from_procgen import constants, standings
from epomdp.report.page import render
from epomdp.results import Evaluation
from epomdp.train import Settings


def evaluation(env="procgen:maze", leaked=("maze-201",), novel=False, steps=98_304, **options):
    settings = vars(Settings(env, "ppo", **({"test_contexts": 3} | options)).resolved())
    ids = {"train": ["maze-0", "maze-1"], "test": ["maze-200", "maze-201", "maze-202"]}

    def played(values):
        returns = np.array(values, float)[:, None]
        return Episodes(returns, np.full(returns.shape, 5), returns > 0)

    episodes = {"sampled": {"train": played([10, 10]), "test": played([0, 10, 5])}}
    if novel:
        del ids["test"][1]
        episodes["sampled"]["test"] = played([0, 5])
    return Evaluation(settings, steps, ids, episodes, frozenset(leaked), novel)


def table(**options):
    return standings({"ppo": [evaluation(**options)]})


def test_own_row_says_what_differs_from_the_protocol_in_its_line():
    own = table(agent_options={"network": "small"}, test_contexts=1000).rows[0]
    assert own.own and own.steps == (
        "protocol easy-200: 98,304 of 25,000,000 steps, network small instead of impala"
    )
    assert (own.train.mean, own.test.mean) == (10, 5)
    # Of the three test levels one is a copy; its 10 counts for "test" and not for "novel".
    assert own.novel.mean == 2.5
    assert own.normalised == pytest.approx((5 - 5) / (10 - 5))


def test_own_row_has_its_steps_whatever_else_differs():
    own = table(steps=25_000_000, train_contexts=100, test_contexts=1000).rows[0]
    assert own.steps == "protocol easy-200: 25,000,000 steps, train_contexts 100 instead of 200"


def test_novel_levels_alone_are_not_put_beside_published_test_returns():
    made = table(novel=True)
    own = made.rows[0]
    assert own.test is None and own.normalised is None and own.novel.mean == 2.5
    assert "33.3% of the test levels look like" in " ".join(made.explanation)


def test_published_rows_of_the_game():
    rows = {(row.label, row.steps): row for row in table().rows[1:]}
    ppo = rows["PPO (Cobbe et al. 2020)", "25,000,000 steps"]
    assert (ppo.train.mean, ppo.test.mean) == (9.4, 5.53) and ppo.normalised == pytest.approx(0.106)
    assert rows["LEEP (Ghosh et al. 2021)", "50,000,000 steps"].test.mean == 6.8
    assert rows["PPO (Ghosh et al. 2021)", "50,000,000 steps"].test.mean == 5.6
    # Ten runs in reference data; mean and 1.96 standard errors by hand.
    ppg = rows["PPG (Agarwal et al. 2021)", "25,000,000 steps"]
    runs = np.array([5.0, 5.31, 6.43, 5.62, 5.21, 4.41, 5.42, 5.19, 7.11, 5.31])
    half = 1.96 * runs.std(ddof=1) / np.sqrt(10)
    assert ppg.train is None and ppg.test.mean == pytest.approx(runs.mean(), abs=0.006)
    assert ppg.test.interval == pytest.approx((runs.mean() - half, runs.mean() + half), abs=0.02)
    random = rows["uniform random play", "no learning"]
    assert random.test.mean == 4.77 and random.test.interval == pytest.approx((4.77 - 0.6076, 4.77 + 0.6076))


def test_the_page_shows_the_table_the_constants_and_the_share_of_copies():
    html = render(Page("maze", "so so", standings=table()))
    assert "Beside published results" in html and "98,304 of 25,000,000 steps" in html
    assert "(return - 5) / (10 - 5), the constants of OpenAI" in html
    assert "33.3% of the test levels look like a training level" in html


def test_hard_levels_have_constants_and_no_published_rows():
    hard = table(protocol="hard-500")
    assert len(hard.rows) == 1 and hard.rows[0].normalised == pytest.approx((5 - 4) / (10 - 4))


def test_sources_that_disagree_are_named():
    explained = " ".join(table(env="procgen:leaper").explanation)
    assert constants("leaper", "easy") == (1.5, 10) and "Other sources take 3" in explained


def test_other_environments_have_no_such_table():
    assert table(env="maze") is None


def test_the_tables_are_whole():
    scores = published.read("procgen_easy_200.csv")
    games = {row["game"] for row in published.read("procgen_normalisation.csv")}
    assert len(games) == 16
    for steps in ("25000000", "50000000"):
        ppo = {r["game"] for r in scores if r["source"] == "PPO (Cobbe et al. 2020)" and r["steps"] == steps}
        assert ppo == games
    assert {r["game"] for r in scores if r["source"] == "LEEP (Ghosh et al. 2021)"} == {
        "maze",
        "heist",
        "bigfish",
        "dodgeball",
    }
    assert isinstance(table(), Standings)
