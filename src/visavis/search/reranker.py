"""A matcher as a re-ranker of LanceDB, for people with tables of their own.

    from visavis.search.reranker import MatcherReranker
    table.search(vector).limit(200).rerank(MatcherReranker("runs/scan"), query_string="a dog")

The table has a column of region vectors: lists of vectors, or flat lists of fixed size. This is the
only module that needs LanceDB to be imported, beside those of our own tables.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from lancedb.rerankers import Reranker
from numpy.typing import NDArray

from visavis.errors import DataError
from visavis.scoring.matrix import score_matrix
from visavis.search.encoder import Encoder
from visavis.search.rows import REAL, REGIONS
from visavis.types import ImageBatch

RELEVANCE = "_relevance_score"  # the column that LanceDB expects


class MatcherReranker(Reranker):  # type: ignore[misc]  # the library has no types
    """Puts rows in the order of a model's scores with the query's words."""

    def __init__(
        self,
        model: str | Path,
        *,
        regions: str = REGIONS,
        mask: str = REAL,
        device: str = "cpu",
    ) -> None:
        """Load a model.

        Args:
            model: a run or model folder, or a hub name.
            regions: the column of region vectors.
            mask: the column that says which of them are real; without it all are.
            device: where the model is put.
        """
        super().__init__("relevance")
        self._encoder = Encoder(str(model), device=device)
        self._width = self._encoder.region_dim
        self._regions, self._mask = regions, mask

    def rerank_vector(self, query: str, vector_results: pa.Table) -> pa.Table:
        """What a vector search found, best first."""
        return self._ordered(query, vector_results)

    def rerank_fts(self, query: str, fts_results: pa.Table) -> pa.Table:
        """What a search for words found, best first."""
        return self._ordered(query, fts_results)

    def rerank_hybrid(
        self, query: str, vector_results: pa.Table, fts_results: pa.Table
    ) -> pa.Table:
        """What either found, each row once, best first."""
        return self._ordered(query, self.merge_results(vector_results, fts_results))

    def _ordered(self, query: str, rows: pa.Table) -> pa.Table:
        if not rows.num_rows:
            return rows.append_column(RELEVANCE, pa.array([], pa.float32()))
        images = self._encoder.images(self._images(rows))
        sentence = self._encoder.sentences([query])
        scores = score_matrix(self._encoder.matcher, images, sentence).t2i[:, 0]
        order = torch.sort(scores, descending=True, stable=True).indices.numpy()
        told = pa.array(scores.numpy()[order], pa.float32())
        return rows.take(pa.array(order)).append_column(RELEVANCE, told)

    def _images(self, rows: pa.Table) -> ImageBatch:
        if self._regions not in rows.column_names:
            raise DataError(
                f"no column {self._regions!r} of region vectors among {rows.column_names}; select "
                "it in the search, or name it with `regions`"
            )
        vectors = [self._vectors(value) for value in rows.column(self._regions).to_pylist()]
        masks = [np.ones(len(one), dtype=bool) for one in vectors]
        if self._mask in rows.column_names:
            masks = [np.array(m, dtype=bool) for m in rows.column(self._mask).to_pylist()]
        most = max(len(one) for one in vectors)
        regions = torch.zeros(len(vectors), most, self._width)
        mask = torch.zeros(len(vectors), most, dtype=torch.bool)
        for place, (one, real) in enumerate(zip(vectors, masks, strict=True)):
            regions[place, : len(one)] = torch.from_numpy(one)
            mask[place, : len(one)] = torch.from_numpy(real)
        return ImageBatch(regions, mask)

    def _vectors(self, value: Any) -> NDArray[np.float32]:  # noqa: ANN401  (nested lists)
        numbers = np.array(value, dtype=np.float32).reshape(-1)
        if not numbers.size or numbers.size % self._width:
            raise DataError(
                f"{self._regions}: {numbers.size} numbers in a row; the model reads vectors of "
                f"width {self._width}"
            )
        return numbers.reshape(-1, self._width)
