"""The benchmark of the models: what it counts, what it draws, what it writes."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest
import torch
from benchmarks import bench_models
from benchmarks.bench_models import COLUMNS, as_csv, as_table, parse, settings
from benchmarks.measure import (
    Line,
    Setting,
    draw,
    make_model,
    measure_scores,
    measure_step,
    needed_flops,
)

from visavis.types import Encoded


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.measure.matrix_rate", lambda: 1e9)
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
    assert line.floor_us == pytest.approx(2 * 8 * 3 * 36 * words / 12 / 1e9 * 1e6)


def test_the_straight_form_is_compared_with_the_fast_one() -> None:
    assert measure_scores(setting(kind="straight")).difference < 1e-5
    assert math.isnan(measure_scores(setting()).difference)


@pytest.mark.parametrize("kind", ["train", "recompute"])
def test_a_training_step_is_measured(kind: str) -> None:
    line = measure_step(setting(kind=kind, images=4))
    assert line.seconds > 0
    assert line.kind == kind
    assert math.isnan(line.times_floor)


def test_the_straight_form_is_measured_on_fewer_pairs_of_models_that_have_one() -> None:
    options = parse(["--models", "scan", "vse", "--straight-pairs", "100", "--batches", "32"])
    sizes = [(each.model, each.kind, each.images, each.sentences) for each in settings(options)]
    assert sizes == [
        ("scan", "score", 256, 1280),
        ("scan", "straight", 10, 10),
        ("scan", "train", 32, 32),
        ("scan", "recompute", 32, 32),
        ("vse", "score", 256, 1280),
        ("vse", "train", 32, 32),
        ("vse", "recompute", 32, 32),
    ]


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
    assert shown[1].split()[:4] == ["scan", "score", "256", "1280"]
    assert "straight: timed on" in shown[-1]
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    assert [row["us_per_pair"] for row in rows] == ["12345.678"] * 2
    assert {row["peak_mib"] for row in rows} == {""}
    assert as_csv([]) == ",".join(COLUMNS) + "\n"
    assert as_table([]).split() == list(COLUMNS)
