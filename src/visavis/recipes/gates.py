"""Gates of pictures with sentences of a corpus, and their means over a split."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from visavis.config import plain
from visavis.data.corpus import Corpus
from visavis.errors import DataError
from visavis.evaluation.report import Grid
from visavis.explain.explanation import Array
from visavis.explain.gates import (
    SIDES,
    GatedPair,
    MeanGates,
    check_gated,
    compare_means,
    gates_of,
    pair_means,
)
from visavis.explain.gates_figure import draw_gates
from visavis.explain.saved import save_figure
from visavis.explain.true_and_false import draw_pairs
from visavis.models.pretrained import Pretrained
from visavis.recipes.assemble import Material, pretrained_texts
from visavis.recipes.explained import find_image, sentences_of
from visavis.recipes.gallery import sentence_batch
from visavis.recipes.measure import check_identity
from visavis.types import SentenceBatch

AT_ONCE = 64  # pairs
DIGITS = 6  # of gates in a file


@dataclass(frozen=True, kw_only=True)
class GatesConfig:
    """Which gates are looked at."""

    image: str = ""  # id, file name or row; empty: the first image with a sentence
    sentence: str = ""  # empty: the image's first
    pairs: int = 1000  # true pairs of the means, and as many false ones
    seed: int = 0  # decides pairs, the other picture and intervals
    name: str = "model"  # as it stands in reports


@dataclass(frozen=True, slots=True, eq=False)
class Gates:
    """What was found."""

    config: GatesConfig
    corpus: Corpus
    pairs: tuple[GatedPair, ...]  # the one that was asked for, and its sentence with another image
    means: Mapping[str, MeanGates]  # by side
    counted: int  # true pairs


def measure_gates(
    pretrained: Pretrained,
    material: Material,
    config: GatesConfig,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Gates:
    """Gates of a pair, of its sentence with another picture, and means over many pairs.

    Args:
        pretrained: a model that is `Gated`.
        material: the part of a corpus that is looked at, linked to its features.
        config: the pair, and how many others.
        progress: told pairs done and pairs in all.

    Raises:
        DataError: a model without gates, features of another kind, no such image, or too few
            images to make false pairs of.
    """
    check_gated(pretrained)
    check_identity(pretrained, material.features)
    shown = _shown(pretrained, material, config)
    drawn = draw_pairs(material.corpus.pairs, config.pairs, seed=config.seed)
    texts = pretrained_texts(pretrained, material.corpus.sentence_texts)
    parts: dict[str, list[Array]] = {side: [] for side in SIDES}
    for start in range(0, len(drawn.rows), AT_ONCE):
        rows = drawn.rows[start : start + AT_ONCE]
        images = material.features.read(_linked(material.corpus)[rows[:, 0]])
        for side, values in pair_means(pretrained, images, texts.read(rows[:, 1])).items():
            parts[side].append(values)
        if progress is not None:
            progress(start + len(rows), len(drawn.rows))
    means = {
        side: compare_means(np.concatenate(values), drawn, seed=config.seed)
        for side, values in parts.items()
    }
    return Gates(config, material.corpus, shown, means, len(drawn.rows) // 2)


def _linked(corpus: Corpus) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    if corpus.rows is None:
        raise TypeError("a linked corpus is needed")
    return corpus.rows


def _shown(
    pretrained: Pretrained, material: Material, config: GatesConfig
) -> tuple[GatedPair, ...]:
    """The pair that was asked for, and its sentence with a picture that it does not belong to."""
    corpus = material.corpus
    image = find_image(corpus, config.image) if config.image else int(corpus.pairs[0, 0])
    own = sentences_of(corpus, image)
    text = config.sentence or next(iter(own), "")
    if not text:
        raise DataError(f"{corpus.image_ids[image]}: has no sentence; pass --sentence TEXT")
    known = text in corpus.sentence_texts
    belong = {int(i) for i, j in corpus.pairs if corpus.sentence_texts[j] == text} | {image}
    others = [row for row in range(len(corpus.image_ids)) if row not in belong]
    rows = [image]
    if others:
        rows.append(others[int(np.random.default_rng(config.seed).integers(len(others)))])
    rights = [text in own, False] if known else [None, None]
    return tuple(
        _gated(pretrained, material, row, text, right=right)
        for row, right in zip(rows, rights, strict=False)
    )


def _gated(
    pretrained: Pretrained, material: Material, row: int, text: str, *, right: bool | None
) -> GatedPair:
    def encode(texts: Sequence[str]) -> SentenceBatch:
        return sentence_batch(pretrained, texts)

    corpus = material.corpus
    image = material.features.read(_linked(corpus)[[row]])
    words, gates, score = gates_of(pretrained, image, text, encode=encode)
    boxes = None
    if image.boxes is not None:
        boxes = image.boxes[0][image.mask[0]].float().cpu().numpy()
    return GatedPair(
        image=corpus.image_ids[row],
        picture=None if corpus.pictures is None else corpus.pictures[row],
        sentence=text,
        right=right,
        score=score,
        words=words,
        word_gates=gates["words"],
        boxes=boxes,
        region_gates=gates["regions"],
    )


def _title(found: Gates) -> str:
    return f"{found.config.name}: gates on {found.corpus.name} {'+'.join(found.corpus.splits)}"


def gates_grid(found: Gates) -> Grid:
    """A row for each side."""
    rows = []
    for side in SIDES:
        means = found.means[side]
        cells = [
            f"{mean.mean:.4g} [{mean.low:.4g}, {mean.high:.4g}]"
            for mean in (means.true, means.false, means.difference)
        ]
        rows.append((side, *cells))
    notes = (
        f"{found.counted:,} pairs that belong together and as many that do not, of the same "
        "images and sentences",
        "in brackets: 95 % interval, bootstrap over images",
    )
    header = ("mean gate of", "together", "not", "difference")
    return Grid(_title(found), header, tuple(rows), notes)


def gates_values(found: Gates) -> dict[str, object]:
    """What was found as JSON values."""
    return {
        "format": "visavis-gates",
        "version": 1,
        "model": found.config.name,
        "corpus": found.corpus.name,
        "splits": list(found.corpus.splits),
        "fingerprint": found.corpus.fingerprint(),
        "seed": found.config.seed,
        "pairs": found.counted,
        "means": {side: plain(means) for side, means in found.means.items()},
        "shown": [_pair_values(pair) for pair in found.pairs],
    }


def _pair_values(pair: GatedPair) -> dict[str, object]:
    boxes = None if pair.boxes is None else _rounded(pair.boxes)
    return {
        "image": pair.image,
        "picture": None if pair.picture is None else str(pair.picture),
        "sentence": pair.sentence,
        "right": pair.right,
        "score": round(pair.score, DIGITS),
        "words": list(pair.words),
        "word_gates": _rounded(pair.word_gates),
        "boxes": boxes,
        "region_gates": _rounded(pair.region_gates),
    }


def _rounded(numbers: Array) -> object:
    # Gates may be tiny: digits that count, not digits behind the point.
    return np.vectorize(lambda value: float(f"{value:.{DIGITS}g}"))(numbers).tolist()


def write_gates(found: Gates, path: Path) -> None:
    """Write as PNG or JSON, as the ending says.

    Raises:
        DataError: a PNG of images without picture files or boxes.
        StorageError: the file cannot be written.
    """
    note = (
        f"Means are of {found.counted:,} pairs that belong together and as many that do not, of "
        "the same images and sentences; bars are 95 % intervals."
    )
    save_figure(
        path,
        lambda: gates_values(found),
        lambda: draw_gates(found.pairs, found.means, (_title(found), note)),
    )
