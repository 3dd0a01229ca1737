"""Words and regions left out together: the second difference of the score."""

from __future__ import annotations

import re
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.tiny import VARIANTS, images, tiny_model
from visavis.data.features import FeatureIdentity
from visavis.data.scenes import SentenceAlignment
from visavis.data.tokenizer import Tokenizer, WordTokenizer
from visavis.data.vocabulary import Vocabulary
from visavis.errors import DataError
from visavis.explain.attention import Attentive, Explanation, content_words, explain, word_kind
from visavis.explain.leave_out import shorter_texts
from visavis.explain.pointing import localisation, localisation_by
from visavis.explain.scene_words import scene_group
from visavis.models.pretrained import Pretrained
from visavis.types import Encoded, ImageBatch, Matcher, Scores, SentenceBatch

TEXTS = ["a dog runs", "the red ball", "a dog and a ball run on the grass"]
WORDS = Vocabulary.build(TEXTS, threshold=1)
KEPT = ("vse", "scan-t2i", "scan-i2t", "saem", "dcpa", "mmca")
KNOWN = [name for name in KEPT if name in VARIANTS]


def pretrained(model: nn.Module, tokenizer: Tokenizer | None = None) -> Pretrained:
    identity = FeatureIdentity(extractor="precomputed")
    return Pretrained("any", model, tokenizer or WordTokenizer(WORDS), identity)


def pictures(lengths: tuple[int, ...]) -> ImageBatch:
    batch = images(lengths)
    boxes = torch.rand(*batch.mask.shape, 4, generator=torch.Generator().manual_seed(3))
    return ImageBatch(batch.regions, batch.mask, boxes)


