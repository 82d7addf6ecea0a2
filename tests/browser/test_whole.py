"""The page as a whole: it asks for nothing, fits every screen, and can be read and operated."""

import pytest
from browser.driver import Page


def test_it_opens_from_disk_asks_for_nothing_and_says_nothing_to_the_console(page, run_folder):
    page.find("#prompt-next").click()
    page.settle()
    sent, console = page.drain_logs()
    assert {url for url in sent if not url.startswith("data:")} <= {
        "about:blank",
        (run_folder / "report.html").as_uri(),
    }
    assert console == []


def test_the_policy_lets_no_script_make_html_or_ask_for_anything(page):
    from selenium.common.exceptions import JavascriptException

    with pytest.raises(JavascriptException, match="TrustedHTML"):
        page.run("document.body.innerHTML = '<b>x</b>'")
    answer = page.run("return fetch('https://example.org/').then(() => 'asked', () => 'refused')")
    assert answer == "refused"
    page.drain_logs()


def test_the_headline_and_the_warnings_come_first(page, run_folder):
    report = (run_folder / "report.md").read_text(encoding="utf-8")
    assert page.text(".sentence").replace("\N{MINUS SIGN}", "-") in report
    assert "few prompts: 12 independent units" in page.text(".notice.warning")
    assert page.text("h1") == "made-up: <made> up"
    assert "Sampler gap" in page.text(".checks")


@pytest.mark.parametrize("width", [360, 768, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_every_width_in_both_themes(driver, run_folder, width, scheme):
    page = Page(driver).open(run_folder / "report.html", width=width, scheme=scheme)
    assert page.run("return document.documentElement.scrollWidth") <= width
    page.run("for (const id of ['under', 'inference', 'exact']) document.getElementById(id).click()")
    assert page.run("return document.documentElement.scrollWidth") <= width
    paper = page.run("return getComputedStyle(document.body).backgroundColor")
    assert (sum(int(v) for v in paper[4:-1].split(",")) < 200) == (scheme == "dark")


def test_the_theme_can_be_switched(page):
    dark = "return getComputedStyle(document.documentElement).colorScheme"
    page.find("#theme").click()
    page.find("#theme").click()
    assert page.run(dark) == "dark"
    assert page.text("#theme") == "Theme: dark"
    page.find("#theme").click()
    assert page.text("#theme") == "Theme: system"


def contrast(one, other):
    def light(colour):
        parts = [v / 255 for v in colour[:3]]
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((light(one), light(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_on_every_colour(driver, run_folder, scheme):
    page = Page(driver).open(run_folder / "report.html", scheme=scheme)
    # A canvas turns whatever notation a colour is in into bytes.
    script = """const canvas = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
        const bytes = (node, property) => {
          canvas.clearRect(0, 0, 1, 1);
          canvas.fillStyle = getComputedStyle(node)[property];
          canvas.fillRect(0, 0, 1, 1);
          return [...canvas.getImageData(0, 0, 1, 1).data];
        };
        const coloured = [...document.querySelectorAll('.cell, .legend .swatch')];
        return [bytes(document.body, 'color'), bytes(document.querySelector('.lead'), 'color'),
          ...[document.body, ...coloured].map((node) => bytes(node, 'backgroundColor'))]"""
    ink, soft, paper, *colours = page.run(script)
    assert min(contrast(ink, colour) for colour in colours if colour[3] == 255) >= 4.5
    assert contrast(soft, paper) >= 4.5


def test_everything_to_operate_has_a_name_and_shows_its_focus(page):
    nameless = """return [...document.querySelectorAll('button, select, input, [tabindex="0"]')]
        .filter((n) => !(n.labels?.length || n.ariaLabel || n.getAttribute('aria-labelledby') || n.textContent.trim()))
        .map((n) => n.outerHTML)"""
    assert page.run(nameless) == []
    from selenium.webdriver.common.keys import Keys

    page.press(Keys.TAB)
    assert page.run("return document.activeElement.textContent") == "To the sweep"
    assert page.run("return document.activeElement.offsetHeight") > 10
    page.press(Keys.TAB, Keys.TAB)
    assert page.run("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
