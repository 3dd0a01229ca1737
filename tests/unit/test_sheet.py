from __future__ import annotations

import base64
import hashlib
import io
import itertools
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from visavis.errors import DataError, StorageError
from visavis.explain import sheet_page
from visavis.explain.attention import Explanation
from visavis.explain.canvas import wrap
from visavis.explain.draw import (
    COLOURS,
    LABEL_LENGTH,
    Mark,
    draw_marks,
    fit,
    font,
    place,
    printable,
    sentence_marks,
    shorten,
    word_marks,
)
from visavis.explain.sheet import PNG_ROWS, Sheet, SheetHit, SheetRow
from visavis.explain.sheet_picture import VERDICTS

QUARTERS = np.array(
    [(0, 0, 0.5, 0.5), (0.5, 0, 1, 0.5), (0, 0.5, 0.5, 1), (0.5, 0.5, 1, 1)], dtype=np.float32
)
GREY = (120, 120, 120)
RIGHT = tuple(bytes.fromhex(VERDICTS["right"][1:]))
VOID = {"meta", "img", "rect"}


def why(
    words: str, weights: list[list[float]], boxes: NDArray[np.float32] = QUARTERS
) -> Explanation:
    return Explanation(tuple(words.split()), boxes, np.array(weights, np.float32), 0.5)


def red_dog() -> Explanation:
    weights = [[0.25] * 4, [0.1, 0.7, 0.1, 0.1], [0.1, 0.8, 0.1, 0.0], [0.3, 0.1, 0.0, 0.6]]
    return why("the red dog ball", weights)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "grey.png"
    Image.new("RGB", (192, 128), GREY).save(path)
    return path


def rows(picture: Path) -> tuple[SheetRow, ...]:
    search = SheetRow(
        "The red dog, ball!",
        (
            SheetHit(picture, 0.9, right=False, explanation=red_dog()),
            SheetHit(picture, 0.8, right=True, explanation=red_dog()),
        ),
    )
    caption = SheetRow(
        picture,
        (
            SheetHit("The red dog ball", 0.7, right=True, explanation=red_dog()),
            SheetHit("nothing of the kind", 0.6),
        ),
    )
    return search, caption


