"""How the page bears with screens, tastes, filters, troubles and harm."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.browser.conftest import Visiting, asked, ids, lit
from tests.integration.serving import listening
from visavis.search.index import Index
from visavis.server.keys import digest_of

pytestmark = [pytest.mark.browser, pytest.mark.slow]
SENTENCE = "a red circle above a blue square"


@pytest.mark.parametrize("width", [360, 768])
def test_small_screens_never_scroll_sideways(visit: Visiting, width: int) -> None:
    seen = visit(viewport={"width": width, "height": 740}, has_touch=True)
    page = seen.page

    def fits() -> None:
        inside = "document.documentElement.scrollWidth <= innerWidth"
        assert page.evaluate(inside)
        assert page.evaluate(
            "[...document.querySelectorAll('header, main, #status, .grid, #detail[open], .side')]"
            ".every(one => one.getBoundingClientRect().right <= innerWidth + 1)"
        )

    fits()
    page.click("#more-options")
    fits()
    page.click("#more-options")
    seen.ask(SENTENCE)
    fits()
    seen.shot(f"narrow-{width}")
    seen.open_first()
    fits()
    page.locator("#detail .word").nth(1).tap()
    assert max(lit(seen, "region")) == 1.0
    seen.shot(f"narrow-detail-{width}")
    frame = page.locator("#detail .frame").bounding_box()
    assert frame["width"] > 0.5 * min(width, 340)


CONTRAST = """
() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const rgb = (colour) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => {
    const part = (v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
    return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  };
  const ground = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const colour = rgb(getComputedStyle(one).backgroundColor);
      if (colour[3] > 200) return colour;
    }
    return rgb("white");
  };
  const poor = [];
  const texts = "p, h1, h2, span, button, label, dt, dd, a, kbd";
  for (const element of document.querySelectorAll(texts)) {
    const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !element.checkVisibility() || element.closest("[disabled]")) continue;
    const [a, b] = [light(rgb(getComputedStyle(element).color)), light(ground(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.push(`${element.className || element.tagName} ${ratio.toFixed(2)}`);
  }
  return poor;
}
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read_in_light_and_dark(visit: Visiting, scheme: Any) -> None:
    seen = visit(color_scheme=scheme, reduced_motion="reduce")
    ground = seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
    red = int(re.findall(r"\d+", ground)[0])
    assert (red < 60) == (scheme == "dark")
    assert seen.page.evaluate(CONTRAST) == []
    seen.page.click("#more-options")
    seen.ask(SENTENCE)
    assert seen.page.evaluate(CONTRAST) == []
    seen.open_first()
    assert seen.page.evaluate(CONTRAST) == []
    for word in seen.page.locator("#detail .word").all():
        word.click()
        assert seen.page.evaluate(CONTRAST) == []
    seen.shot(f"{scheme}-detail")


def test_nothing_moves_where_that_is_not_wanted(visit: Visiting) -> None:
    seen = visit(reduced_motion="reduce")
    seen.ask(SENTENCE)
    seen.open_first()
    longest = """[...document.querySelectorAll('*')].map((one) => getComputedStyle(one))
      .flatMap((one) => `${one.animationDuration},${one.transitionDuration}`.split(","))
      .map((text) => parseFloat(text) * (text.includes("ms") ? 1 : 1000))
      .reduce((most, time) => Math.max(most, time), 0)"""
    assert seen.page.evaluate(longest) <= 1


def test_filters_are_sent_as_conditions_and_can_leave_nothing(visit: Visiting) -> None:
    seen = visit()
    seen.ask(SENTENCE)
    seen.page.click("#more-options")
    with seen.page.expect_request("**/v1/search") as sent:
        seen.page.fill("#options [name=tag]", "it's")
        seen.page.keyboard.press("Tab")
    assert json.loads(sent.value.post_data)["where"] == "tag = 'it''s'"
    seen.page.wait_for_selector(".message")
    assert "No picture passes the filters" in seen.page.inner_text(".message")
    assert seen.page.inner_text("#active-filters") == "1"
    seen.shot("filtered")
    seen.page.locator(".message button").click()
    seen.page.wait_for_selector(".grid:not(.waiting) a")
    assert asked(seen) == {"q": SENTENCE}
    with seen.page.expect_request("**/v1/search") as sent:
        seen.page.locator(".switch").click()
    assert json.loads(sent.value.post_data)["exact"] is True
    seen.page.wait_for_selector("#status .how")


def test_more_pictures_are_added_below(visit: Visiting) -> None:
    seen = visit()
    seen.ask(SENTENCE)
    before = ids(seen)
    seen.page.get_by_role("button", name="More").click()
    seen.page.wait_for_function("() => document.querySelectorAll('.grid a').length > 24")
    assert ids(seen)[:24] == before
    assert len(ids(seen)) == 40
    assert asked(seen)["k"] == "48"


def test_a_service_that_is_gone_is_said_and_asked_again(visit: Visiting) -> None:
    seen = visit()
    seen.expected = ("Failed to load resource", "net::ERR")
    seen.page.route("**/v1/search", lambda route: route.abort())
    seen.page.fill("#sentence", SENTENCE)
    seen.page.keyboard.press("Enter")
    seen.page.wait_for_selector(".message")
    assert "does not answer" in seen.page.inner_text(".message")
    seen.shot("gone")
    seen.page.unroute("**/v1/search")
    seen.page.get_by_role("button", name="Try again").click()
    seen.page.wait_for_selector(".grid:not(.waiting) a")


def test_a_poor_match_is_said_to_be_one(visit: Visiting) -> None:
    seen = visit()

    def poor(route: Any) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, json={**answer.json(), "matches_well": False})

    seen.page.route("**/v1/search", poor)
    seen.ask("an aeroplane over a desert")
    assert "Nothing here matches well" in seen.page.inner_text("#notice")
    seen.shot("poor")


