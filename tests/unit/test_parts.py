"""Relations and chosen regions, of models made for the test and of those that have them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.tiny import VARIANTS, tiny_model
from tests.unit.test_explain import Known, Pieces, pretrained
from tests.unit.test_interaction import TEXTS, WORDS, pictures
from visavis.data.tokenizer import Tokenizer, WordTokenizer
from visavis.errors import DataError
from visavis.explain.parts import (
    RELATIONS,
    Selective,
    is_relational,
    is_selective,
    relations,
    selected,
)
from visavis.types import Encoded, ImageBatch, Matcher

RELATED = [name for name in VARIANTS if is_relational(tiny_model(name))]
CHOOSING = [name for name in VARIANTS if is_selective(tiny_model(name))]


class Related(Known):
    """Relations and choices that are given."""

    name = "words_regions"

    def relations(self, image: Encoded, sentence: Encoded) -> Mapping[str, Tensor]:
        words, regions = sentence.mask.shape[1], 4
        counted = torch.arange(float(words * regions)).view(1, words, regions)
        return {self.name: counted, "regions_words": counted.transpose(1, 2)}

    def selected(self, image: Encoded, sentence: Encoded) -> Mapping[str, Tensor]:
        return {"first": torch.tensor([[True, True, False, True]])}


def holed() -> ImageBatch:
    """Four places, of which the second holds no region."""
    mask = torch.tensor([[True, False, True, True]])
    return ImageBatch(torch.ones(1, 4, 1), mask, torch.rand(1, 4, 4))


def test_pieces_of_a_word_are_joined_and_padding_is_left_out() -> None:
    model = pretrained(Related(), cast("Tokenizer", Pieces()))
    found = relations(model, holed(), "surfings dog")
    # Four words of six pieces; a looking word is the mean of rows 1 to 3.
    assert found["words_regions"].tolist() == [[0, 2, 3], [8, 10, 11], [16, 18, 19], [20, 22, 23]]
    # One that is looked at is their sum: 4 + 8 + 12 for the first region.
    assert found["regions_words"][0].tolist() == [0, 24, 16, 20]


def test_choices_are_positions_among_the_boxes_that_are_shown() -> None:
    model = pretrained(Related(), cast("Tokenizer", Pieces()))
    assert selected(model, holed(), "surfings dog")["first"].tolist() == [0, 2]


def test_models_without_such_parts_say_so() -> None:
    model = pretrained(tiny_model("vse"))
    with pytest.raises(DataError, match="any has no relations"):
        relations(model, pictures((3,)), TEXTS[0])
    with pytest.raises(DataError, match="any has no part that chooses regions"):
        selected(model, pictures((3,)), TEXTS[0])


def test_a_relation_of_another_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Related, "name", "regions_dogs")
    model = pretrained(Related(), cast("Tokenizer", Pieces()))
    with pytest.raises(DataError, match="'regions_dogs' is not known"):
        relations(model, holed(), "surfings dog")


def test_vectors_without_boxes_are_refused() -> None:
    batch = ImageBatch(torch.ones(1, 4, 1), torch.ones(1, 4).bool())
    model = pretrained(Related(), cast("Tokenizer", Pieces()))
    for ask in (relations, selected):
        with pytest.raises(DataError, match="no boxes"):
            ask(model, batch, "surfings dog")


def test_a_layer_that_is_called_relations_is_no_answer() -> None:
    model = tiny_model("vse")
    model.relations = nn.Linear(1, 1)
    assert not is_relational(model)


def test_some_models_have_relations_and_some_choose_regions() -> None:
    assert {name.split("-")[0] for name in RELATED} >= {"mmca"}
    assert {name.split("-")[0] for name in CHOOSING} >= {"dcpa"}


@pytest.mark.parametrize("variant", RELATED)
def test_relations_fit_words_and_boxes_and_do_not_depend_on_padding(variant: str) -> None:
    model = pretrained(tiny_model(variant))
    batch = pictures((3, 5))
    count = len(WordTokenizer(WORDS).tokens(TEXTS[0]))
    padded = batch.select(slice(0, 1))
    alone = ImageBatch(
        padded.regions[:, :3], padded.mask[:, :3], cast("Tensor", padded.boxes)[:, :3]
    )
    found, expected = relations(model, padded, TEXTS[0]), relations(model, alone, TEXTS[0])
    sizes = {"words": count, "regions": 3}
    assert set(found) <= set(RELATIONS)
    for name, values in found.items():
        assert values.shape == tuple(sizes[side] for side in RELATIONS[name])
        np.testing.assert_allclose(values, expected[name], atol=1e-6)


@pytest.mark.parametrize("variant", CHOOSING)
def test_chosen_regions_are_among_the_boxes_or_the_model_says_why_not(variant: str) -> None:
    model = tiny_model(variant)
    batch = pictures((3, 5)).select(slice(0, 1))
    tokens = WordTokenizer(WORDS).encode([TEXTS[0]])
    matcher = cast("Matcher", model)
    try:
        raw = cast("Selective", model).selected(
            matcher.encode_images(batch), matcher.encode_sentences(tokens)
        )
    except DataError:
        with pytest.raises(DataError):
            selected(pretrained(model), batch, TEXTS[0])
        return
    found = selected(pretrained(model), batch, TEXTS[0])
    assert found.keys() == raw.keys()
    for name, chosen in found.items():
        assert 1 <= len(chosen) <= 3
        assert chosen.tolist() == raw[name][0].nonzero()[:, 0].tolist()
