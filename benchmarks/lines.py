"""One line of the table of `bench_scoring`: time and memory of scoring, or of a training step."""

from __future__ import annotations

import math
import multiprocessing
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import torch
from benchmarks.machine import Spent, copied, in_turns, matrix_product, watched
from benchmarks.measure import (
    DISTINCT,
    FORMS,
    OF_VECTORS,
    Kind,
    Setting,
    draw,
    encoded,
    flops_of,
    items_of,
    make_model,
)
from benchmarks.traffic import Counted, balance
from benchmarks.work import Pair, Tiles, Work, kernel_of, scores_of, seen_through, work_of

from visavis.training.config import ObjectiveConfig
from visavis.training.objective import Batch, Objective
from visavis.types import Encoded, Scores

FEW = 8  # images and sentences whose scores are compared with the equations in double precision


@dataclass(frozen=True, kw_only=True)
class Line:
    """What was measured; its fields are the columns of the table."""

    model: str
    values: str = ""
    form: Kind
    images: int
    sentences: int
    dim: int
    threads: int
    kernel: str = ""
    measured_pairs: int  # seconds are those of all pairs, by the operations of so many
    seconds: float  # of the processor
    wall_seconds: float
    us_per_pair: float
    floor_us: float  # of a pair, at the rate of a plain product; steps: three times that
    times_floor: float
    engine_us: float = math.nan  # of a pair by the engine in float32, in turns with the line
    times_engine: float = math.nan
    times_published: float = math.nan  # as fast as the published structure
    times_product: float = math.nan  # one vector an item: of one product of all vectors
    matrix_gflops: float
    copy_gbytes: float = math.nan
    pair_flops: float = math.nan  # done, not needed
    pair_bytes: float = math.nan  # read and written
    matrix_share: float = math.nan
    copy_share: float = math.nan
    bound: str = ""
    memory_mib: float = math.nan  # what streaming may hold
    added_mib: float  # resident memory at its highest, less what was there before
    peak_mib: float
    difference: float = math.nan  # the farthest a score lies from the equations in double precision
    torch: str = torch.__version__


@torch.inference_mode()
def measure_scores(setting: Setting) -> Line:
    """Every image with every sentence in one form, and what it is compared with, in turns."""
    torch.set_num_threads(setting.threads)
    straight = setting.kind in ("published", "plain")
    model = make_model(setting, straight=straight)
    difference = farthest(model, setting)
    items = items_of(model, setting)
    work = work_of(model, items, setting)
    few = replace(setting, images=min(setting.images, 64), sentences=min(setting.sentences, 64))
    counted = done(model, items_of(model, few), few)
    memory = watched(lambda: work.run(work.fullest))
    work.pairs = 0
    half = setting.kind == "bf16"
    product, operations = matrix_product(torch.bfloat16 if half else torch.float32)
    copy, copied_bytes = copied()
    functions = {
        "this": work.step,
        "product": working(product, operations),
        "copy": working(copy, copied_bytes),
        **compared(setting, items),
    }
    found = in_turns(functions, setting.patience)
    columns = common(setting, model, found["this"], work)
    rates = found["product"].rate, found["copy"].rate
    seconds = columns["seconds"]
    pairs = setting.images * setting.sentences
    columns |= floored(columns, rates[0], work.whole / rates[0])
    columns |= ratios(found, columns, work)
    columns |= balance(*(amount * work.whole / seconds for amount in counted), rates)
    return Line(
        **columns,
        **memory,
        copy_gbytes=rates[1] / 1e9,
        pair_flops=counted[0] * work.whole / pairs,
        pair_bytes=counted[1] * work.whole / pairs,
        memory_mib=setting.memory_mib if isinstance(work, Tiles) else math.nan,
        difference=difference,
    )


def working(function: Callable[[], object], amount: float) -> Callable[[], float]:
    """The same function, saying how much work it is."""

    def call() -> float:
        function()
        return amount

    return call


def compared(setting: Setting, items: Pair) -> dict[str, Callable[[], float]]:
    """What a line of scores is compared with: the engine, and the product of all vectors."""
    found: dict[str, Callable[[], float]] = {}
    if setting.kind != "engine":
        few = replace(
            setting,
            kind="engine",
            images=min(setting.images, DISTINCT),
            sentences=min(setting.sentences, DISTINCT),
        )
        model = make_model(few)
        found["engine"] = work_of(model, items_of(model, few), few).step
    if setting.family in OF_VECTORS:
        counts = setting.images, setting.sentences
        left, right = (
            side.tokens[torch.arange(count) % len(side), 0]
            for side, count in zip(items, counts, strict=True)
        )
        found["vectors"] = working(lambda: left @ right.T, 1.0)
    return found


