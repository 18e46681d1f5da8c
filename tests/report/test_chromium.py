"""The page as a reader meets it, in headless Chromium: any console message or request is a failure (see `opened`)."""

from collections.abc import Callable
from typing import Any

import pytest
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.ui import WebDriverWait

from epomdp.report import contents as c
from epomdp.report.page import render

pytestmark = pytest.mark.chromium

Open = Callable[[str], Any]


def shown(driver: WebDriver, selector: str) -> list[str]:
    """Texts of the elements that are visible."""
    return [e.text for e in driver.find_elements(By.CSS_SELECTOR, selector) if e.is_displayed()]


def lane(driver: WebDriver, number: int, selector: str) -> list[Any]:
    return driver.find_elements(By.CSS_SELECTOR, f".episode.current [data-lane='{number}'] {selector}")


def press(driver: WebDriver, *keys: str) -> None:
    ActionChains(driver).send_keys(*keys).perform()


def test_it_shows_what_it_should(page: c.Page, opened: Open) -> None:
    driver = opened(render(page)).load()
    assert driver.title == "Report on agent"
    assert shown(driver, ".verdict") == ["The verdict on agent."]
    assert shown(driver, "h2") == [
        "Returns in training and on test contexts",
        "Guess by guess",
        "Learning curves",
        "Generalization gap",
        "What was promised, and what came",
        "Leak check",
        "What to bear in mind",
        "How to do it again",
    ]
    assert shown(driver, ".episode .truth") == ["Right label agent2"]
    for picture in driver.find_elements(By.CSS_SELECTOR, "main .picture"):
        if picture.is_displayed():
            assert picture.size["width"] > 20 and picture.size["height"] > 20


def test_figure_1_steps_by_keyboard(page: c.Page, opened: Open) -> None:
    driver = opened(render(page)).load()
    output = driver.find_element(By.CSS_SELECTOR, "#player output")
    assert output.text == "guess 1 of 6"
    following = driver.find_element(By.CSS_SELECTOR, "[data-go=next]")
    following.send_keys(Keys.ENTER)
    following.send_keys(Keys.SPACE)
    assert output.text == "guess 3 of 6"
    latest = [lane(driver, k, ".latest .guess")[0].text for k in range(4)]
    assert latest == ["agent0", "agent1", "agent2", "agent2"]
    assert [lane(driver, k, ".outcome")[0].text for k in range(4)] == [
        "not yet right",
        "not yet right",
        "✓ right at guess 3",
        "✓ right at once",
    ]
    assert [lane(driver, k, ".ret")[0].text.split()[-1] for k in range(4)] == [
        "−3.00",
        "−3.00",
        "−2.00",
        "0.00",
    ]
    slider = driver.find_element(By.CSS_SELECTOR, "input[type=range]")
    slider.send_keys(Keys.END)
    assert output.text == "guess 6 of 6" and slider.get_attribute("aria-valuetext") == "guess 6 of 6"
    assert lane(driver, 0, ".outcome")[0].text == "✗ never right in 6 guesses"
    slider.send_keys(Keys.ARROW_LEFT)
    assert output.text == "guess 5 of 6"
    driver.find_element(By.CSS_SELECTOR, "[data-go=first]").send_keys(Keys.ENTER)
    assert output.text == "guess 1 of 6"


def test_belief_bars_follow_the_step(page: c.Page, opened: Open) -> None:
    driver = opened(render(page)).load(prefers_reduced_motion="reduce")

    def bars(number: int) -> list[float]:
        tracks = [e.rect["width"] for e in lane(driver, number, ".bar-track")]
        return [e.rect["width"] / full for e, full in zip(lane(driver, number, ".bar"), tracks, strict=True)]

    lanes = page.episodes[0].lanes
    for step in range(3):
        assert bars(0) == pytest.approx(lanes[0].beliefs[0], abs=0.01)
        assert bars(2) == pytest.approx(lanes[2].beliefs[step], abs=0.01)
        driver.find_element(By.CSS_SELECTOR, "[data-go=next]").click()
    tried = [e.text for e in lane(driver, 2, ".bar-name.tried")]
    assert tried == ["agent0", "agent1"]
    assert lane(driver, 0, ".bar-name.tried") == []


