"""The page: whole, escaped, self-contained, and without the sections it has no data for."""

import base64
import dataclasses
import io
import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from epomdp.errors import BadInput, RunFailed
from epomdp.report import contents as c
from epomdp.report import html
from epomdp.report.page import flatten, render, write
from epomdp.report.player import shown_labels

Read = Callable[[str], Any]


def test_page_is_balanced_titled_and_self_contained(full_page: c.Page, read: Read) -> None:
    reader = read(render(full_page))
    for name, parents, attributes in (
        (n, p, a) for (n, a), p in zip(reader.elements, reader.parents, strict=True)
    ):
        if name == "img":
            assert attributes["alt"] and attributes["src"].startswith("data:image/png;base64,")
        if name == "svg" and "svg" not in parents:
            assert attributes.get("aria-hidden") == "true" or attributes["role"] == "img"
        for attribute, value in attributes.items():
            assert not attribute.startswith("on"), f"an event handler in {name}"
            if attribute in ("src", "href", "xlink:href", "action", "poster", "data", "srcset"):
                assert value.startswith(("#", "data:")), f"{name} {attribute}={value}"


def test_no_address_is_written_anywhere_in_style_or_script(page: c.Page) -> None:
    written = render(page)
    assert "http:" not in written and "https:" not in written
    assert "url(" not in written and "@import" not in written


def test_every_picture_has_a_title_and_ids_are_unique(page: c.Page, read: Read) -> None:
    written = render(page)
    pictures = re.findall(r'<svg class="picture[^>]*>(.{7})', written)
    assert len(pictures) > 20 and set(pictures) == {"<title>"}
    ids = [a["id"] for _, a in read(written).elements if "id" in a]
    assert len(ids) == len(set(ids))


def test_landmarks_headings_and_captions(page: c.Page, read: Read) -> None:
    reader = read(render(page))
    for landmark in ("header", "nav", "main", "footer", "h1"):
        assert len(reader.named(landmark)) == 1, landmark
    assert reader.named("html")[0]["lang"] == "en"
    assert len(reader.named("caption")) == len(reader.named("table")) == 4
    assert all(cell.get("scope") for cell in reader.named("th"))
    levels = [int(name[1]) for name, _ in reader.elements if re.fullmatch("h[1-6]", name)]
    assert levels[0] == 1 and all(b - a <= 1 for a, b in itertools.pairwise(levels))
    ids = {a["id"] for _, a in reader.elements if "id" in a}
    assert all(a["href"][1:] in ids for a in reader.named("a"))


def test_numbers_stand_in_the_table_with_their_intervals(page: c.Page, read: Read) -> None:
    shown = read(render(page)).text()
    assert (
        "agent 1 agent \u22120.10 [\u22120.30, 0.00] \u22122.00 [\u22122.20, \u22121.90] \u22121.00 75.0 %"
        in shown
    )
    assert "5 seeds, 40 test contexts, 200 test episodes" in shown
    assert "optimum agent agent \u2013 \u22120.40 [\u22120.45, \u22120.35]" in shown
    assert "optimum agent \u22120.50 \u22120.40 [\u22120.45, \u22120.35] 0.10" in shown


def test_counts_that_differ_get_columns(page: c.Page, read: Read) -> None:
    other = dataclasses.replace(page.policies[0], test=c.Score(-1.0, seeds=2, contexts=7, episodes=1234))
    shown = read(render(dataclasses.replace(page, policies=[other, *page.policies[1:]]))).text()
    assert "For every policy" not in shown
    assert "2 7 1,234" in shown


def test_claims_say_what_holds(page: c.Page, read: Read) -> None:
    shown = read(render(page)).text()
    assert "agent is best: holds" in shown
    assert "difference 1.00 [0.50, 1.50] · probability of improvement 99.0 %" in shown
    assert "undecided: not decided" in shown
    assert "wrong: does not hold" in shown


@pytest.mark.parametrize(
    ("overlap", "removed", "said"),
    [
        (0, 0, "No held-out context has the content"),
        (1, 1, "1 held-out context had the content of a training context; all were removed"),
        (5, 2, "5 held-out contexts had the content of a training context and 3 of them remain"),
    ],
)
def test_leaks_are_said_plainly(overlap: int, removed: int, said: str, read: Read) -> None:
    leaks = c.Leaks([c.Split("train", 3)], overlap, removed)
    written = render(c.Page("t", "v", leaks=leaks))
    assert said in read(written).text()
    assert ('class="alarm"' in written) is (overlap > removed)


def test_an_empty_page_has_a_verdict_and_no_sections(read: Read) -> None:
    reader = read(render(c.Page("Title", "Verdict.")))
    assert "Verdict." in reader.text()
    for absent in ("section", "nav", "table", "script", "figure"):
        assert reader.named(absent) == []


