"""Figures of a pair, their file, and plots of a sweep."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from visavis.errors import DataError
from visavis.explain.canvas import grid
from visavis.explain.explanation import Explanation
from visavis.explain.figure import What, draw_figure, relevant_regions
from visavis.explain.heat import Matrix, cell_colour, draw_matrix, heat_map, overlay
from visavis.explain.pair import Pair, pair_values, read_pair, write_pair
from visavis.explain.pair_page import write_page
from visavis.explain.plot import Curve, draw_curves, nice_ticks
from visavis.explain.rows import SheetHit, SheetMiss, SheetRow
from visavis.explain.sheet import Sheet
from visavis.explain.sheet_picture import LATER, VERDICTS

QUARTERS = np.array(
    [(0, 0, 0.5, 0.5), (0.5, 0, 1, 0.5), (0, 0.5, 0.5, 1), (0.5, 0.5, 1, 1)], dtype=np.float32
)
GREY = (120, 120, 120)
WHATS: tuple[What, ...] = ("words", "regions", "relations", "selected")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "grey.png"
    Image.new("RGB", (192, 128), GREY).save(path)
    return path


def pair(picture: Path | None, words: str = "the red dog") -> Pair:
    count = len(words.split())
    weights = np.tile(np.array([0.1, 0.2, 0.3, 0.4], np.float32), (count, 1))
    why = Explanation(tuple(words.split()), QUARTERS, weights, 0.5)
    related = {
        "words_regions": weights,
        "regions_words": weights.T.copy(),
        "words_words": np.eye(count, dtype=np.float32),
        "regions_regions": np.eye(4, dtype=np.float32),
    }
    chosen = {"intra": np.array([0, 2]), "inter": np.array([], dtype=np.int64)}
    return Pair("model", "1.png", picture, words, why, related, chosen)


# Heat


def test_heat_is_the_largest_weight_at_each_point() -> None:
    boxes = np.array([(0, 0, 1, 1), (0, 0, 0.5, 1), (0, 0, 0.5, 0.5)], np.float32)
    heat = heat_map(boxes, np.array([1, 4, -9], np.float32), (4, 2))
    assert heat.tolist() == [[1, 1, 0.25, 0.25]] * 2


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(*[st.floats(0, 1)] * 4), min_size=1, max_size=5), st.integers(1, 40))
def test_heat_lies_between_0_and_1_and_where_boxes_are(
    found: list[tuple[float, ...]], size: int
) -> None:
    boxes = np.array([(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in found])
    heat = heat_map(boxes.astype(np.float32), np.ones(len(boxes), np.float32), (size, size))
    assert heat.shape == (size, size)
    assert set(np.unique(heat)) <= {0.0, 1.0}


def test_no_weight_above_0_is_no_heat() -> None:
    assert not heat_map(QUARTERS, np.array([0, -1, -2, 0], np.float32), (8, 8)).any()


def test_a_picture_is_grey_without_heat_and_coloured_with_it() -> None:
    heat = np.zeros((2, 4), np.float32)
    heat[:, 2:] = 1
    drawn = np.asarray(overlay(Image.new("RGB", (4, 2), (200, 40, 90)), heat)).astype(int)
    spread = drawn.max(axis=2) - drawn.min(axis=2)
    assert spread[:, :2].max() == 0
    assert spread[:, 2:].min() > 50
    assert drawn[:, 2:].sum() > drawn[:, :2].sum()


# Matrices


def test_cells_of_a_matrix_have_the_colour_of_their_share() -> None:
    values = np.array([[2.0, 0.0], [-1.0, 1.0]], np.float32)
    drawn = draw_matrix(Matrix("words look at regions", ("red", "dog"), ("0", "1"), values), 20)
    pixels = [pixel for row in np.asarray(drawn).tolist() for pixel in map(tuple, row)]
    for share in (1.0, -0.5, 0.5):
        assert pixels.count(cell_colour(share)) == 19 * 19


def test_long_names_are_cut_and_many_columns_fit() -> None:
    names = tuple(f"{'w' * 60}{i}" for i in range(40))
    drawn = draw_matrix(Matrix("t", names, names, np.zeros((40, 40), np.float32)), 15)
    assert drawn.width < 40 * 15 + 200


def test_a_column_of_a_grid_is_as_wide_as_its_widest() -> None:
    small, wide = Image.new("RGB", (10, 10), "#ff0000"), Image.new("RGB", (50, 30), "#0000ff")
    found = grid([[small, wide], [small], [wide, small]])
    assert found.size == (2 * 32 + 50 + 50 + 20, 30 + 10 + 30 + 2 * 20)


# Figures


@pytest.mark.parametrize("what", WHATS)
def test_every_figure_is_drawn(picture: Path, what: What) -> None:
    drawn = draw_figure(pair(picture), what)
    assert drawn.width > 600
    assert drawn.height > 300
    assert drawn.getpixel((0, 0)) == drawn.getpixel((drawn.width - 1, drawn.height - 1))


def test_a_figure_of_words_has_a_tile_for_the_picture_and_each_content_word(picture: Path) -> None:
    widths = {n: draw_figure(pair(picture, " ".join(["dog"] * n)), "words") for n in (1, 3, 4)}
    assert widths[3].width - widths[1].width == 2 * (320 + 20)
    assert widths[4].width == widths[3].width
    assert widths[4].height > widths[3].height + 200


@pytest.mark.parametrize("kind", ["interaction", "ablation"])
def test_figures_of_other_kinds_are_drawn(picture: Path, kind: str) -> None:
    weights = np.array([[0.1, -0.2, 0.0, -0.4]], np.float32)
    why = Explanation(("dogs",), QUARTERS, weights, 0.5, kind)  # type: ignore[arg-type]
    for what in ("words", "regions"):
        assert draw_figure(Pair("m", "1", picture, "dogs", why), what).width > 600
    against = Explanation(("dogs",), QUARTERS, -abs(weights), 0.5, kind)  # type: ignore[arg-type]
    assert draw_figure(Pair("m", "1", picture, "dogs", against), "words").width > 600


def test_the_regions_that_are_looked_at_most_are_shown_in_order() -> None:
    looks = {"words_regions": np.array([[0.1, 0.5, 0.2, 0.3]] * 2, np.float32)}
    assert relevant_regions(looks, 4, 2).tolist() == [1, 3]
    assert relevant_regions({"words_words": np.eye(2, dtype=np.float32)}, 4, 3).tolist() == [
        0,
        1,
        2,
    ]


def test_a_pair_without_a_picture_is_not_drawn() -> None:
    with pytest.raises(ValueError, match="no picture"):
        draw_figure(pair(None), "words")


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    write_page(tmp_path / "x.html", "<b>", '"><script>', Image.new("RGB", (9, 9)))
    text = (tmp_path / "x.html").read_text()
    assert "<script>" not in text
    assert "<title>&lt;b&gt;</title>" in text
    assert "http" not in text.replace("http-equiv", "")


# The file


def test_a_file_gives_back_what_was_written(tmp_path: Path, picture: Path) -> None:
    whole = pair(picture)
    write_pair(whole, tmp_path / "pair.json")
    found = read_pair(tmp_path / "pair.json")
    assert pair_values(found) == pair_values(whole)
    np.testing.assert_array_equal(found.explanation.weights, whole.explanation.weights)
    assert found.picture == picture
    assert found.selected["inter"].tolist() == []


def test_a_file_says_words_boxes_weights_score_and_kind(tmp_path: Path) -> None:
    write_pair(pair(None), tmp_path / "pair.json")
    values = json.loads((tmp_path / "pair.json").read_text())
    assert values["words"] == ["the", "red", "dog"]
    assert values["content_words"] == [1, 2]
    assert values["boxes"][1] == [0.5, 0.0, 1.0, 0.5]
    assert values["weights"][0] == [0.1, 0.2, 0.3, 0.4]
    assert (values["score"], values["kind"], values["picture"]) == (0.5, "attention", None)
    assert values["selected"] == {"intra": [0, 2], "inter": []}
    assert list(values["relations"]) == [
        "words_regions", "regions_words", "words_words", "regions_regions"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("format", "other", "format"),
        ("version", 2, "version"),
        ("kind", "magic", "kind"),
        ("weights", [[1.0]], "weights must be 3 rows of 4 numbers"),
        ("boxes", [[0, 0, 1]], "boxes"),
        ("relations", {"dogs": []}, "'dogs' is not known"),
        ("relations", {"words_words": [[1.0]]}, "words_words must be 3 rows of 3"),
        ("selected", {"intra": [4]}, "positions must be 0 to 3"),
        ("content_words", [3], "positions must be 0 to 2"),
        ("colour", "red", "unknown key"),
    ],
)
def test_a_file_that_is_not_as_it_was_written_is_refused(
    tmp_path: Path, key: str, value: object, message: str
) -> None:
    path = tmp_path / "pair.json"
    path.write_text(json.dumps({**pair_values(pair(None)), key: value}))
    with pytest.raises(DataError, match=message):
        read_pair(path)


# Sheets


def test_right_answers_that_come_later_are_listed_with_their_ranks(
    tmp_path: Path, picture: Path
) -> None:
    found = (SheetHit("a <b> cat", 0.5, right=False),)
    row = SheetRow(picture, found, (SheetMiss("a red dog & more", 17),))
    other = SheetRow("a dog", (SheetHit(picture, 0.5, right=False),), (SheetMiss(picture, 6),))
    Sheet("Search", (row, other)).write_html(tmp_path / "sheet.html")
    text = (tmp_path / "sheet.html").read_text()
    assert '<span class="rank">17</span> a red dog &amp; more' in text
    assert '<span class="rank">6</span> grey.png' in text
    Sheet("Search", (row, other)).write_png(tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as drawn:
        pixels = np.asarray(drawn)
    for colour in (LATER, VERDICTS["wrong"]):
        assert (pixels == tuple(bytes.fromhex(colour[1:]))).all(axis=2).sum() > 100


def test_a_missed_answer_is_of_the_kind_of_the_others(picture: Path) -> None:
    with pytest.raises(ValueError, match="answered by pictures"):
        SheetRow("a dog", (), (SheetMiss("a cat", 9),))


# Plots


@settings(max_examples=60, deadline=None)
@given(st.floats(-1e4, 1e4), st.floats(0, 1e4))
def test_ticks_enclose_what_is_shown_and_are_few(low: float, width: float) -> None:
    high = low + width
    ticks = nice_ticks(low, high)
    assert ticks[0] <= low + 1e-6 * (1 + abs(low))
    assert ticks[-1] >= high - 1e-6 * (1 + abs(high))
    assert 2 <= len(ticks) <= 7
    assert ticks == sorted(set(ticks))


def test_two_curves_have_two_colours_and_higher_values_stand_higher() -> None:
    curves = Curve("rsum", (250.0, 280.0)), Curve("R@1", (50.0, 40.0))
    drawn = np.asarray(draw_curves("t", ("n",), ("1", "5"), curves, "top_k"))
    found = []
    for colour in ("#0550ae", "#bc4c00"):
        rows, columns = np.nonzero((drawn == tuple(bytes.fromhex(colour[1:]))).all(axis=2))
        inside = (columns > 200) & (columns < drawn.shape[1] - 200)
        middle = drawn.shape[1] / 2
        left = rows[inside & (columns < middle)].mean()
        found.append(left - rows[inside & (columns > middle)].mean())
    assert found[0] > 20
    assert found[1] < -20
