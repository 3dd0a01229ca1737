"""The benchmark of the models: what it counts, what it draws, what it writes."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest
import torch
from benchmarks import bench_models
from benchmarks.bench_models import COLUMNS, as_csv, as_table, parse, settings
from benchmarks.lines import Line, measure_scores, measure_step
from benchmarks.measure import (
    Setting,
    draw,
    in_turns,
    items_of,
    make_model,
    matrix_product,
    needed_flops,
)

from visavis.types import Encoded


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.lines.matrix_product", lambda dtype: matrix_product(dtype, 64))
    monkeypatch.setattr("benchmarks.measure.REGION_DIM", 8)
    monkeypatch.setattr("benchmarks.measure.VOCABULARY", 50)


def setting(**values: object) -> Setting:
    given = {"model": "scan", "kind": "score", "images": 3, "sentences": 4, "dim": 8}
    return Setting(**{**given, "threads": torch.get_num_threads(), "patience": 0.0, **values})  # type: ignore[arg-type]


def test_operations_are_counted_without_padding() -> None:
    model = make_model(setting())
    mask = torch.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 0]]).bool()
    items = Encoded(torch.zeros(3, 3, 8), mask)
    # 5 real regions in all with 5 real words in all, 2 operations for each of 8 columns
    assert needed_flops(model, items, items) == 2 * 8 * 5 * 5


def test_lengths_are_about_14_words_and_the_same_each_time() -> None:
    config = make_model(setting()).config
    many = setting(images=1, sentences=2000)
    first, second = (draw(config, many)[1] for _ in range(2))
    lengths = first.mask.sum(dim=1)
    assert lengths.float().mean().item() == pytest.approx(14, abs=0.5)
    assert (int(lengths.min()), int(lengths.max())) >= (5, 14)
    assert int(lengths.max()) <= 40
    assert torch.equal(first.ids, second.ids)


def test_times_are_multiples_of_the_floor() -> None:
    line = measure_scores(setting())
    assert line.us_per_pair == pytest.approx(line.seconds / 12 * 1e6)
    assert line.times_floor == pytest.approx(line.us_per_pair / line.floor_us)
    words = int(draw(make_model(setting()).config, setting())[1].mask.sum())
    rate = line.matrix_gflops * 1e9
    assert line.floor_us == pytest.approx(2 * 8 * 3 * 36 * words / 12 / rate * 1e6)


@pytest.mark.parametrize(("kind", "most"), [("straight", 1e-5), ("bf16", 0.05)])
def test_other_forms_are_compared_with_the_fast_one(kind: str, most: float) -> None:
    line = measure_scores(setting(kind=kind))
    assert line.difference < most
    assert line.times_fast > 0
    plain = measure_scores(setting())
    assert math.isnan(plain.difference)
    assert math.isnan(plain.times_fast)


def test_scores_of_vectors_are_compared_with_one_product() -> None:
    assert measure_scores(setting(model="vse")).times_product > 0
    assert math.isnan(measure_scores(setting()).times_product)


def test_one_process_measures_in_turns() -> None:
    order: list[str] = []
    found = in_turns({name: lambda name=name: order.append(name) for name in "ab"}, 60.0)
    assert order == list("ababab")
    assert set(found) == {"a", "b"}
    order.clear()
    in_turns({name: lambda name=name: order.append(name) for name in "ab"}, -1.0)
    assert order == list("ab")


def test_many_items_are_few_that_are_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.measure.DISTINCT", 2)
    left, right = items_of(make_model(setting()), setting(images=5, sentences=1))
    assert (len(left), len(right)) == (5, 1)
    assert torch.equal(left.tokens, left.tokens[[0, 1, 0, 1, 0]])
    assert not torch.equal(left.tokens[0], left.tokens[1])


@pytest.mark.parametrize("kind", ["train", "recompute"])
def test_a_training_step_is_measured(kind: str) -> None:
    line = measure_step(setting(kind=kind, images=4))
    assert line.seconds > 0
    assert line.kind == kind
    assert line.times_floor == pytest.approx(line.us_per_pair / line.floor_us)


def test_other_forms_are_measured_on_fewer_pairs() -> None:
    options = parse(
        ["--models", "scan", "vse", "mtfn", "--straight-pairs", "100", "--batches", "32"]
    )
    sizes = [(each.model, each.kind, each.images, each.sentences) for each in settings(options)]
    assert sizes == [
        ("scan", "score", 64, 128),
        ("scan", "bf16", 10, 10),
        ("scan", "straight", 10, 10),
        ("scan", "train", 32, 32),
        ("scan", "recompute", 32, 32),
        ("vse", "score", 1000, 5000),
        ("vse", "train", 32, 32),
        ("vse", "recompute", 32, 32),
        ("mtfn", "score", 1000, 5000),
        ("mtfn", "straight", 10, 10),
        ("mtfn", "train", 32, 32),
        ("mtfn", "recompute", 32, 32),
    ]


def test_batches_of_the_papers_and_settings_of_the_models() -> None:
    words = ["--models", "dcpa", "camp", "--kinds", "train", "--batches", "paper", "5"]
    found = settings(parse([*words, "--set", "region_dropout=0.1", "normalise=true"]))
    own = (("region_dropout", 0.1), ("normalise", True))
    assert [(each.model, each.images, each.values) for each in found] == [
        ("dcpa", 300, (*own, ("trained", "intra"))),
        ("dcpa", 84, (*own, ("trained", "inter"))),
        ("dcpa", 5, own),
        ("camp", 128, own),
        ("camp", 5, own),
    ]


@pytest.mark.parametrize("words", [["--batches", "1"], ["--set", "heads"], ["--kinds", "all"]])
def test_options_that_mean_nothing_are_refused(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse(words)
    assert words[1] in capsys.readouterr().err


def test_the_table_and_the_file_have_every_column(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(given: Setting) -> Line:
        return Line(
            **{name: getattr(given, name) for name in ("model", "kind", "images", "sentences")},
            dim=8,
            threads=1,
            seconds=2.0,
            us_per_pair=12345.678,
            peak_mib=math.nan,
            added_mib=1.0,
        )

    monkeypatch.setattr(bench_models, "measure", measure)
    path = tmp_path / "times.csv"
    assert bench_models.main(["--models", "scan", "--batches", "--csv", str(path)]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].split() == list(COLUMNS)
    assert shown[1].split()[:4] == ["scan", "score", "64", "128"]
    assert "times_fast: against" in shown[-1]
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    assert [row["us_per_pair"] for row in rows] == ["12345.678"] * 3
    assert {row["peak_mib"] for row in rows} == {""}
    assert as_csv([]) == ",".join(COLUMNS) + "\n"
    assert as_table([]).split() == list(COLUMNS)
