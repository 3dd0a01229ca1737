"""Configuration from plain mappings: strict, and errors that say what to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visavis.config import build, nearest, plain
from visavis.errors import RecipeError


@dataclass(frozen=True, kw_only=True)
class Inner:
    width: int = 3
    rate: float = 0.5

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"width must be at least 1, got {self.width}")


@dataclass(frozen=True, kw_only=True)
class Outer:
    name: str
    inner: Inner = field(default_factory=Inner)
    splits: tuple[str, ...] = ("train",)
    size: tuple[int, float] = (1, 2.0)
    how: Literal["mean", "max"] = "mean"
    limit: int | None = None
    fast: bool = False
    expected: Mapping[str, float | None] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    parts: tuple[Inner, ...] = ()


def refused(**values: object) -> str:
    with pytest.raises(RecipeError) as caught:
        build(Outer, {"name": "x", **values})
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_defaults_are_filled_in() -> None:
    assert build(Outer, {"name": "x"}) == Outer(name="x")


def test_nested_values_reach_their_dataclass() -> None:
    values = {
        "name": "x",
        "inner": {"width": 7},
        "splits": ["train", "restval"],
        "size": [3, 4],
        "how": "max",
        "limit": 5,
        "fast": True,
        "expected": {"r1": 40, "rsum": None},
        "settings": {"anything": [1, "two"]},
        "parts": [{"width": 1}, {"rate": 0.25}],
    }
    assert build(Outer, values) == Outer(
        name="x",
        inner=Inner(width=7),
        splits=("train", "restval"),
        size=(3, 4.0),
        how="max",
        limit=5,
        fast=True,
        expected={"r1": 40.0, "rsum": None},
        settings={"anything": [1, "two"]},
        parts=(Inner(width=1), Inner(rate=0.25)),
    )


def test_a_misspelt_key_names_the_nearest() -> None:
    assert refused(split=["a"]) == "split: unknown key; did you mean 'splits'?"
    assert refused(inner={"widht": 1}) == "inner.widht: unknown key; did you mean 'width'?"


def test_a_key_like_no_other_names_all() -> None:
    assert refused(inner={"zzz": 1}) == "inner.zzz: unknown key; known: rate, width"
    assert refused(inner={1: 1}) == "inner.1: unknown key; known: rate, width"


def test_a_missing_key_is_named() -> None:
    with pytest.raises(RecipeError, match=r"^name: missing; Outer needs it$"):
        build(Outer, {})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": 5}, "name: expected str, got int 5"),
        ({"inner": 5}, "inner: expected keys and values, got int 5"),
        ({"inner": {"width": "3"}}, "inner.width: expected int, got str '3'"),
        ({"inner": {"width": 3.0}}, "inner.width: expected int, got float 3.0"),
        ({"inner": {"width": True}}, "inner.width: expected int, got bool True"),
        ({"inner": {"rate": True}}, "inner.rate: expected float, got bool True"),
        ({"inner": {"rate": "fast"}}, "inner.rate: expected float, got str 'fast'"),
        ({"inner": {"rate": None}}, "inner.rate: expected float, got NoneType None"),
        ({"inner": {"width": 0}}, "inner: width must be at least 1, got 0"),
        ({"splits": "train"}, "splits: expected a list, got str 'train'"),
        ({"splits": ["a", 1]}, "splits[1]: expected str, got int 1"),
        ({"size": [1]}, "size: expected 2 values, got 1"),
        ({"size": [1, 2, 3]}, "size: expected 2 values, got 3"),
        ({"size": [1, "x"]}, "size[1]: expected float, got str 'x'"),
        ({"how": "maxx"}, "how: 'maxx' is not a choice; did you mean 'max'?"),
        ({"how": []}, "how: [] is not a choice; known: max, mean"),
        ({"limit": "5"}, "limit: expected int, got str '5'"),
        ({"fast": 1}, "fast: expected bool, got int 1"),
        ({"expected": [1]}, "expected: expected keys and values, got list [1]"),
        ({"expected": {"r1": "x"}}, "expected.r1: expected float, got str 'x'"),
        ({"parts": [{}, {"width": "x"}]}, "parts[1].width: expected int, got str 'x'"),
    ],
)
def test_a_wrong_value_says_where_and_what(values: dict[str, object], message: str) -> None:
    assert refused(**values) == message


def test_top_level_must_be_keys_and_values() -> None:
    with pytest.raises(RecipeError, match=r"^Outer: expected keys and values, got list \[\]$"):
        build(Outer, [])


@pytest.mark.parametrize("text", ["2e-4", "2E-4", "0.0002", "2.0e-4"])
def test_numbers_that_yaml_reads_as_text_are_numbers(text: str) -> None:
    assert build(Inner, {"rate": text}).rate == pytest.approx(0.0002)


@pytest.mark.parametrize("value", ["nan", "inf", "-Infinity", float("nan"), float("inf")])
def test_a_number_must_be_finite(value: object) -> None:
    with pytest.raises(RecipeError, match="rate: expected a finite number"):
        build(Inner, {"rate": value})


def test_a_whole_number_too_large_for_a_float_is_refused() -> None:
    with pytest.raises(RecipeError, match="rate: expected float"):
        build(Inner, {"rate": 10**400})


def test_a_whole_number_becomes_a_float() -> None:
    rate = build(Inner, {"rate": 2}).rate
    assert isinstance(rate, float)
    assert rate == 2.0


inners = st.builds(
    Inner,
    width=st.integers(1, 99),
    rate=st.floats(allow_nan=False, allow_infinity=False),
)
outers = st.builds(
    Outer,
    name=st.text(max_size=5),
    inner=inners,
    splits=st.lists(st.text(max_size=3), max_size=3).map(tuple),
    size=st.tuples(st.integers(-9, 9), st.floats(-1, 1)),
    how=st.sampled_from(["mean", "max"]),
    limit=st.none() | st.integers(-9, 9),
    fast=st.booleans(),
    expected=st.dictionaries(st.text(max_size=3), st.none() | st.floats(-1, 1), max_size=2),
    parts=st.lists(inners, max_size=2).map(tuple),
)


@settings(max_examples=50, deadline=None)
@given(outers)
def test_plain_is_undone_by_build(config: Outer) -> None:
    assert build(Outer, plain(config)) == config


def test_plain_values_are_what_json_and_yaml_hold() -> None:
    found = plain(Outer(name="x", splits=("a", "b"), parts=(Inner(),)))
    assert found["splits"] == ["a", "b"]
    assert found["parts"] == [{"width": 3, "rate": 0.5}]
    assert found["inner"] == {"width": 3, "rate": 0.5}


def test_nearest_names_one_or_all() -> None:
    assert nearest("scna", ["vse", "scan"]) == "did you mean 'scan'?"
    assert nearest("qqq", ["vse", "scan"]) == "known: scan, vse"
