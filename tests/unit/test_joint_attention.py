"""The joint attention: eq. 8-14 of MMCA by loops, large logits, dropout."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tests.tiny import close
from visavis.layers.joint_attention import Side, attend_all, attend_pairs, own_part
from visavis.layers.transformer import MultiHead
from visavis.models.mmca import Mmca, MmcaConfig
from visavis.types import Encoded


def by_loops(
    attention: MultiHead, y: list[list[float]], row: int
) -> tuple[list[float], list[float]]:
    """Row of eq. 8-12 with the softmax of eq. 11: what it gives and its mean weights."""

    def times(vector: list[float], layer: torch.nn.Linear) -> list[float]:
        rows: list[list[float]] = layer.weight.tolist()
        return [sum(v * w for v, w in zip(vector, row, strict=True)) for row in rows]

    size = len(y[0]) // attention.heads
    given: list[float] = []
    mean = [0.0] * len(y)
    for head in range(attention.heads):
        part = slice(head * size, (head + 1) * size)
        query = times(y[row], attention.query)[part]
        exps = []
        for fragment in y:
            key = times(fragment, attention.key)[part]
            product = sum(q * k for q, k in zip(query, key, strict=True))
            exps.append(math.exp(product / math.sqrt(size)))
        weights = [value / sum(exps) for value in exps]
        values = [times(fragment, attention.value)[part] for fragment in y]
        given += [sum(w * v[i] for w, v in zip(weights, values, strict=True)) for i in range(size)]
        mean = [m + w / attention.heads for m, w in zip(mean, weights, strict=True)]
    return given, mean


def test_two_regions_and_one_word_attend_as_the_equations_by_loops() -> None:
    torch.manual_seed(0)
    config = MmcaConfig(region_dim=3, vocab_size=5, dim=4, heads=2, filters=3)
    model = Mmca(config).eval()
    y = [[0.5, -1.0, 2.0, 0.25], [1.5, 0.5, -0.5, 1.0], [-1.0, 2.0, 0.75, -0.25]]
    attention = model.joint_unit.attention
    found = [by_loops(attention, y, row) for row in range(3)]
    r, e = torch.tensor([y[:2]]), torch.tensor([y[2:]])
    left, right = (
        Encoded(t, m := torch.ones(t.shape[:2], dtype=torch.bool), None, own_part(attention, t, m))
        for t in (r, e)
    )
    images_, sentences_ = Side.of(left), Side.of(right)
    for regions in (attend_all(images_, sentences_)[:, 0], attend_pairs(images_, sentences_)):
        close(regions[:, 0], torch.tensor([found[0][0], found[1][0]]))
    for words in (attend_all(sentences_, images_)[:, 0], attend_pairs(sentences_, images_)):
        close(words[:, 0], torch.tensor([found[2][0]]))
    parts = model.relations(left, right)
    weights = torch.tensor([given for _, given in found])  # (3, 3)
    close(parts["regions_regions"][0], weights[:2, :2])
    close(parts["regions_words"][0], weights[:2, 2:])
    close(parts["words_regions"][0], weights[2:, :2])
    close(parts["words_words"][0], weights[2:, 2:])


def test_logits_far_apart_are_merged_exactly() -> None:
    torch.manual_seed(0)
    attention = MultiHead(8, 2, bias=False)
    tokens = 100 * torch.randn(2, 5, 8)  # logits of many hundreds, either side may win
    mask = torch.ones(2, 5, dtype=torch.bool)
    left, right = (
        Side.of(Encoded(t, mask[:, : t.shape[1]], None, own_part(attention, t, mask[:, :k])))
        for t, k in ((tokens[:, :3], 3), (tokens[:, 3:], 2))
    )
    whole = attention.attend(
        attention.query(tokens), attention.key(tokens), attention.value(tokens), mask
    )
    merged = torch.cat([attend_pairs(left, right), attend_pairs(right, left)])  # (5, 2, 8)
    torch.testing.assert_close(merged.transpose(0, 1), whole, atol=1e-3, rtol=1e-4)


def test_attention_dropout_does_not_change_the_mean() -> None:
    torch.manual_seed(0)
    attention = MultiHead(4, 2, bias=False, dropout=0.5)
    tokens, mask = torch.randn(2, 3, 4), torch.ones(2, 3, dtype=torch.bool)
    expected = _attended_once(attention.eval(), tokens, mask, 0.0)
    attention.train()
    found = [_attended_once(attention, tokens, mask, 0.5) for _ in range(2000)]
    assert not torch.equal(found[0], found[1])
    close(torch.stack(found).mean(dim=0), expected, atol=0.08)


@torch.no_grad()
def _attended_once(attention: MultiHead, tokens: Tensor, mask: Tensor, dropout: float) -> Tensor:
    side = Side.of(Encoded(tokens, mask, None, own_part(attention, tokens, mask)))
    return attend_all(side, side, dropout=dropout)
