"""MMCA: merged scores equal stacked ones; vectors, masks, settings and costs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from tests.tiny import REGION_DIM, VOCAB, close, encoded, images, scores_of, sentences, twin
from visavis.config import build
from visavis.errors import RecipeError
from visavis.models.mmca import Mmca, MmcaConfig
from visavis.types import Encoded, ImageBatch, SentenceBatch

LEAST: dict[str, Any] = {
    "region_dim": REGION_DIM,
    "vocab_size": VOCAB,
    "dim": 8,
    "heads": 2,
    "filters": 5,
    "text": {"word_dim": 6},
}
SETTINGS: list[dict[str, Any]] = [
    {},
    {"heads": 8, "hidden": 12, "attention_bias": True},
    {"share_cnn": True, "layer_norm": True},
    {"normalise": True, "alpha": 0.8, "filters": 1},
]
CASES = [((5, 3, 5, 1, 4, 5), (4, 1, 6, 3, 2, 6, 5)), ((1,), (1,)), ((1, 2), (1,)), ((4,), (1, 1))]


def model_of(*, seed: int = 0, **values: Any) -> Mmca:
    torch.manual_seed(seed)
    return Mmca(build(MmcaConfig, {**LEAST, **values})).eval()


def straight(model: Mmca) -> Mmca:
    """The same weights, scored by stacking every pair."""
    return twin(model, plain=True)


@pytest.mark.parametrize("values", SETTINGS)
@pytest.mark.parametrize(("regions", "words"), CASES)
def test_merged_scores_equal_stacked_ones(
    values: dict[str, Any], regions: tuple[int, ...], words: tuple[int, ...]
) -> None:
    model = model_of(**values)
    sides = images(regions), sentences(words)
    close(scores_of(model, *sides), scores_of(straight(model), *sides))


@pytest.mark.parametrize("values", SETTINGS)
def test_merged_gradients_equal_stacked_ones_in_training_without_dropout(
    values: dict[str, Any],
) -> None:
    model = model_of(dropout=0.0, **values).train()
    other = straight(model)
    for each in (model, other):
        weights = torch.linspace(-1, 1, 42).view(6, 7)
        torch.autograd.backward((scores_of(each) * weights).sum())
    expected = dict(other.named_parameters())
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        close(parameter.grad, expected[name].grad, atol=2e-5)  # type: ignore[arg-type]


@settings(max_examples=20, deadline=None)
@given(masks=st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=4, max_size=4))
def test_any_masks_give_the_stacked_scores(masks: list[list[bool]]) -> None:
    model = model_of()
    mask = torch.tensor(masks)
    mask[:, 0] |= ~mask.any(dim=1)  # each item has something real
    left, right = encoded(model, images((4, 4)), sentences((4, 4)))
    left, right = (
        model._encoded(side.tokens * part.unsqueeze(2), part, side.pooled)  # type: ignore[arg-type]
        for side, part in ((left, mask[:2]), (right, mask[2:]))
    )
    close(model.score(left, right).i2t, straight(model).score(left, right).i2t)


def test_pairs_equal_the_diagonal_stacked_or_not() -> None:
    model = model_of()
    sides = images((5, 3, 1)), sentences((4, 1, 6))
    for each in (model, straight(model)):
        left, right = encoded(each, *sides)
        close(each.score_pairs(left, right).i2t, each.score(left, right).i2t.diagonal())


def test_order_of_regions_does_not_matter() -> None:
    model = model_of()
    left = images((5, 5))
    order = torch.tensor([3, 0, 4, 1, 2])
    turned = ImageBatch(left.regions[:, order], left.mask[:, order])
    close(scores_of(model, turned, sentences()), scores_of(model, left, sentences()))


@pytest.mark.parametrize("alpha", [0.0, 0.2])
def test_order_of_words_matters(alpha: float) -> None:
    model = model_of(alpha=alpha)
    right = sentences((6, 6))
    turned = SentenceBatch(right.ids.flip(1), right.mask)
    difference = scores_of(model, images(), turned) - scores_of(model, images(), right)
    assert difference.abs().min() > 1e-5


def test_phrases_of_the_joint_unit_depend_on_the_order_of_words() -> None:
    model = model_of()
    left, right = encoded(model, images((3, 3)), sentences((5, 5)))
    order = torch.arange(5).flip(0)
    turned = model._encoded(right.tokens[:, order], right.mask, right.pooled)  # type: ignore[arg-type]
    assert (model.score(left, turned).i2t - model.score(left, right).i2t).abs().min() > 1e-5


def test_trimmed_items_score_the_same_though_extra_is_not_cut() -> None:
    model = model_of()
    left, right = encoded(model)
    short = right.select(torch.tensor([1, 4]))  # one word and two, padded to six
    assert short.trimmed().extra["keys"].shape[2] == 6
    few = left.select(torch.tensor([3, 1]))
    whole = model.score(left, right).i2t
    expected = whole[[3, 1]][:, [1, 4]]
    close(model.score(few.trimmed(), short.trimmed()).i2t, expected)
    close(model.score_pairs(few.trimmed(), short.trimmed()).i2t, expected.diagonal())


def test_joined_items_of_different_widths_score_the_same() -> None:
    model = model_of()
    left, right = images(), sentences()
    parts = [
        model.encode_images(ImageBatch(left.regions[i : i + 1, :n], left.mask[i : i + 1, :n]))
        for i, n in enumerate(left.mask.sum(dim=1).tolist())
    ]
    close(model.score(Encoded.join(parts), model.encode_sentences(right)).i2t, scores_of(model))


def test_without_alpha_the_score_is_that_of_the_vectors_alone() -> None:
    model = model_of()
    alone = model_of(alpha=0.0)
    alone.load_state_dict(model.state_dict())  # every alpha has the same parameters
    left, right = encoded(alone)
    assert not left.extra
    assert left.pooled is not None
    assert right.pooled is not None
    expected = left.pooled @ right.pooled.T
    close(alone.score(left, right).i2t, expected)
    close(alone.score_pairs(left, right.select(slice(0, 6))).i2t, expected[:, :6].diagonal())
    assert (scores_of(model) - expected).abs().max() > 1e-3


def test_first_stage_vectors_are_those_of_eq_5_and_7() -> None:
    model = model_of()
    left, right = encoded(model, images((3,)), sentences((4,)))
    attended = model.region_unit(left.tokens, left.mask)[0]
    i0 = sum(attended) / 3
    close(left.pooled, (i0 / i0.norm())[None])  # type: ignore[arg-type]
    answers = []
    for size, convolution in enumerate(model.phrases.convolutions, start=1):
        padded = torch.cat([right.tokens[0], torch.zeros(2, 8)])
        filters, bias = convolution.get_parameter("weight"), convolution.get_parameter("bias")
        at = [(filters * padded[k : k + size].T).sum(dim=(1, 2)) + bias for k in range(4)]
        answers.append(torch.stack(at).relu().amax(dim=0))  # q_l
    c0 = model.phrases.linear(torch.cat(answers))
    close(right.pooled, (c0 / c0.norm())[None])  # type: ignore[arg-type]


def test_alpha_weighs_the_joint_score() -> None:
    low, high = model_of(alpha=0.2), model_of(alpha=0.8)
    alone = scores_of(model_of(alpha=0.0))
    close((scores_of(high) - alone) / 4, scores_of(low) - alone)
    assert (scores_of(high) - alone).abs().max() <= 0.8 + 1e-5


def test_attention_goes_to_both_sides_and_sums_to_one() -> None:
    model = model_of()
    left, right = encoded(model, images((5, 1)), sentences((1, 6)))
    parts = model.relations(left, right)
    close(model.attend(left, right), parts["words_regions"])
    total = parts["words_regions"].sum(dim=2) + parts["words_words"].sum(dim=2)
    close(total, right.mask.float())
    total = parts["regions_regions"].sum(dim=2) + parts["regions_words"].sum(dim=2)
    close(total, left.mask.float())
    assert not parts["words_regions"][1, :, 1:].any()  # the second image has one region


def test_states_of_a_language_model_are_mapped_for_the_joint_unit_only() -> None:
    text = {"encoder": "frozen", "state_dim": 24}
    model = model_of(text=text)
    assert model.map_words.weight.shape == (8, 24)
    assert model.phrases.convolutions[0].get_parameter("weight").shape[1] == 24
    states = torch.randn(7, 6, 24, generator=torch.Generator().manual_seed(3))
    right = SentenceBatch(sentences().ids, sentences().mask, states)
    close(scores_of(model, images(), right), scores_of(straight(model), images(), right))
    assert model.encode_sentences(right).tokens.shape == (7, 6, 8)


def test_a_shared_cnn_has_no_second_one() -> None:
    names = set(model_of(share_cnn=True).state_dict())
    assert names < set(model_of().state_dict())
    assert not [name for name in names if name.startswith("joint_phrases")]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"alpha": -0.1}, "alpha must be at least 0, got -0.1"),
        ({"dim": 10, "heads": 4}, "dim 10 is not a multiple of heads 4"),
        ({"heads": 0}, "heads must be at least 1, got 0"),
        ({"filters": 0}, "filters must be at least 1, got 0"),
        ({"hidden": -1}, "hidden must be at least 0, got -1"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        (
            {"share_cnn": True, "text": {"encoder": "frozen", "state_dim": 24}},
            "share_cnn needs words of width 8, the text encoder gives 24",
        ),
    ],
)
def test_what_cannot_be_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        model_of(**values)


def test_operations_of_a_pair_are_those_that_must_be() -> None:
    model = model_of(dim=64, heads=4, filters=32, hidden=48)
    left, right = encoded(model, images((20, 20, 20)), sentences((9, 9)))
    into = {torch.ops.aten.addmm_: lambda _, x, y, out_shape: 2 * x[0] * x[1] * y[1]}
    with FlopCounterMode(display=False, custom_mapping=into) as counter:
        model.score(left, right)
    joint = 2 * 64  # i1 . c1, which is no matrix product
    assert counter.get_total_flops() == 6 * (model.pair_flops(20, 9) - joint)
    alone = model_of(dim=64, alpha=0.0)
    assert alone.pair_flops(20, 9) == 2 * 64


def test_memory_of_a_pair_does_not_fall_with_its_size() -> None:
    for model in (model_of(), model_of(plain=True), model_of(alpha=0.0)):
        for r, w in ((1, 1), (36, 1), (36, 14), (5, 60)):
            here = model.pair_bytes(r, w)
            assert 0 < here <= min(model.pair_bytes(r + 1, w), model.pair_bytes(r, w + 1))


def test_memory_of_a_pair_covers_what_is_allocated() -> None:
    model = model_of(dim=64, heads=4, filters=64)
    left, right = encoded(model, images((20,) * 10), sentences((9,) * 10))
    with torch.inference_mode(), torch.profiler.profile(profile_memory=True) as record:
        model.score(left, right)
    held = peak = 0
    for event in record.profiler.kineto_results.events():  # type: ignore[union-attr]
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    assert 0.5 < peak / 100 / model.pair_bytes(20, 9) < 1.1


def test_training_with_dropout_reaches_every_parameter() -> None:
    model = model_of(dropout=0.3).train()
    torch.autograd.backward(scores_of(model).square().sum())
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
