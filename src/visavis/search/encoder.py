"""One model with what it needs to read sentences and pictures."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch

from visavis.data.features import FeatureIdentity
from visavis.data.frozen import FrozenEncoder
from visavis.data.tokenizer import WordTokenizer
from visavis.data.wordpiece import WordPieceTokenizer
from visavis.errors import DataError
from visavis.models.identity import model_digest
from visavis.models.pretrained import Pretrained
from visavis.search.manifest import ModelPlace
from visavis.types import Encoded, ImageBatch, Matcher, SentenceBatch

SENTENCES_AT_ONCE = 256


class Encoder:
    """One model with what it needs to read sentences."""

    def __init__(self, source: str, *, device: str = "cpu") -> None:
        """Load a model.

        Raises:
            CheckpointError: it cannot be loaded.
        """
        self.pretrained = Pretrained.from_pretrained(source, device=device)
        self.device = torch.device(device)
        self.place = ModelPlace(
            source=absolute(source),
            name=self.pretrained.name,
            digest=model_digest(self.pretrained),
        )
        self._states: FrozenEncoder | None = None
        self._lock = threading.Lock()

    @property
    def matcher(self) -> Matcher:
        """The model."""
        return cast("Matcher", self.pretrained.model)

    @property
    def features(self) -> FeatureIdentity:
        """The region vectors that it reads."""
        return self.pretrained.features

    def batch(self, texts: Sequence[str]) -> SentenceBatch:
        """Sentences as the model reads them.

        Raises:
            DataError: a sentence without a token.
        """
        for text in texts:
            if not text.strip():
                raise DataError("an empty sentence; write what the picture shows")
        if not self.pretrained.language_model:
            return self.pretrained.tokenizer.encode(texts)
        return self._language_model().encode(texts)

    @torch.inference_mode()
    def sentences(self, texts: Sequence[str]) -> Encoded:
        """Encoded sentences, in the order given."""
        parts = [
            self.matcher.encode_sentences(
                self.batch(texts[start : start + SENTENCES_AT_ONCE]).to(self.device)
            )
            for start in range(0, len(texts), SENTENCES_AT_ONCE)
        ]
        return Encoded.join(parts)

    @torch.inference_mode()
    def images(self, images: ImageBatch) -> Encoded:
        """Encoded images."""
        return self.matcher.encode_images(images.to(self.device))

    @property
    def pools(self) -> bool:
        """Whether it has a vector of a whole sentence that compares with those of pictures."""
        return self._probe.pooled is not None

    @property
    def width(self) -> int:
        """Width D of its tokens."""
        return self._probe.tokens.shape[2]

    @property
    def comparable(self) -> bool:
        """Whether tokens of both sides are equally wide."""
        mask = torch.ones(1, 1, dtype=torch.bool)
        one = ImageBatch(torch.ones(1, 1, self.region_dim), mask)
        return self.images(one).tokens.shape[2] == self.width

    @property
    def region_dim(self) -> int:
        """Width of the region vectors that it reads."""
        settings: Any = self.pretrained.model.config
        return int(settings.region_dim)

    @cached_property
    def _probe(self) -> Encoded:
        return self.sentences(["a dog"])

    def unknown_words(self, text: str) -> list[str]:
        """Words of a sentence that say nothing to the model."""
        tokenizer = self.pretrained.tokenizer
        if not isinstance(tokenizer, WordTokenizer):  # word pieces spell every word
            return []
        pairs = zip(tokenizer.tokens(text), tokenizer.numbers(text), strict=True)
        return [word for word, number in pairs if number == tokenizer.vocabulary.unk]

    def _language_model(self) -> FrozenEncoder:
        with self._lock:
            if self._states is None:
                tokenizer = self.pretrained.tokenizer
                if not isinstance(tokenizer, WordPieceTokenizer):
                    raise DataError("a language model reads word pieces; the model has words")
                self._states = FrozenEncoder(
                    self.pretrained.language_model,
                    max_words=tokenizer.max_words,
                    device=self.device,
                )
            return self._states


def absolute(source: str) -> str:
    """A folder by its whole path; a hub name as it is."""
    path = Path(source).expanduser()
    return str(path.resolve()) if path.exists() else source