class Page(HTMLParser):
    """What a page holds; tags must close in the order they opened."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {key: value or "" for key, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {key: value or "" for key, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("style", "script"):
            self.words.append(data)

    def every(self, tag: str, class_name: str = "") -> list[dict[str, str]]:
        wanted = set(class_name.split())
        return [
            attributes
            for name, attributes in self.tags
            if name == tag and wanted <= set(attributes.get("class", "").split())
        ]

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())


def page(sheet: Sheet, folder: Path) -> tuple[str, Page]:
    sheet.write_html(folder / "sheet.html")
    text = (folder / "sheet.html").read_text(encoding="utf-8")
    return text, Page(text)


# Marks


def test_regions_are_named_after_the_words_that_look_at_them() -> None:
    marks = sentence_marks(red_dog(), k=2)
    assert [mark.label for mark in marks] == ["1 red dog", "2 ball"]
    assert [mark.box for mark in marks] == [(0.5, 0, 1, 0.5), (0.5, 0.5, 1, 1)]
    assert [mark.strength for mark in marks] == pytest.approx([1, 0.75])
    assert len({mark.colour for mark in marks}) == 2


def test_a_region_that_is_no_words_first_choice_is_named_after_its_best_word() -> None:
    assert sentence_marks(red_dog(), k=3)[2].label == "3 ball"


def test_two_boxes_of_one_thing_are_drawn_once_with_the_words_of_both() -> None:
    boxes = np.array([(0, 0, 0.5, 0.5), (0, 0, 0.5, 0.45), (0.6, 0.6, 1, 1)], np.float32)
    found = why("red dog", [[0.1, 0.9, 0.0], [0.8, 0.1, 0.1]], boxes)
    assert [mark.label for mark in sentence_marks(found)] == ["1 red dog", "2 dog"]


def test_marks_of_a_word_carry_its_weights_and_leave_out_what_has_none() -> None:
    assert [mark.label for mark in word_marks(red_dog(), 2)] == ["1 80%", "2 10%", "3 10%"]
    assert [mark.label for mark in word_marks(red_dog(), 3, k=4)] == ["1 60%", "2 30%", "3 10%"]


def test_evidence_against_a_sentence_is_not_drawn_as_evidence_for_it() -> None:
    weights = np.array([[-0.5, 0.25, 0.0, -0.1]], np.float32)
    found = Explanation(("red dog",), QUARTERS, weights, 0.1, "ablation")
    assert [mark.label for mark in sentence_marks(found)] == ["1 +0.25"]


def test_long_labels_keep_the_noun() -> None:
    assert shorten("a very large striped purple elephant", 20) == "…purple elephant"
    assert len(shorten("x" * 99)) == LABEL_LENGTH


def test_letters_that_the_font_lacks_are_replaced() -> None:
    assert printable("naïve\n“猫” ×2…") == "naive “?” ?2..."


corners = st.tuples(*[st.floats(0, 0.9)] * 2, *[st.floats(0.02, 1)] * 2)


@settings(max_examples=60, deadline=None)
@given(st.lists(corners, max_size=4), st.integers(90, 400), st.integers(220, 400))
def test_labels_lie_inside_the_picture_and_apart(
    found: list[tuple[float, ...]], width: int, height: int
) -> None:
    boxes = [(x, y, min(1.0, x + w), min(1.0, y + h)) for x, y, w, h in found]
    marks = [Mark(box, f"{i} dog", 1.0, COLOURS[0]) for i, box in enumerate(boxes)]
    labels = [item.label for item in place(marks, (width, height))]
    for i, (x1, y1, x2, y2) in enumerate(labels):
        assert 0 <= x1 < x2 <= width + 1e-6
        assert 0 <= y1 < y2 <= height + 1e-6
        for ax, ay, bx, by in labels[:i]:
            assert x2 <= ax or bx <= x1 or y2 <= ay or by <= y1


def test_a_label_hides_neither_its_box_nor_another_where_there_is_room() -> None:
    above, below = (0.3, 0.2, 0.6, 0.5), (0.3, 0.5, 0.6, 0.8)
    marks = [Mark(box, "1 dog", 1.0, COLOURS[0]) for box in (above, below)]
    first, second = place(marks, (320, 320))
    assert first.label[3] <= first.outline[1]
    assert second.label[1] >= second.outline[3]


# Drawing


@pytest.mark.parametrize("size", [(192, 192), (1000, 500), (3, 2)])
def test_every_picture_is_drawn_as_wide_as_asked(size: tuple[int, int]) -> None:
    drawn = draw_marks(Image.new("RGB", size, GREY), sentence_marks(red_dog()), width=320)
    assert drawn.size == (320, round(320 * size[1] / size[0]))
    assert drawn.mode == "RGB"


def test_only_outlines_and_labels_are_painted() -> None:
    marks = sentence_marks(red_dog(), k=2)
    drawn = np.asarray(draw_marks(Image.new("RGB", (320, 320), GREY), marks))
    allowed = np.zeros((320, 320), dtype=bool)
    for item in place(marks, (320, 320)):
        x1, y1, x2, y2 = (round(edge) for edge in item.outline)
        allowed[y1:y2, x1:x2] = True
        allowed[y1 + 5 : y2 - 5, x1 + 5 : x2 - 5] = False
    for item in place(marks, (320, 320)):
        x1, y1, x2, y2 = item.label
        allowed[int(y1) : int(y2) + 1, int(x1) : int(x2) + 1] = True
    touched = (drawn != GREY).any(axis=2)
    assert not (touched & ~allowed).any()
    assert touched.sum() > 1000


def test_a_stronger_look_has_a_more_opaque_outline() -> None:
    box = (0.2, 0.2, 0.8, 0.8)
    colours = []
    for strength in (0.0, 0.5, 1.0):
        mark = Mark(box, "1", strength, "#E69F00")
        drawn = draw_marks(Image.new("RGB", (300, 300), GREY), [mark], width=300)
        colours.append(drawn.getpixel((62, 150)))
    target = np.array([0xE6, 0x9F, 0x00])
    away = [int(np.abs(np.array(colour) - target).sum()) for colour in colours]
    assert away[0] > away[1] > away[2] == 0


def test_the_best_mark_lies_on_top() -> None:
    marks = [Mark((0.2, 0.2, 0.8, 0.8), "1", 1.0, colour) for colour in COLOURS[:2]]
    drawn = draw_marks(Image.new("RGB", (300, 300), GREY), marks, width=300)
    assert drawn.getpixel((62, 150)) == tuple(bytes.fromhex(COLOURS[0][1:]))


def test_a_high_picture_becomes_narrower() -> None:
    assert fit(Image.new("RGB", (100, 400)), 320, 400).size == (100, 400)
    assert fit(Image.new("RGB", (400, 100)), 320, 400).size == (320, 80)


# The page


def test_the_page_needs_nothing_beside_it(tmp_path: Path, picture: Path) -> None:
    text, found = page(Sheet("Search", rows(picture)), tmp_path)
    without_pictures = re.sub(r"data:image/jpeg;base64,[\w+/=]+", "", text)
    assert not re.search(r"https?:|//\w|@import|url\(", without_pictures)
    sources = [
        value for _, item in found.tags for key, value in item.items() if key in ("src", "href")
    ]
    assert len(sources) == 3
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    thumbnail = Image.open(io.BytesIO(base64.b64decode(sources[0].split(",")[1])))
    image = found.every("img")[0]
    assert thumbnail.size == (int(image["width"]), int(image["height"]))


def test_the_page_allows_its_own_script_and_no_other(tmp_path: Path, picture: Path) -> None:
    text, found = page(Sheet("Search", rows(picture)), tmp_path)
    script = text.split("<script>")[1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = next(item for item in found.every("meta") if "http-equiv" in item)["content"]
    assert policy.startswith("default-src 'none'; img-src data:")
    assert policy.endswith(f"script-src 'sha256-{digest}'")


def test_hostile_text_stays_text(tmp_path: Path, picture: Path) -> None:
    hostile = "<script>alert('1')</script> <i>dog</i> & \"cat\" <u>\ud800"
    name = tmp_path / '<b>&\'"x=".png'
    name.write_bytes(picture.read_bytes())
    seen = why("script dog</i> cat", [[0.7, 0.1, 0.1, 0.1]] * 3)
    search = SheetRow(hostile, (SheetHit(name, 1.0), SheetHit(name, 1.0, explanation=seen)))
    caption = SheetRow(name, (SheetHit(hostile, 1.0), SheetHit(hostile, 1.0, explanation=seen)))
    found = page(Sheet(hostile, (search, caption), note=hostile), tmp_path)[1]
    assert len(found.every("script")) == 1
    assert [found.every(tag) for tag in ("b", "i", "u")] == [[], [], []]
    shown = "<script>alert('1')</script> <i>dog</i> & \"cat\" <u>?"
    assert found.text.count(shown) == 6  # twice the title, the note, a query, two sentences
    assert [item["alt"] for item in found.every("img")] == [
        f"picture 1: {name.name}",
        f"picture 2: {name.name}; regions: 1 script dog</i> cat, 2 script, 3 script",
        f"picture {name.name}; regions: 1 script dog</i> cat, 2 script, 3 script",
    ]
    assert all(set(item) == {"src", "width", "height", "alt"} for item in found.every("img"))


def test_the_query_is_shown_as_it_was_written_and_its_content_words_can_be_pressed(
    tmp_path: Path, picture: Path
) -> None:
    text, found = page(Sheet("Search", rows(picture)[:1]), tmp_path)
    assert "The red dog, ball!" in found.text
    assert re.findall(r'<button[^>]*class="word"[^>]*>([^<]+)<', text) == ["red", "dog", "ball"]


def test_each_word_lights_regions_in_every_picture_of_its_row(
    tmp_path: Path, picture: Path
) -> None:
    found = page(Sheet("Search", rows(picture)), tmp_path)[1]
    groups = [item["data-key"] for item in found.every("g", "marks")]
    buttons = [item["data-key"] for item in found.every("button", "word")]
    assert buttons == ["1", "2", "3", "1-1", "1-2", "1-3"]
    assert groups == ["", "1", "2", "3"] * 2 + ["", "1-1", "1-2", "1-3"]
    assert [item["data-key"] for item in found.every("g", "marks on")] == ["", "", ""]


def test_right_and_wrong_are_said_in_words(tmp_path: Path, picture: Path) -> None:
    found = page(Sheet("Search", rows(picture)), tmp_path)[1]
    assert (found.text.count("✓ right"), found.text.count("✗ wrong")) == (2, 1)
    assert [item["class"] for item in found.every("li")] == ["wrong", "right", "right", ""]


def test_pictures_have_alternative_texts_that_name_their_regions(
    tmp_path: Path, picture: Path
) -> None:
    found = page(Sheet("Search", rows(picture)), tmp_path)[1]
    texts = [item["alt"] for item in found.every("img")]
    assert texts[1] == "picture 2: grey.png; regions: 1 red dog, 2 ball, 3 ball"
    assert len(texts) == 3


def test_the_page_says_which_kind_of_evidence_it_shows(tmp_path: Path, picture: Path) -> None:
    weights = np.array([[0.5, 0.25, 0.0, -0.1]], np.float32)
    ablation = Explanation(("red dog",), QUARTERS, weights, 0.1, "ablation")
    kinds = {}
    for kind, explanation in (("attention", red_dog()), ("ablation", ablation), ("none", None)):
        row = SheetRow("red dog", (SheetHit(picture, 1.0, explanation=explanation),))
        kinds[kind] = page(Sheet("Search", (row,), note="By a model."), tmp_path)[1].text
    assert "look at most" in kinds["attention"]
    assert "left out" in kinds["ablation"]
    assert "underlined" not in kinds["ablation"]  # the whole sentence has no other regions
    assert "Boxes" not in kinds["none"]
    assert all("By a model." in text for text in kinds.values())


def test_pictures_are_opened_as_the_page_grows(
    picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Path] = []
    load = sheet_page.load_picture
    monkeypatch.setattr(sheet_page, "load_picture", lambda path: opened.append(path) or load(path))
    counts = [len(opened) for _ in sheet_page.page_parts("Search", "", rows(picture) * 3)]
    assert counts[-1] == 9
    assert all(later - earlier <= 1 for earlier, later in itertools.pairwise(counts))


def test_a_missing_picture_leaves_the_old_page_as_it_was(tmp_path: Path, picture: Path) -> None:
    target = tmp_path / "out" / "sheet.html"
    Sheet("Old", rows(picture)).write_html(target)
    before = target.read_bytes()
    broken = SheetRow("dog", (SheetHit(tmp_path / "gone.png", 1.0),))
    for write in (
        Sheet("New", (*rows(picture), broken)).write_html,
        Sheet("New", (broken,)).write_png,
    ):
        with pytest.raises(DataError, match=r"gone\.png: no such file"):
            write(target)
    assert target.read_bytes() == before
    assert [path.name for path in target.parent.iterdir()] == ["sheet.html"]


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path, picture: Path) -> None:
    for write in (Sheet("A", rows(picture)).write_html, Sheet("A", rows(picture)).write_png):
        with pytest.raises(StorageError, match="cannot be written"):
            write(picture / "sheet")


# The picture of the sheet


def test_the_sheet_as_a_picture_frames_what_is_right(tmp_path: Path, picture: Path) -> None:
    framed = []
    for right in (True, False, None):
        row = SheetRow("dog", (SheetHit(picture, 0.5, right=right),))
        Sheet("Search", (row,)).write_png(tmp_path / "sheet.png")
        with Image.open(tmp_path / "sheet.png") as drawn:
            pixels = np.asarray(drawn)
        framed.append(int((pixels == RIGHT).all(axis=2).sum()))
    # Five pixels around a picture of 280 x 187, and a tick with the word.
    assert framed[0] > 2 * 5 * (280 + 187)
    assert framed[1] == framed[2] == 0


def test_more_answers_than_columns_go_to_the_next_line(tmp_path: Path, picture: Path) -> None:
    heights = {}
    for count in (0, 1, 5, 6):
        row = SheetRow("dog", (SheetHit(picture, 0.5),) * count)
        Sheet("Search", (row,)).write_png(tmp_path / "sheet.png")
        with Image.open(tmp_path / "sheet.png") as drawn:
            heights[count] = drawn.height
    assert heights[1] == heights[5]
    assert heights[6] - heights[5] > 187
    assert heights[0] < heights[1]


def test_a_row_without_answers_says_so(tmp_path: Path, picture: Path) -> None:
    found = page(Sheet("Search", (SheetRow("dog", ()), SheetRow(picture, ()))), tmp_path)[1]
    assert found.text.count("nothing found") == 2


def test_too_many_rows_for_one_picture_are_refused(tmp_path: Path, picture: Path) -> None:
    sheet = Sheet("Search", (SheetRow("dog", ()),) * (PNG_ROWS + 1))
    with pytest.raises(DataError, match=r"51 rows, at most 50 .*\.html"):
        sheet.write_png(tmp_path / "sheet.png")
    assert not (tmp_path / "sheet.png").exists()


def test_a_sentence_is_not_answered_by_sentences(picture: Path) -> None:
    with pytest.raises(ValueError, match="answered by pictures"):
        SheetRow("dog", (SheetHit("dog", 1.0),))
    with pytest.raises(ValueError, match="answered by pictures"):
        SheetRow(picture, (SheetHit(picture, 1.0),))


def test_explanations_of_another_sentence_are_refused(picture: Path) -> None:
    other = why("the red dog cat", red_dog().weights.tolist())
    with pytest.raises(ValueError, match="different words"):
        SheetRow("dog", tuple(SheetHit(picture, 1, explanation=e) for e in (red_dog(), other)))


@settings(max_examples=40, deadline=None)
@given(st.text(st.characters(codec="ascii"), max_size=80), st.integers(30, 300))
def test_wrapped_lines_fit_and_lose_no_letter(text: str, width: int) -> None:
    lines = wrap(text, 20, width)
    assert all(font(20).getlength(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())
