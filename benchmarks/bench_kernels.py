"""Forms of cross attention beside each other: fused, eager, and the loop over sentences.

All are measured in one process, in processor time, so that their ratios hold on a busy machine too.
The floor is the affinity product at the rate of a plain float32 matrix product. `loop` is how
published code scores: one sentence after the other with all images, attended vectors and all.
`half` has bfloat16 autocast on. Lines of `step` are forward and backward of scores and a loss.

    python -m benchmarks.bench_kernels --dim 1024 --csv kernels.csv
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import io
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from benchmarks.measure import REGION_DIM, VOCABULARY, Setting, draw, encoded, needed_flops
from torch import Tensor
from torch.nn.functional import leaky_relu

from visavis.config import build
from visavis.files import write_text
from visavis.kernels.choose import using, usual_kernel
from visavis.layers.attention import aggregate
from visavis.layers.norm import l2norm
from visavis.losses import loss_function
from visavis.models import config_class, model_class
from visavis.models.bfan import focal_weights_plain
from visavis.scoring.matrix import score_matrix, score_stripe
from visavis.types import Encoded, Scores

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "scan t2i": ("scan", {}),
    "scan i2t": ("scan", {"direction": "i2t", "lambda_softmax": 4.0}),
    "bfan equal": ("bfan", {}),
    "bfan prob": ("bfan", {"focal": "prob"}),
}


@dataclass(frozen=True, kw_only=True)
class Line:
    """What was measured; its fields are the columns."""

    model: str
    form: str
    images: int
    sentences: int
    dim: int
    threads: int
    cpu_seconds: float
    us_per_pair: float
    times_floor: float = math.nan  # scores: of the affinity product; steps: of three of them
    times_faster: float = math.nan  # than `loop`; steps: than eager
    difference: float = math.nan  # the farthest a score lies from that of `loop`; steps: of eager


def cpu_seconds(function: Callable[[], object], times: int = 3) -> float:
    """Processor seconds of a call, the fewest of several, after one that is not counted."""
    function()
    found = []
    for _ in range(times):
        start = time.process_time()
        function()
        found.append(time.process_time() - start)
    return min(found)


def product_rate(size: int = 2048) -> float:
    """Operations in a second of processor time, of a float32 matrix product."""
    left, right = torch.randn(size, size), torch.randn(size, size)
    return 2 * size**3 / cpu_seconds(lambda: left @ right)


def model_of(variant: str, dim: int) -> Any:  # noqa: ANN401
    """A model with weights of one seed."""
    name, options = VARIANTS[variant]
    values = {"region_dim": REGION_DIM, "vocab_size": VOCABULARY, "dim": dim}
    torch.manual_seed(0)
    return model_class(name)(build(config_class(name), {**values, **options})).eval()


def loop(model: Any, images: Encoded, sentences: Encoded) -> Tensor:  # noqa: ANN401
    """One sentence after the other, repeated for each image, as published code does: (N, M)."""
    config = model.config
    focal = getattr(config, "focal", "none")
    how = getattr(config, "aggregation", "Mean"), getattr(config, "lambda_lse", 1.0)
    columns = []
    for words, mask in zip(sentences.tokens, sentences.mask, strict=True):
        repeated = words[mask].repeat(len(images), 1, 1)  # (N, W, D)
        ways = {"t2i": (repeated, images.tokens), "i2t": (images.tokens, repeated)}
        scores = []
        chosen = [ways[config.direction]] if config.direction in ways else ways.values()
        for queries, sources in chosen:
            cosines = one_way(queries, sources, config.lambda_softmax, focal)
            scores.append(aggregate(cosines, torch.ones_like(cosines).bool(), *how))
        columns.append(torch.stack(scores).sum(dim=0))
    return torch.stack(columns, dim=1)


def one_way(queries: Tensor, sources: Tensor, smooth: float, focal: str) -> Tensor:
    """Cosines of queries (N, Q, D) with what they attend to in sources (N, S, D): (N, Q)."""
    affinity = torch.bmm(sources, queries.transpose(1, 2))  # (N, S, Q)
    affinity = l2norm(leaky_relu(affinity, 0.1), dim=2)
    weights = (smooth * affinity.transpose(1, 2).contiguous()).softmax(dim=2)  # (N, Q, S)
    if focal == "equal":
        kept = weights * (weights.shape[2] * weights - weights.sum(dim=2, keepdim=True) > 0)
        weights = kept / kept.sum(dim=2, keepdim=True)
    elif focal == "prob":
        weights = focal_weights_plain(weights, torch.ones_like(weights).bool(), "prob")
    attended = torch.bmm(sources.transpose(1, 2), weights.transpose(1, 2).contiguous())
    attended = attended.transpose(1, 2)  # (N, Q, D)
    dot = (queries * attended).sum(dim=2)
    return dot / (queries.norm(dim=2) * attended.norm(dim=2)).clamp_min(1e-8)


def scoring(variant: str, options: argparse.Namespace, rate: float) -> Iterator[Line]:
    """All forms of scoring."""
    setting = Setting(
        model=VARIANTS[variant][0],
        kind="score",
        images=options.images,
        sentences=options.sentences,
        dim=options.dim,
    )
    model = model_of(variant, options.dim)
    with torch.inference_mode():
        images, sentences = encoded(model, *draw(model.config, setting))
        few = sentences.select(slice(0, options.few))
        expected = loop(model, images, few)
        slowest = math.nan
        for form in ("loop", "eager", usual_kernel(), f"{usual_kernel()} half"):
            chosen = few if form == "loop" else sentences

            def score(form: str = form, chosen: Encoded = chosen) -> Tensor:
                if form == "loop":
                    return loop(model, images, chosen)
                with using(form.removesuffix(" half")), half(form):
                    return score_matrix(model, images, chosen).i2t

            seconds = cpu_seconds(score, 1 if form == "loop" else 3)
            pairs = len(images) * len(chosen)
            slowest = seconds / pairs if form == "loop" else slowest
            yield Line(
                model=variant,
                form=form,
                images=len(images),
                sentences=len(chosen),
                dim=options.dim,
                threads=options.threads,
                cpu_seconds=seconds,
                us_per_pair=seconds / pairs * 1e6,
                times_floor=seconds * rate / needed_flops(model, images, chosen),
                times_faster=slowest * pairs / seconds,
                difference=float((score()[:, : len(few)] - expected).abs().max()),
            )


def half(form: str) -> AbstractContextManager[object]:
    """What a form is computed in."""
    if form.endswith("half"):
        return torch.autocast("cpu", dtype=torch.bfloat16)
    return nullcontext()


def steps(variant: str, loss: str, options: argparse.Namespace, rate: float) -> Iterator[Line]:
    """Gradients of a loss by the encoded vectors of a batch."""
    size = options.batch
    setting = Setting(
        model=VARIANTS[variant][0], kind="train", images=size, sentences=size, dim=options.batch_dim
    )
    model = model_of(variant, options.batch_dim)
    with torch.no_grad():
        sides = encoded(model, *draw(model.config, setting))
    leaves = [
        dataclasses.replace(side, tokens=side.tokens.requires_grad_(), extra={}) for side in sides
    ]
    positives = torch.eye(size, dtype=torch.bool)
    eager: tuple[float, Tensor] | None = None
    for form in ("eager", usual_kernel()):

        def step(form: str = form) -> Tensor:
            for side in leaves:
                side.tokens.grad = None
            with using(form):
                scores: Scores = score_stripe(model, *leaves)
                loss_function(loss)(scores, positives, 0.2).backward()
            return scores.i2t.detach()

        seconds, scores = cpu_seconds(step), step()
        eager = eager or (seconds, scores)
        yield Line(
            model=variant,
            form=f"{form} step {loss}",
            images=size,
            sentences=size,
            dim=options.batch_dim,
            threads=options.threads,
            cpu_seconds=seconds,
            us_per_pair=seconds / size**2 * 1e6,
            times_floor=seconds * rate / needed_flops(model, *leaves) / 3,
            times_faster=eager[0] / seconds,
            difference=float((scores - eager[1]).abs().max()),
        )


COLUMNS = tuple(entry.name for entry in dataclasses.fields(Line))


def cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def as_csv(lines: Sequence[Line]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([getattr(line, name) for name in COLUMNS] for line in lines)
    return stream.getvalue()


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--models", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--sentences", type=int, default=640)
    parser.add_argument("--few", type=int, default=16, help="sentences of the loop")
    parser.add_argument("--dim", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=128, help="of training steps; 0: none")
    parser.add_argument("--batch-dim", type=int, default=256)
    parser.add_argument("--losses", nargs="*", default=["hardest_hinge", "sum_hinge"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--csv", type=Path)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, show each line, and keep what was measured so far."""
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    rate = product_rate()
    print(f"a plain float32 product: {rate / 1e9:.1f} GFLOP in a second of processor time")
    print("  ".join(COLUMNS))
    lines: list[Line] = []
    for variant in options.models:
        work = [scoring(variant, options, rate)]
        if options.batch:
            work += [steps(variant, loss, options, rate) for loss in options.losses]
        for part in work:
            for line in part:
                lines.append(line)
                print("  ".join(cell(getattr(line, name)) for name in COLUMNS), flush=True)
                if options.csv is not None:
                    write_text(options.csv, as_csv(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
