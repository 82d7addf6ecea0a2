"""The sweep and the table of numbers: what is shown is what summary.csv has."""

import pytest
from browser.driver import Page, number
from browser.stored import check_table, read_csv, read_summary

VECTOR = "kind <i>"
MINUS = "\N{MINUS SIGN}"


def test_the_condition_of_the_headline_is_chosen_at_first(page, run_folder):
    vector, layer, multiplier = page.condition()
    held = [row for row in read_csv(run_folder) if row["split"] == "report"]
    best = next(r for r in held if r["quantity"] == "delta_p_A")
    assert (vector, layer, multiplier) == (best["vector"], float(best["layer"]), float(best["multiplier"]))


def test_every_card_says_of_which_prompts_it_is(page, run_folder):
    """The headline is of a held-out half, the card of all prompts: both stand there, each with its prompts."""
    condition = page.condition()
    rows = {(r["quantity"], r["split"]): r for r in read_summary(run_folder, *condition) if r["weighting"] == "macro"}
    first = page.texts("#cards .card:first-child .inside")
    whole, held = (rows["delta_p_A", split] for split in ("all", "report"))
    assert float(whole["value"]) != float(held["value"])
    assert page.text("#cards .card:first-child .value").startswith(f"{float(whole['value']):+.2f}".replace("-", MINUS))
    assert first[1] == f"mean over {whole['n_prompts']} prompts"
    words = f"{float(held['value']):+.2f}".replace("-", MINUS)
    assert first[2].startswith(f"{held['n_prompts']} held-out prompts: {words}, ")
    told = page.texts("#cards .card")
    assert len(told) == 6
    assert all("prompts" in text for text in told)
    assert "(12 prompts in the chosen cell)" in page.text("#quantity-meaning")
    red = float(rows["share_red", "all"]["value"])
    assert f"{100 * red:.0f} % red" in told[-1]
    assert told[-1].endswith(f"of {rows['share_red', 'all']['n_prompts']} prompts")
    page.pick("#vector", "random-0")
    assert "held-out" not in "".join(page.texts("#cards .card"))


@pytest.mark.parametrize(
    "condition", [(VECTOR, 0.0, -1.0), (VECTOR, 2.0, 1.0), ("random-1", 1.0, 1.0), (VECTOR, 0.0, 0.0)]
)
def test_every_number_of_the_table_is_that_of_the_summary(page, run_folder, condition):
    vector, layer, multiplier = condition
    page.pick("#vector", vector)
    page.pick("#layer", str(int(layer)))
    known = sorted({-1.0, 1.0} | ({0.0} if (vector, layer) == (VECTOR, 0.0) else set()))
    page.pick("#multiplier", str(known.index(multiplier)))
    assert page.condition() == condition
    check_table(page, run_folder, condition, exact=False)
    page.find("#exact").click()
    page.find("#inference").click()
    check_table(page, run_folder, condition, exact=True)


def test_cells_of_the_heat_map_choose_and_show_the_summary(page, run_folder):
    page.pick("#quantity", "increase_to_answer_A|macro")
    for layer, multiplier in ((0, 1.0), (2, -1.0)):
        sign = f"{multiplier:+g}".replace("-", "\N{MINUS SIGN}")
        cell = page.find(f'[role="gridcell"][aria-label^="layer {layer}, multiplier {sign}:"]')
        cell.click()
        assert page.condition() == (VECTOR, layer, multiplier)
        assert cell.get_attribute("aria-selected") == "true"
        row = next(
            r
            for r in read_summary(run_folder, VECTOR, layer, multiplier)
            if (r["quantity"], r["weighting"], r["split"]) == ("increase_to_answer_A", "macro", "all")
        )
        words = [f"{float(row[name]):+.3f}".replace("-", "\N{MINUS SIGN}") for name in ("value", "low", "high")]
        assert f"{words[0]} [{words[1]}, {words[2]}] nats" in cell.get_attribute("aria-label")
        assert number(cell.text) == pytest.approx(float(row["value"]), abs=0.0051)


def test_arrow_keys_walk_the_heat_map_and_skip_what_is_not_there(page):
    from selenium.webdriver.common.keys import Keys

    page.find('[role="gridcell"][aria-label^="layer 0, multiplier +1"]').click()
    page.press(Keys.ARROW_RIGHT)
    assert page.condition() == (VECTOR, 1, 1.0)
    page.press(Keys.ARROW_DOWN)
    assert page.condition() == (VECTOR, 1, -1.0), "layer 1 has no multiplier 0"
    page.press(Keys.HOME, Keys.ARROW_UP)
    assert page.condition() == (VECTOR, 0, 0.0)
    page.press(Keys.END)
    assert page.condition() == (VECTOR, 0, 0.0)
    assert page.run("return document.activeElement.getAttribute('role')") == "gridcell"


def test_the_line_has_the_intervals_that_exist_and_no_others(page, run_folder):
    for quantity, weighting in (("increase_to_answer_A", "macro"), ("answered_steered", "macro")):
        page.pick("#quantity", f"{quantity}|{weighting}")
        page.pick("#multiplier", "0")
        multiplier = page.condition()[2]
        rows = [r for layer in range(3) for r in read_summary(run_folder, VECTOR, layer, multiplier)]
        rows = [r for r in rows if (r["quantity"], r["weighting"], r["split"]) == (quantity, weighting, "all")]
        assert len(page.texts("#lines .point")) == sum(r["value"] not in ("", "nan") for r in rows)
        assert len(page.texts("#lines .interval")) == sum(r["low"] != "" for r in rows)


def test_the_slider_answers_to_the_keyboard(page):
    from selenium.webdriver.common.keys import Keys

    page.pick("#layer", "0")
    page.run("document.getElementById('layer').focus()")
    page.press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert page.condition()[1] == 2
    assert page.find("#layer").get_attribute("aria-valuetext") == "2"


def test_what_was_chosen_is_remembered_in_the_address(driver, page, run_folder):
    page.pick("#vector", "random-1")
    page.find("#prompt-next").click()
    fragment = page.wait(
        "return location.hash.includes('random-1') && location.hash.includes('prompt=1') && location.hash"
    )
    again = Page(driver).open(run_folder / "report.html", fragment=fragment)
    assert again.condition()[0] == "random-1"
    assert again.text("#prompt-id") == "p1"
