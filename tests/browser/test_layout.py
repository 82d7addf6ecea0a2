"""How a page lies on screens: many layers, narrow windows, the contents, what scrolls and says so."""

import pytest
from browser.driver import Page
from page_runs import make_run

CUES = """return [...document.querySelectorAll('.scroller')].map((place) => {
    const box = place.querySelector('.scroll');
    return [box.scrollWidth > box.clientWidth + 1, !place.querySelector('.cue').hidden,
      place.classList.contains('right') || place.classList.contains('left')];
  })"""
APART = """const boxes = [...document.querySelectorAll(arguments[0])].map((n) => n.getBoundingClientRect());
  return boxes.filter((a, i) => boxes.some((b, j) => i !== j && a.left < b.right - 1 && b.left < a.right - 1
    && a.top < b.bottom - 1 && b.top < a.bottom - 1)).length"""


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A run of 80 layers and nine doses."""
    folder = tmp_path_factory.mktemp("many")
    doses = (-4.0, -2.0, -1.0, -0.5, 0.5, 1.0, 2.0, 4.0)
    return make_run(folder, layers=tuple(range(80)), multipliers=doses, n_random=0, n_prompts=4).write()


@pytest.mark.parametrize("width", [390, 800, 1400])
def test_many_layers_scroll_in_their_box_which_says_so(driver, many, width):
    page = Page(driver).open(many, width=width)
    page.find("#all-lines").click()
    assert page.run("return document.documentElement.scrollWidth") <= width
    wait = "return document.querySelectorAll('#lines polyline').length === 9"
    page.wait(wait)
    for wider, told, shaded in page.run(CUES):
        assert wider == told == shaded
    assert page.run("const b = document.getElementById('heat-scroll'); return b.scrollWidth > b.clientWidth")
    inside = """const [box, part] = ['#heat-scroll', '.cell[aria-selected=true]'].map((s) =>
        document.querySelector(s).getBoundingClientRect());
      return part.left >= box.left + document.querySelector('#heat [role=rowheader]').offsetWidth
        && part.right <= box.right"""
    assert page.run(inside), "the chosen cell is in sight"
    for layer in (0, 79, 40):
        page.pick("#layer", str(layer))
        assert page.run(inside), layer
        assert page.run(APART, "#lines .name") == 0
    assert page.run(APART, "#heat .layer") == 0
    assert page.run(APART, "#heat [role=rowheader]") == 0
    spilling = "return [...document.querySelectorAll('.cell')].filter((n) => n.scrollWidth > n.offsetWidth).length"
    assert page.run(spilling) == 0


def test_the_axes_stay_where_they_are_while_layers_scroll(driver, many):
    page = Page(driver).open(many, width=390)
    left = """document.getElementById('heat-scroll').scrollLeft = arguments[0];
      return ['#heat [role=rowheader]', '#lines .axis'].map(
        (s) => document.querySelector(s).getBoundingClientRect().left)"""
    assert page.run(left, 0) == page.run(left, 1500)


def test_the_contents_are_open_beside_the_page_and_folded_above_it(driver, run_folder):
    page = Page(driver).open(run_folder / "report.html", width=1400)
    beside = "return document.getElementById('contents').getBoundingClientRect().right"
    assert page.run("return document.querySelector('#contents details').open")
    assert page.run(beside) <= page.run("return document.querySelector('main').getBoundingClientRect().left")
    page.run("document.getElementById('numbers').scrollIntoView()")
    page.wait("return document.querySelector('#contents [aria-current]')?.hash === '#numbers'")
    assert page.run("return document.getElementById('contents').getBoundingClientRect().top") >= 0, "it stays in sight"
    page.open(run_folder / "report.html", width=390)
    assert not page.run("return document.querySelector('#contents details').open")
    assert not page.find(".back").is_displayed()
    page.run("document.getElementById('explorer').scrollIntoView()")
    page.wait("return !document.querySelector('.back').hidden")
    page.run("document.querySelector('.back').click()")
    assert page.run("return document.querySelector('#contents details').open")
    from selenium.webdriver.common.keys import Keys

    page.press(Keys.TAB, Keys.TAB)
    assert page.run("return document.activeElement.hash") == "#headline", "behind the fold's own handle"


def test_following_the_contents_keeps_what_was_chosen(driver, run_folder):
    page = Page(driver).open(run_folder / "report.html", width=1400)
    page.pick("#vector", "random-1")
    page.run("document.querySelector('#contents a[href=\"#explorer\"]').click()")
    fragment = page.wait("return location.hash.includes('random-1') && location.hash")
    assert page.run("return document.getElementById('explorer').getBoundingClientRect().top < innerHeight / 2")
    assert Page(driver).open(run_folder / "report.html", fragment=fragment).condition()[0] == "random-1"


def test_the_width_above_the_sweep_is_used(driver, run_folder):
    page = Page(driver).open(run_folder / "report.html", width=1400)
    right = (
        "return Math.max(...[...document.querySelectorAll('#headline li')].map((n) => n.getBoundingClientRect().right))"
    )
    assert page.run(right) > 1200
    tops = """return ['.sentence', '.notice'].map(
      (s) => document.querySelector(`#headline ${s}`).getBoundingClientRect().top)"""
    first, second = page.run(tops)
    assert abs(first - second) < 40, "side by side"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_trust_is_told_by_words_marks_and_colours_alike(page, run_folder, scheme):
    page.resize(1280, scheme=scheme)
    told = page.run(
        """return [...document.querySelectorAll('.card .kind')].map((n) => {
        const name = n.textContent.split(' ').at(-1);
        const probe = document.createElement('span');
        probe.className = 'mark ' + name;
        document.body.append(probe);
        const paint = getComputedStyle(n.querySelector('.mark')).color === getComputedStyle(probe).color;
        return [name, n.querySelector('.mark').textContent, paint];
      })"""
    )
    assert told
    for name, mark, paint in told:
        assert mark == {"certified": "✓✓", "green": "✓", "red": "✕"}[name]
        assert paint


def test_names_of_columns_are_shown_on_demand(page):
    assert not page.find("#table th code").is_displayed()
    page.find("#columns").click()
    assert page.find("#table th code").is_displayed()
