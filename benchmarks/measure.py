"""Time and memory of scoring or of training steps: one line of the table of `bench_models`."""

from __future__ import annotations

import ctypes
import math
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from visavis.config import build
from visavis.models import config_class, model_class
from visavis.scoring.matrix import Block, score_matrix
from visavis.training.config import ObjectiveConfig
from visavis.training.objective import Batch, Objective
from visavis.types import Encoded, ImageBatch, Scores, SentenceBatch

REGIONS, REGION_DIM, VOCABULARY = 36, 2048, 8000
AT_ONCE = 128  # items that are encoded together
DISTINCT = 256  # items that are drawn and encoded; of more, these are repeated
MIB = 2**20

Kind = Literal["score", "bf16", "straight", "train", "recompute"]
SCORES: tuple[Kind, ...] = ("score", "bf16", "straight")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What one line measures."""

    model: str
    kind: Kind
    images: int
    sentences: int
    values: tuple[tuple[str, object], ...] = ()  # settings of the model beside its sizes
    whole: tuple[int, int] = (0, 0)  # images and sentences by which models of vectors are measured
    dim: int = 0  # 0: the width that the model has by default
    threads: int = 1
    budget_mib: float = Block().budget_bytes / MIB
    rows: int = Block().rows
    patience: float = 10.0  # seconds: repeated for so long, at most three times
    seed: int = 0


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


def draw(config: Any, setting: Setting) -> tuple[ImageBatch, SentenceBatch]:  # noqa: ANN401
    """Images of 36 regions and sentences of about 14 words (5 to 40), for a model of any kind."""
    generator = torch.Generator().manual_seed(setting.seed)
    regions = torch.randn(setting.images, REGIONS, config.region_dim, generator=generator)
    images = ImageBatch(regions, torch.ones(regions.shape[:2], dtype=torch.bool))
    lengths = 14 + 4 * torch.randn(setting.sentences, generator=generator)
    lengths = lengths.round().clamp(5, 40)
    mask = torch.arange(int(lengths.max()))[None] < lengths[:, None]
    ids = torch.randint(4, VOCABULARY, mask.shape, generator=generator) * mask
    states = None
    if config.text.encoder == "frozen":
        states = torch.randn(*mask.shape, config.text.state_dim, generator=generator)
        states = states * mask.unsqueeze(2)
    return images, SentenceBatch(ids, mask, states)


def make_model(setting: Setting, *, straight: bool = False) -> Any:  # noqa: ANN401
    """A model with weights drawn from the seed, in evaluation mode."""
    cls = config_class(setting.model)
    values: dict[str, Any] = {"region_dim": REGION_DIM, "vocab_size": VOCABULARY}
    values |= dict(setting.values)
    if setting.dim:
        values["dim"] = setting.dim
    if straight:
        values["plain"] = True
    torch.manual_seed(setting.seed)
    return model_class(setting.model)(build(cls, values)).eval()


def encoded(model: Any, images: ImageBatch, sentences: SentenceBatch) -> tuple[Encoded, Encoded]:  # noqa: ANN401
    """All images and all sentences, a few at a time."""
    sides = ((model.encode_images, images), (model.encode_sentences, sentences))
    left, right = (
        Encoded.join(
            [
                encode(items.select(slice(start, start + AT_ONCE)))
                for start in range(0, len(items), AT_ONCE)
            ]
        )
        for encode, items in sides
    )
    return left, right


def items_of(model: Any, setting: Setting) -> tuple[Encoded, Encoded]:  # noqa: ANN401
    """As many encoded items as are asked for; beyond `DISTINCT` they are the same again."""
    counts = (setting.images, setting.sentences)
    few = [min(count, DISTINCT) for count in counts]
    drawn = draw(model.config, replace(setting, images=few[0], sentences=few[1]))
    left, right = (
        items if len(items) == count else items.select(torch.arange(count) % len(items))
        for items, count in zip(encoded(model, *drawn), counts, strict=True)
    )
    return left, right


def needed_flops(model: Any, images: Encoded, sentences: Encoded) -> int:  # noqa: ANN401
    """Operations of every image with every sentence, without padding."""
    left, right = (Counter(side.mask.sum(dim=1).tolist()) for side in (images, sentences))
    return sum(
        many * more * int(model.pair_flops(regions, words))
        for regions, many in left.items()
        for words, more in right.items()
    )


def matrix_product(dtype: torch.dtype, size: int = 2048) -> tuple[Callable[[], object], int]:
    """A matrix product to measure the machine by, and its operations."""
    left, right = (torch.randn(size, size).to(dtype) for _ in range(2))
    return lambda: left @ right, 2 * size**3


def timed(function: Callable[[], object]) -> float:
    """Seconds of the processor that a call takes, of all threads together."""
    start = time.process_time()
    function()
    return time.process_time() - start


def in_turns(functions: Mapping[str, Callable[[], object]], seconds: float) -> dict[str, float]:
    """Processor seconds of each, the fewest of up to three turns; none begins when time is up.

    What else the machine does then slows all of them alike.
    """
    start = time.perf_counter()
    found = {name: timed(function) for name, function in functions.items()}
    for _ in range(2):
        if time.perf_counter() - start > seconds:
            break
        found = {name: min(found[name], timed(functions[name])) for name in functions}
    return found


def resident(entry: str) -> float:
    """MiB of a line of the process's status: VmRSS is now, VmHWM the highest; elsewhere NaN."""
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="ascii").splitlines() if status.exists() else []
    found = [float(line.split()[1]) / 1024 for line in lines if line.startswith(f"{entry}:")]
    return found[0] if found else math.nan


