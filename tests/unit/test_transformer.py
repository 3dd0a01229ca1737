"""The transformer units: a loop over heads and tokens, torch's own layers, masks."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from visavis.layers.transformer import (
    Activation,
    DecoderUnit,
    FeedForward,
    MultiHead,
    TransformerUnit,
    UnitConfig,
)

DIM, HEADS, HIDDEN = 8, 2, 12
every_activation = pytest.mark.parametrize("activation", ["relu", "gelu"])


def config_of(activation: Activation = "relu", *, bias: bool = True) -> UnitConfig:
    return UnitConfig(heads=HEADS, hidden=HIDDEN, activation=activation, bias=bias)


def shaken(unit: nn.Module) -> nn.Module:
    """No parameter stays at a start that would hide it, as norms of 1 and biases of 0 do."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in unit.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return unit.eval()


def unit_of(config: UnitConfig) -> TransformerUnit:
    torch.manual_seed(0)
    unit = shaken(TransformerUnit(DIM, config))
    assert isinstance(unit, TransformerUnit)
    return unit


def decoder_of(config: UnitConfig) -> DecoderUnit:
    torch.manual_seed(0)
    unit = shaken(DecoderUnit(DIM, config))
    assert isinstance(unit, DecoderUnit)
    return unit


def batch(
    lengths: list[int], *, extra: int = 0, padding: float = 0.0, seed: int = 1
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.full((len(lengths), max(lengths) + extra, DIM), padding)
    for row, length in enumerate(lengths):
        tokens[row, :length] = torch.randn(length, DIM, generator=generator)
    return tokens, torch.arange(tokens.shape[1])[None] < torch.tensor(lengths)[:, None]


def layer_normed(vector: Tensor, norm: nn.LayerNorm, eps: float) -> Tensor:
    deviation = ((vector - vector.mean()).square().mean() + eps).sqrt()
    return (vector - vector.mean()) / deviation * norm.weight + norm.bias


def affine(linear: nn.Linear, vector: Tensor, rows: slice = slice(None)) -> Tensor:
    """Product x W for some rows of the stored matrix, with the bias where there is one."""
    found = torch.stack([(row * vector).sum() for row in linear.weight[rows]])
    return found if linear.bias is None else found + linear.bias[rows]


def slow_unit(unit: TransformerUnit, tokens: Tensor, activation: Activation) -> Tensor:
    """MMCA eq. 1-4 for the real tokens (L, D) of one item, head by head, token by token."""
    attention, size = unit.attention, DIM // HEADS
    out = []
    for token in tokens:
        heads = []
        for head in range(HEADS):
            part = slice(head * size, (head + 1) * size)
            query = affine(attention.query, token, part)
            keys = [affine(attention.key, other, part) for other in tokens]
            values = [affine(attention.value, other, part) for other in tokens]
            powers = [math.exp(float(query @ key) / math.sqrt(size)) for key in keys]
            weights = [power / sum(powers) for power in powers]
            heads.append(
                torch.stack([w * v for w, v in zip(weights, values, strict=True)]).sum(dim=0)
            )
        added = token + affine(attention.out, torch.cat(heads))
        between = layer_normed(added, unit.attention_norm, 1e-5)
        hidden = affine(unit.feed_forward.first, between)
        if activation == "relu":
            hidden = hidden.clamp_min(0)
        else:
            hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
        fed = between + affine(unit.feed_forward.second, hidden)
        out.append(layer_normed(fed, unit.feed_forward_norm, 1e-5))
    return torch.stack(out)


@every_activation
@pytest.mark.parametrize("bias", [False, True])
@torch.no_grad()
def test_unit_equals_the_equations_head_by_head(activation: Activation, bias: bool) -> None:
    unit = unit_of(config_of(activation, bias=bias))
    tokens, mask = batch([4, 1, 3])
    found = unit(tokens, mask)
    for row, length in enumerate((4, 1, 3)):
        expected = slow_unit(unit, tokens[row, :length], activation)
        torch.testing.assert_close(found[row, :length], expected, atol=1e-5, rtol=1e-5)


def copy_attention(source: MultiHead, target: nn.MultiheadAttention) -> None:
    parts = (source.query, source.key, source.value)
    with torch.no_grad():
        assert target.in_proj_weight is not None
        target.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        target.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
        target.out_proj.load_state_dict(source.out.state_dict())


def copy_rest(unit: TransformerUnit, first: nn.Linear, second: nn.Linear) -> None:
    first.load_state_dict(unit.feed_forward.first.state_dict())
    second.load_state_dict(unit.feed_forward.second.state_dict())


@every_activation
def test_unit_equals_the_encoder_layer_of_torch(activation: Activation) -> None:
    unit = unit_of(config_of(activation))
    reference = nn.TransformerEncoderLayer(
        DIM, HEADS, HIDDEN, dropout=0.0, activation=activation, batch_first=True, norm_first=False
    )
    copy_attention(unit.attention, reference.self_attn)
    copy_rest(unit, reference.linear1, reference.linear2)
    reference.norm1.load_state_dict(unit.attention_norm.state_dict())
    reference.norm2.load_state_dict(unit.feed_forward_norm.state_dict())
    tokens, mask = batch([4, 1, 3])
    left, right = (tokens.clone().requires_grad_() for _ in range(2))
    found = unit(left, mask)[mask]
    expected = reference(right, src_key_padding_mask=~mask)[mask]
    torch.testing.assert_close(found, expected)
    for output in (found, expected):
        output.square().mul(torch.arange(DIM)).sum().backward()
    torch.testing.assert_close(left.grad, right.grad, atol=1e-4, rtol=1e-4)


@every_activation
@torch.no_grad()
def test_decoder_equals_the_decoder_layer_of_torch(activation: Activation) -> None:
    unit = decoder_of(config_of(activation))
    reference = nn.TransformerDecoderLayer(
        DIM, HEADS, HIDDEN, dropout=0.0, activation=activation, batch_first=True, norm_first=False
    )
    copy_attention(unit.self_attention, reference.self_attn)
    copy_attention(unit.cross.attention, reference.multihead_attn)
    copy_rest(unit.cross, reference.linear1, reference.linear2)
    reference.norm1.load_state_dict(unit.self_norm.state_dict())
    reference.norm2.load_state_dict(unit.cross.attention_norm.state_dict())
    reference.norm3.load_state_dict(unit.cross.feed_forward_norm.state_dict())
    tokens, mask = batch([4, 1, 3])
    sources, source_mask = batch([2, 5, 1], seed=2)
    expected = reference(
        tokens, sources, tgt_key_padding_mask=~mask, memory_key_padding_mask=~source_mask
    )
    found = unit(tokens, mask, sources, source_mask)
    torch.testing.assert_close(found[mask], expected[mask])


@settings(max_examples=15, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    extra=st.integers(1, 3),
    padding=st.sampled_from([0.0, 9.0]),
)
@torch.no_grad()
def test_padding_of_either_side_does_not_matter(
    lengths: list[int], extra: int, padding: float
) -> None:
    tokens, mask = batch(lengths)
    padded, padded_mask = batch(lengths, extra=extra, padding=padding)
    unit, decoder = unit_of(config_of()), decoder_of(config_of())
    torch.testing.assert_close(unit(padded, padded_mask)[padded_mask], unit(tokens, mask)[mask])
    torch.testing.assert_close(
        decoder(padded, padded_mask, padded, padded_mask)[padded_mask],
        decoder(tokens, mask, tokens, mask)[mask],
    )


@torch.no_grad()
def test_tokens_in_another_order_give_the_same_in_that_order() -> None:
    tokens, mask = batch([5, 5])
    order = torch.tensor([3, 0, 4, 1, 2])
    unit = unit_of(config_of())
    torch.testing.assert_close(unit(tokens[:, order], mask), unit(tokens, mask)[:, order])


@torch.no_grad()
def test_the_order_of_the_sources_does_not_matter_to_a_decoder() -> None:
    tokens, mask = batch([3, 2])
    sources, source_mask = batch([4, 4], seed=2)
    decoder, order = decoder_of(config_of()), torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(
        decoder(tokens, mask, sources[:, order], source_mask),
        decoder(tokens, mask, sources, source_mask),
    )


@torch.no_grad()
def test_weights_are_those_that_attend_uses() -> None:
    attention = unit_of(config_of()).attention
    tokens, mask = batch([4, 2])
    queries, keys, values = (m(tokens) for m in (attention.query, attention.key, attention.value))
    weights = attention.weights(queries, keys, mask)
    torch.testing.assert_close(weights.sum(dim=3), torch.ones(2, HEADS, 4))
    assert not weights[1, :, :, 2:].any()
    joined = (weights @ attention.split(values)).transpose(1, 2).flatten(2)
    torch.testing.assert_close(joined, attention.attend(queries, keys, values, mask))


@torch.no_grad()
def test_a_token_alone_gets_its_own_value() -> None:
    attention = unit_of(config_of()).attention
    tokens, mask = batch([1])
    expected = attention.out(attention.value(tokens))
    torch.testing.assert_close(attention(tokens, tokens, mask), expected)


def test_dropout_acts_in_training_only() -> None:
    config = UnitConfig(heads=HEADS, hidden=HIDDEN, dropout=0.5)
    tokens, mask = batch([4, 2])
    for unit in (TransformerUnit(DIM, config), DecoderUnit(DIM, config)):
        rest = () if isinstance(unit, TransformerUnit) else (tokens, mask)
        unit.train()
        assert not torch.equal(unit(tokens, mask, *rest), unit(tokens, mask, *rest))
        unit.eval()
        assert torch.equal(unit(tokens, mask, *rest), unit(tokens, mask, *rest))


def test_without_biases_there_are_none_in_the_attention() -> None:
    unit = unit_of(config_of(bias=False))
    assert not [name for name, _ in unit.attention.named_parameters() if "bias" in name]


def test_feed_forward_of_one_number_by_hand() -> None:
    layer = FeedForward(1, 1)
    with torch.no_grad():
        for parameter, value in zip(layer.parameters(), (2.0, -1.0, 3.0, 0.5), strict=True):
            parameter.fill_(value)
    # relu(2 x - 1) * 3 + 0.5
    torch.testing.assert_close(layer(torch.tensor([[2.0], [0.0]])), torch.tensor([[9.5], [0.5]]))


@pytest.mark.parametrize(("dim", "heads"), [(8, 3), (8, 16), (8, 0)])
def test_heads_that_do_not_divide_the_width_are_refused(dim: int, heads: int) -> None:
    with pytest.raises(ValueError, match=f"multiple of heads, got dim {dim} and heads {heads}"):
        MultiHead(dim, heads)


@pytest.mark.parametrize("wrong", [{"heads": 0}, {"hidden": 0}, {"dropout": 1.0}, {"dropout": -1}])
def test_settings_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        UnitConfig(**wrong)
