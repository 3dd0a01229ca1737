"""Hidden states of a frozen language model, mapped into the joint space."""

from __future__ import annotations

from torch import Tensor, nn

from visavis.types import SentenceBatch


class FrozenStates(nn.Module):
    """A linear map of cached states; the language model itself is not trained and not here."""

    def __init__(self, state_dim: int, dim: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(state_dim, dim)

    def forward(self, sentences: SentenceBatch) -> Tensor:
        """States (M, W, H) to word vectors (M, W, dim); padding is 0.

        Raises:
            ValueError: the batch carries no states.
        """
        if sentences.states is None:
            raise ValueError(
                "this model reads hidden states of a frozen encoder; the batch has none"
            )
        words: Tensor = self.linear(self.dropout(sentences.states))
        return words * sentences.mask.unsqueeze(2)
