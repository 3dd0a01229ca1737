"""CAMP: its ablations, gates, fusion, pooling and attention, each by itself."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.camp import (
    CODE,
    CROSS,
    model_of,
)
from tests.tiny import close, encoded, images, scores_of, sentences
from visavis.config import build
from visavis.errors import DataError, RecipeError
from visavis.layers.gated_fusion import AttentionPool, FusionConfig, GatedFusion

ABLATIONS: dict[str, dict[str, Any]] = {
    "w/o cross-attn": {"messages": "mean"},
    "w/o fusion": CROSS,
    "w/o gates": {"gate": "none"},
    "w/o residual": {"residual": False},
    "w/o attn-based agg": {"pooling": "mean"},
    "concat": {"fusion": "concat"},
    "product": {"fusion": "product"},
    "joint embedding": {"match": "cosine"},
    "base": {"messages": "none", **CROSS},
}


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_of_table_3_scores_differently(name: str) -> None:
    difference = scores_of(model_of(**ABLATIONS[name])) - scores_of(model_of())
    assert difference.abs().max() > 1e-2


def test_a_concatenation_with_equal_halves_is_an_addition() -> None:
    torch.manual_seed(0)
    add = GatedFusion(6, FusionConfig())
    concat = GatedFusion(6, FusionConfig(fusion="concat"))
    concat.load_state_dict({**add.state_dict(), "linear.weight": add.linear.weight.repeat(1, 2)})
    own, message = torch.randn(5, 6), torch.randn(5, 6)
    close(concat(own, message), add(own, message))


@pytest.mark.parametrize("fusion", ["add", "concat"])
@pytest.mark.parametrize("gate", ["scalar", "none"])
def test_fusion_taken_apart_equals_fusion(fusion: str, gate: str) -> None:
    torch.manual_seed(0)
    layer = GatedFusion(6, build(FusionConfig, {"fusion": fusion, "gate": gate}))
    assert layer.splits
    own, message = torch.randn(5, 6), torch.randn(5, 6)
    factor = layer.gate(own, message) if gate == "scalar" else None
    found = layer.joined(layer.own(own), layer.given(message), factor)
    close(layer.with_residual(found, own), layer(own, message))


@pytest.mark.parametrize("gate", ["vector", "scalar"])
@pytest.mark.parametrize("fusion", ["add", "concat", "product"])
def test_gradients_of_gated_fusion_are_those_of_differences(gate: str, fusion: str) -> None:
    torch.manual_seed(0)
    layer = GatedFusion(3, build(FusionConfig, {"gate": gate, "fusion": fusion})).double()
    own, message = (torch.randn(2, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(layer, (own, message))
    assert torch.autograd.gradcheck(layer.gate, (own, message))


@pytest.mark.parametrize("values", [{}, CODE, {**CODE, **CROSS}], ids=["paper", "code", "cross"])
def test_gradients_of_scores_are_those_of_differences(values: dict[str, Any]) -> None:
    model = model_of(**values, dim=4).double()
    tokens = [torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    masks = torch.tensor([[1, 1, 0], [1, 1, 1]]).bool(), torch.tensor([[1, 1, 1], [1, 0, 0]]).bool()

    def score(regions: Tensor, words: Tensor) -> Tensor:
        left = model._encoded(regions, masks[0], model.regions, model.words)
        right = model._encoded(words, masks[1], model.words, model.regions)
        return model.score(left, right).i2t

    assert torch.autograd.gradcheck(score, tokens)


def test_a_gate_of_one_number_is_that_of_the_inner_product() -> None:
    layer = GatedFusion(2, FusionConfig(gate="scalar"))
    own, message = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.5, -1.0]])
    close(layer.gate(own, message), torch.tensor([[1 / (1 + math.exp(1.5))]]))
    gates = GatedFusion(2, FusionConfig()).gate(own, message)
    close(gates, torch.tensor([[1 / (1 + math.exp(-0.5)), 1 / (1 + math.exp(2.0))]]))


def test_pooling_heads_are_averaged() -> None:
    torch.manual_seed(0)
    pool = AttentionPool(4, 2)
    tokens, mask = torch.randn(1, 3, 4), torch.ones(1, 3, dtype=torch.bool)
    assert pool.out is not None
    logits = pool.out(pool.linear(tokens).relu())[0]  # (3, 2)
    expected = sum(logits[:, head].softmax(dim=0) @ tokens[0] for head in range(2)) / 2
    close(pool(tokens, mask)[0], expected)


def test_normalised_fragments_have_elements_of_about_one_and_padding_none() -> None:
    for items in encoded(model_of(normalise=True)):
        close(items.tokens.square().mean(dim=2), items.mask.float())


def test_padded_to_counts_words_of_zeros_in_the_mean() -> None:
    """As in the published code, which attends from zeros too; here to regions alone."""
    values: dict[str, Any] = {"pooling": "mean", **CROSS}
    model, padded = model_of(**values), model_of(**values, padded_to=6)
    left, right = encoded(model, images((3,)), sentences((4,)))
    weights = model.words.attention(right, left, model.regions)[0]  # (4, 3)
    messages = torch.cat([weights @ left.tokens[0], left.tokens[0].mean(dim=0).expand(2, 3 + 5)])
    looks = model.regions.attention(left, right, model.words)[0] @ right.tokens[0]
    expected = functional.cosine_similarity(messages.mean(dim=0), looks.mean(dim=0), dim=0)
    close(padded.score(left, right).i2t[0, 0], expected)
    assert (model.score(left, right).i2t[0, 0] - expected).abs() > 1e-4


def test_the_base_model_compares_vectors_that_are_made_alone() -> None:
    model = model_of(messages="none", **CROSS)
    left, right = encoded(model)
    assert not left.extra
    found = []
    for side, items in ((model.regions, left), (model.words, right)):
        logits = items.tokens @ side.pool.linear.weight[0] / math.sqrt(8)  # eq. 10-11
        shares = logits.masked_fill(~items.mask, -torch.inf).softmax(dim=1)
        found.append(functional.normalize((shares.unsqueeze(2) * items.tokens).sum(dim=1)))
    close(model.score(left, right).i2t, found[0] @ found[1].T)
    close(
        model.attend(left.select(slice(0, 2)), right.select(slice(0, 2))).sum(dim=2)[0, 0],
        torch.tensor(1.0),
    )


def test_all_stages_of_a_training_have_the_same_parameters() -> None:
    for base in ({}, CODE):
        names = {k: v.shape for k, v in model_of(**base).state_dict().items()}
        for stage in (
            CROSS,
            {**CROSS, "pooling": "mean", "padded_to": 50},
            {"messages": "none", **CROSS},
        ):
            assert {k: v.shape for k, v in model_of(**base, **stage).state_dict().items()} == names


@pytest.mark.parametrize(
    ("values", "idle"),
    [
        ({"messages": "mean"}, {"regions.key", "words.key"}),
        ({"pooling": "mean"}, {"regions.pool", "words.pool"}),
        ({"match": "cosine"}, {"mlp.0", "mlp.2"}),
        (CROSS, {"regions.fusion", "words.fusion", "mlp.0", "mlp.2"}),
    ],
    ids=["mean", "pool", "cosine", "cross"],
)
def test_only_what_a_setting_leaves_out_gets_no_gradient(
    values: dict[str, Any], idle: set[str]
) -> None:
    model = model_of(**values)
    scores_of(model).square().sum().backward()
    found = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert {".".join(name.split(".")[:2]) for name in found} == idle


@pytest.mark.parametrize("values", [{}, CODE, {"messages": "mean"}], ids=["paper", "code", "mean"])
def test_attention_sums_to_one_over_real_regions(values: dict[str, Any]) -> None:
    model = model_of(**values)
    left, right = encoded(model, images((5, 1)), sentences((1, 6)))
    weights = model.attend(left, right)
    close(weights.sum(dim=2), right.mask.float())
    assert not weights[1, :, 1:].any()  # the second image has one region


def test_attention_is_that_of_eq_2() -> None:
    model = model_of(affinity_dim=3)
    left, right = encoded(model, images((4,)), sentences((3,)))
    v, t = model.regions.key(left.tokens[0]), model.words.key(right.tokens[0])
    close(model.attend(left, right)[0], (t @ v.T / math.sqrt(3)).softmax(dim=1))


@pytest.mark.parametrize("values", [{}, {"gate": "scalar"}, CODE], ids=["paper", "scalar", "code"])
def test_gates_are_those_of_the_messages_and_padding_has_none(values: dict[str, Any]) -> None:
    model = model_of(**values)
    left, right = encoded(model, images((5, 1)), sentences((2, 6)))
    gates = model.gates(left, right)
    for name, items in (("regions", left), ("words", right)):
        assert gates[name].shape == items.mask.shape
        assert not gates[name][~items.mask].any()
        assert ((gates[name] > 0) == items.mask).all()
        assert (gates[name] < 1).all()
    if not values:
        message = model.attend(left, right)[0, :2] @ left.tokens[0]
        expected = (right.tokens[0, :2] * message).sigmoid().mean(dim=1)  # eq. 7
        close(gates["words"][0, :2], expected)


@pytest.mark.parametrize("values", [CROSS, {"gate": "none"}])
def test_a_model_without_gates_says_so(values: dict[str, Any]) -> None:
    model = model_of(**values)
    with pytest.raises(DataError, match="this model has no gates; train one with"):
        model.gates(*encoded(model, images((2,)), sentences((2,))))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"heads": 0}, "heads must be at least 1, got 0"),
        ({"dim": 0}, "dim must be at least 1, got 0"),
        ({"affinity_dim": -1}, "affinity_dim must be at least 0, got -1"),
        ({"region_dropout": 1.0}, r"region_dropout must be in \[0, 1\), got 1.0"),
        ({"messages": "none"}, "messages: none needs fuse: false and match: cosine"),
        ({"padded_to": 50}, "padded_to 50 needs pooling: mean"),
        ({"gate": "vectors"}, "'vectors' is not a choice; did you mean 'vector'"),
        ({"variant": "code"}, "'code' is not a choice"),
    ],
)
def test_what_cannot_be_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        model_of(**values)