def test_images_are_chosen_by_arrow_keys(page: c.Page, opened: Open) -> None:
    driver = opened(render(page)).load()
    assert shown(driver, ".episode .context code") == ["ab12ab12ab12a…"]
    first = driver.find_element(By.CSS_SELECTOR, "input[name=episode]")
    driver.find_element(By.CSS_SELECTOR, "[data-go=last]").click()
    driver.execute_script("arguments[0].focus()", first)
    press(driver, Keys.ARROW_RIGHT)
    visible = [
        e.get_attribute("id") for e in driver.find_elements(By.CSS_SELECTOR, ".episode") if e.is_displayed()
    ]
    assert visible == ["episode-2"]
    assert driver.find_element(By.CSS_SELECTOR, "#player output").text == "guess 1 of 6"


def test_play_runs_to_the_end_and_can_be_stopped(page: c.Page, opened: Open) -> None:
    driver = opened(render(page)).load()
    play = driver.find_element(By.CSS_SELECTOR, "[data-go=play]")
    play.send_keys(Keys.ENTER)
    assert play.text == "Pause"
    play.send_keys(Keys.ENTER)
    assert play.text == "Play"
    driver.find_element(By.CSS_SELECTOR, "input[type=range]").send_keys(Keys.END, Keys.ARROW_LEFT)
    play.send_keys(Keys.ENTER)
    assert driver.find_element(By.CSS_SELECTOR, "#player output").text == "guess 6 of 6"
    WebDriverWait(driver, 10).until(lambda _: play.text == "Play")


def test_every_control_is_reached_by_tab(page: c.Page, opened: Open) -> None:
    driver = opened(render(page)).load()
    reached = []
    for _ in range(40):
        press(driver, Keys.TAB)
        focused = driver.switch_to.active_element
        reached.append(focused.get_attribute("data-go") or focused.get_attribute("type") or focused.tag_name)
    wanted = ["radio", "first", "back", "play", "next", "last", "range"]
    start = reached.index("radio")
    assert reached[start : start + len(wanted)] == wanted
    assert reached[0] == "a"


@pytest.mark.parametrize("width", [320, 360, 1100])
def test_nothing_reaches_past_the_edge(width: int, full_page: c.Page, opened: Open, overflowing: str) -> None:
    driver = opened(render(full_page)).load(width=width)
    excess, wide = driver.execute_script(overflowing)
    assert excess <= 0
    assert wide == []


def test_without_javascript_everything_stands_still(page: c.Page, opened: Open) -> None:
    view = opened(render(page))
    driver = view.load(script=False)
    assert len(shown(driver, ".episode")) == 3
    assert len(shown(driver, ".card .guess")) == 3 * (6 + 4 + 3 + 1)
    assert shown(driver, ".outcome")[:4] == [
        "✗ never right in 6 guesses",
        "✓ right at guess 4",
        "✓ right at guess 3",
        "✓ right at once",
    ]
    for absent in (".transport", ".chooser", ".live", ".now", ".live-only"):
        assert shown(driver, absent) == []
    view.load(script=True)


def test_print_shows_every_image_at_its_end(page: c.Page, opened: Open) -> None:
    driver = opened(render(page)).load()
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert len(shown(driver, ".episode")) == 3
    assert shown(driver, ".outcome")[0] == "✗ never right in 6 guesses"
    assert len(shown(driver, ".card .guess")) == 3 * (6 + 4 + 3 + 1)
    for absent in (".transport", ".chooser", ".live", ".now", "nav"):
        assert shown(driver, absent) == []


def test_hostile_names_do_nothing(hostile_page: c.Page, opened: Open) -> None:
    driver = opened(render(hostile_page)).load()
    assert driver.execute_script("return document.querySelectorAll('script').length") == 2
    assert "<script>alert(1)</script>" in driver.title
    assert driver.find_elements(By.CSS_SELECTOR, "img[src='x']") == []
    driver.find_element(By.CSS_SELECTOR, "[data-go=next]").click()
    assert driver.find_element(By.CSS_SELECTOR, "#player output").text == "guess 2 of 6"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(scheme: str, page: c.Page, opened: Open, weak_contrast: str) -> None:
    driver = opened(render(page)).load(prefers_color_scheme=scheme)
    assert driver.execute_script(weak_contrast) == []
