"""Time and memory of scoring or of training steps: one line of the table of `bench_models`."""

from __future__ import annotations

import ctypes
import math
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
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
MIB = 2**20

Kind = Literal["score", "straight", "train", "recompute"]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What one line measures."""

    model: str
    kind: Kind
    images: int
    sentences: int
    dim: int = 0  # 0: the width that the model has by default
    threads: int = 1
    budget_mib: float = Block().budget_bytes / MIB
    patience: float = 10.0  # seconds: repeated for so long, at most three times
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Line:
    """What was measured; its fields are the columns of the table."""

    model: str
    kind: Kind
    images: int
    sentences: int
    dim: int
    threads: int
    seconds: float  # of every image with every sentence, or of a step
    us_per_pair: float
    matrix_gflops: float = math.nan  # a second, of a plain float32 product
    floor_us: float = math.nan  # of a pair, at that rate
    times_floor: float = math.nan
    peak_mib: float  # resident memory at its highest
    added_mib: float  # of that, what was not there before
    difference: float = math.nan  # straight: farthest a score lies from that of the fast form


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


def needed_flops(model: Any, images: Encoded, sentences: Encoded) -> int:  # noqa: ANN401
    """Operations of every image with every sentence, without padding."""
    left, right = (Counter(side.mask.sum(dim=1).tolist()) for side in (images, sentences))
    return sum(
        many * more * int(model.pair_flops(regions, words))
        for regions, many in left.items()
        for words, more in right.items()
    )


def matrix_rate(size: int = 2048, times: int = 5) -> float:
    """Operations a second of a float32 matrix product, the best of several."""
    left, right = torch.randn(size, size), torch.randn(size, size)
    return 2 * size**3 / min(timed(lambda: left @ right) for _ in range(times))


def timed(function: Callable[[], object]) -> float:
    """Seconds of a call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def best_of_three(function: Callable[[], object], seconds: float) -> float:
    """Seconds of the fastest of up to three calls; no more are begun when the time is up."""
    start = time.perf_counter()
    found = [timed(function)]
    while len(found) < 3 and time.perf_counter() - start < seconds:
        found.append(timed(function))
    return min(found)


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


@torch.inference_mode()
def measure_scores(setting: Setting) -> Line:
    """Every image with every sentence, by the fast form or the straight one."""
    torch.set_num_threads(setting.threads)
    rate = matrix_rate()
    model = make_model(setting, straight=setting.kind == "straight")
    pictures, texts = draw(model.config, setting)
    images, sentences = encoded(model, pictures, texts)
    floor = needed_flops(model, images, sentences) / rate
    block = Block(budget_bytes=int(setting.budget_mib * MIB))

    def score() -> Scores:
        return score_matrix(model, images, sentences, block=block)

    few = slice(0, 8)  # the first call is slower than the others
    score_matrix(model, images.select(few), sentences.select(few), block=block)
    seconds, peak, before = watched(score, setting.patience)
    difference = math.nan
    if setting.kind == "straight":
        fast = make_model(setting)
        fast.load_state_dict(model.state_dict())
        difference = distance(score(), score_matrix(fast, *encoded(fast, pictures, texts)))
    return Line(
        **common(setting, model, seconds),
        matrix_gflops=rate / 1e9,
        floor_us=floor / (setting.images * setting.sentences) * 1e6,
        times_floor=seconds / floor,
        peak_mib=peak,
        added_mib=peak - before,
        difference=difference,
    )


def distance(found: Scores, expected: Scores) -> float:
    """The largest difference of a score."""
    pairs = (found.i2t, expected.i2t), (found.t2i, expected.t2i)
    return max(float((one - other).abs().max()) for one, other in pairs)


def measure_step(setting: Setting) -> Line:
    """Encoding, scoring, loss and gradients of one batch; no step of an optimiser."""
    torch.set_num_threads(setting.threads)
    model = make_model(setting)
    batch = Batch(*draw(model.config, setting), torch.eye(setting.images, dtype=torch.bool))
    config = ObjectiveConfig(recompute=setting.kind == "recompute")
    objective = Objective(model, config).train()

    def step(pairs: Batch) -> None:
        objective.zero_grad(set_to_none=False)
        torch.stack(list(objective(pairs, 0).values())).sum().backward()

    for parameter in model.parameters():  # their memory is there in any training
        parameter.grad = torch.zeros_like(parameter)
    few = slice(0, 2)  # the first step loads what the others find
    step(Batch(batch.images.select(few), batch.sentences.select(few), batch.positives[few, few]))
    seconds, peak, before = watched(lambda: step(batch), setting.patience)
    return Line(**common(setting, model, seconds), peak_mib=peak, added_mib=peak - before)


def common(setting: Setting, model: Any, seconds: float) -> dict[str, Any]:  # noqa: ANN401
    """The columns that every line has."""
    return {
        "model": setting.model,
        "kind": setting.kind,
        "images": setting.images,
        "sentences": setting.sentences,
        "dim": model.config.dim,
        "threads": setting.threads,
        "seconds": seconds,
        "us_per_pair": seconds / (setting.images * setting.sentences) * 1e6,
    }


def watched(function: Callable[[], object], seconds: float) -> tuple[float, float, float]:
    """Seconds, highest resident memory, and the memory before: of a call that is repeated."""
    forget_peak()
    before = resident("VmRSS")
    found = best_of_three(function, seconds)
    return found, resident("VmHWM"), before


def measure(setting: Setting) -> Line:
    """One line, in a process of its own, so that its peak memory is its own too."""
    function = measure_scores if setting.kind in ("score", "straight") else measure_step
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        return pool.submit(function, setting).result()
