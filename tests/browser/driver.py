"""A real browser for the tests of pages: headless Chromium, driven by its own driver; skips where there is none."""

import json
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from completions_lp.quantities import UNITS, find_quantity

NEEDS = "needs a browser: apt-get install -y chromium chromium-driver, and selenium of the dev extra"
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--force-color-profile=srgb", "--hide-scrollbars"),
)


def find_browser():
    """Paths of Chromium and of its driver; skips the test where either is missing."""
    pytest.importorskip("selenium", reason=NEEDS)
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    driver = shutil.which("chromedriver")
    if not browser or not driver:
        pytest.skip(NEEDS)
    return browser, driver


@contextmanager
def open_browser():
    """A driver with a profile of its own."""
    paths = find_browser()
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = paths[0]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(paths[1]))
        try:
            yield driver
        finally:
            driver.quit()


class Page:
    """A page in the browser, and what a reader does with it."""

    def __init__(self, driver):
        self.driver = driver

    def open(self, path: Path, *, width=1280, scheme="light", fragment=""):
        """Open a file from disk and wait until it is ready to be used."""
        self.drain_logs()
        self.resize(width, scheme=scheme)
        self.driver.get("about:blank")
        self.driver.get(path.as_uri() + fragment)
        self.wait("return document.documentElement.dataset.ready")
        return self

    def resize(self, width, *, scheme="light"):
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})

    def wait(self, script, *arguments, seconds=60):
        """Wait until a script returns something true, and return it."""
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.driver, seconds, 0.02).until(lambda d: d.execute_script(script, *arguments))

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def texts(self, selector):
        return self.run("return [...document.querySelectorAll(arguments[0])].map((n) => n.textContent)", selector)

    def text(self, selector):
        return self.run("return document.querySelector(arguments[0]).textContent", selector)

    def find(self, selector):
        return self.driver.find_element("css selector", selector)

    def pick(self, selector, value):
        """Choose an option of a select, or write into a field, as a reader would."""
        event = "change" if self.find(selector).tag_name == "select" else "input"
        script = "const n = document.querySelector(arguments[0]); n.value = arguments[1];"
        self.run(f"{script} n.dispatchEvent(new Event('{event}', {{ bubbles: true }}))", selector, value)

    def press(self, *keys):
        """Press keys where the focus is."""
        from selenium.webdriver import ActionChains

        actions = ActionChains(self.driver)
        for key in keys:
            actions.send_keys(key)
        actions.perform()

    def condition(self):
        """Vector, layer and multiplier as the form shows them."""
        layer, multiplier = (number(self.text(f"#{name}-shown")) for name in ("layer", "multiplier"))
        return self.run("return document.getElementById('vector').value"), layer, multiplier

    def settle(self):
        """Wait until the explorer shows the chosen prompt and condition."""
        script = (
            "return (async () => { for (let i = 0; i < 3; i++) await new Promise(requestAnimationFrame);"
            " return document.body.dataset.drawn === document.body.dataset.asked; })()"
        )
        self.wait(script)

    def drain_logs(self):
        """Addresses asked for, and what the console said, since the last time."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
        return sent, [entry["message"] for entry in self.driver.get_log("browser")]


def number(text):
    """A shown number as a float, also of percent; NaN where nothing is."""
    text = text.strip().replace("\N{MINUS SIGN}", "-")
    if text.endswith(" %"):
        return float(text.removesuffix(" %")) / 100
    return float("nan") if text in ("", "\N{EN DASH}") else float(text)


def tolerance(quantity):
    """How far a shown number may lie from its own: half of its last decimal."""
    found = find_quantity(quantity)
    return 0.5001 * (0.01 if UNITS[found.unit].percent else 10**-found.decimals)
