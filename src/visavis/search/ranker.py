"""A matcher as people know cross-encoders: `predict` for pairs, `rank` for a query.

Pictures are files. Their regions are found by the extractor that the model names, once per file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from visavis.errors import DataError
from visavis.scoring.matrix import score_matrix
from visavis.search.encoder import Encoder
from visavis.search.supply import open_extractor
from visavis.types import Encoded

PAIRS_AT_ONCE = 64


class Ranker:
    """Scores pictures and sentences that are given, without an index."""

    def __init__(
        self, model: str | Path, *, weights: Path | None = None, device: str = "cpu"
    ) -> None:
        """Load a model folder, a run folder or a hub name.

        Raises:
            CheckpointError: no model there.
            DataError: the model reads ready-made vectors, or its extractor's weights are missing.
        """
        self._encoder = Encoder(str(model), device=device)
        self._supply = open_extractor(self._encoder.features, weights, device=device)

    def predict(self, pairs: Sequence[tuple[Path, str]]) -> NDArray[np.float32]:
        """Scores of pairs of a picture and a sentence: (P,), those that rank pictures.

        Raises:
            DataError: a picture that cannot be read, an empty sentence.
        """
        if not pairs:
            return np.zeros(0, dtype=np.float32)
        files = list(dict.fromkeys(file for file, _ in pairs))
        texts = list(dict.fromkeys(text for _, text in pairs))
        images, sentences = self._images(files), self._encoder.sentences(texts)
        rows = torch.tensor([files.index(file) for file, _ in pairs])
        columns = torch.tensor([texts.index(text) for _, text in pairs])
        parts = []
        with torch.inference_mode():
            for start in range(0, len(pairs), PAIRS_AT_ONCE):
                part = slice(start, start + PAIRS_AT_ONCE)
                sides = images.select(rows[part]), sentences.select(columns[part])
                parts.append(self._encoder.matcher.score_pairs(*sides).t2i.float().cpu())
        found: NDArray[np.float32] = torch.cat(parts).numpy()
        return found

    def rank(
        self,
        query: str | Path,
        candidates: Sequence[Path] | Sequence[str],
        *,
        top_k: int | None = None,
    ) -> list[dict[str, Any]]:
        """Candidates in order, best first: `corpus_id` (their place), `score`, and what they are.

        A sentence ranks pictures; a picture (a `Path`) ranks sentences.

        Raises:
            DataError: no candidates, or ones of the wrong kind.
        """
        wanted: type = str if isinstance(query, Path) else Path
        if not candidates or not all(isinstance(one, wanted) for one in candidates):
            kinds = (
                "sentences for a picture" if wanted is str else "paths of pictures for a sentence"
            )
            raise DataError(f"rank: give {kinds}, at least one")
        if isinstance(query, Path):
            sentences = self._encoder.sentences([str(one) for one in candidates])
            found = score_matrix(self._encoder.matcher, self._images([query]), sentences).i2t[0]
        else:
            images = self._images([Path(one) for one in candidates])
            sentence = self._encoder.sentences([query])
            found = score_matrix(self._encoder.matcher, images, sentence).t2i[:, 0]
        order = torch.sort(found, descending=True, stable=True).indices[:top_k].tolist()
        name = "text" if wanted is str else "image"
        return [
            {"corpus_id": place, "score": float(found[place]), name: candidates[place]}
            for place in order
        ]

    def _images(self, files: Sequence[Path]) -> Encoded:
        return Encoded.join([self._encoder.images(self._supply.one(file)) for file in files])
