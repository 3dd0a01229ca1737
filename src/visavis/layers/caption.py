"""A sentence said word by word about some regions: what it costs to say the right one.

Encoder and decoder are GRUs; the decoder attends to the encoded regions at every word (Venugopalan
et al., Sequence to Sequence: Video to Text, ICCV 2015, with the attention of Bahdanau et al. 2015),
and is told the right words so far (teacher forcing).

Exact and quick: the part of the attention that regions decide is computed once for all words,
sentences leave the batch where they end, and only real words are looked up and predicted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence

from visavis.layers.gru import last_word
from visavis.types import SentenceBatch


@dataclass(frozen=True, kw_only=True)
class CaptionConfig:
    """How sentences are generated while training."""

    weight: float = 1.0  # of the term; 0: no captions, and no parameters for them
    dim: int = 512  # of the states
    word_dim: int = 300  # of the decoder's own word embeddings
    dropout: float = 0.2  # on mapped regions, and on the decoder's input
    max_words: int = 60  # longer sentences are cut, end marks counted

    def __post_init__(self) -> None:
        if self.weight < 0:
            raise ValueError(f"weight must not be negative, got {self.weight}")
        if self.max_words < 2:
            raise ValueError(f"max_words must be at least 2, got {self.max_words}")


class Saying(NamedTuple):
    """What is said and heard at every place, sentence after sentence within a place."""

    order: Tensor  # (N,) longest sentence first
    sizes: list[int]  # how many sentences are still going on at each place
    heard: Tensor  # (K,) the word before
    said: Tensor  # (K,) the word


class Captioner(nn.Module):
    """Loss of saying a sentence about regions.

    Args:
        config: sizes.
        region_dim: width of the regions.
        vocab_size: of the tokenizer.
        pad_after_end: one padding token has to be predicted after each sentence that is not cut.
    """

    def __init__(
        self, config: CaptionConfig, *, region_dim: int, vocab_size: int, pad_after_end: bool
    ) -> None:
        super().__init__()
        self.max_words = config.max_words
        self.pad_after_end = pad_after_end
        self.dropout = nn.Dropout(config.dropout)
        self.project = nn.Linear(region_dim, config.dim)
        self.encoder = nn.GRU(config.dim, config.dim, batch_first=True)
        self.embed = nn.Embedding(vocab_size, config.word_dim)
        self.compare = nn.Linear(2 * config.dim, config.dim)  # of a region and the decoder's state
        self.relevance = nn.Linear(config.dim, 1, bias=False)
        self.decoder = nn.GRUCell(config.word_dim + config.dim, config.dim)
        self.predict = nn.Linear(config.dim, vocab_size)
        nn.init.xavier_normal_(self.project.weight)
        nn.init.xavier_normal_(self.predict.weight)

    def forward(self, regions: Tensor, mask: Tensor, sentences: SentenceBatch) -> Tensor:
        """Sum of -log p over the words of all sentences, divided by their number.

        Args:
            regions: (N, R, D), real ones first.
            mask: (N, R) bool.
            sentences: (N, W), row p about the regions of row p.
        """
        saying = self.saying(sentences)
        logits = self.predict(self.states(regions, mask, saying))  # (K, V)
        return F.cross_entropy(logits, saying.said, reduction="sum") / len(sentences)

    def saying(self, sentences: SentenceBatch) -> Saying:
        """Sentences as inputs and targets, without padding."""
        ids, mask = sentences.ids * sentences.mask, sentences.mask
        lengths = mask.sum(dim=1)
        labels = F.pad(ids, (0, 1))[:, : self.max_words]
        cut = (lengths > self.max_words).unsqueeze(1)
        if bool(cut.any()):  # the end mark takes the last place
            last = torch.cat([labels[:, :-1], last_word(ids, mask).unsqueeze(1)], dim=1)
            labels = torch.where(cut, last, labels)
        steps = lengths - 1 + int(self.pad_after_end)
        steps = steps.clamp(1, labels.shape[1] - 1)
        order = steps.argsort(descending=True, stable=True)
        ends = steps[order].cpu()
        heard = pack_padded_sequence(labels[order, :-1], ends, batch_first=True)
        said = pack_padded_sequence(labels[order, 1:], ends, batch_first=True)
        return Saying(order, heard.batch_sizes.tolist(), heard.data, said.data)

    def states(self, regions: Tensor, mask: Tensor, saying: Saying) -> Tensor:
        """The decoder's state at every place: (K, H)."""
        regions, mask = regions[saying.order], mask[saying.order]
        encoded, _ = self.encoder(self.dropout(self.project(regions)))  # (N, R, H)
        state = last_word(encoded, mask)  # (N, H)
        of_region, of_state = self.compare.weight.chunk(2, dim=1)
        keys = F.linear(encoded, of_region, self.compare.bias)  # (N, R, H)
        states = []
        for word in self.embed(saying.heard).split(saying.sizes):
            n = len(word)
            state = state[:n]
            query = F.linear(state, of_state).unsqueeze(1)  # (n, 1, H)
            relevance = self.relevance(torch.tanh(keys[:n] + query)).squeeze(2)  # (n, R)
            weights = relevance.masked_fill(~mask[:n], -torch.inf).softmax(dim=1)
            context = torch.bmm(weights.unsqueeze(1), encoded[:n]).squeeze(1)  # (n, H)
            state = self.decoder(self.dropout(torch.cat([word, context], dim=1)), state)
            states.append(state)
        return torch.cat(states)
