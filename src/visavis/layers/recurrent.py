"""A GRU over sentences of different lengths, with a backward pass made for processors.

Forward, the library's packed form is as good as any. Backward it makes, for every word place, an
array as large as the whole batch, and multiplies for the weights place by place. Here the products
for the weights are one each, and sentences whose states have no gradient are left out: with mined
negatives many have none, because their hinges are 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

WORTH = 0.9  # a larger share of sentences with gradients is not worth picking them out


def recurrent_states(rnn: nn.GRU, words: Tensor, mask: Tensor, *, averaged: bool = False) -> Tensor:
    """States of a GRU of one layer: (M, W, E) to (M, W, H), both directions side by side.

    Args:
        rnn: `batch_first`, one layer.
        words: (M, W, E).
        mask: (M, W) bool, real words first; every sentence has one. Padding gets the state 0.
        averaged: the mean of both directions instead.
    """
    cpu = words.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
    if cpu and words.dtype == torch.float32 and torch.is_grad_enabled():
        return _trained(rnn, words, mask, averaged=averaged)
    lengths = mask.sum(dim=1).cpu()
    packed = pack_padded_sequence(words, lengths, batch_first=True, enforce_sorted=False)
    states, _ = pad_packed_sequence(rnn(packed)[0], batch_first=True, total_length=mask.shape[1])
    return _mean(*states.chunk(2, dim=2)) if averaged else states


def _mean(forward: Tensor, backward: Tensor) -> Tensor:
    return (forward + backward) / 2


@dataclass(frozen=True, slots=True)
class _Packing:
    """The real words, all first words before all second ones, longest sentence first."""

    items: Tensor  # (T,) which sentence, in order of length
    rows: Tensor  # (T,) which sentence, as given
    places: Tensor  # (T,) which word
    sizes: list[int]  # how many sentences have a first word, a second one, ...
    mirror: Tensor  # (T,) where the word stands that is as far from the end

    @staticmethod
    def of(mask: Tensor) -> _Packing:
        lengths = mask.sum(dim=1)
        order = lengths.argsort(descending=True, stable=True)
        lengths = lengths[order]
        real = torch.arange(int(lengths[0]))[:, None] < lengths  # (W, M)
        places, items = real.nonzero(as_tuple=True)
        sizes = real.sum(dim=1)
        starts = sizes.cumsum(0) - sizes
        mirror = starts[lengths[items] - 1 - places] + items
        return _Packing(items, order[items], places, sizes.tolist(), mirror)

    def active(self, wanted: Tensor) -> tuple[Tensor | None, list[int]]:
        """The words of sentences with a gradient, and how many of these have a first word, ...

        Args:
            wanted: (T, H) gradients of states.

        Returns:
            No words when nearly all of them are: then picking them out is not worth it.
        """
        found = torch.zeros(self.sizes[0], dtype=torch.bool)
        found[self.items[wanted.ne(0).any(dim=1)]] = True
        if found.float().mean() > WORTH:
            return None, self.sizes
        chosen = found[self.items].nonzero()[:, 0]
        return chosen, torch.bincount(self.places[chosen], minlength=1).tolist()


def _trained(rnn: nn.GRU, words: Tensor, mask: Tensor, *, averaged: bool) -> Tensor:
    packing = _Packing.of(mask)
    given = words[packing.rows, packing.places]  # (T, E)
    found = []
    for direction, weights in enumerate(rnn.all_weights):  # matrices of words and states, biases
        states: Tensor = _Recurrence.apply(packing, direction == 1, given, *weights)  # type: ignore[no-untyped-call]
        found.append(states)
    each = _mean(*found) if averaged else torch.cat(found, dim=1)  # before padding: half as much
    padded = words.new_zeros(*mask.shape, each.shape[1])
    return padded.index_put((packing.rows, packing.places), each)


class _Recurrence(torch.autograd.Function):
    """States (T, H) of packed words (T, E), read from the first to the last or backwards.

    r, z = sigmoid(W x + U h), n = tanh(W x + r ⊙ (U h)), h' = (1 - z) ⊙ n + z ⊙ h.
    """

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        packing: _Packing,
        backwards: bool,  # noqa: FBT001  (PyTorch hands on no names)
        words: Tensor,
        of_word: Tensor,
        of_state: Tensor,
        *biases: Tensor,
    ) -> Tensor:
        word_bias, state_bias = biases or (None, None)
        read = words[packing.mirror] if backwards else words
        gates = functional.linear(read, of_word, word_bias)  # (T, 3 H)
        states, kept = _run(gates, of_state, state_bias, packing.sizes)
        ctx.save_for_backward(read, kept, of_word, of_state, *biases)
        ctx.packing, ctx.backwards = packing, backwards
        return states[packing.mirror] if backwards else states

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any,  # noqa: ANN401
        wanted: Tensor,
    ) -> tuple[Tensor | None, ...]:
        read, kept, of_word, of_state, *biases = ctx.saved_tensors
        packing: _Packing = ctx.packing
        wanted = wanted[packing.mirror] if ctx.backwards else wanted
        chosen, sizes = packing.active(wanted)
        if chosen is not None:
            read, kept, wanted = read[chosen], kept[:, chosen], wanted[chosen]
        to_gates, to_own = _slopes(kept, of_state, wanted, sizes)
        to_words = None
        if ctx.needs_input_grad[2]:
            to_words = to_gates @ of_word
            if chosen is not None:
                none = to_words.new_zeros(len(packing.items), to_words.shape[1])
                to_words = none.index_copy_(0, chosen, to_words)
            to_words = to_words[packing.mirror] if ctx.backwards else to_words
        of_biases = (to_gates.sum(dim=0), to_own.sum(dim=0)) if biases else ()
        return None, None, to_words, to_gates.t() @ read, to_own.t() @ kept[4], *of_biases


def _run(
    gates: Tensor, weight: Tensor, bias: Tensor | None, sizes: list[int]
) -> tuple[Tensor, Tensor]:
    """States (T, H) from what the words add to the gates (T, 3 H), and what goes into slopes."""
    width = weight.shape[1]
    kept = gates.new_empty(5, len(gates), width)  # r, z, n, U h of n, h
    states = gates.new_empty(len(gates), width)
    state, turned = gates.new_zeros(sizes[0], width), weight.t()
    start = 0
    for size in sizes:
        here = slice(start, start + size)
        state, gate = state[:size], gates[here]
        own = state @ turned if bias is None else torch.addmm(bias, state, turned)
        both = (gate[:, : 2 * width] + own[:, : 2 * width]).sigmoid_()
        reset, keep, heard = both[:, :width], both[:, width:], own[:, 2 * width :]
        new = torch.addcmul(gate[:, 2 * width :], reset, heard).tanh_()
        for place, value in enumerate((reset, keep, new, heard, state)):
            kept[place, here] = value
        state = torch.lerp(new, state, keep)
        states[here] = state
        start += size
    return states, kept


def _slopes(
    kept: Tensor, weight: Tensor, wanted: Tensor, sizes: list[int]
) -> tuple[Tensor, Tensor]:
    """Gradients of what words and states add to the gates: (T, 3 H) each."""
    reset, keep, new, heard, state = kept
    width = weight.shape[1]
    to_gates, to_own = wanted.new_empty(2, len(wanted), 3 * width)
    by_new = (1 - keep) * (1 - new * new)
    by_reset = heard * reset * (1 - reset)
    by_keep = (state - new) * keep * (1 - keep)
    end, carried = len(wanted), wanted.new_zeros(0, width)
    for size in reversed(sizes):
        here = slice(end - size, end)
        slope = wanted[here].clone()
        slope[: len(carried)] += carried
        gate, own = to_gates[here], to_own[here]
        of_new = torch.mul(slope, by_new[here], out=gate[:, 2 * width :])
        torch.mul(of_new, by_reset[here], out=gate[:, :width])
        torch.mul(slope, by_keep[here], out=gate[:, width : 2 * width])
        own[:, : 2 * width] = gate[:, : 2 * width]
        torch.mul(of_new, reset[here], out=own[:, 2 * width :])
        carried = torch.addmm(slope * keep[here], own, weight)
        end -= size
    return to_gates, to_own
