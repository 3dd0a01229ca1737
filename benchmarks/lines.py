"""One line of the table of `bench_models`: time and memory of scoring, or of a training step."""

from __future__ import annotations

import math
import multiprocessing
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import torch
from benchmarks.measure import (
    MIB,
    SCORES,
    Kind,
    Setting,
    draw,
    in_turns,
    items_of,
    make_model,
    matrix_product,
    needed_flops,
    watched,
)

from visavis.scoring.matrix import Block, score_matrix
from visavis.training.config import ObjectiveConfig
from visavis.training.objective import Batch, Objective
from visavis.types import Encoded, Scores

Pair = tuple[Encoded, Encoded]


@dataclass(frozen=True, kw_only=True)
class Line:
    """What was measured; its fields are the columns of the table. Times are the processor's."""

    model: str
    values: str = ""
    kind: Kind
    images: int
    sentences: int
    dim: int
    threads: int
    seconds: float  # of every image with every sentence, or of a step
    us_per_pair: float
    matrix_gflops: float = math.nan  # a second, of a plain product in the precision of the line
    floor_us: float = math.nan  # of a pair, at that rate; steps: three times that
    times_floor: float = math.nan
    times_fast: float = math.nan  # the fast form in float32 is so many times as fast, for a pair
    times_product: float = math.nan  # one vector an item: of the product of all of them
    peak_mib: float  # resident memory at its highest
    added_mib: float  # of that, what was not there before
    difference: float = math.nan  # the farthest a score lies from that of the fast float32 form


@torch.inference_mode()
def measure_scores(setting: Setting) -> Line:
    """Every image with every sentence: in one form, and what it is compared with, in turns."""
    torch.set_num_threads(setting.threads)
    half, straight = setting.kind == "bf16", setting.kind == "straight"
    model = make_model(setting, straight=straight)
    items = items_of(model, setting)
    score = scorer(model, items, setting, half=half)
    few = [side.select(slice(0, 8)) for side in items]  # the first call is slower than the others
    scorer(model, (few[0], few[1]), setting, half=half)()
    memory = watched(score)
    product, operations = matrix_product(torch.bfloat16 if half else torch.float32)
    functions: dict[str, Callable[[], object]] = {"this": score, "product": product}
    others: dict[str, float] = {}
    if setting.kind == "score":
        if of_vectors(items):
            left, right = (side.tokens[:, 0] for side in items)
            functions["vectors"] = lambda: left @ right.T
        fast, pairs = model, math.nan
    else:
        fast = make_model(setting)
        with torch.inference_mode(mode=False):
            fast.load_state_dict(model.state_dict())
        functions["fast"], pairs, others["difference"] = compared(fast, setting, score())
    found = in_turns(functions, setting.patience)
    columns = common(setting, model, found["this"])
    if "fast" in found:
        others["times_fast"] = columns["us_per_pair"] / (found["fast"] / pairs * 1e6)
    if "vectors" in found:
        others["times_product"] = found["this"] / found["vectors"]
    rate = operations / found["product"]
    return Line(
        **columns, **floored(columns, rate, needed_flops(fast, *items) / rate), **memory, **others
    )


def of_vectors(items: Pair) -> bool:
    """Whether each item is one vector."""
    return all(side.tokens.shape[1] == 1 for side in items)


def compared(
    fast: Any,  # noqa: ANN401
    setting: Setting,
    scores: Scores,
) -> tuple[Callable[[], object], int, float]:
    """The fast float32 form, the pairs that it scores, and how far from its scores others lie."""
    items = items_of(fast, setting)
    difference = distance(scores, scorer(fast, items, setting)())
    if of_vectors(items) and any(setting.whole):  # with few pairs, the calls would be measured
        images, sentences = setting.whole
        items = items_of(fast, replace(setting, images=images, sentences=sentences))
    return scorer(fast, items, setting), len(items[0]) * len(items[1]), difference


def scorer(
    model: Any,  # noqa: ANN401
    items: Pair,
    setting: Setting,
    *,
    half: bool = False,
) -> Callable[[], Scores]:
    """All pairs of some items in the blocks of a setting."""
    block = Block(
        rows=setting.rows,
        budget_bytes=int(setting.budget_mib * MIB),
        precision="bf16" if half else "fp32",
    )
    return lambda: score_matrix(model, *items, block=block)


def distance(found: Scores, expected: Scores) -> float:
    """The largest difference of a score."""
    pairs = (found.i2t, expected.i2t), (found.t2i, expected.t2i)
    return max(float((one - other).abs().max()) for one, other in pairs)


def measure_step(setting: Setting) -> Line:
    """Encoding, scoring, loss and gradients of one batch; no step of an optimiser."""
    torch.set_num_threads(setting.threads)
    model = make_model(setting)
    drawn = draw(model.config, setting)
    batch = Batch(*drawn, torch.eye(setting.images, dtype=torch.bool))
    objective = Objective(model, ObjectiveConfig(recompute=setting.kind == "recompute")).train()

    def step(pairs: Batch) -> None:
        objective.zero_grad(set_to_none=False)
        torch.stack(list(objective(pairs, 0).values())).sum().backward()

    for parameter in model.parameters():  # their memory is there in any training
        parameter.grad = torch.zeros_like(parameter)
    few = slice(0, 2)  # the first step loads what the others find
    step(Batch(batch.images.select(few), batch.sentences.select(few), batch.positives[few, few]))
    start, begun = time.process_time(), time.perf_counter()
    memory = watched(lambda: step(batch))
    seconds, left = time.process_time() - start, setting.patience - time.perf_counter() + begun
    product, operations = matrix_product(torch.float32)
    functions: dict[str, Callable[[], object]] = {"product": product}
    if left > 0:
        functions["this"] = lambda: step(batch)
    found = in_turns(functions, left)
    columns = common(setting, model, min(seconds, found.get("this", seconds)))
    rate = operations / found["product"]
    images, sentences = (Encoded(torch.empty(0), side.mask) for side in drawn)
    floor = 3 * needed_flops(model, images, sentences) / rate
    return Line(**columns, **floored(columns, rate, floor), **memory)


def common(setting: Setting, model: Any, seconds: float) -> dict[str, Any]:  # noqa: ANN401
    """The columns that every line has."""
    return {
        "model": setting.model,
        "values": " ".join(f"{name}={value}" for name, value in setting.values),
        "kind": setting.kind,
        "images": setting.images,
        "sentences": setting.sentences,
        "dim": model.config.dim,
        "threads": setting.threads,
        "seconds": seconds,
        "us_per_pair": seconds / (setting.images * setting.sentences) * 1e6,
    }


def floored(columns: Mapping[str, Any], rate: float, floor: float) -> dict[str, float]:
    """The columns of the floor, from the seconds that all pairs need at least."""
    return {
        "matrix_gflops": rate / 1e9,
        "floor_us": floor / (columns["images"] * columns["sentences"]) * 1e6,
        "times_floor": columns["seconds"] / floor,
    }


def measure(setting: Setting) -> Line:
    """One line, in a process of its own, so that its peak memory is its own too."""
    function = measure_scores if setting.kind in SCORES else measure_step
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        return pool.submit(function, setting).result()
