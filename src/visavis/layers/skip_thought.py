"""The sentence encoder of skip-thought vectors, with dropout drawn once for each sentence.

Kiros et al.: Skip-Thought Vectors, NIPS 2015, https://arxiv.org/abs/1506.06726; the dropout is that
of Gal, Ghahramani: A Theoretically Grounded Application of Dropout in Recurrent Neural Networks,
NIPS 2016, as MTFN's published code uses it. The published weights are read by
`visavis.layers.skip_thought_files`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from visavis.layers.recurrent import recurrent_states
from visavis.types import SentenceBatch


class SkipThought(nn.Module):
    """Embedding and a GRU in one direction; padding has the vector 0.

    r, i = sigmoid(W x + b + U h), n = tanh(W_n x + b_n + r ⊙ (U_n h)), h' = (1 - i) n + i h: a GRU
    without biases of the recurrent part. The input's biases are the last column of its weights.
    """

    def __init__(
        self, vocab_size: int, *, word_dim: int, hidden: int, dim: int | None, dropout: float
    ) -> None:
        """`hidden` is the width of the states, `dim` what they are mapped to; None: they are not.

        `dropout` falls on words and states, with a mask for each sentence and each of the six
        weight matrices that stays the same from word to word.
        """
        super().__init__()
        self.dropout = dropout
        self.embed = nn.Embedding(vocab_size, word_dim, padding_idx=0)
        self.rnn = nn.GRU(word_dim + 1, hidden, bias=False, batch_first=True)
        self.linear = nn.Identity() if dim is None else nn.Linear(hidden, dim)

    def forward(self, sentences: SentenceBatch) -> Tensor:
        """States (M, W, hidden), or mapped ones (M, W, dim); padding is 0."""
        mask = sentences.mask
        words = functional.pad(self.embed(sentences.ids), (0, 1), value=1.0)  # (M, W, E + 1)
        if self.training and self.dropout > 0:
            states = self._dropped(words, mask)
        else:
            states = recurrent_states(self.rnn, words, mask)
        mapped: Tensor = self.linear(states)
        return mapped.masked_fill(~mask.unsqueeze(2), 0.0)

    def _dropped(self, words: Tensor, mask: Tensor) -> Tensor:
        """The states word by word, as no recurrent layer of the library has such masks."""
        weights = [weight.chunk(3) for weight in self.rnn.all_weights[0]]  # of words, of states
        kept = functional.dropout(words.new_ones(3, len(words), words.shape[2] - 1), self.dropout)
        kept = functional.pad(kept, (0, 1), value=1.0)  # biases stay
        inputs = [
            (words * gate.unsqueeze(1)) @ weight.T
            for gate, weight in zip(kept, weights[0], strict=True)
        ]  # (M, W, H) for r, i and n
        state = words.new_zeros(len(words), self.rnn.hidden_size)
        kept = functional.dropout(state.new_ones(3, *state.shape), self.dropout)
        states = []
        for place in range(words.shape[1]):
            r, i, n = (
                (state * gate) @ weight.T for gate, weight in zip(kept, weights[1], strict=True)
            )
            reset = torch.sigmoid(inputs[0][:, place] + r)
            keep = torch.sigmoid(inputs[1][:, place] + i)
            new = torch.tanh(inputs[2][:, place] + reset * n)
            new = (1 - keep) * new + keep * state
            state = torch.where(mask[:, place, None], new, state)
            states.append(state)
        return torch.stack(states, dim=1)
