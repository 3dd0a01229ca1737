"""The benchmark of exact scores: what it counts, what it draws, what it writes."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from benchmarks import bench_scoring
from benchmarks.bench_scoring import COLUMNS, as_csv, as_table, compared, parse, read, settings
from benchmarks.lines import Line, measure_scores, measure_step
from benchmarks.machine import in_turns, machine_name, matrix_product
from benchmarks.measure import (
    FORMS,
    VARIANTS,
    Setting,
    draw,
    encoded,
    items_of,
    make_model,
    needed_flops,
)
from benchmarks.traffic import Counted, told
from benchmarks.work import Calls, Repeated, scores_of, work_of

from visavis.types import Encoded

SMALL: dict[str, tuple[tuple[str, object], ...]] = {
    "mmca": (("heads", 2), ("filters", 4)),
    "dcpa": (("heads", 2), ("filters", 4), ("hidden", 8), ("top_k", 3)),
    "saem": (("filters", 4), ("heads", 2), ("hidden", 8)),
    "mtfn": (("rank", 3), ("text", {"encoder": "gru", "bidirectional": False})),
    "vsrn": (("caption", {"weight": 0.0}),),
}


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.lines.matrix_product", lambda dtype: matrix_product(dtype, 64))
    monkeypatch.setattr("benchmarks.machine.COPIED", 2**10)
    monkeypatch.setattr("benchmarks.machine.LEAST", 0.0)
    monkeypatch.setattr("benchmarks.measure.REGION_DIM", 8)
    monkeypatch.setattr("benchmarks.measure.VOCABULARY", 50)


def setting(**values: object) -> Setting:
    given: dict[str, object] = {"model": "scan t2i", "images": 3, "sentences": 4, "dim": 8}
    given |= {"threads": torch.get_num_threads(), "patience": 0.0, **values}
    given.setdefault("values", SMALL.get(str(given["model"]), ()))
    return Setting(**given)  # type: ignore[arg-type]


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
    assert int(lengths.min()) >= 5
    assert int(lengths.max()) <= 40
    assert torch.equal(first.ids, second.ids)


@pytest.mark.parametrize("name", VARIANTS)
def test_published_structures_give_the_scores_of_the_equations(name: str) -> None:
    given = setting(model=name, kind="published", images=3, sentences=5)
    model = make_model(given, straight=True)
    with torch.inference_mode():
        items = encoded(model, *draw(model.config, given))
        expected = model.score(*items)
    found = scores_of(model, items, given)
    torch.testing.assert_close(found.i2t.float(), expected.i2t, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(found.t2i.float(), expected.t2i, atol=2e-5, rtol=1e-4)


def test_times_are_multiples_of_the_floor() -> None:
    line = measure_scores(setting())
    assert line.us_per_pair == pytest.approx(line.seconds / 12 * 1e6)
    assert line.times_floor == pytest.approx(line.us_per_pair / line.floor_us)
    words = int(draw(make_model(setting()).config, setting())[1].mask.sum())
    rate = line.matrix_gflops * 1e9
    assert line.floor_us == pytest.approx(2 * 8 * 3 * 36 * words / 12 / rate * 1e6)


@pytest.mark.parametrize(("form", "most"), [("published", 1e-5), ("plain", 1e-5), ("bf16", 0.05)])
def test_other_forms_are_measured_in_turns_with_the_engine(form: str, most: float) -> None:
    line = measure_scores(setting(kind=form))
    assert 0 < line.difference < most
    assert line.times_engine == pytest.approx(line.us_per_pair / line.engine_us)
    assert math.isnan(measure_scores(setting()).times_engine)


def test_scores_of_vectors_are_compared_with_one_product() -> None:
    assert measure_scores(setting(model="vse")).times_product > 0
    assert math.isnan(measure_scores(setting()).times_product)


def test_functions_are_called_in_turns_until_time_is_up() -> None:
    order: list[str] = []

    def called(name: str) -> float:
        order.append(name)
        return 2.0

    found = in_turns({name: lambda name=name: called(name) for name in "ab"}, -1.0)
    assert order == list("ab")
    assert (found["a"].calls, found["a"].amount) == (1, 2.0)


def test_many_items_are_few_that_are_repeated() -> None:
    few = items_of(make_model(setting()), setting(images=3, sentences=4))[1]
    side = Repeated(few, 10)
    shown = side.pick(side.order)
    lengths = shown.mask.sum(dim=1)
    assert len(shown) == 10
    assert bool((lengths[1:] >= lengths[:-1]).all())
    assert sorted(side.order.tolist()) == list(range(10))
    again = side.pick(torch.tensor([1, 5, 9]).numpy())
    assert torch.equal(again.tokens[0], again.tokens[1])


@pytest.mark.parametrize("form", FORMS)
def test_pieces_are_all_pairs_once(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.work.HELD", 0)
    given = setting(kind=form, images=70, sentences=40, rows=32, memory_mib=0.1)
    model = make_model(given, straight=form in ("published", "plain"))
    with torch.inference_mode():
        items = items_of(model, given)
    work = work_of(model, items, given)
    assert isinstance(work, Calls) == (form == "published")
    assert work.count > 1
    assert sum(work.step() for _ in range(work.count)) == work.whole
    assert work.pairs == 70 * 40


def test_seconds_are_those_of_all_pairs() -> None:
    small = measure_scores(setting(kind="published", images=2, sentences=2))
    large = measure_scores(setting(kind="published", images=1000, sentences=5000))
    assert (small.measured_pairs, large.measured_pairs) == (4, 128 * 32)
    assert large.seconds == pytest.approx(large.us_per_pair * 5e6 / 1e6)


def test_operations_and_bytes_are_counted() -> None:
    left, right = torch.zeros(3, 5), torch.zeros(7, 5)
    with Counted() as counted:
        product = left @ right.T
        told(1, 2)
    assert product.shape == (3, 7)
    assert counted.operations == 2 * 3 * 5 * 7 + 1
    assert counted.moved == 4 * (3 * 5 + 5 * 7 + 3 * 7) + 2  # a transposed view costs nothing


@torch.inference_mode()
def test_products_that_are_added_in_place_are_counted() -> None:
    left, right = torch.zeros(3, 5), torch.zeros(5, 7)
    with Counted() as counted:
        torch.zeros(3, 7).addmm_(left, right)
        torch.nn.functional.linear(left, right.T)
        right.T @ torch.zeros(5)
    assert counted.operations == 2 * (2 * 3 * 5 * 7) + 2 * 5 * 7


@pytest.mark.parametrize("name", ["scan t2i", "bfan prob", "mmca", "dcpa", "camp code_v1"])
def test_the_engine_makes_the_operations_that_are_needed(name: str) -> None:
    line = measure_scores(setting(model=name, images=12, sentences=12, threads=1))
    needed = line.floor_us * line.matrix_gflops * 1e3
    assert needed * 0.999 <= line.pair_flops <= needed * 1.7  # words padded within a block


def test_the_plain_form_does_more_operations_than_are_needed() -> None:
    line = measure_scores(setting(kind="plain"))
    needed = line.floor_us * line.matrix_gflops * 1e3
    # as many again for attended vectors; beside that, words that stand beside longer sentences
    assert line.pair_flops >= 2 * needed
    assert measure_scores(setting()).pair_flops >= 0.9 * needed


@pytest.mark.parametrize("form", ["train", "recompute"])
def test_a_training_step_is_measured(form: str) -> None:
    line = measure_step(setting(kind=form, images=4, sentences=4))
    assert line.seconds > 0
    assert line.form == form
    assert line.times_floor == pytest.approx(line.us_per_pair / line.floor_us)


def test_every_form_that_differs_is_measured_at_the_widths_of_the_papers() -> None:
    options = parse(["--models", "scan i2t", "mmca", "vse", "mtfn", "--batches", "32"])
    found = [(each.model, each.kind, each.images, each.dim) for each in settings(options)]
    scores = [entry for entry in found if entry[1] in FORMS]
    own = {"scan i2t": 1024, "mmca": 256, "vse": 1024, "mtfn": 1024}
    assert {(name, dim) for name, _, images, dim in scores if images == 100} == set(own.items())
    assert ("scan i2t", "bf16", 1000, 256) in scores
    assert [form for name, form, images, _ in scores if (name, images) == ("vse", 100)] == [
        "published",
        "engine",
    ]
    assert [entry for entry in found if entry[1] not in FORMS] == [
        (name, form, 32, own[name]) for name in own for form in ("train", "recompute")
    ]


def test_batches_of_the_papers_and_settings_of_the_models() -> None:
    words = ["--models", "dcpa", "camp paper", "--forms", "train", "--batches", "paper", "5"]
    found = list(settings(parse([*words, "--set", "region_dropout=0.1"])))
    own = (("region_dropout", 0.1),)
    assert [(each.model, each.images, each.values) for each in found] == [
        ("dcpa", 300, (*own, ("trained", "intra"))),
        ("dcpa", 84, (*own, ("trained", "inter"))),
        ("dcpa", 5, own),
        ("camp paper", 64, own),  # 128 with recomputation alone
        ("camp paper", 5, own),
    ]
    found = list(settings(parse([*words[:3], "--forms", "recompute", "--sizes"])))
    assert [each.images for each in found] == [300, 84, 64, 128]


@pytest.mark.parametrize(
    "words", [["--batches", "1"], ["--set", "heads"], ["--forms", "all"], ["--sizes", "100"]]
)
def test_options_that_mean_nothing_are_refused(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse(words)
    assert words[1] in capsys.readouterr().err


def line_of(**values: object) -> Line:
    given: dict[str, object] = {
        "model": "vse", "form": "engine", "images": 100, "sentences": 500, "dim": 1024,
        "threads": 1, "measured_pairs": 7, "seconds": 2.0, "wall_seconds": 2.5,
        "us_per_pair": 1234.5678, "floor_us": 1.0, "times_floor": 2.0, "matrix_gflops": 90.0,
        "added_mib": 1.0, "peak_mib": math.nan,
    }  # fmt: skip
    return Line(**{**given, **values})  # type: ignore[arg-type]


def test_forms_are_set_against_the_published_one_by_way_of_the_engine() -> None:
    lines = [
        line_of(form="published", times_engine=12.0),
        line_of(form="engine"),
        line_of(form="bf16", times_engine=0.5),
        line_of(form="bf16", times_engine=0.5, dim=256),
    ]
    found = [line.times_published for line in compared(lines)]
    assert found[:3] == [1.0, 12.0, 24.0]
    assert math.isnan(found[3])  # nothing published of that width


def test_lines_that_are_there_are_not_measured_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def measure(given: Setting) -> Line:
        asked.append(given.kind)
        return line_of(form=given.kind, images=given.images, sentences=given.sentences)

    monkeypatch.setattr(bench_scoring, "measure", measure)
    words = ["--models", "vse", "--batches", "--sizes", "100x500", "--threads", "1"]
    words += ["--folder", str(tmp_path), "--machine", "here"]
    assert bench_scoring.main(words) == 0
    assert asked == ["published", "engine"]
    assert bench_scoring.main([*words, "--forms", "engine", "--again"]) == 0
    assert bench_scoring.main(words) == 0
    assert asked == ["published", "engine", "engine"]
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].split() == list(COLUMNS)
    assert len(shown) == 9
    assert len(read(tmp_path / "here.csv")) == 2


def test_the_file_keeps_what_was_measured(tmp_path: Path) -> None:
    path = tmp_path / "here.csv"
    line = line_of(kernel="native", times_engine=0.5)
    path.write_text(as_csv([line]), encoding="utf-8")
    found = read(path)[0]
    assert math.isnan(found.peak_mib)
    assert str(found).replace("1234.57", "1234.5678") == str(line)
    assert found.us_per_pair == pytest.approx(line.us_per_pair, rel=1e-5)
    assert read(tmp_path / "none.csv") == []
    assert as_table([]).split() == list(COLUMNS)


def test_a_file_of_other_columns_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "old.csv"
    path.write_text("model,kind\nscan,score\n", encoding="utf-8")
    with pytest.raises(ValueError, match="not the columns"):
        read(path)


def test_the_name_of_a_machine_fits_a_file() -> None:
    name = machine_name()
    assert name
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
