"""What a person sees and does: sentences, pictures, words, regions; by mouse, touch and keys."""

from __future__ import annotations

import base64
import re
from urllib.parse import urlsplit

import numpy as np
import pytest

from tests.browser.conftest import Visit, Visiting, asked, ids, lit
from visavis.search.index import Index

pytestmark = [pytest.mark.browser, pytest.mark.slow]
SENTENCE = "a red circle above a blue square"


def test_a_sentence_finds_the_pictures_that_the_index_finds(visit: Visiting, index: Index) -> None:
    seen = visit()
    seen.shot("start")
    seen.ask(SENTENCE)
    seen.shot("results")
    assert ids(seen) == [hit.id for hit in index.search(SENTENCE, k=24).hits]
    status = seen.page.inner_text("#status")
    assert "24 of 40 pictures" in status
    assert re.search(r"exact [\d.]+ m?s over 40", status)
    assert asked(seen) == {"q": SENTENCE}
    score = float(seen.page.locator(".grid .score").first.inner_text().replace("−", "-"))
    assert score == pytest.approx(index.search(SENTENCE, k=1).hits[0].score, abs=6e-4)
    seen.page.wait_for_function("() => document.querySelector('.grid img').naturalWidth > 0")


def test_a_word_lights_the_regions_that_the_model_looked_at(visit: Visiting, index: Index) -> None:
    seen = visit()
    seen.ask(SENTENCE)
    seen.open_first()
    assert lit(seen, "region") == [0.0] * len(lit(seen, "region"))
    why = index.explain(ids(seen)[0], SENTENCE)
    for word in (1, 2, 5):
        seen.page.locator("#detail .word").nth(word).hover()
        seen.page.wait_for_selector("#detail .dimmed")
        shares = lit(seen, "region")
        row = why.weights[word]
        assert int(np.argmax(shares)) == int(np.argmax(row))
        assert max(shares) == 1.0
        assert all(weight > row.mean() for share, weight in zip(shares, row, strict=True) if share)
        numbers = seen.page.locator("#detail .region.named .number").all_inner_texts()
        assert 1 <= len(numbers) <= 3
        assert all(number.endswith("%") for number in numbers)
        assert why.words[word] in seen.page.inner_text(".lit-line")
    seen.shot("word")
    seen.page.hover("#detail-title")
    seen.page.wait_for_selector("#detail .frame:not(.dimmed)")
    assert max(lit(seen, "region")) == 0.0


def test_a_region_lights_the_words_that_look_at_it(visit: Visiting, index: Index) -> None:
    seen = visit()
    seen.ask(SENTENCE)
    seen.open_first()
    why = index.explain(ids(seen)[0], SENTENCE)
    sizes = (why.boxes[:, 2] - why.boxes[:, 0]) * (why.boxes[:, 3] - why.boxes[:, 1])
    region = int(np.argmin(sizes))  # no smaller one lies over it
    frame = seen.page.locator("#detail .frame").bounding_box()
    x, y = (why.boxes[region, :2] + why.boxes[region, 2:]) / 2
    seen.page.mouse.move(
        frame["x"] + float(x) * frame["width"], frame["y"] + float(y) * frame["height"]
    )
    seen.page.wait_for_selector("#detail .dimmed")
    assert int(np.argmax(lit(seen, "region"))) == region
    shown = seen.page.locator("#detail .word .number").all_inner_texts()
    wanted = [100 * weight for weight in why.weights[:, region]]
    assert [float(text.rstrip("%")) for text in shown] == pytest.approx(wanted, abs=0.6)
    seen.shot("region")


def test_a_pressed_word_stays_lit_until_escape(visit: Visiting) -> None:
    seen = visit()
    seen.ask(SENTENCE)
    seen.open_first()
    word = seen.page.locator("#detail .word").nth(1)
    word.click()
    seen.page.hover("#detail-title")
    assert word.get_attribute("aria-pressed") == "true"
    assert max(lit(seen, "region")) == 1.0
    seen.page.keyboard.press("Escape")
    assert word.get_attribute("aria-pressed") == "false"
    assert seen.page.locator("#detail").evaluate("one => one.open")
    seen.page.keyboard.press("Escape")
    seen.page.wait_for_function("() => !document.querySelector('#detail').open")


DROP = """
async ([text, type]) => {
  const bytes = Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
  const given = new DataTransfer();
  given.items.add(new File([bytes], "dropped", { type }));
  for (const kind of ["dragenter", "dragover", "drop"]) {
    document.body.dispatchEvent(
      new DragEvent(kind, { dataTransfer: given, bubbles: true, cancelable: true }));
  }
}
"""


def drop(visit: Visit, held: bytes, kind: str) -> None:
    visit.page.evaluate(DROP, [base64.b64encode(held).decode(), kind])


