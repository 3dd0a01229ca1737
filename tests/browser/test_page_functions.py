"""The page's own arithmetic, run in the browser that it is written for."""

from __future__ import annotations

from typing import Any

import pytest

from tests.browser.conftest import Visiting

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture
def run(visit: Visiting) -> Any:
    """Call a function of one of the page's modules."""
    seen = visit("/docs")

    def called(module: str, name: str, *values: Any) -> Any:
        code = f"async (values) => (await import('/page/{module}.js')).{name}(...values)"
        return seen.page.evaluate(code, list(values))

    return called


def test_light_begins_at_the_mean_and_ends_at_the_largest(run: Any) -> None:
    assert run("weights", "sharesOf", [0.1, 0.2, 0.6, 0.1]) == pytest.approx([0, 0, 1, 0])
    assert run("weights", "sharesOf", [0, 4, 8]) == pytest.approx([0, 0, 1])
    assert run("weights", "sharesOf", [0.2, 0.3, 0.5, 0.2]) == pytest.approx([0, 0, 1, 0])
    assert run("weights", "sharesOf", [0.4, 0.0, 0.5]) == pytest.approx([0.5, 0, 1])


def test_even_or_empty_attention_lights_nothing(run: Any) -> None:
    assert run("weights", "sharesOf", [0.25, 0.25, 0.25, 0.25]) == [0, 0, 0, 0]
    assert run("weights", "sharesOf", [0, 0]) == [0, 0]
    assert run("weights", "sharesOf", []) == []
    assert run("weights", "sharesOf", [0.3]) == [1]


def test_regions_of_a_word_come_strongest_first_and_three_are_named(run: Any) -> None:
    boxes = [[0.1 * place, 0.1 * place, 1, 1] for place in range(7)]
    found = run("weights", "regionsOfWord", [0.0, 0.3, 0.25, 0.0, 0.2, 0.25, 0.0], boxes)
    assert [lit["region"] for lit in found] == [1, 2, 5, 4]
    assert [lit["named"] for lit in found] == [True, True, True, False]


def test_a_number_gives_way_to_a_stronger_one_in_its_place(run: Any) -> None:
    boxes = [[0.5, 0.5, 0.9, 0.9], [0.52, 0.51, 0.7, 0.7], [0.5, 0.6, 0.9, 0.9], [0, 0, 1, 1]]
    found = run("weights", "regionsOfWord", [0.4, 0.38, 0.36, 0.0], boxes)
    assert [lit["named"] for lit in found] == [True, False, True]


def test_the_smallest_box_under_a_point_is_meant(run: Any) -> None:
    boxes = [[0, 0, 1, 1], [0.2, 0.2, 0.6, 0.6], [0.5, 0.5, 0.9, 0.9]]
    assert run("weights", "regionAt", boxes, 0.3, 0.3) == 1
    assert run("weights", "regionAt", boxes, 0.95, 0.1) == 0
    assert run("weights", "regionAt", boxes[1:], 0.95, 0.1) == -1


def test_bars_are_relative_to_the_best_and_never_negative(run: Any) -> None:
    assert run("weights", "barsOf", [0.8, 0.4, 0.0]) == pytest.approx([1, 0.5, 0])
    assert run("weights", "barsOf", [0.5, -0.5]) == pytest.approx([1, 0])
    assert run("weights", "barsOf", [0, 0]) == [0, 0]


def test_a_word_that_the_score_gains_without_is_against(run: Any) -> None:
    found = run("weights", "worthOf", [0.2, -0.1, 0.0001])
    assert [one["text"] for one in found] == ["+0.20", "−0.10", "0.00"]
    assert [one["against"] for one in found] == [False, True, False]


def test_the_address_and_the_state_say_the_same(run: Any) -> None:
    search = "?q=a+dog&from=2024-01-01&tag=it%27s&min=640&candidates=400&exact=1&k=48&view=ab12-cd"
    state = run("state", "parseState", search)
    assert state["exact"] is True
    assert run("state", "formatState", state) == search
    assert run("state", "formatState", run("state", "parseState", "")) == ""


def test_nonsense_in_the_address_is_left_out(run: Any) -> None:
    search = (
        "?q=%20&like=../x&tab=evil&from=yesterday&min=-1&k=1e9&candidates=NaN&view=%3Cb%3E&zz=1"
    )
    assert run("state", "formatState", run("state", "parseState", search)) == ""


def test_filters_become_a_condition_with_quotes_doubled(run: Any) -> None:
    state = run(
        "state", "parseState", "?from=2024-01-01&to=2024-02-01&tag=o%27x%27%20OR%201&min=640"
    )
    assert run("state", "whereOf", state) == (
        "taken >= '2024-01-01' AND taken <= '2024-02-01T23:59:59' AND tag = 'o''x'' OR 1' "
        "AND width >= 640"
    )


def test_stages_say_what_they_went_over(run: Any) -> None:
    stages = [
        {"name": "filter", "ms": 0.1, "items": 6000},
        {"name": "encode", "ms": 2.34, "items": 1},
        {"name": "first", "ms": 3, "items": 200},
        {"name": "exact", "ms": 21.4, "items": 200},
    ]
    assert [part["text"] for part in run("format", "stageParts", stages, 7000)] == [
        "filter 0.1 ms",
        "reading the sentence 2.3 ms",
        "first stage 3.0 ms over 6,000",
        "exact 21 ms over 200",
    ]


def test_dates_are_read_as_the_camera_wrote_them(run: Any) -> None:
    assert run("format", "takenText", "2024-07-31T18:05:00") == "31 July 2024, 18:05"
    assert run("format", "takenText", None) == ""
