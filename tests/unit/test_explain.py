from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from tests.tiny import VARIANTS, images, tiny_model
from visavis.data.features import FeatureIdentity
from visavis.data.scenes import (
    SceneConfig,
    SentenceAlignment,
    read_alignment,
    write_scenes,
)
from visavis.data.tokenizer import Tokenizer, WordTokenizer
from visavis.data.vocabulary import Vocabulary
from visavis.errors import DataError
from visavis.explain.attention import (
    Attentive,
    Explanation,
    content_words,
    explain,
    region_relevance,
    top_regions,
)
from visavis.explain.pointing import localisation, right_regions
from visavis.explain.words import find_words
from visavis.models.pretrained import Pretrained
from visavis.types import Encoded, ImageBatch, Matcher, Scores, SentenceBatch

TEXTS = ["a dog runs", "the red ball", "a dog and a ball run on the grass"]
WORDS = Vocabulary.build(TEXTS, threshold=1)
ATTENTIVE = sorted(name for name in VARIANTS if name.startswith("scan"))
ONE_VECTOR = sorted(name for name in VARIANTS if name.startswith("vse"))


def pretrained(model: nn.Module, tokenizer: Tokenizer | None = None) -> Pretrained:
    identity = FeatureIdentity(extractor="precomputed")
    return Pretrained("any", model, tokenizer or WordTokenizer(WORDS), identity)


def pictures(lengths: tuple[int, ...]) -> ImageBatch:
    batch = images(lengths)
    boxes = torch.rand(*batch.mask.shape, 4, generator=torch.Generator().manual_seed(3))
    return ImageBatch(batch.regions, batch.mask, boxes)


def box_array(*boxes: tuple[float, float, float, float]) -> NDArray[np.float32]:
    return np.array(boxes, dtype=np.float32).reshape(-1, 4)


def explanation(words: str, weights: list[list[float]], boxes: Any = None) -> Explanation:
    values = np.array(weights, dtype=np.float32)
    if boxes is None:
        boxes = np.zeros((values.shape[1], 4), dtype=np.float32)
    return Explanation(tuple(words.split()), boxes, values, 0.5)