SECTIONS = {
    "policies": "returns",
    "claims": "returns",
    "references": "returns",
    "curves": "curves",
    "gaps": "gap",
    "calibration": "calibration",
    "leaks": "leaks",
    "episodes": "guesses",
    "notes": "notes",
    "command": "reproduce",
    "provenance": "reproduce",
}


@pytest.mark.parametrize("part", SECTIONS)
def test_each_part_alone_makes_its_section_only(part: str, page: c.Page, read: Read) -> None:
    alone = c.Page("t", "v", **{part: getattr(page, part)})
    made = {a["id"] for a in read(render(alone)).named("section") if "id" in a}
    expected = {SECTIONS[part]} | ({"calibration"} if part == "references" else set())
    assert made == expected


def test_hostile_names_are_text_everywhere(hostile_page: c.Page, read: Read) -> None:
    written = render(hostile_page)
    reader = read(written)
    scripts = reader.named("script")
    assert scripts == [{"type": "application/json", "id": "player-data"}, {}]
    assert not any("onerror" in a or "onload" in a for _, a in reader.elements)
    assert "<img src=x" not in written
    assert "{{7*7}}" in reader.text() and "\u202e" not in written and "\x00" not in written


def test_json_in_a_script_cannot_end_it() -> None:
    value = {"</script>": "<!-- & \u2028 </ScRiPt>"}
    written = html.script_json(value)
    assert "<" not in written and ">" not in written and "&" not in written
    assert json.loads(written) == value
    with pytest.raises(ValueError, match="JSON"):
        html.script_json(float("nan"))


def test_only_the_pages_own_script_may_run(page: c.Page, read: Read) -> None:
    def policy(written: str) -> str:
        (found,) = (
            m for m in read(written).named("meta") if m.get("http-equiv") == "Content-Security-Policy"
        )
        return found["content"]

    assert policy(render(page)).startswith("default-src 'none';")
    assert re.search(r"script-src 'sha256-[\w+/]{43}=';", policy(render(page)))
    assert "script-src 'none';" in policy(render(c.Page("t", "v")))


def test_figure_1_stands_whole_without_its_script(page: c.Page, read: Read) -> None:
    reader = read(render(page))
    shown = reader.text()
    assert shown.count("never right in 6 guesses") == 3
    assert shown.count("right at guess 4") == 3
    assert shown.count("right at guess 3") == 3
    assert shown.count("right at once") == 3
    cards = [a for a in reader.named("li") if (a.get("class") or "").startswith("card")]
    assert len(cards) == 3 * (6 + 4 + 3 + 1)
    assert "\u22126.00" in shown and "\u22123.00" in shown and "\u22122.00" in shown


def test_figure_1_names_the_belief_before_each_guess(page: c.Page) -> None:
    written = render(page)
    belief = page.episodes[0].lanes[2].beliefs
    for step in belief:
        likeliest = int(np.argmax(step))
        assert (
            f"Belief before this guess: agent{likeliest} with {100 * step[likeliest]:.1f}\u00a0%" in written
        )


def test_bars_are_kept_for_what_matters_among_many_labels() -> None:
    belief = np.full(40, 0.001)
    belief[[30, 31]] = 0.4, 0.3
    lane = c.Guesses("a", "a", [39, 30], [belief.tolist()])
    episode = c.GuessEpisode("e", np.zeros((2, 2)), [str(k) for k in range(40)], 38, [lane])
    shown = shown_labels(episode)
    assert {30, 31, 38, 39} <= set(shown)
    assert len(shown) == 12 and shown == sorted(shown)
    everything = c.Guesses("b", "b", list(range(40)))
    assert len(shown_labels(dataclasses.replace(episode, lanes=[everything]))) == 40


def test_pictures_describe_their_numbers(page: c.Page) -> None:
    written = render(page)
    assert "agent 0: train 0.00 [\u22120.20, 0.10], test \u22121.00 [\u22121.20, \u22120.90]." in written
    assert "Promised 90.0\u00a0%, came true 80.0\u00a0% of 300." in written


def test_a_curve_that_starts_below_the_axis_is_said_to(page: c.Page, read: Read) -> None:
    steep = c.Curve("p", "p", "train", [0, 50, 100], [-100.0, -1.0, 0.0])
    flat = c.Curve("p", "p", "train", [0, 50, 100], [-0.5, -1.0, 0.0])
    said = "may start below the axis"
    assert said in read(render(c.Page("t", "v", curves=[steep]))).text()
    assert said not in read(render(c.Page("t", "v", curves=[flat]))).text()


