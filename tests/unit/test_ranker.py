"""Models without an index: pairs, rankings, rows of a table of somebody else's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa
import pytest

from tests.search_tools import SENTENCES, draw, model_folder
from visavis.errors import DataError
from visavis.search.index import FolderSource, Index
from visavis.search.place import MemoryPlace
from visavis.search.ranker import Ranker
from visavis.search.reranker import RELEVANCE, MatcherReranker


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_folder(tmp_path_factory.mktemp("model") / "dcpa", "dcpa")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return draw(tmp_path_factory.mktemp("pictures"), [f"{n}.png" for n in range(6)])


def test_pairs_have_the_scores_of_the_ranking(model: Path, pictures: list[Path]) -> None:
    ranker = Ranker(model)
    found = ranker.rank(SENTENCES[0], pictures)
    pairs = [(hit["image"], SENTENCES[0]) for hit in found]
    np.testing.assert_allclose(ranker.predict(pairs), [h["score"] for h in found], atol=1e-5)
    assert [hit["image"] for hit in found] == [pictures[hit["corpus_id"]] for hit in found]
    scores = [hit["score"] for hit in found]
    assert scores == sorted(scores, reverse=True)
    assert len(ranker.predict([])) == 0


def test_a_picture_ranks_sentences_in_its_own_direction(model: Path, pictures: list[Path]) -> None:
    ranker = Ranker(model)
    found = ranker.rank(pictures[2], SENTENCES, top_k=2)
    index = Index.build(MemoryPlace(), model=model, source=FolderSource(pictures[0].parent))
    wanted = index.captions(pictures[2], k=2, sentences=SENTENCES).hits
    assert [hit["text"] for hit in found] == [hit.text for hit in wanted]


@pytest.mark.parametrize(
    ("query", "candidates"), [("a dog", []), ("a dog", ["a cat"]), (Path("x.png"), [Path("y.png")])]
)
def test_candidates_of_the_wrong_kind_are_refused(model: Path, query: Any, candidates: Any) -> None:
    with pytest.raises(DataError, match="rank: give"):
        Ranker(model).rank(query, candidates)


@pytest.fixture(scope="module")
def table(model: Path, pictures: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The table of an index, as somebody would open it with LanceDB alone."""
    uri = tmp_path_factory.mktemp("index")
    Index.build(uri, model=model, source=FolderSource(pictures[0].parent)).close()
    return lancedb.connect(uri).open_table("images-1")


def test_a_vector_search_is_reordered_by_the_model(
    table: Any, model: Path, pictures: list[Path]
) -> None:
    query = table.search(np.ones(8, np.float32), vector_column_name="vector_own")
    found = query.limit(6).rerank(MatcherReranker(model), query_string=SENTENCES[1]).to_arrow()
    wanted = Ranker(model).rank(SENTENCES[1], pictures)
    assert found.column("path").to_pylist() == [hit["image"].name for hit in wanted]
    np.testing.assert_allclose(
        found.column(RELEVANCE).to_pylist(), [hit["score"] for hit in wanted], atol=3e-3
    )


def test_lists_of_vectors_and_flat_lists_score_alike(table: Any, model: Path) -> None:
    reranker = MatcherReranker(model)
    rows = table.search().select(["path", "regions"]).limit(6).to_arrow()
    flat = reranker.rerank_vector("a dog", rows)
    width = reranker._width
    nested = [
        np.array(value, np.float32).reshape(-1, width).tolist()
        for value in rows.column("regions").to_pylist()
    ]
    other = pa.table({"path": rows.column("path"), "regions": pa.array(nested)})
    assert reranker.rerank_vector("a dog", other).column("path") == flat.column("path")


def test_no_rows_stay_no_rows(table: Any, model: Path) -> None:
    rows = table.search().select(["path", "regions"]).limit(6).to_arrow().slice(0, 0)
    assert MatcherReranker(model).rerank_fts("a dog", rows).num_rows == 0


def test_a_table_without_the_column_is_refused(table: Any, model: Path) -> None:
    rows = table.search().select(["path"]).limit(2).to_arrow()
    with pytest.raises(DataError, match="no column 'regions'"):
        MatcherReranker(model).rerank_vector("a dog", rows)
    with pytest.raises(DataError, match="vectors of width"):
        MatcherReranker(model, regions="vector_own").rerank_vector(
            "a dog", table.search().select(["vector_own"]).limit(2).to_arrow()
        )
