"""Mined negatives in training: what is drawn, what stands in a batch, what the objective scores."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.mined import corpus_of, sides_of
from tests.tiny import images as tiny_images
from tests.tiny import sentences as tiny_sentences
from tests.tiny import tiny_model
from visavis.data.batching import PairSource
from visavis.data.corpus import Corpus
from visavis.data.negatives import (
    Negatives,
    load_negatives,
    read_about,
    save_negatives,
    save_published,
)
from visavis.data.offline import DrawConfig, OfflineSource, limited, narrowed
from visavis.errors import DataError
from visavis.losses.quintuplet import OfflineConfig
from visavis.training.config import ObjectiveConfig
from visavis.training.objective import Batch, Objective

IMAGES, EACH = 8, 3


def some(corpus: Corpus, h: int = 12, seed: int = 0) -> Negatives:
    """Lists in a random order, scores falling from 1; every pair scores 0.5."""
    generator = np.random.default_rng(seed)
    truth = {(i, t) for i, t in corpus.pairs.tolist()}
    count = len(corpus.image_ids), len(corpus.sentence_ids)
    texts = [
        [t for t in generator.permutation(count[1]) if (i, t) not in truth][:h]
        for i in range(count[0])
    ]
    pictures = [
        [i for i in generator.permutation(count[0]) if (i, t) not in truth][: h // EACH]
        for t in range(count[1])
    ]
    lists = np.array(texts, dtype=np.int32), np.array(pictures, dtype=np.int32)
    scores = [np.tile(np.linspace(1, 0, v.shape[1], dtype=np.float32), (len(v), 1)) for v in lists]
    pairs = np.full((len(corpus.pairs), 2), 0.5, dtype=np.float32)
    return Negatives(*lists, *scores, pairs, {"fingerprint": corpus.fingerprint()})


def source_of(*, derived: bool = True, since: int = 0, **draw: Any) -> OfflineSource:
    corpus, sides = sides_of(torch.arange(IMAGES * 2.0).view(IMAGES, 2), EACH)
    pairs = PairSource(corpus, sides.features, sides.texts)
    return OfflineSource(pairs, some(corpus), DrawConfig(**draw), derived=derived, since=since)


def test_an_epoch_has_every_pair_once_with_new_negatives() -> None:
    source = source_of()
    first, second = source.order(1, 0), source.order(1, 1)
    assert sorted(first[:, 0].tolist()) == list(range(24))
    assert torch.equal(first[:, 0], source.source.order(1, 0))
    by_pair = [order[order[:, 0].argsort()] for order in (first, second)]
    assert not torch.equal(by_pair[0], by_pair[1])
    assert torch.equal(first, source.order(1, 0))


def test_epochs_before_the_first_with_negatives_are_those_of_the_pairs_alone() -> None:
    source = source_of(since=2)
    rows = source.order(3, 1)
    assert torch.equal(rows, source.source.order(3, 1))
    images, sentences, positives = source.read(rows[:4].tolist())
    plain = source.source.read(rows[:4].tolist())
    assert torch.equal(images.regions, plain[0].regions)
    assert torch.equal(sentences.ids, plain[1].ids)
    assert torch.equal(positives, plain[2])
    assert torch.equal(source.order(3, 2), source_of().order(3, 2))


def test_negatives_stand_in_the_anchors_lists_and_derived_ones_belong_to_them() -> None:
    source = source_of()
    found = some(corpus_of(IMAGES, EACH))
    for pair, i_off, t_off, i_far, t_far in source.order(0, 0).tolist():
        image, sentence = source.pairs[pair]
        assert t_off in found.sentences[image]
        assert i_off in found.images[sentence]
        assert i_far == t_off // EACH
        assert t_far // EACH == i_off


def test_what_belongs_together_is_drawn_anew_unless_published() -> None:
    def together(source: OfflineSource) -> int:
        orders = [source.order(0, epoch) for epoch in range(10)]
        return sum(int((order[:, 1] == order[:, 2] // EACH).sum()) for order in orders)

    assert together(source_of()) == 0
    assert together(source_of(resample=False)) > 0


def test_draws_are_uniform_over_the_range() -> None:
    source = source_of(range_min=3, range_max=9, resample=False)
    found = some(corpus_of(IMAGES, EACH))
    ranks = np.concatenate([source.order(0, epoch).numpy() for epoch in range(60)])
    images = source.pairs[ranks[:, 0], 0]
    places = (found.sentences[images] == ranks[:, 2:3]).argmax(axis=1)
    counts = np.bincount(places, minlength=12)
    assert counts[:3].sum() == counts[9:].sum() == 0
    assert counts[3:9].min() > 0.8 * len(ranks) / 6
    sentences = source.pairs[ranks[:, 0], 1]
    places = (found.images[sentences] == ranks[:, 1:2]).argmax(axis=1)
    assert set(places) == {1, 2}  # a third of the sentences' range: three sentences an image


@pytest.mark.parametrize(
    ("draw", "highest"),
    [
        ({"max_score": 0.7}, 0.7),
        ({"absolute_margin": 0.1}, 0.4),
        ({"relative_margin": 0.5}, 0.25),
        ({"max_score": 0.3, "absolute_margin": 0.0}, 0.3),
    ],
)
def test_limits_hold_for_every_negative(draw: dict[str, float], highest: float) -> None:
    corpus = corpus_of(IMAGES, EACH)
    found = some(corpus)
    left = limited(found, corpus.pairs, DrawConfig(**draw))  # type: ignore[arg-type]
    for before, scores, after, kept in (
        (found.sentences, found.sentence_scores, left.sentences, left.sentence_scores),
        (found.images, found.image_scores, left.images, left.image_scores),
    ):
        assert scores is not None
        assert kept is not None
        for row in range(len(before)):
            wanted = before[row][scores[row] <= highest + 1e-6]
            assert after[row][after[row] >= 0].tolist() == wanted.tolist()
            assert (kept[row][after[row] >= 0] <= highest + 1e-6).all()
            assert (kept[row][after[row] < 0] == -np.inf).all()


def test_an_anchor_without_anything_left_keeps_its_easiest_negative(
    caplog: pytest.LogCaptureFixture,
) -> None:
    corpus = corpus_of(IMAGES, EACH)
    found = some(corpus)
    images, _ = narrowed(found, corpus.pairs, DrawConfig(max_score=-1.0))
    assert images.counts.tolist() == [1] * IMAGES
    assert images.places[:, 0].tolist() == found.sentences[:, -1].tolist()
    assert "leave 8 of 8 anchors one negative" in caplog.text


def test_limits_need_scores() -> None:
    corpus = corpus_of(IMAGES, EACH)
    bare = replace(some(corpus), sentence_scores=None, image_scores=None, pair_scores=None)
    with pytest.raises(DataError, match="the published lists have none"):
        narrowed(bare, corpus.pairs, DrawConfig(max_score=1.0))
    with pytest.raises(DataError, match="mine a larger h"):
        narrowed(bare, corpus.pairs, DrawConfig(range_min=12))


def test_a_batch_has_its_negatives_behind_the_pairs() -> None:
    source = source_of()
    rows = source.order(0, 0)[:4]
    images, sentences, positives = source.read(rows.tolist())
    assert (len(images), len(sentences), positives.shape) == (12, 12, (4, 4))
    pairs = source.pairs[rows[:, 0]]
    wanted = torch.cat([torch.from_numpy(pairs[:, 0]), rows[:, 1], rows[:, 3]])
    assert torch.equal(images.regions[:, 0, 0], 2.0 * wanted)
    wanted = torch.cat([torch.from_numpy(pairs[:, 1]), rows[:, 2], rows[:, 4]])
    assert torch.equal(sentences.ids[:, 0], wanted)
    assert source_of(derived=False).order(0, 0).shape == (24, 3)


def test_lists_are_the_same_from_their_file(tmp_path: Path) -> None:
    found = some(corpus_of(IMAGES, EACH))
    save_negatives(found, tmp_path / "mined.safetensors")
    again = load_negatives(tmp_path / "mined.safetensors")
    for name in ("sentences", "images", "sentence_scores", "image_scores", "pair_scores"):
        assert np.array_equal(getattr(again, name), getattr(found, name))
    assert again.about == found.about == read_about(tmp_path / "mined.safetensors")


def test_lists_in_the_published_form_are_read_and_written(tmp_path: Path) -> None:
    found = some(corpus_of(IMAGES, EACH))
    save_published(found, tmp_path, "f30k")
    stored = np.load(tmp_path / "i2t_f30k.npy")
    assert (stored.dtype, stored.shape) == (np.dtype("int32"), (IMAGES, 12))
    again = load_negatives(tmp_path)
    assert np.array_equal(again.sentences, found.sentences)
    assert np.array_equal(again.images, found.images)
    (tmp_path / "t2i_coco.npy").write_bytes(b"")
    with pytest.raises(DataError, match="2 files t2i_"):
        load_negatives(tmp_path)


def test_lists_of_another_corpus_are_refused() -> None:
    corpus, found = corpus_of(IMAGES, EACH), some(corpus_of(IMAGES, EACH))
    found.check(corpus, "x")
    with pytest.raises(DataError, match="mined from another corpus"):
        found.check(corpus_of(IMAGES + 1, EACH), "x")
    with pytest.raises(DataError, match="lists of 8 images and 24 sentences"):
        replace(found, about={}).check(corpus_of(IMAGES + 1, EACH), "x")
    own = found.sentences.copy()
    own[3, 2] = 3 * EACH
    with pytest.raises(DataError, match="a pair of the ground truth"):
        replace(found, sentences=own).check(corpus, "x")
    far = found.images.copy()
    far[0, 0] = IMAGES
    with pytest.raises(DataError, match="an index is not in the corpus"):
        replace(found, images=far).check(corpus, "x")


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mined.safetensors"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(DataError, match="cannot be read"):
        load_negatives(path)
    with pytest.raises(DataError, match="cannot be read"):
        load_negatives(tmp_path / "none.safetensors")


LENGTHS = (4, 1, 6, 3, 2, 6, 5, 2, 3)


def batch(pairs: int = 3) -> Batch:
    pictures = tiny_images((5, 3, 5, 1, 4, 5, 2, 5, 3))
    return Batch(pictures, tiny_sentences(LENGTHS), torch.eye(pairs, dtype=torch.bool))


@pytest.mark.parametrize("variant", ["vse", "scan-t2i", "bfan-prob", "dcpa", "vsrn-coco"])
def test_the_objective_scores_the_negatives_by_the_whole_matrix(variant: str) -> None:
    """Aligned pairs are entries of the matrix of all items, for both directions."""
    model, pairs = tiny_model(variant), batch()
    settings = OfflineConfig(loss="adaptive_quintuplet", margin=0.1)
    terms = Objective(model, ObjectiveConfig(offline=settings)).eval()(pairs, 0)
    images: Any = model.encode_images(pairs.images)  # type: ignore[operator]
    sentences: Any = model.encode_sentences(pairs.sentences)  # type: ignore[operator]
    scores = model.score(images, sentences)  # type: ignore[operator]
    expected = {"ranking": 0.0, "offline": 0.0}
    for matrix, anchor in ((scores.i2t, 0), (scores.t2i.T, 1)):
        for p in range(3):
            pair = matrix[p, p].item()
            online = max(matrix[p, q].item() for q in range(3) if q != p)
            off = matrix[p, 3 + p].item()  # the anchor with its mined negative
            far = matrix[3 + p, 3 + p].item() if anchor == 0 else matrix[6 + p, 6 + p].item()
            expected["ranking"] += (1.5 - (off - online) / 0.3) * max(0.0, 0.2 - pair + online)
            expected["offline"] += max(0.0, 0.1 - pair + off) + max(0.0, 0.1 - pair + far)
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value, rel=1e-4, abs=1e-4), name


def test_three_passes_differ_from_one_only_where_batches_have_statistics() -> None:
    paper, code = (
        ObjectiveConfig(offline=OfflineConfig(loss="off_quintuplet", variant=variant))  # type: ignore[arg-type]
        for variant in ("paper", "code")
    )
    for variant, same in (("scan-t2i", True), ("vsrn-f30k", False)):
        found = []
        for config in (paper, code):
            model = tiny_model(variant)
            for module in model.modules():  # no dropout: draws differ between the two
                if isinstance(module, torch.nn.Dropout):
                    module.p = 0.0
            torch.manual_seed(0)
            found.append(Objective(model, config).train()(batch(), 0)["offline"])
        assert torch.allclose(*found, atol=1e-6) == same, variant


def test_while_it_warms_up_negatives_play_no_part() -> None:
    config = ObjectiveConfig(warmup_epochs=1, offline=OfflineConfig(loss="off_quintuplet"))
    objective = Objective(tiny_model("vse"), config)
    pairs = batch()
    plain = Batch(pairs.images.select(slice(3)), pairs.sentences.select(slice(3)), pairs.positives)
    for given in (pairs, plain):
        warm = objective(given, 0)
        assert list(warm) == ["ranking"]
        torch.testing.assert_close(warm["ranking"], objective(plain, 0)["ranking"])
    assert list(objective(pairs, 1)) == ["ranking", "offline"]


def test_a_batch_without_negatives_is_refused_by_a_loss_that_reads_them() -> None:
    pairs = batch(9)
    config = ObjectiveConfig(offline=OfflineConfig(loss="off_triplet"))
    with pytest.raises(DataError, match="the batch has no mined negatives"):
        Objective(tiny_model("vse"), config)(pairs, 0)
