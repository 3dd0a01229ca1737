"""Hidden states of a frozen language model, as they are or mapped into the joint space."""

from __future__ import annotations

from torch import Tensor, nn

from visavis.errors import DataError
from visavis.layers.norm import l2norm
from visavis.types import SentenceBatch


class FrozenStates(nn.Module):
    """A linear map of cached states; the language model itself is not trained and not here.

    Without `dim` the states stay as they are.
    """

    def __init__(
        self, state_dim: int, dim: int | None, *, dropout: float = 0.0, normalise: bool = False
    ) -> None:
        super().__init__()
        self.state_dim = state_dim
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Identity() if dim is None else nn.Linear(state_dim, dim)
        self.normalise = normalise

    def forward(self, sentences: SentenceBatch) -> Tensor:
        """States (M, W, H) to word vectors (M, W, dim or H), unit ones if asked for; padding is 0.

        Raises:
            DataError: the batch carries no states, or states of another width.
        """
        states, width = sentences.states, self.state_dim
        if states is None or states.shape[2] != width:
            got = "none" if states is None else f"width {states.shape[2]}"
            raise DataError(
                f"this model reads frozen states of width {width}, the sentences have {got}; "
                "encode them with the language model it was trained with"
            )
        words: Tensor = self.linear(self.dropout(states.float()))
        if self.normalise:
            words = l2norm(words, dim=2)
        return words.masked_fill(~sentences.mask.unsqueeze(2), 0.0)
