"""One browser for all tests of pages, and a run whose texts are strange on purpose."""

import pytest
from browser.driver import Page, find_browser, open_browser
from page_runs import make_run


@pytest.fixture(scope="session")
def driver():
    find_browser()
    with open_browser() as driver:
        yield driver


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page") / "run"
    make_run(folder, strange=True, n_prompts=12, n_random=2).write()
    return folder


@pytest.fixture
def page(driver, run_folder):
    return Page(driver).open(run_folder / "report.html")
