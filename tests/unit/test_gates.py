"""Gates of pairs, their means, and what is drawn of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.tiny import VARIANTS, images, tiny_model
from tests.tiny_corpus import tiny_material, tiny_tokenizer
from visavis.data.features import FeatureIdentity
from visavis.errors import DataError
from visavis.explain.gates import compare_means, gates_of, is_gated, pair_means
from visavis.explain.interval import mean_of
from visavis.explain.true_and_false import draw_pairs
from visavis.models.camp import Camp, CampConfig
from visavis.models.pretrained import Pretrained
from visavis.recipes.gates import GatesConfig, gates_values, measure_gates


def camp(**values: object) -> Pretrained:
    corpus = tiny_material().corpus
    tokenizer = tiny_tokenizer(corpus)
    torch.manual_seed(0)
    base = CampConfig(region_dim=12, vocab_size=tokenizer.vocab_size, dim=8)
    model = Camp(replace(base, **values)).eval()  # type: ignore[arg-type]
    identity = FeatureIdentity(extractor="precomputed", digest="tiny")
    return Pretrained("camp", model, tokenizer, identity)


def test_only_camp_has_gates() -> None:
    gated = {model for name, (model, _) in VARIANTS.items() if is_gated(tiny_model(name))}
    assert gated == {"camp"}


def test_gates_of_a_pair_are_the_models_own_without_padding() -> None:
    pretrained = camp()
    image = images((5, 3)).select(slice(1, 2))  # three regions and two places of padding
    image = replace(image, regions=torch.nn.functional.pad(image.regions, (0, 2)))
    words, gates, _ = gates_of(pretrained, image, "a red dog")
    assert words == ("<start>", "a", "red", "dog", "<end>")
    model, sentence = pretrained.model, pretrained.tokenizer.encode(["a red dog"])
    expected = model.gates(model.encode_images(image), model.encode_sentences(sentence))
    assert gates["regions"].shape == (3,)
    np.testing.assert_allclose(gates["regions"], expected["regions"][0, :3].detach())
    np.testing.assert_allclose(gates["words"], expected["words"][0].detach())


def test_the_mean_of_a_pair_is_over_what_is_real() -> None:
    pretrained = camp()
    left = images((5, 3))
    left = replace(left, regions=torch.nn.functional.pad(left.regions, (0, 2)))
    right = pretrained.tokenizer.encode(["a red dog on grass", "snow"])
    found = pair_means(pretrained, left, right)
    for row, text in enumerate(("a red dog on grass", "snow")):
        _, gates, _ = gates_of(pretrained, left.select(slice(row, row + 1)), text)
        for side in ("regions", "words"):
            assert found[side][row] == pytest.approx(gates[side].mean(), rel=1e-5)


def test_the_difference_is_of_pairs_with_the_same_image() -> None:
    truth = np.stack([np.arange(30) // 3, np.arange(30)], axis=1)
    pairs = draw_pairs(truth, 30, seed=0)
    values = np.random.default_rng(0).random(60).astype(np.float32)
    values[:30] = values[30:] + 0.25
    found = compare_means(values, pairs, seed=0)
    assert found.difference.mean == pytest.approx(0.25, rel=1e-5)
    assert found.difference.high - found.difference.low < 1e-5
    assert found.true == mean_of(values[:30], pairs.units[:30], seed=0)


def test_what_is_measured_stands_in_the_file() -> None:
    material = tiny_material()
    config = GatesConfig(image="picture-3", pairs=20, name="run")
    found = measure_gates(camp(), material, config)
    values = gates_values(found)
    right, wrong = values["shown"]  # type: ignore[misc]
    assert right["image"] == "picture-3"
    assert (right["right"], wrong["right"]) == (True, False)
    assert wrong["image"] != "picture-3"
    assert wrong["sentence"] == right["sentence"]
    assert right["boxes"] is None
    assert len(right["word_gates"]) == len(right["words"])
    again = gates_values(measure_gates(camp(), material, config))
    assert values == again


def test_a_sentence_of_ones_own_belongs_to_nothing_that_is_known() -> None:
    found = measure_gates(camp(), tiny_material(), GatesConfig(sentence="a dog", pairs=5))
    assert [pair.right for pair in found.pairs] == [None, None]


def test_tiny_gates_keep_their_digits_in_the_file() -> None:
    found = measure_gates(camp(), tiny_material(), GatesConfig(pairs=5))
    pair = replace(found.pairs[0], region_gates=np.array([2.7087e-9, 0.971], np.float32))
    shown = gates_values(replace(found, pairs=(pair,)))["shown"]
    assert shown[0]["region_gates"] == [2.7087e-9, 0.971]  # type: ignore[index]


def test_a_model_without_gates_says_so() -> None:
    with pytest.raises(DataError, match="no gates"):
        measure_gates(camp(gate="none"), tiny_material(), GatesConfig(pairs=5))
    pretrained = replace(camp(), name="vse", model=tiny_model("vse"))
    with pytest.raises(DataError, match="vse has no gates"):
        measure_gates(pretrained, tiny_material(), GatesConfig(pairs=5))