class Table(nn.Module):
    """The score is a sum over words and regions of given numbers, and of each side alone."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = nn.Parameter(torch.tensor([[2.0, -1.0], [0.5, 4.0], [0.0, 3.0]]))

    def encode_images(self, batch: ImageBatch) -> Encoded:
        return Encoded(batch.regions * batch.mask[:, :, None], batch.mask)

    def encode_sentences(self, batch: SentenceBatch) -> Encoded:
        words = nn.functional.one_hot(batch.ids, len(WORDS)).float()
        return Encoded(words * batch.mask[:, :, None], batch.mask)

    def score(self, image: Encoded, sentence: Encoded) -> Scores:
        first, second = WORDS.numbers(["dog", "runs"])
        words = sentence.tokens.sum(dim=1)[:, [first, second]]  # (M, 2)
        regions = image.tokens.sum(dim=1)  # (N, 3)
        together = regions @ self.numbers @ words.T
        alone = 10 * regions.sum(dim=1)[:, None] + 100 * words.sum(dim=1)[None]
        return Scores.shared(together + alone)

    def score_pairs(self, image: Encoded, sentence: Encoded) -> Scores:
        return Scores.shared(self.score(image, sentence).i2t.diagonal())


def test_what_word_and_region_bring_together_is_known_by_hand() -> None:
    batch = ImageBatch(torch.eye(3)[None], torch.ones(1, 3).bool(), torch.rand(1, 3, 4))
    [found] = explain(pretrained(Table()), batch, ["a dog runs"], kind="interaction")
    assert found.words == ("<start>", "a", "dog", "runs", "<end>")
    # What each side brings alone is no part of it: 10 for a region, 100 for a word.
    expected = np.array([[0, 0, 0], [0, 0, 0], [2, 0.5, 0], [-1, 4, 3], [0, 0, 0]])
    np.testing.assert_allclose(found.weights, expected, atol=1e-3)
    assert found.score == pytest.approx(8.5 + 30 + 200, abs=1e-3)
    assert found.kind == "interaction"


@pytest.mark.parametrize("variant", KNOWN)
def test_interaction_is_the_second_difference_of_scores_one_by_one(variant: str) -> None:
    model, batch = tiny_model(variant), pictures((4, 3))
    matcher, tokenizer = cast("Matcher", model), WordTokenizer(WORDS)

    def score(regions: Tensor, kept: list[bool], text: str) -> float:
        alone = ImageBatch(regions[None], torch.tensor([kept]))
        with torch.no_grad():
            image = matcher.encode_images(alone)
            sentence = matcher.encode_sentences(tokenizer.encode([text]))
            return float(matcher.score(image, sentence).t2i)

    found = explain(pretrained(model), batch, TEXTS[:2], kind="interaction")
    for p, text in enumerate(TEXTS[:2]):
        regions = batch.regions[p][batch.mask[p]]
        every, words = [True] * len(regions), text.split()
        assert found[p].score == pytest.approx(score(regions, every, text), abs=1e-5)
        assert not found[p].weights[[0, -1]].any()  # end marks
        for w in range(len(words)):
            rest = " ".join(words[:w] + words[w + 1 :])
            for r in range(len(regions)):
                without = [place != r for place in range(len(regions))]
                second = (
                    score(regions, every, text)
                    - score(regions, without, text)
                    - score(regions, every, rest)
                    + score(regions, without, rest)
                )
                assert found[p].weights[w + 1, r] == pytest.approx(second, abs=2e-5)


def test_one_image_with_many_sentences_is_that_image_repeated() -> None:
    model, batch = tiny_model("vse"), pictures((4,))
    together = explain(pretrained(model), batch, TEXTS, kind="interaction")
    rows = batch.select(torch.zeros(3, dtype=torch.long))
    repeated = explain(pretrained(model), rows, TEXTS, kind="interaction")
    for one, other in zip(together, repeated, strict=True):
        np.testing.assert_allclose(one.weights, other.weights, atol=1e-6)


def test_nothing_is_known_of_a_word_or_a_region_that_stands_alone() -> None:
    model = pretrained(tiny_model("vse"))
    [word] = explain(model, pictures((3,)), ["dog"], kind="interaction")
    assert not word.weights.any()
    [region] = explain(model, pictures((1,)), ["a dog"], kind="interaction")
    assert region.weights.shape == (4, 1)
    assert not region.weights.any()


def pieces(text: str) -> list[str]:
    """Words and marks in lower case and without accents; -ing is a piece of its own."""
    found = []
    for word in re.findall(r"\w+|[^\w\s]", text.lower().replace("é", "e")):
        stem = word.removesuffix("ing")
        found += [word] if stem == word else [stem, "##ing"]
    return ["[CLS]", *found, "[SEP]"]


def test_a_word_is_left_out_of_the_text_with_all_its_pieces() -> None:
    found = shorter_texts("Surfing, surfing dog!", pieces)
    assert found.words == ("[CLS]", "surfing", ",", "surfing", "dog", "!", "[SEP]")
    assert found.places == (1, 2, 3, 4, 5)
    assert found.texts == (
        "Surfing, surfing dog!",
        ", surfing dog!",
        "Surfing surfing dog!",
        "Surfing,  dog!",
        "Surfing, surfing !",
        "Surfing, surfing dog",
    )


def test_what_a_tokenizer_cut_off_does_not_come_back_when_a_word_goes() -> None:
    found = shorter_texts("one two three four", lambda text: text.split()[:2])
    assert found.texts == ("one two three four", " two", "one ")


def test_a_word_that_is_not_in_the_text_as_it_is_cannot_be_left_out() -> None:
    found = shorter_texts("a café", pieces)
    assert (found.places, found.texts) == ((1,), ("a café", " café"))


def test_the_kind_that_has_words_is_the_models_own_attention_if_it_has_one() -> None:
    for name in VARIANTS:
        model = tiny_model(name)
        expected = "attention" if isinstance(model, Attentive) else "interaction"
        assert word_kind(pretrained(model)) == expected


def test_attention_of_a_model_that_has_none_is_refused() -> None:
    with pytest.raises(DataError, match="any has no attention"):
        explain(pretrained(tiny_model("vse")), pictures((3,)), TEXTS[:1], kind="attention")


def test_a_model_that_attends_can_be_explained_by_leaving_out() -> None:
    model = pretrained(tiny_model("scan-t2i"))
    [found] = explain(model, pictures((3,)), TEXTS[:1], kind="ablation")
    assert (found.words, found.kind) == (("a dog runs",), "ablation")


def test_content_words_of_an_interaction_are_those_of_the_sentence() -> None:
    weights = np.zeros((3, 1), np.float32)
    found = Explanation(
        ("the", "red", "dog"), np.zeros((1, 4), np.float32), weights, 0, "interaction"
    )
    assert content_words(found) == (1, 2)


HALVES = np.array([(0, 0, 0.5, 1), (0.5, 0, 1, 1)], np.float32)
TWO = SentenceAlignment(("red", "dog", "blue", "cats"), ((0,), (0,), (1,), (1,)), HALVES)


def pointing(weights: list[list[float]]) -> Explanation:
    values = np.array(weights, np.float32)
    return Explanation(("red", "dog", "blue", "cats"), HALVES, values, 0.5, "interaction")


def test_pointing_accepts_interaction_and_tells_groups_of_words_apart() -> None:
    found = [pointing([[1, 0], [0, 1], [-2, -1], [-1, -2]])]
    assert localisation(found, [TWO]).attended == 0.5
    groups = localisation_by(found, [TWO], lambda word: "colour" if word == "red" else "rest")
    assert list(groups) == ["colour", "rest"]
    assert (groups["colour"].attended, groups["colour"].words) == (1, 1)
    assert groups["rest"].attended == pytest.approx(1 / 3)
    assert groups["rest"].words == 3


def test_a_word_that_looks_everywhere_alike_points_at_nothing() -> None:
    flat = [pointing([[0, 0], [0, 0], [0.5, 0.5], [0, 0]])]
    assert localisation(flat, [TWO]).attended == 0


def test_words_of_scenes_are_told_apart() -> None:
    words = "a small scarlet fish beside two dotted houses and a shape"
    groups = [scene_group(word) for word in words.split()]
    assert groups == [
        "other", "size", "colour", "object", "other", "number", "pattern", "object", "other",
        "other", "object",
    ]  # fmt: skip
