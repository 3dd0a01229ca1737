"""How many pairs must be scored for exact lists, where models have upper bounds.

    python -m benchmarks.bench_bounds RUN... --data FOLDER --split val --csv bounds.csv

For some queries of a split, against the whole gallery of the other side. `share` is the part of the
pairs that were scored; the lists are those of scoring everything. For models whose sub-models have
bounds of their own, `--set parts=intra` measures one. With SCAN, which has no bounds, the script
tries two that follow from how it attends (docs/scoring.md) and says what they would leave.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from visavis.config import build, plain
from visavis.models.pretrained import Pretrained
from visavis.recipes.assemble import open_material, pretrained_texts
from visavis.scoring.bounds import Bounded
from visavis.scoring.collect import Job, Wanted
from visavis.scoring.encode import encode_images, encode_sentences
from visavis.scoring.matrix import score_matrix
from visavis.scoring.top_k import top_k
from visavis.types import Encoded, Matcher

STEPS = 3000  # of the search for the shortest vector in a hull


@dataclass(frozen=True, kw_only=True)
class Line:
    """What was measured; its fields are the columns of the table."""

    model: str
    setting: str
    direction: str  # i2t: images ask
    queries: int
    gallery: int
    k: int
    share: float  # of the pairs, scored
    cpu_seconds: float  # bounds included
    cpu_seconds_all: float  # of scoring every pair; empty where it was not done


def sides(pretrained: Pretrained, data: Path, split: str) -> tuple[Encoded, Encoded]:
    """Images and sentences of a split, encoded."""
    corpus_name = str(pretrained.details.get("corpus", ""))
    material = open_material(corpus_name, data, None)
    corpus = material.corpus.split(split)
    rows = corpus.rows
    assert rows is not None
    model = cast("Matcher", pretrained.model)
    images = encode_images(model, lambda part: material.features.read(rows[part]), len(rows))
    texts = pretrained_texts(pretrained, corpus.sentence_texts)
    return images, encode_sentences(model, texts)


def queries_of(items: Encoded, count: int) -> Encoded:
    """Some items, spread over all of them."""
    chosen = np.unique(np.linspace(0, len(items) - 1, count).astype(np.int64))
    return items.select(torch.from_numpy(chosen))


def measured(model: Any, images: Encoded, sentences: Encoded, given: Any, name: str) -> list[Line]:  # noqa: ANN401
    """Both directions."""
    found = []
    for direction, count in (("i2t", given.images), ("t2i", given.sentences)):
        by_image = direction == "i2t"
        left = queries_of(images, count) if by_image else images
        right = sentences if by_image else queries_of(sentences, count)
        wanted = Wanted(sentences=given.k * by_image, images=given.k * (not by_image))
        start = time.process_time()
        lists = top_k(model, left, right, wanted, job=Job(prune=True))
        seconds = time.process_time() - start
        whole = float("nan")
        if given.all:
            start = time.process_time()
            every = top_k(model, left, right, wanted)
            whole = time.process_time() - start
            torch.testing.assert_close(
                every.sentence_scores, lists.sentence_scores, atol=1e-5, rtol=0
            )
            torch.testing.assert_close(every.image_scores, lists.image_scores, atol=1e-5, rtol=0)
        found.append(
            Line(
                model=name,
                setting=given.set or "",
                direction=direction,
                queries=len(left) if by_image else len(right),
                gallery=len(right) if by_image else len(left),
                k=given.k,
                share=round(sum(lists.scored) / len(left) / len(right), 5),
                cpu_seconds=round(seconds, 3),
                cpu_seconds_all=round(whole, 3),
            )
        )
    return found


def shortest_in_hull(gram: Tensor) -> Tensor:
    """A lower bound of the length of every mean of R vectors: (N, R, R) to (N,).

    Frank-Wolfe for the shortest one a; its dual, min_r v_r . a / |a|, is below every length.
    """
    count, regions = gram.shape[:2]
    weights = torch.full((count, regions), 1 / regions)
    rows = torch.arange(count)
    for _ in range(STEPS):
        slope = (gram @ weights[:, :, None])[:, :, 0]
        step = -weights.clone()
        step[rows, slope.argmin(dim=1)] += 1
        curve = torch.einsum("nr,nrs,ns->n", step, gram, step).clamp_min(1e-12)
        length = (-(slope * step).sum(dim=1) / curve).clamp(0, 1)
        weights = weights + length[:, None] * step
    slope = (gram @ weights[:, :, None])[:, :, 0]
    norm = (weights * slope).sum(dim=1).clamp_min(1e-12).sqrt()
    return (slope.amin(dim=1) / norm).clamp_min(1e-3)


@torch.inference_mode()
def tried(model: Any, images: Encoded, sentences: Encoded, given: Any, name: str) -> list[Line]:  # noqa: ANN401
    """SCAN t2i, LogSumExp: cos(w, a) <= max_r w . v_r / rho, with all affinities or pooled ones."""
    found = []
    for direction in ("i2t", "t2i"):
        by_image = direction == "i2t"
        left = queries_of(images, given.images) if by_image else images
        right = sentences if by_image else queries_of(sentences, given.sentences)
        scores = score_matrix(model, left, right).i2t
        rho = shortest_in_hull(left.tokens @ left.tokens.transpose(1, 2))
        middle = left.tokens.mean(dim=1)
        radius = (left.tokens - middle[:, None]).norm(dim=2).amax(dim=1)
        kept = {"affinities": [], "pooled": []}  # type: dict[str, list[Tensor]]
        for one, least, mean, far in zip(left.tokens, rho, middle, radius, strict=True):
            best = torch.einsum("rd,mwd->mrw", one, right.tokens).amax(dim=1)  # (M, W)
            for how, most in (("affinities", best), ("pooled", right.tokens @ mean + far)):
                cosine = torch.where(most > 0, (most / least).clamp_max(1), most)
                smooth = model.config.lambda_lse
                spread = (smooth * cosine).masked_fill(~right.mask, -torch.inf)
                kept[how].append(spread.logsumexp(dim=1) / smooth)
        for how, rows in kept.items():
            bounds = torch.stack(rows)
            assert (bounds >= scores - 1e-4).all()
            asked, below = (scores, bounds) if by_image else (scores.T, bounds.T)
            last = asked.topk(given.k, dim=1).values[:, -1:]
            found.append(
                Line(
                    model=f"{name}, {how}",
                    setting="",
                    direction=direction,
                    queries=len(asked),
                    gallery=asked.shape[1],
                    k=given.k,
                    share=round(float((below >= last).float().mean()), 5),
                    cpu_seconds=float("nan"),
                    cpu_seconds_all=float("nan"),
                )
            )
    return found


def changed(pretrained: Pretrained, setting: str | None) -> Any:  # noqa: ANN401
    """The model, with another value of a setting."""
    model = pretrained.model.eval()
    if setting:
        key, _, value = setting.partition("=")
        model.config = build(type(model.config), {**plain(model.config), key: value})
    return model


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", help="model or run folders")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--images", type=int, default=100, help="that ask")
    parser.add_argument("--sentences", type=int, default=500, help="that ask")
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--set", help="setting=value of the model")
    parser.add_argument("--all", action="store_true", help="also score everything, and compare")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--csv", type=Path)
    given = parser.parse_args(words)
    torch.set_num_threads(given.threads)
    lines: list[Line] = []
    for run in given.runs:
        pretrained = Pretrained.from_pretrained(run, device="cpu")
        model = changed(pretrained, given.set)
        images, sentences = sides(replace(pretrained, model=model), given.data, given.split)
        measure = measured if isinstance(model, Bounded) else tried
        lines += measure(model, images, sentences, given, pretrained.name)
        for line in lines[-4:]:
            print(line)
        if given.csv is not None:
            with given.csv.open("w", newline="", encoding="utf-8") as stream:
                table = csv.DictWriter(stream, [entry.name for entry in fields(Line)])
                table.writeheader()
                table.writerows(asdict(line) for line in lines)


if __name__ == "__main__":
    main()
