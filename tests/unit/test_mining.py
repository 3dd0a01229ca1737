"""Mining: both lists in one pass equal a sort of the whole matrix, in any stripes, killed too."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.mined import Fixed, corpus_of, sides_of
from visavis.data.corpus import Corpus
from visavis.data.negatives import Negatives
from visavis.errors import DataError
from visavis.mining.mine import Options, mine
from visavis.mining.settings import MineConfig, MiningConfig
from visavis.mining.sides import Pooled, Rescored, Sides, exhaustive
from visavis.mining.suspects import SuspectConfig, suspects
from visavis.scoring.matrix import Block
from visavis.scoring.stream import Stream, Tile

IMAGES, EACH, DIM = 9, 4, 5
ITEM = 1  # image that is encoded to see how large one is


def vectors(seed: int = 0, *, images: int = IMAGES) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(images, DIM, generator=generator),
        torch.randn(images * EACH, DIM, generator=generator),
    )


def many_to_many() -> Corpus:
    """Sentence 0 belongs to two images, image 8 has one sentence only."""
    corpus = corpus_of(IMAGES, EACH)
    pairs = [*corpus.pairs.tolist(), [5, 0]]
    pairs = [pair for pair in pairs if pair not in ([8, 33], [8, 34], [8, 35])]
    pairs += [[7, 33], [7, 34], [6, 35]]
    values = {name: getattr(corpus, name) for name in corpus.__dataclass_fields__}
    return Corpus(**{**values, "pairs": np.array(pairs)})


def by_sorting(matrix: NDArray[Any], corpus: Corpus, h: int, *, columns: bool) -> NDArray[Any]:
    matrix = matrix.copy()
    matrix[corpus.pairs[:, 0], corpus.pairs[:, 1]] = -np.inf
    if columns:
        matrix = matrix.T
    order = np.argsort(-matrix, axis=1, kind="stable")[:, :h]
    best = np.take_along_axis(matrix, order, axis=1)
    return np.where(np.isinf(best), -1, order)


def mined(
    path: Path,
    model: Fixed,
    sides: Sides,
    config: MiningConfig,
    *,
    rows: int = 512,
    **options: Any,
) -> Negatives:
    tiles = exhaustive(model, sides, Block(rows=rows))
    return mine(tiles, sides.corpus, config, path, {}, Options(**options))


@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("rows", [1, 4, 100])
def test_both_lists_are_those_of_the_sorted_matrix(
    tmp_path: Path, rows: int, *, decoupled: bool
) -> None:
    images, texts = vectors()
    other = vectors(7)[1] if decoupled else None
    corpus, sides = sides_of(images, corpus=many_to_many())
    config = MiningConfig(h=8, images=3)
    found = mined(tmp_path / "m", Fixed(texts, other), sides, config, rows=rows)
    i2t = (images @ texts.T).numpy()
    t2i = i2t if other is None else (images @ other.T).numpy()
    assert np.array_equal(found.sentences, by_sorting(i2t, corpus, 8, columns=False))
    assert np.array_equal(found.images, by_sorting(t2i, corpus, 3, columns=True))
    assert found.sentence_scores is not None
    assert found.pair_scores is not None
    expected = np.take_along_axis(i2t, found.sentences.astype(np.int64), axis=1)
    np.testing.assert_allclose(found.sentence_scores, expected, atol=1e-5)
    image, sentence = corpus.pairs.T
    np.testing.assert_allclose(found.pair_scores[:, 0], i2t[image, sentence], atol=1e-5)
    np.testing.assert_allclose(found.pair_scores[:, 1], t2i[image, sentence], atol=1e-5)
    assert not (tmp_path / "m.partial").exists()


def test_lists_longer_than_the_negatives_end_early(tmp_path: Path) -> None:
    images, texts = vectors(images=2)
    _, sides = sides_of(images, EACH)
    found = mined(tmp_path / "m", Fixed(texts), sides, MiningConfig(h=300, images=50))
    assert found.sentences.shape == (2, 8)
    assert (found.sentences[:, 4:] == -1).all()
    assert found.images.tolist() == [[1, -1]] * 4 + [[0, -1]] * 4
    assert found.sentence_scores is not None
    assert (found.sentence_scores[:, 4:] == -np.inf).all()


def test_images_are_a_fifth_when_an_image_has_five_sentences() -> None:
    assert MiningConfig(h=300).lengths(corpus_of(400, 5)) == (300, 60)
    assert MiningConfig(h=300).lengths(corpus_of(400, 1)) == (300, 300)
    assert MiningConfig(h=300, images=7).lengths(corpus_of(20, 5)) == (100, 7)


class Died(Exception):
    """What a test throws for a kill."""


def dies_after(model: Fixed, images: int) -> Fixed:
    encode = model.encode_images

    def encode_images(batch: Any) -> Any:
        if model.seen >= images:
            raise Died
        return encode(batch)

    model.encode_images = encode_images  # type: ignore[method-assign]
    return model


@pytest.mark.parametrize("killed_after", [3, 5, 8])
def test_after_a_kill_only_the_rest_is_scored_and_the_file_is_the_same(
    tmp_path: Path, killed_after: int
) -> None:
    images, texts = vectors()
    _, sides = sides_of(images, corpus=many_to_many())
    config = MiningConfig(h=8, images=3)
    mined(tmp_path / "whole", Fixed(texts), sides, config, rows=2)
    dying = dies_after(Fixed(texts), killed_after)
    with pytest.raises(Died):
        mined(tmp_path / "m", dying, sides, config, rows=2, seconds=0.0)
    ledger = json.loads((tmp_path / "m.partial" / "ledger.json").read_text())
    again = Fixed(texts)
    mined(tmp_path / "m", again, sides, config, rows=2, seconds=0.0)
    assert again.seen == ITEM + IMAGES - 2 * ledger["done"]  # two images in a tile
    assert (tmp_path / "m").read_bytes() == (tmp_path / "whole").read_bytes()


@pytest.mark.parametrize("damaged", ["ledger.json", "running", "rows"])
def test_what_is_damaged_or_of_something_else_is_begun_anew(tmp_path: Path, damaged: str) -> None:
    images, texts = vectors()
    _, sides = sides_of(images, corpus=many_to_many())
    config = MiningConfig(h=8, images=3)
    mined(tmp_path / "whole", Fixed(texts), sides, config, rows=2)
    with pytest.raises(Died):
        mined(tmp_path / "m", dies_after(Fixed(texts), 4), sides, config, rows=2, seconds=0.0)
    if damaged == "rows":  # other settings: what is there is of no use
        config = MiningConfig(h=7, images=3)
    else:
        (path,) = (tmp_path / "m.partial").glob(f"{damaged}*")
        path.write_bytes(path.read_bytes()[:20])
    again = Fixed(texts)
    found = mined(tmp_path / "m", again, sides, config, rows=2)
    assert again.seen == ITEM + IMAGES
    assert found.sentences.shape == (IMAGES, config.h)


def test_nan_scores_are_an_error(tmp_path: Path) -> None:
    images, texts = vectors()
    texts[5] = torch.nan
    _, sides = sides_of(images, EACH)
    with pytest.raises(DataError, match="hold NaN"):
        mined(tmp_path / "m", Fixed(texts), sides, MiningConfig(h=3))


def test_the_matrix_is_never_held_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, texts = vectors()
    _, sides = sides_of(images, EACH)
    shapes: list[tuple[int, ...]] = []
    start = Stream.start

    def seen(self: Stream, first: int) -> Iterator[Tile]:
        for tile in start(self, first):
            shapes.append(tuple(tile.scores.i2t.shape))
            yield tile

    monkeypatch.setattr(Stream, "start", seen)
    told: list[tuple[int, int]] = []
    block = Block(rows=2, budget_bytes=2 * 30 * 12)
    tiles = exhaustive(Fixed(texts), sides, block)
    options = Options(progress=lambda done, total: told.append((done, total)))
    mine(tiles, sides.corpus, MiningConfig(h=3), tmp_path / "m", {}, options)
    assert set(shapes) == {(2, 30), (2, 6), (1, 30), (1, 6)}
    assert told == [(2, 9), (4, 9), (6, 9), (8, 9), (9, 9)]


def two_step(tmp_path: Path, candidates: int) -> tuple[Negatives, Negatives]:
    images, texts = vectors()
    _, sides = sides_of(images, corpus=many_to_many())
    model = Fixed(texts, vectors(7)[1])
    config = MiningConfig(h=4, images=2)
    wide = MiningConfig(h=candidates, images=max(2, candidates // EACH))
    cheap = exhaustive(Pooled(model), sides)
    first = mine(cheap, sides.corpus, wide, tmp_path / "first", {})
    dear = Rescored(model, sides, first)
    found = mine(dear, sides.corpus, config, tmp_path / "second", {})
    return found, mined(tmp_path / "whole", model, sides, config)


def test_two_steps_with_every_candidate_find_what_one_finds(tmp_path: Path) -> None:
    found, whole = two_step(tmp_path, IMAGES * EACH)
    for name in ("sentences", "images"):
        assert np.array_equal(getattr(found, name), getattr(whole, name))
    for name in ("sentence_scores", "image_scores", "pair_scores"):
        np.testing.assert_allclose(getattr(found, name), getattr(whole, name), atol=1e-5)


def test_with_fewer_candidates_scores_are_still_exact(tmp_path: Path) -> None:
    found, whole = two_step(tmp_path, 6)
    images, texts = vectors()
    matrix = (images @ texts.T).numpy()
    assert found.sentence_scores is not None
    for row, (places, scores) in enumerate(
        zip(found.sentences, found.sentence_scores, strict=True)
    ):
        np.testing.assert_allclose(scores, matrix[row, places], atol=1e-5)
    assert not np.array_equal(found.sentences, whole.sentences)
    assert found.pair_scores is not None
    assert whole.pair_scores is not None
    np.testing.assert_allclose(found.pair_scores, whole.pair_scores, atol=1e-5)


def test_without_pooled_vectors_the_first_step_says_what_to_do() -> None:
    images, texts = vectors()
    _, sides = sides_of(images, EACH)
    model = Fixed(texts)
    from visavis.types import Encoded

    model.encode_sentences = lambda s: Encoded(texts[s.ids[:, 0]][:, None], s.mask)  # type: ignore[method-assign]
    with pytest.raises(DataError, match="name a cheaper model"):
        exhaustive(Pooled(model), sides)


def test_suspects_are_told_by_reason() -> None:
    corpus = corpus_of(3, 2)
    values = {name: getattr(corpus, name) for name in corpus.__dataclass_fields__}
    sentences = ("a dog runs", "grass", "A dog runs!", "the sea", "a dog runs far off", "one man")
    corpus = Corpus(**{**values, "sentence_texts": sentences})
    found = Negatives(
        np.array([[2, 4, 3], [0, 1, 5], [0, 1, 2]], dtype=np.int32),
        np.zeros((6, 1), dtype=np.int32),
        np.array([[0.9, 0.8, 0.7], [0.3, 0.2, 0.1], [0.6, 0.1, 0.1]], dtype=np.float32),
        np.zeros((6, 1), dtype=np.float32),
        np.full((6, 2), 0.65, dtype=np.float32),
    )
    report = suspects(found, corpus, SuspectConfig(alike=0.6))
    named = [(s.image, s.sentence, s.why) for s in report.suspects]
    assert named == [
        ("i0", "s2", "same"),
        ("i0", "s4", "alike"),  # 3 words of 5
        ("i0", "s3", "above"),
        ("i1", "s0", "same"),
        ("i2", "s0", "alike"),
        ("i2", "s2", "alike"),
    ]
    assert report.counts == {"same": 2, "alike": 3, "above": 1}
    assert report.looked_at == 9
    assert (report.suspects[0].score, report.suspects[0].own) == (pytest.approx(0.9), "a dog runs")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"h": 0}, "h must be at least 1"),
        ({"candidates": 10, "first": "pooled"}, "candidates must be at least h"),
        ({"candidates": 1000}, "name one with first"),
    ],
)
def test_settings_that_cannot_be_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MineConfig(**values)
