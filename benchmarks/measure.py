"""What benchmarks are made of: drawn items, models, processor time and memory."""

from __future__ import annotations

import ctypes
import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from visavis.config import build
from visavis.models import config_class, model_class
from visavis.scoring.matrix import Block
from visavis.types import Encoded, ImageBatch, SentenceBatch

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
    with torch.inference_mode(mode=False):  # parameters must know when they change
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