def test_a_dropped_picture_finds_its_sentences_and_its_like(visit: Visiting, index: Index) -> None:
    seen = visit()
    hit = index.search(SENTENCE, k=1).hits[0]
    drop(seen, index.picture(hit.id).read_bytes(), "image/png")
    seen.page.wait_for_selector(".sentences li")
    shown = seen.page.locator(".sentences a").all_inner_texts()
    assert shown == [one.text for one in index.captions(hit.id, k=24).hits]
    assert "sentences" in seen.page.inner_text("#status")
    seen.shot("sentences")
    seen.page.get_by_role("tab", name="Pictures like it").click()
    seen.page.wait_for_selector(".grid:not(.waiting) a")
    assert ids(seen) == [one.id for one in index.search_by_image(hit.id, k=24).hits]
    seen.page.go_back()
    seen.page.wait_for_selector(".sentences li")
    seen.page.locator(".sentences a").first.click()
    seen.page.wait_for_selector(".grid:not(.waiting) a")
    assert asked(seen)["q"] == shown[0]


def test_a_chosen_picture_asks_too_and_what_is_none_is_refused(
    visit: Visiting, index: Index
) -> None:
    seen = visit()
    path = index.picture(index.search(SENTENCE, k=1).hits[0].id)
    drop(seen, b"<svg/>", "image/svg+xml")
    seen.ask("a star")
    drop(seen, b"hello", "text/plain")
    assert "no picture" in seen.page.inner_text("#notice")
    seen.page.set_input_files("#file", path)
    seen.page.wait_for_selector(".sentences li")
    seen.page.get_by_role("button", name="Take it away").click()
    seen.page.wait_for_selector("body.start")


def test_a_permanent_address_shows_the_same_again(visit: Visiting) -> None:
    seen = visit()
    seen.ask(SENTENCE)
    found = ids(seen)
    seen.page.locator(".grid a").nth(3).click()
    seen.page.wait_for_selector("#detail .word")
    assert asked(seen) == {"q": SENTENCE, "view": found[3]}
    again = visit(f"/?{urlsplit(seen.page.url).query}")
    again.page.wait_for_selector("#detail .word")
    assert ids(again) == found
    assert "Rank\n4" in again.page.inner_text("#detail dl")
    # Back closes the view, forward opens it, back twice leads to the beginning.
    seen.page.go_back()
    seen.page.wait_for_function("() => !document.querySelector('#detail').open")
    seen.page.go_forward()
    seen.page.wait_for_function("() => document.querySelector('#detail').open")
    seen.page.go_back()
    seen.page.go_back()
    seen.page.wait_for_selector("body.start")


def test_everything_is_done_by_keys_alone(visit: Visiting) -> None:
    seen = visit()
    page, keys = seen.page, seen.page.keyboard
    page.evaluate("document.activeElement.blur()")
    keys.press("/")
    keys.type(SENTENCE)
    keys.press("Enter")
    page.wait_for_selector(".grid:not(.waiting) a")
    found = ids(seen)
    focused = "document.activeElement.dataset.id"
    keys.press("ArrowDown")
    assert page.evaluate(focused) == found[0]
    keys.press("ArrowRight")
    keys.press("ArrowRight")
    keys.press("ArrowLeft")
    assert page.evaluate(focused) == found[1]
    keys.press("ArrowDown")
    below = found.index(page.evaluate(focused))
    assert below > 2
    keys.press("ArrowUp")
    assert page.evaluate(focused) == found[1]
    keys.press("Enter")
    page.wait_for_selector("#detail .word")
    keys.press("ArrowRight")  # the next picture
    page.wait_for_function(f"() => location.search.includes('{found[2]}')")
    page.wait_for_selector("#detail .word")
    for _ in range(12):
        keys.press("Tab")
        if page.evaluate("document.activeElement.classList.contains('word')"):
            break
    assert max(lit(seen, "region")) == 1.0
    keys.press("ArrowRight")
    assert lit(seen, "word")[1] == 1.0
    seen.shot("keys")
    keys.press("Escape")
    page.wait_for_function("() => !document.querySelector('#detail').open")
    assert page.evaluate(focused) == found[2]


def test_regions_are_reached_by_keys(visit: Visiting) -> None:
    seen = visit()
    seen.ask(SENTENCE)
    seen.open_first()
    for _ in range(12):
        seen.page.keyboard.press("Tab")
        if seen.page.evaluate("document.activeElement.classList.contains('region')"):
            break
    first = int(np.argmax(lit(seen, "region")))
    assert max(lit(seen, "word")) > 0.5
    seen.page.keyboard.press("ArrowRight")
    assert int(np.argmax(lit(seen, "region"))) != first
    assert seen.page.evaluate("document.activeElement.ariaLabel").startswith("Region 2")