def test_what_is_typed_and_what_files_are_called_is_only_text(visit: Visiting) -> None:
    seen = visit()
    harm = "<img src=x onerror=document.title='harm'>"

    def renamed(route: Any) -> None:
        answer = route.fetch()
        value = answer.json()
        for hit in value["results"]:
            hit["path"], hit["tags"] = harm, [harm]
        route.fulfill(response=answer, json=value)

    seen.page.route("**/v1/search", renamed)
    seen.ask(f"a star {harm}")
    seen.open_first()
    seen.page.wait_for_timeout(200)
    assert "harm" in seen.page.inner_text("#detail-title")
    assert seen.page.title() != "harm"
    assert seen.page.locator("#detail .side img").count() == 0


def test_a_service_with_keys_asks_for_one_and_shows_its_pictures(
    visit: Visiting, index: Index
) -> None:
    key = "a-key-for-the-tests"
    with listening(index, read_keys=(digest_of(key),)) as address:
        seen = visit(f"/?q={SENTENCE}", address=address)
        seen.expected = ("401",)
        seen.page.wait_for_selector("#key[open]")
        seen.shot("key")
        seen.page.fill("#key-text", "a-wrong-key-for-it")
        seen.page.keyboard.press("Enter")
        seen.page.wait_for_selector("#key[open]")
        seen.page.fill("#key-text", key)
        seen.page.keyboard.press("Enter")
        seen.page.wait_for_selector(".grid:not(.waiting) a")
        seen.page.wait_for_function("() => document.querySelector('.grid img').naturalWidth > 0")
        seen.page.close()  # before its service


def test_the_interface_is_described_without_help_from_elsewhere(visit: Visiting) -> None:
    seen = visit("/docs")
    seen.page.wait_for_selector("details")
    text = seen.page.inner_text("#routes")
    for path in ("/v1/search", "/v1/captions", "/v1/images/{id}", "/healthz"):
        assert path in text
    seen.page.locator("summary").first.click()
    seen.shot("docs")
    assert seen.page.evaluate(CONTRAST) == []