class SumOfRegions(nn.Module):
    """The score is the sum of the first numbers of all regions: evidence is known by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def encode_images(self, batch: ImageBatch) -> Encoded:
        total = (batch.regions[:, :, :1] * batch.mask[:, :, None]).sum(dim=1, keepdim=True)
        return Encoded(total, torch.ones(len(total), 1, dtype=torch.bool))

    def encode_sentences(self, batch: SentenceBatch) -> Encoded:
        return Encoded(torch.ones(len(batch), 1, 1), torch.ones(len(batch), 1, dtype=torch.bool))

    def score(self, image: Encoded, sentence: Encoded) -> Scores:
        return Scores.shared(image.tokens[:, 0] @ sentence.tokens[:, 0].T)

    def score_pairs(self, image: Encoded, sentence: Encoded) -> Scores:
        return Scores.shared((image.tokens[:, 0] * sentence.tokens[:, 0]).sum(dim=1))


class Known(SumOfRegions):
    """Attention that is given: token w looks at region w."""

    def attend(self, image: Encoded, sentence: Encoded) -> Tensor:
        width = 6
        return torch.eye(width).repeat(len(image), 1, 1)[:, : self.tokens_of(sentence)]

    def tokens_of(self, sentence: Encoded) -> int:
        return sentence.mask.shape[1]

    def encode_sentences(self, batch: SentenceBatch) -> Encoded:
        return Encoded(torch.ones(*batch.mask.shape, 1), batch.mask)


class Pieces:
    """A tokenizer whose words come in pieces."""

    digest = "pieces"
    vocab_size = 9

    def tokens(self, text: str) -> list[str]:
        return ["[CLS]", "surf", "##ing", "##s", "dog", "[SEP]"]

    def encode(self, texts: list[str]) -> SentenceBatch:
        shape = len(texts), 6
        return SentenceBatch(torch.ones(shape, dtype=torch.long), torch.ones(shape).bool())


@pytest.mark.parametrize("variant", ATTENTIVE)
def test_words_have_the_weights_that_the_model_gives_the_pair_alone(variant: str) -> None:
    model = tiny_model(variant)
    batch = pictures((5, 3, 4))
    found = explain(pretrained(model), batch, TEXTS)
    tokenizer = WordTokenizer(WORDS)
    for p, text in enumerate(TEXTS):
        count = int(batch.mask[p].sum())
        alone = ImageBatch(batch.regions[p : p + 1, :count], batch.mask[p : p + 1, :count])
        matcher, attentive = cast("Matcher", model), cast("Attentive", model)
        with torch.no_grad():
            image = matcher.encode_images(alone)
            sentence = matcher.encode_sentences(tokenizer.encode([text]))
            weights = attentive.attend(image, sentence)[0].numpy()
            score = float(matcher.score(image, sentence).t2i)
        assert found[p].words == ("<start>", *text.split(), "<end>")
        np.testing.assert_allclose(found[p].weights, weights, atol=1e-6)
        np.testing.assert_allclose(found[p].weights.sum(axis=1), 1, atol=1e-5)
        assert found[p].score == pytest.approx(score, abs=1e-5)
        assert found[p].kind == "attention"


@pytest.mark.parametrize("variant", ["scan-t2i", "scan-i2t", "vse"])
def test_one_image_with_many_sentences_is_that_image_repeated(variant: str) -> None:
    model, batch = tiny_model(variant), pictures((4,))
    together = explain(pretrained(model), batch, TEXTS)
    repeated = explain(pretrained(model), batch.select(torch.zeros(3, dtype=torch.long)), TEXTS)
    for one, other in zip(together, repeated, strict=True):
        np.testing.assert_allclose(one.weights, other.weights, atol=1e-6)
        assert one.score == pytest.approx(other.score, abs=1e-6)


@pytest.mark.parametrize("variant", ONE_VECTOR)
def test_evidence_is_what_the_score_loses_without_the_region(variant: str) -> None:
    model, batch = tiny_model(variant), pictures((5, 3, 4))
    matcher, tokenizer = cast("Matcher", model), WordTokenizer(WORDS)

    def score(regions: Tensor, text: str, without: int | None = None) -> float:
        kept = torch.tensor([[place != without for place in range(len(regions))]])
        alone = ImageBatch(regions[None], kept)
        with torch.no_grad():
            image = matcher.encode_images(alone)
            sentence = matcher.encode_sentences(tokenizer.encode([text]))
            return float(matcher.score(image, sentence).t2i)

    for p, found in enumerate(explain(pretrained(model), batch, TEXTS)):
        regions = batch.regions[p][batch.mask[p]]
        whole = score(regions, TEXTS[p])
        lost = [whole - score(regions, TEXTS[p], without=r) for r in range(len(regions))]
        np.testing.assert_allclose(found.weights, [lost], atol=1e-6)
        assert (found.words, found.kind) == ((TEXTS[p],), "ablation")
        assert found.score == pytest.approx(whole, abs=1e-6)


def test_evidence_of_a_sum_is_its_terms() -> None:
    regions = torch.tensor([[[3.0], [-1.0], [0.0], [9.0]]])
    mask = torch.tensor([[True, True, True, False]])
    batch = ImageBatch(regions, mask, torch.rand(1, 4, 4))
    [found] = explain(pretrained(SumOfRegions()), batch, TEXTS[:1])
    assert found.weights.tolist() == [[3, -1, 0]]
    assert found.score == 2


def test_padding_between_regions_is_left_out() -> None:
    regions = torch.tensor([[[3.0], [9.0], [-1.0]]])
    boxes = torch.arange(12.0).view(1, 3, 4)
    batch = ImageBatch(regions, torch.tensor([[True, False, True]]), boxes)
    [found] = explain(pretrained(SumOfRegions()), batch, TEXTS[:1])
    assert found.weights.tolist() == [[3, -1]]
    assert found.boxes.tolist() == [[0, 1, 2, 3], [8, 9, 10, 11]]


def test_nothing_is_known_of_a_region_that_stands_alone() -> None:
    [found] = explain(pretrained(tiny_model("vse")), pictures((1,)), TEXTS[:1])
    assert found.weights.tolist() == [[0]]


def test_the_pieces_of_a_word_share_the_mean_of_their_weights() -> None:
    batch = ImageBatch(torch.ones(1, 6, 1), torch.ones(1, 6).bool(), torch.rand(1, 6, 4))
    [found] = explain(pretrained(Known(), cast("Tokenizer", Pieces())), batch, ["surfings dog"])
    assert found.words == ("[CLS]", "surfings", "dog", "[SEP]")
    third = 1 / 3
    np.testing.assert_allclose(found.weights[1], [0, third, third, third, 0, 0], atol=1e-6)
    np.testing.assert_allclose(found.weights[2], [0, 0, 0, 0, 1, 0])


def test_a_model_in_training_is_explained_without_dropout_and_trains_on() -> None:
    model = tiny_model("scan-t2i")
    dropout = nn.Dropout(0.9)
    model.project.register_forward_hook(lambda _, __, out: dropout(out))
    model.project.add_module("late", dropout)
    model.train()
    first, second = (explain(pretrained(model), pictures((4,)), TEXTS)[0] for _ in range(2))
    assert model.training
    assert first.score == second.score
    model.eval()
    assert explain(pretrained(model), pictures((4,)), TEXTS)[0].score == first.score


def test_many_pairs_are_explained_in_parts_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = tiny_model("scan-t2i"), pictures((5, 3, 4))
    whole = explain(pretrained(model), batch, TEXTS)
    monkeypatch.setattr("visavis.explain.attention.PAIRS_AT_ONCE", 2)
    parts = explain(pretrained(model), batch, TEXTS)
    assert [item.words for item in parts] == [item.words for item in whole]
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(one.weights, other.weights, atol=1e-6)


def test_sentences_may_be_encoded_otherwise() -> None:
    tokenizer = WordTokenizer(WORDS)
    seen: list[list[str]] = []

    def encode(texts: Any) -> SentenceBatch:
        seen.append(list(texts))
        return tokenizer.encode(texts)

    explain(pretrained(tiny_model("scan-t2i")), pictures((4,)), TEXTS, encode=encode)
    assert seen == [TEXTS]


def test_only_models_that_attend_are_attentive() -> None:
    assert len(ATTENTIVE) >= 2
    assert all(isinstance(tiny_model(name), Attentive) for name in ATTENTIVE)
    assert not any(isinstance(tiny_model(name), Attentive) for name in ONE_VECTOR)


def test_vectors_without_boxes_are_refused() -> None:
    with pytest.raises(DataError, match="no boxes"):
        explain(pretrained(tiny_model("vse")), images((3,)), TEXTS)


def test_two_images_and_three_sentences_are_refused() -> None:
    with pytest.raises(DataError, match="2 images, 3 sentences"):
        explain(pretrained(tiny_model("vse")), pictures((3, 3)), TEXTS)


@pytest.mark.parametrize("model", [SumOfRegions(), Known()])
def test_a_score_that_is_no_number_is_refused(model: nn.Module) -> None:
    batch = ImageBatch(
        torch.full((1, 6, 1), torch.nan), torch.ones(1, 6).bool(), torch.rand(1, 6, 4)
    )
    with pytest.raises(DataError, match="not finite"):
        explain(pretrained(model), batch, ["a dog runs on"])


def test_weights_that_do_not_fit_words_and_boxes_are_refused() -> None:
    with pytest.raises(ValueError, match="2 words"):
        explanation("a dog", [[0.5, 0.5]])


def test_content_words_stand_for_something() -> None:
    found = explanation("<start> the Dog 's red ball , n't <end>", [[1.0]] * 9)
    assert [found.words[place] for place in content_words(found)] == ["Dog", "red", "ball"]


def test_a_sentence_of_stop_words_keeps_them() -> None:
    found = explanation("[CLS] is it [SEP]", [[1.0]] * 4)
    assert content_words(found) == (1, 2)


def test_the_sentence_is_the_only_word_of_an_ablation() -> None:
    found = Explanation(
        ("is it",), np.zeros((1, 4), np.float32), np.ones((1, 1), np.float32), 0, "ablation"
    )
    assert content_words(found) == (0,)


def test_top_regions_are_best_first_and_ties_keep_their_order() -> None:
    found = explanation("dog", [[0.1, 0.4, 0.1, 0.4]])
    assert top_regions(found, 0, 3).tolist() == [1, 3, 0]
    assert top_regions(found, 0, 9).tolist() == [1, 3, 0, 2]


def test_relevance_of_regions_counts_content_words_only() -> None:
    found = explanation("the red dog", [[0.0, 0.0, 1.0], [0.2, 0.8, 0.0], [0.6, 0.4, 0.0]])
    np.testing.assert_allclose(region_relevance(found), [0.6, 0.8, 0])
    np.testing.assert_allclose(region_relevance(found, "mean"), [0.4, 0.6, 0])


# Pointing: four quarters of a picture; the dog fills the upper left one, the ball the lower right.
QUARTERS = box_array((0, 0, 0.5, 0.5), (0.5, 0, 1, 0.5), (0, 0.5, 0.5, 1), (0.5, 0.5, 1, 1))
DOG_AND_BALL = SentenceAlignment(
    ("a", "dog", "and", "balls"), ((), (0,), (), (1, 2)), QUARTERS[[0, 3, 2]]
)


def test_pointing_by_hand() -> None:
    weights = [[0.0, 0, 0, 1], [1, 0, 0, 0], [1, 0, 0, 0], [0, 0.6, 0.4, 0]]
    found = localisation([explanation("a dog and balls", weights, QUARTERS)], [DOG_AND_BALL])
    # The dog is found, the balls are not; of four regions one shows the dog, two show balls.
    assert (found.attended, found.chance, found.words) == (0.5, 0.375, 2)


def test_end_marks_and_cut_sentences_do_not_shift_the_words() -> None:
    weights = [[0.0, 0, 0, 1], [0, 0, 0, 1], [1, 0, 0, 0], [0, 0, 0, 1]]
    cut = explanation("<start> a Dog <end>", weights, QUARTERS)
    assert localisation([cut], [DOG_AND_BALL]).attended == 1
    unknown = explanation("[CLS] a [UNK] [SEP]", weights, QUARTERS)
    assert localisation([unknown], [DOG_AND_BALL]).words == 1


def test_a_large_region_is_right_by_its_centre_and_wrong_by_its_overlap() -> None:
    whole, truth = box_array((0, 0, 1, 1)), box_array((0.4, 0.4, 0.6, 0.6))
    assert right_regions(whole, truth).tolist() == [True]
    assert right_regions(whole, truth, "overlap").tolist() == [False]
    assert right_regions(truth, truth, "overlap").tolist() == [True]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0.01, 1), min_size=4, max_size=4), st.permutations(range(4)))
def test_the_order_of_regions_does_not_change_pointing(dog: list[float], order: list[int]) -> None:
    weights = np.array([dog, [d / 2 + i for i, d in enumerate(dog)]])[[0, 0, 1, 1]]
    if len(set(dog)) < 4:
        return
    one = explanation("a dog and balls", weights.tolist(), QUARTERS)
    other = explanation("a dog and balls", weights[:, order].tolist(), QUARTERS[order])
    assert localisation([one], [DOG_AND_BALL]) == localisation([other], [DOG_AND_BALL])


def test_attention_on_what_words_stand_for_points_rightly_in_scenes(tmp_path: Path) -> None:
    corpus = write_scenes(tmp_path / "scenes", SceneConfig(images=6, val=1, test=1, size=64))
    alignments = read_alignment(tmp_path / "scenes")
    chosen = [alignments[name] for name in corpus.sentence_ids]
    assert len(chosen) == 30
    perfect = []
    for alignment in chosen:
        weights = np.full((len(alignment.words), len(alignment.boxes)), 0.01, np.float32)
        for word, objects in enumerate(alignment.objects):
            weights[word, list(objects[:1])] = 0.9
        perfect.append(explanation(" ".join(alignment.words), weights.tolist(), alignment.boxes))
    for rule in ("centre", "overlap"):
        found = localisation(perfect, chosen, rule)  # type: ignore[arg-type]
        assert found.attended == 1
        assert 0 < found.chance < 0.7


def test_pointing_refuses_other_sentences_and_other_kinds() -> None:
    other = explanation("a cat and balls", [[1.0, 0, 0, 0]] * 4, QUARTERS)
    with pytest.raises(DataError, match="'cat' in the explanation and 'dog'"):
        localisation([other], [DOG_AND_BALL])
    with pytest.raises(DataError, match="1 explanations, 0 alignments"):
        localisation([other], [])
    with pytest.raises(DataError, match="known to stand for something"):
        localisation([], [])
    ablation = Explanation(("a dog",), QUARTERS, np.ones((1, 4), np.float32), 0, "ablation")
    with pytest.raises(DataError, match="weights for each word"):
        localisation([ablation], [DOG_AND_BALL])


@settings(max_examples=50, deadline=None)
@given(st.text(), st.lists(st.text(min_size=1, max_size=4), max_size=5))
def test_words_are_found_in_order_where_they_stand(text: str, words: list[str]) -> None:
    end = 0
    for word, place in zip(words, find_words(text, words), strict=True):
        if place is not None:
            assert place[0] >= end
            assert text[place[0] : place[1]].lower() == word.lower()
            end = place[1]
