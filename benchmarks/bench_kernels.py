"""Forms of cross attention beside each other: fused, eager, and the loop over sentences.

All are measured in one process, in processor time, so that their ratios hold on a busy machine too;
with `--device cuda` in time of the device, between two of its events. The floor is the affinity
product at the rate of a plain matrix product on the same device: float32, or bfloat16 for `half`
where the device is not the processor. `loop` is how
published code scores: one sentence after the other with all images, attended vectors and all.
`half` has bfloat16 autocast on. Lines of `step` are forward and backward of scores and a loss.

    python -m benchmarks.bench_kernels --dim 1024 --csv kernels.csv
    python -m benchmarks.bench_kernels --device cuda --csv kernels-cuda.csv
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
from benchmarks.published.attention import loop
from torch import Tensor

from visavis.config import build
from visavis.files import write_text
from visavis.kernels.choose import using, usual_kernel
from visavis.losses import loss_function
from visavis.models import config_class, model_class
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
    device: str
    seconds: float  # of the processor, or of the device
    us_per_pair: float
    times_floor: float = math.nan  # scores: of the affinity product; steps: of three of them
    times_faster: float = math.nan  # than `loop`; steps: than eager
    difference: float = math.nan  # the farthest a score lies from that of `loop`; steps: of eager


def seconds_of(function: Callable[[], object], device: str, times: int = 3) -> float:
    """Seconds of a call, the fewest of several, after one that is not counted.

    On the processor they are its own time; on a device, the time between two of its events.
    """
    function()
    clock = _cpu_seconds if device == "cpu" else _device_seconds
    return min(clock(function) for _ in range(times))


def _cpu_seconds(function: Callable[[], object]) -> float:
    start = time.process_time()
    function()
    return time.process_time() - start


def _device_seconds(function: Callable[[], object]) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    function()
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end)) / 1000


def product_rate(device: str, dtype: torch.dtype) -> float:
    """Operations in a second, of a matrix product."""
    size = 2048 if device == "cpu" else 8192
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    return 2 * size**3 / seconds_of(lambda: left @ right, device)


def rates_on(device: str) -> tuple[float, float]:
    """Of plain products, and of those that a line of `half` is held against.

    On processors that is the same, so that what bfloat16 saves is seen.
    """
    plain = product_rate(device, torch.float32)
    return plain, plain if device == "cpu" else product_rate(device, torch.bfloat16)


def model_of(variant: str, dim: int) -> Any:  # noqa: ANN401
    """A model with weights of one seed."""
    name, options = VARIANTS[variant]
    values = {"region_dim": REGION_DIM, "vocab_size": VOCABULARY, "dim": dim}
    torch.manual_seed(0)
    return model_class(name)(build(config_class(name), {**values, **options})).eval()


def scoring(
    variant: str, options: argparse.Namespace, rates: tuple[float, float]
) -> Iterator[Line]:
    """All forms of scoring."""
    setting = Setting(
        model=VARIANTS[variant][0],
        images=options.images,
        sentences=options.sentences,
        dim=options.dim,
    )
    model = model_of(variant, options.dim)
    with torch.inference_mode():
        images, sentences = (
            side.to(options.device) for side in encoded(model, *draw(model.config, setting))
        )
        model.to(options.device)
        fused = usual_kernel(options.device)
        few = sentences.select(slice(0, options.few))
        expected = loop(model, images, few)
        slowest = math.nan
        for form in ("loop", "eager", "eager half", fused, f"{fused} half"):
            chosen = few if form == "loop" else sentences

            def score(form: str = form, chosen: Encoded = chosen) -> Tensor:
                if form == "loop":
                    return loop(model, images, chosen)
                with using(form.removesuffix(" half")), half(form, options.device):
                    return score_matrix(model, images, chosen).i2t

            seconds = seconds_of(score, options.device, 1 if form == "loop" else 3)
            pairs = len(images) * len(chosen)
            slowest = seconds / pairs if form == "loop" else slowest
            yield Line(
                model=variant,
                form=form,
                images=len(images),
                sentences=len(chosen),
                dim=options.dim,
                threads=options.threads,
                device=options.device,
                seconds=seconds,
                us_per_pair=seconds / pairs * 1e6,
                times_floor=seconds
                * rates[form.endswith("half")]
                / needed_flops(model, images, chosen),
                times_faster=slowest * pairs / seconds,
                difference=float((score()[:, : len(few)].to(expected) - expected).abs().max()),
            )


def half(form: str, device: str) -> AbstractContextManager[object]:
    """What a form is computed in."""
    if form.endswith("half"):
        return torch.autocast(device, dtype=torch.bfloat16)
    return nullcontext()


def steps(
    variant: str, loss: str, options: argparse.Namespace, rates: tuple[float, float]
) -> Iterator[Line]:
    """Gradients of a loss by the encoded vectors of a batch."""
    size = options.batch
    setting = Setting(
        model=VARIANTS[variant][0], kind="train", images=size, sentences=size, dim=options.batch_dim
    )
    model = model_of(variant, options.batch_dim)
    with torch.no_grad():
        sides = encoded(model, *draw(model.config, setting))
    leaves = [
        dataclasses.replace(side, tokens=side.tokens.requires_grad_(), extra={})
        for side in (side.to(options.device) for side in sides)
    ]
    model.to(options.device)
    positives = torch.eye(size, dtype=torch.bool, device=options.device)
    eager: tuple[float, Tensor] | None = None
    for form in ("eager", usual_kernel(options.device)):

        def step(form: str = form) -> Tensor:
            for side in leaves:
                side.tokens.grad = None
            with using(form):
                scores: Scores = score_stripe(model, *leaves)
                loss_function(loss)(scores, positives, 0.2).backward()
            return scores.i2t.detach()

        seconds, scores = seconds_of(step, options.device), step()
        eager = eager or (seconds, scores)
        yield Line(
            model=variant,
            form=f"{form} step {loss}",
            images=size,
            sentences=size,
            dim=options.batch_dim,
            threads=options.threads,
            device=options.device,
            seconds=seconds,
            us_per_pair=seconds / size**2 * 1e6,
            times_floor=seconds * rates[0] / needed_flops(model, *leaves) / 3,
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
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--csv", type=Path)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, show each line, and keep what was measured so far."""
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    if options.device == "cuda" and not torch.cuda.is_available():
        print("there is no CUDA device", file=sys.stderr)
        return 1
    rates = rates_on(options.device)
    print(f"a plain float32 product: {rates[0] / 1e9:.1f} GFLOP in a second of {options.device}")
    print("  ".join(COLUMNS))
    lines: list[Line] = []
    for variant in options.models:
        work = [scoring(variant, options, rates)]
        if options.batch:
            work += [steps(variant, loss, options, rates) for loss in options.losses]
        for part in work:
            for line in part:
                lines.append(line)
                print("  ".join(cell(getattr(line, name)) for name in COLUMNS), flush=True)
                if options.csv is not None:
                    write_text(options.csv, as_csv(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
