"""Word vectors in context from a recurrent network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from visavis.layers.recurrent import recurrent_states
from visavis.types import SentenceBatch


class GruEncoder(nn.Module):
    """Embedding and GRU; the two directions are averaged (Lee et al. 2018).

    Embeddings start uniform in [-0.1, 0.1]. The backward direction starts at the last real word.
    """

    def __init__(
        self, vocab_size: int, *, word_dim: int, dim: int, bidirectional: bool, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab_size, word_dim)
        self.dropout = nn.Dropout(dropout)
        self.rnn = nn.GRU(word_dim, dim, batch_first=True, bidirectional=bidirectional)
        nn.init.uniform_(self.embed.weight, -0.1, 0.1)

    def forward(self, sentences: SentenceBatch) -> Tensor:
        """Contextual word vectors (M, W, D); padding is 0."""
        embedded = self.dropout(self.embed(sentences.ids))  # (M, W, E)
        averaged = self.rnn.bidirectional
        return recurrent_states(self.rnn, embedded, sentences.mask, averaged=averaged)


def last_word(words: Tensor, mask: Tensor) -> Tensor:
    """The vector of each sentence's last real word: (M, W, D) to (M, D)."""
    last = mask.sum(dim=1) - 1
    return words[torch.arange(len(words), device=words.device), last]