def test_odd_but_legal_data_renders(read: Read) -> None:
    nothing = c.Curve("p", "p", "train", [], [])
    point = c.Curve("q", "q", "validation", [0], [float("nan")])
    page = c.Page(
        "t",
        "v",
        policies=[c.PolicyRow("a", "a"), c.PolicyRow("b", "b", test=c.Score(float("nan")))],
        curves=[nothing, point],
        calibration=c.Calibration("votes"),
        episodes=[c.GuessEpisode("e", np.zeros((3, 3, 3), np.uint8), ["x"], 0, [c.Guesses("l", "l", [])])],
    )
    shown = read(render(page)).text()
    assert "Posterior used: votes" in shown
    assert "never right in 0 guesses" in shown


def test_provenance_is_written_flat() -> None:
    facts = {"seeds": [0, 1], "versions": {"jax": "0.10", "deep": {"x": None}}, "host": "h"}
    assert list(flatten(facts)) == [
        ("seeds", "0, 1"),
        ("versions.jax", "0.10"),
        ("versions.deep.x", "None"),
        ("host", "h"),
    ]


def test_score_reads_the_contracts_json() -> None:
    result = {
        "mean": -1,
        "interval": [-2, 0],
        "iqm": -0.5,
        "solve_rate": 1,
        "contexts": 3,
        "episodes": 9,
        "seeds": 2,
    }
    assert c.Score.from_json(result) == c.Score(-1, (-2, 0), -0.5, 1, 3, 9, 2)
    assert c.Score.from_json({"mean": 1.0}) == c.Score(1.0)
    with pytest.raises(BadInput, match="without a mean"):
        c.Score.from_json({"average": 1})


@pytest.mark.parametrize(
    ("image", "pixels"),
    [
        (np.array([[0.0, 1.0], [0.5, 2.0]]), [[0, 255], [128, 255]]),
        (np.array([[[3], [255]]], np.uint8), [[3, 255]]),
        (np.full((1, 1, 3), 7, np.uint8), [[[7, 7, 7]]]),
        (np.array([[True, False]]), [[255, 0]]),
    ],
)
def test_images_come_back_from_their_data_uri(image: np.ndarray, pixels: list[Any]) -> None:
    kind, data = html.data_uri(image).split(",")
    assert kind == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as decoded:
        assert np.asarray(decoded).tolist() == pixels


@pytest.mark.parametrize(
    "image",
    [np.zeros(3), np.zeros((2, 2, 4)), np.zeros((0, 3)), np.zeros((2, 2), np.int64)],
    ids=lambda x: x.shape,
)
def test_images_of_other_shapes_are_refused(image: np.ndarray) -> None:
    with pytest.raises(BadInput, match="give"):
        html.data_uri(image)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"truth": 5}, "truth 5 is not one of 2"),
        ({"lanes": [c.Guesses("l", "l", [2])]}, "a guess is not one of 2"),
        ({"lanes": [c.Guesses("l", "l", [0, 1, 0], [[1, 0], [1, 0]])]}, "2 beliefs for 3 guesses"),
        ({"lanes": [c.Guesses("l", "l", [0], [[1.0]])]}, "not 2 probabilities"),
        ({"lanes": [c.Guesses("l", "l", [0], [[float("nan"), 1]])]}, "not 2 probabilities"),
    ],
)
def test_episodes_that_cannot_be_are_refused(change: dict[str, Any], said: str) -> None:
    whole = {"name": "e", "image": np.zeros((1, 1)), "labels": ["a", "b"], "truth": 0, "lanes": []}
    with pytest.raises(BadInput, match=said):
        c.GuessEpisode(**(whole | change))


def test_curves_that_cannot_be_are_refused() -> None:
    with pytest.raises(BadInput, match="differ in length"):
        c.Curve("a", "a", "train", [1, 2], [1.0])
    with pytest.raises(BadInput, match="not train, validation or test"):
        c.Curve("a", "a", "tests", [1], [1.0])


def test_write_replaces_a_page_at_once_and_leaves_nothing_else(page: c.Page, tmp_path: Path) -> None:
    target = tmp_path / "new" / "report.html"
    assert write(page, target) == target
    target.write_text("old")
    write(page, target)
    assert target.read_text(encoding="utf-8") == render(page)
    assert [p.name for p in target.parent.iterdir()] == ["report.html"]


def test_a_failed_write_keeps_the_old_page(
    page: c.Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "report.html"
    target.write_text("old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(RunFailed, match="No space left"):
        write(page, target)
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_places_that_cannot_hold_a_page_are_refused(page: c.Page, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is a directory"):
        write(page, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="choose another place"):
        write(page, tmp_path / "file" / "report.html")


def test_the_same_page_renders_to_the_same_bytes(page: c.Page) -> None:
    assert render(page) == render(page)