def ratios(found: dict[str, Spent], columns: dict[str, Any], work: Work) -> dict[str, float]:
    """The columns of what the line was compared with."""
    others: dict[str, float] = {}
    if "engine" in found:
        pairs = columns["images"] * columns["sentences"]
        others["engine_us"] = work.whole / found["engine"].rate / pairs * 1e6
        others["times_engine"] = columns["us_per_pair"] / others["engine_us"]
    if "vectors" in found:
        others["times_product"] = columns["seconds"] * found["vectors"].rate
    return others


def done(model: Any, items: Pair, setting: Setting) -> tuple[float, float]:  # noqa: ANN401
    """Operations and bytes of a form, of each operation that is needed."""
    work = work_of(seen_through(model, setting), items, setting)
    work.model = model
    with Counted() as counted:
        needed = work.run(work.count // 2)
    return counted.operations / needed, counted.moved / needed


def farthest(model: Any, setting: Setting) -> float:  # noqa: ANN401
    """How far a few scores lie from those of the equations in double precision, at most."""
    few = replace(setting, images=FEW, sentences=FEW)
    drawn = draw(model.config, few)
    exact = make_model(few, straight=True)
    items = encoded(exact, *drawn)
    left, right = map(doubled, items)
    expected = exact.double().score(left, right)
    return distance(scores_of(model, encoded(model, *drawn), setting), expected)


def doubled(items: Encoded) -> Encoded:
    """Encoded items in double precision."""
    pooled = None if items.pooled is None else items.pooled.double()
    extra = {name: entry.double() for name, entry in items.extra.items()}
    return Encoded(items.tokens.double(), items.mask, pooled, extra)


def distance(found: Scores, expected: Scores) -> float:
    """The largest difference of a score."""
    pairs = (found.i2t, expected.i2t), (found.t2i, expected.t2i)
    return max(float((one.double() - other).abs().max()) for one, other in pairs)


def measure_step(setting: Setting) -> Line:
    """Encoding, scoring, loss and gradients of one batch; no step of an optimiser."""
    torch.set_num_threads(setting.threads)
    model = make_model(setting)
    drawn = draw(model.config, setting)
    batch = Batch(*drawn, torch.eye(setting.images, dtype=torch.bool))
    objective = Objective(model, ObjectiveConfig(recompute=setting.kind == "recompute")).train()

    def step(pairs: Batch) -> float:
        objective.zero_grad(set_to_none=False)
        torch.stack(list(objective(pairs, 0).values())).sum().backward()
        return 1.0

    for parameter in model.parameters():  # their memory is there in any training
        parameter.grad = torch.zeros_like(parameter)
    few = slice(0, 2)  # the first step loads what the others find
    step(Batch(batch.images.select(few), batch.sentences.select(few), batch.positives[few, few]))
    product, operations = matrix_product(torch.float32)
    plain = working(product, operations)
    first, rate = Spent(), Spent()
    memory = watched(lambda: first.add(lambda: step(batch)))
    rate.add(plain)
    if first.cpu < setting.patience:
        found = in_turns({"this": lambda: step(batch), "product": plain}, setting.patience)
        first, rate = found["this"], found["product"]
    columns = common(setting, model, first, None)
    floor = 3 * flops_of(model, *(side.mask.sum(dim=1) for side in drawn)) / rate.rate
    return Line(**columns, **floored(columns, rate.rate, floor), **memory)


def common(setting: Setting, model: Any, spent: Spent, work: Work | None) -> dict[str, Any]:  # noqa: ANN401
    """The columns that every line has; of scores, all pairs cost as their operations say."""
    pairs = setting.images * setting.sentences
    share = spent.calls if work is None else spent.amount / work.whole
    return {
        "model": setting.model,
        "values": shown(setting.values),
        "form": setting.kind,
        "images": setting.images,
        "sentences": setting.sentences,
        "dim": model.config.dim,
        "threads": setting.threads,
        "kernel": kernel_of(setting),
        "measured_pairs": pairs * spent.calls if work is None else work.pairs,
        "seconds": spent.cpu / share,
        "wall_seconds": spent.wall / share,
        "us_per_pair": spent.cpu / share / pairs * 1e6,
    }


def shown(values: Iterable[tuple[str, object]]) -> str:
    """Settings as they are written."""
    return " ".join(f"{name}={value}" for name, value in values)


def floored(columns: dict[str, Any], rate: float, floor: float) -> dict[str, float]:
    """The columns of the floor, from the seconds that all pairs need at least."""
    return {
        "matrix_gflops": rate / 1e9,
        "floor_us": floor / (columns["images"] * columns["sentences"]) * 1e6,
        "times_floor": columns["seconds"] / floor,
    }


def measure(setting: Setting) -> Line:
    """One line, in a process of its own, so that its peak memory is its own too."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    function = measure_scores if setting.kind in FORMS else measure_step
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    context.set_forkserver_preload(["benchmarks.lines"])  # what all lines load is loaded once
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        return pool.submit(function, setting).result()