def forget_peak() -> None:
    """Count the highest resident memory from now on, where the system can."""
    try:
        ctypes.CDLL(None).malloc_trim(0)  # freed memory that is kept would be used unseen
    except (OSError, AttributeError, TypeError):
        print("freed memory cannot be given back: peaks may be too low", file=sys.stderr)
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        print(
            "this system cannot reset the peak of memory: peaks hold preparation", file=sys.stderr
        )


def watched(function: Callable[[], object]) -> dict[str, float]:
    """The columns of memory, of one call."""
    forget_peak()
    before = resident("VmRSS")
    function()
    peak = resident("VmHWM")
    return {"peak_mib": peak, "added_mib": peak - before}


@torch.inference_mode()
def measure_scores(setting: Setting) -> Line:
    """Every image with every sentence: in one form, and what it is compared with, in turns."""
    torch.set_num_threads(setting.threads)
    half = setting.kind == "bf16"
    fast, straight = make_model(setting), setting.kind == "straight"
    model = make_model(setting, straight=True) if straight else fast
    if straight:
        fast.load_state_dict(model.state_dict())
    given = items_of(model, setting)
    score = scorer(model, given, setting, half=half)
    few = [side.select(slice(0, 8)) for side in given]  # the first call is slower than the others
    scorer(model, (few[0], few[1]), setting, half=half)()
    memory = watched(score)
    product, operations = matrix_product(torch.bfloat16 if half else torch.float32)
    functions: dict[str, Callable[[], object]] = {"this": score, "product": product}
    others, pairs = {}, len(given[0]) * len(given[1])
    if setting.kind != "score":
        own = items_of(fast, setting)
        others["difference"] = distance(score(), scorer(fast, own, setting)())
        if own[0].tokens.shape[1] == own[1].tokens.shape[1] == 1 and any(setting.whole):
            images, sentences = setting.whole  # a few pairs of vectors would measure the calls
            own = items_of(fast, replace(setting, images=images, sentences=sentences))
        functions["fast"] = scorer(fast, own, setting)
        pairs = len(own[0]) * len(own[1])
    elif given[0].tokens.shape[1] == given[1].tokens.shape[1] == 1:
        left, right = (side.tokens[:, 0] for side in given)
        functions["vectors"] = lambda: left @ right.T
    found = in_turns(functions, setting.patience)
    columns = common(setting, model, found["this"])
    rate = operations / found["product"]
    floor = needed_flops(fast, *given) / rate
    if "fast" in found:
        others["times_fast"] = columns["us_per_pair"] / (found["fast"] / pairs * 1e6)
    if "vectors" in found:
        others["times_product"] = found["this"] / found["vectors"]
    return Line(**columns, **floored(columns, rate, floor), **memory, **others)


def scorer(
    model: Any,  # noqa: ANN401
    items: tuple[Encoded, Encoded],
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
    config = ObjectiveConfig(recompute=setting.kind == "recompute")
    objective = Objective(model, config).train()

    def step(pairs: Batch) -> None:
        objective.zero_grad(set_to_none=False)
        torch.stack(list(objective(pairs, 0).values())).sum().backward()

    for parameter in model.parameters():  # their memory is there in any training
        parameter.grad = torch.zeros_like(parameter)
    few = slice(0, 2)  # the first step loads what the others find
    step(Batch(batch.images.select(few), batch.sentences.select(few), batch.positives[few, few]))
    start = time.process_time()
    memory = watched(lambda: step(batch))
    seconds = time.process_time() - start
    product, operations = matrix_product(torch.float32)
    found = (
        in_turns({"product": product, "this": lambda: step(batch)}, setting.patience)
        if (seconds < setting.patience)
        else in_turns({"product": product}, 0.0)
    )
    seconds = min(seconds, found.get("this", seconds))
    columns = common(setting, model, seconds)
    rate = operations / found["product"]
    tokens = torch.zeros(setting.images, 1, 1)
    images, sentences = (Encoded(tokens, side.mask) for side in drawn)
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
