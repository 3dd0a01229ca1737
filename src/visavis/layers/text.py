"""The text encoders that every model can be built with, chosen by one configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from visavis.layers.bert import FrozenStates
from visavis.layers.gru import GruEncoder
from visavis.layers.skip_thought import SkipThought
from visavis.types import SentenceBatch


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """How sentences become word vectors."""

    encoder: Literal["gru", "frozen", "skip_thought"] = "gru"
    word_dim: int = 300  # gru, skip_thought: width of the word embeddings
    bidirectional: bool = True  # gru: two directions, averaged
    dropout: float = 0.0  # gru: on the word embeddings; else on the states, skip_thought: on both
    state_dim: int = 384  # frozen: width of the cached states; skip_thought: of the GRU's
    weights: str = ""  # skip_thought: folder of the published files; empty: a random start

    def __post_init__(self) -> None:
        if self.weights and self.encoder != "skip_thought":
            raise ValueError(f"weights are of skip_thought; leave them out with {self.encoder}")


class TextEncoder(nn.Module):
    """Word vectors (M, W, `width`) in context; padding is 0.

    Args:
        config: which encoder.
        vocab_size: of the tokenizer.
        dim: width of the word vectors.
        mapped: states of a frozen encoder, or of skip-thought, are mapped to `dim`; else they keep
            their own width.
    """

    def __init__(
        self, config: TextConfig, *, vocab_size: int, dim: int, mapped: bool = True
    ) -> None:
        super().__init__()
        self.config = config
        self.width = dim
        self.encoder: GruEncoder | FrozenStates | SkipThought
        if config.encoder == "gru":
            self.encoder = GruEncoder(
                vocab_size,
                word_dim=config.word_dim,
                dim=dim,
                bidirectional=config.bidirectional,
                dropout=config.dropout,
            )
            return
        self.width = dim if mapped else config.state_dim
        if config.encoder == "skip_thought":
            self.encoder = SkipThought(
                vocab_size,
                word_dim=config.word_dim,
                hidden=config.state_dim,
                dim=dim if mapped else None,
                dropout=config.dropout,
            )
        else:
            self.encoder = FrozenStates(
                config.state_dim, dim if mapped else None, dropout=config.dropout
            )

    def forward(self, sentences: SentenceBatch) -> Tensor:
        """Ids (M, W), or states (M, W, H) of a frozen encoder, to (M, W, width)."""
        words: Tensor = self.encoder(sentences)
        return words
