"""Pages in headless Chromium, for every test that opens one."""

import gc
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.chrome.webdriver import WebDriver

MAPS = Path("/proc/self/maps")
MANY_MAPS = 15_000


@pytest.fixture(scope="module", autouse=True)
def few_programs() -> Iterator[None]:
    """Forget compiled programs when a process has many: each takes a dozen of Linux's 65,530 maps of memory, and
    XLA dies of a segmentation fault when there are no more."""
    yield
    if MAPS.exists() and MAPS.read_bytes().count(b"\n") > MANY_MAPS:
        jax.clear_caches()
        gc.collect()


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    """Headless Chromium without a profile and without network habits; see the marker `chromium`."""
    places = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if None in places:
        message = (
            "chromium or chromedriver is not installed (Debian: apt-get install chromium chromium-driver)"
        )
        if os.environ.get("EPOMDP_REQUIRE_CHROMIUM") == "1":
            pytest.fail(message)
        pytest.skip(message)
    options = webdriver.ChromeOptions()
    options.binary_location = str(places[0])
    switches = "headless=new no-sandbox disable-gpu disable-quic no-first-run disable-background-networking"
    for switch in f"{switches} disable-component-update disable-sync disable-dev-shm-usage".split():
        options.add_argument(f"--{switch}")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('chromium')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(places[1])))
    yield driver
    driver.quit()


class Opened:
    """A page in the browser. Leaving the test with a console message or a request is a failure."""

    def __init__(self, driver: WebDriver, path: Path) -> None:
        self.driver, self.path = driver, path

    def load(self, width: int = 1100, script: bool = True, **media: str) -> WebDriver:
        """Load anew at a width; media: `prefers_color_scheme="dark"`, `prefers_reduced_motion="reduce"`."""
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        features = [{"name": name.replace("_", "-"), "value": value} for name, value in media.items()]
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": features})
        self.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not script})
        self.driver.get(self.path.as_uri())
        return self.driver

    def complaints(self) -> list[str]:
        """Console messages of any level and addresses asked for, other than the page itself and data."""
        messages = [entry["message"] for entry in self.driver.get_log("browser")]
        for entry in self.driver.get_log("performance"):
            event = json.loads(entry["message"])["message"]
            if event["method"] == "Network.requestWillBeSent":
                url = event["params"]["request"]["url"]
                if url != self.path.as_uri() and not url.startswith("data:"):
                    messages.append(f"request: {url}")
        return messages


@pytest.fixture
def opened(browser: WebDriver, tmp_path: Path) -> Iterator[Callable[[str], Opened]]:
    pages: list[Opened] = []

    def open_page(written: str) -> Opened:
        path = tmp_path / f"page-{len(pages)}.html"
        path.write_text(written, encoding="utf-8")
        pages.append(Opened(browser, path))
        return pages[-1]

    browser.get("about:blank")
    for log in ("browser", "performance"):
        browser.get_log(log)
    yield open_page
    assert [message for page in pages for message in page.complaints()] == []
