"""The text encoders that every model can be built with, chosen by one configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from visavis.layers.bert import FrozenStates
from visavis.layers.gru import GruEncoder
from visavis.types import SentenceBatch


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """How sentences become word vectors."""

    encoder: Literal["gru", "frozen"] = "gru"
    word_dim: int = 300  # gru: width of the word embeddings
    bidirectional: bool = True  # gru: two directions, averaged
    dropout: float = 0.0  # gru: on the word embeddings; frozen: on the states
    state_dim: int = 384  # frozen: width of the cached hidden states


class TextEncoder(nn.Module):
    """Word vectors (M, W, D) in context; padding is 0."""

    def __init__(self, config: TextConfig, *, vocab_size: int, dim: int) -> None:
        super().__init__()
        self.encoder: GruEncoder | FrozenStates
        if config.encoder == "gru":
            self.encoder = GruEncoder(
                vocab_size,
                word_dim=config.word_dim,
                dim=dim,
                bidirectional=config.bidirectional,
                dropout=config.dropout,
            )
        else:
            self.encoder = FrozenStates(config.state_dim, dim, dropout=config.dropout)

    def forward(self, sentences: SentenceBatch) -> Tensor:
        """Ids (M, W), or states (M, W, H) of a frozen encoder, to (M, W, D)."""
        words: Tensor = self.encoder(sentences)
        return words
