"""The service over a real index of drawn pictures: the answers are the library's own."""

from __future__ import annotations

import asyncio
import hashlib
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from tests.indexed import drawn_index
from tests.integration.conftest import Visavis
from tests.integration.serving import is_problem, serving
from visavis.data.scenes import read_scenes
from visavis.search.index import CorpusSource, FolderSource, Index
from visavis.search.place import MemoryPlace
from visavis.server.app import create_app
from visavis.server.settings import ServeConfig

SENTENCE = "a red circle above a blue square"


@pytest.fixture(scope="module")
def index(data: Path, run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Index:
    return drawn_index(data, run_folder, tmp_path_factory.mktemp("runs") / "companion")


@pytest.fixture(scope="module")
def client(index: Index) -> Iterator[TestClient]:
    with serving(index) as found:
        yield found


def shown(answer: Any) -> list[tuple[str, float]]:
    return [(hit["id"], round(hit["score"], 5)) for hit in answer.json()["results"]]


def test_searching_over_http_is_searching(client: TestClient, index: Index) -> None:
    for asked in ({"k": 7}, {"k": 3, "candidates": 5}, {"k": 5, "exact": True}):
        answer = client.post("/v1/search", json={"query": SENTENCE, **asked})
        wanted = index.search(SENTENCE, **asked)
        assert shown(answer) == [(hit.id, round(hit.score, 5)) for hit in wanted.hits]
        assert answer.json()["exact"] == wanted.exact


def test_sixteen_clients_at_once_get_what_each_gets_alone(index: Index) -> None:
    queries = [f"{colour} {thing}" for colour in ("a red", "two green", "a large blue", "one")
               for thing in ("circle", "star", "fish", "car on the left")]  # fmt: skip

    async def run() -> None:
        app = create_app(index)
        client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")
        async with app.router.lifespan_context(app), client:
            while (await client.get("/readyz")).status_code != 200:
                await asyncio.sleep(0.02)

            async def ask(query: str) -> list[tuple[str, float]]:
                return shown(await client.post("/v1/search", json={"query": query, "k": 5}))

            alone = [await ask(query) for query in queries]
            for _ in range(3):
                assert await asyncio.gather(*map(ask, queries)) == alone

    asyncio.run(run())


@pytest.mark.parametrize(
    "where",
    [
        "1=1; DROP TABLE images",
        "id = 'a' OR 1 = 1",
        "id = 'a'; --",
        "id = 'a' /* */",
        "repeat('a', 1000000000) = 'b'",
        "(SELECT 1)",
        "id IN (SELECT id FROM images)",
        "secret = 'x'",
        'id = "a"',
        "id = 'open",
        "id LIKE 5",
        "width > 'a'",
        "width > 1e999",
        "width = NaN",
        "(" * 900,
        "NOT " * 200 + "width > 1",
        "",
        "   ",
        "taken >= '2024' AND",
        "\0",
        "path LIKE '%\\'",
        "ｗidth > 1",
    ],
)
def test_what_is_no_filter_is_refused(client: TestClient, where: str) -> None:
    is_problem(client.post("/v1/search", json={"query": "a", "where": where}), 422)


def test_no_pattern_takes_for_ever(client: TestClient) -> None:
    for like in ("%a" * 20 + "%b", "%_" * 40, "%" * 500, "%images%" * 30):
        asked = {"query": "a", "where": f"path LIKE '{like}'"}
        assert client.post("/v1/search", json=asked).status_code == 200


def test_filters_filter(client: TestClient, index: Index) -> None:
    name = index.search("a star", k=1).hits[0].id
    asked = {"query": "a fish", "where": f"id != '{name}' AND width BETWEEN 96 AND 96", "k": 50}
    answer = client.post("/v1/search", json=asked)
    assert len(answer.json()["results"]) == 39
    assert name not in dict(shown(answer))
    assert answer.json()["stages"][0]["name"] == "filter"
    nobody = client.post("/v1/search", json={"query": "a", "where": "tag = 'it''s'"})
    assert nobody.json()["results"] == []


def test_explaining_over_http_is_explaining(client: TestClient, index: Index) -> None:
    hit = index.search(SENTENCE, k=1).hits[0]
    answer = client.post("/v1/explain", json={"id": hit.id, "query": SENTENCE}).json()
    why = index.explain(hit.id, SENTENCE)
    assert answer["words"] == list(why.words)
    assert answer["weights"][1] == pytest.approx(why.weights[1].tolist())
    assert answer["boxes"][0] == pytest.approx(why.boxes[0].tolist())
    assert answer["score"] == pytest.approx(hit.score, abs=1e-3)  # rows lie in half precision
    is_problem(client.post("/v1/explain", json={"id": "0" * 16, "query": "a"}), 404)


def test_a_picture_that_is_known_by_its_bytes_asks_as_itself(
    client: TestClient, index: Index
) -> None:
    hit = index.search(SENTENCE, k=1).hits[0]
    sent = {"image": ("a", index.picture(hit.id).read_bytes())}
    by_bytes = client.post("/v1/captions", files=sent, data={"k": 5}).json()["results"]
    by_id = client.post("/v1/captions", data={"id": hit.id, "k": "5"}).json()["results"]
    assert by_bytes == by_id
    assert [one["text"] for one in by_id] == [one.text for one in index.captions(hit.id, k=5).hits]
    like = client.post("/v1/search/image", files=sent, data={"k": 5})
    assert shown(like) == [
        (one.id, round(one.score, 5)) for one in index.search_by_image(hit.id, k=5).hits
    ]


def test_reranking_gives_the_scores_of_searching(client: TestClient, index: Index) -> None:
    hits = index.search(SENTENCE, k=40, exact=True).hits
    ids = sorted(hit.id for hit in hits)
    results = client.post("/v1/rerank", json={"query": SENTENCE, "documents": ids}).json()[
        "results"
    ]
    score = {hit.id: hit.score for hit in hits}
    assert [ids[one["index"]] for one in results] == sorted(ids, key=lambda name: -score[name])
    assert results[0]["relevance_score"] == pytest.approx(hits[0].score, abs=1e-5)
    is_problem(client.post("/v1/rerank", json={"query": "a", "documents": [*ids, "0" * 16]}), 404)


def test_vectors_of_sentences_are_those_of_the_first_stage(
    client: TestClient, index: Index
) -> None:
    asked = {"input": [SENTENCE, "a star"]}
    rows = client.post("/v1/embeddings", json=asked).json()["data"]
    vectors = index.embed([SENTENCE, "a star"])
    assert rows[0]["embedding"] == pytest.approx(vectors[0].tolist(), abs=1e-6)
    assert len(rows[1]["embedding"]) == vectors.shape[1]


def test_pictures_are_put_found_and_taken_out(
    data: Path, run_folder: Path, photos: Path, tmp_path: Path
) -> None:
    paths = [path for path in read_scenes(data / "scenes").pictures or () if path is not None]
    sent = paths[10].read_bytes()
    name = hashlib.sha256(sent).hexdigest()[:16]
    index = Index.build(MemoryPlace(), model=run_folder, source=FolderSource(photos))
    uploads = photos / "sent"
    with serving(index, ServeConfig(uploads=str(uploads.resolve()))) as client:
        put = client.put(f"/v1/images/{name}", content=sent, headers={"content-type": "image/png"})
        assert put.status_code == 201
        assert put.json()["id"] == name
        assert client.get(put.json()["image_url"]).content == sent
        found = client.post("/v1/search", json={"query": "a circle", "k": 50}).json()["results"]
        assert len(found) == 7
        assert name in {hit["id"] for hit in found}
        assert client.delete(f"/v1/images/{name}").status_code == 204
        assert client.get(f"/v1/images/{name}").status_code == 404
        assert not any(uploads.iterdir())
        shutil.copy(paths[11], photos / "new.png")
        (photos / "000001.png").unlink()
        job = client.post("/v1/index/sync").json()
        while job["state"] not in ("done", "failed"):
            time.sleep(0.05)
            job = client.get(f"/v1/jobs/{job['id']}").json()
        assert job["error"] is None
        assert (job["report"]["added"], job["report"]["removed"]) == (1, 1)
        assert client.get("/v1/index").json()["images"] == 6


def test_a_link_that_leads_out_of_the_folder_is_not_followed(
    data: Path, run_folder: Path, photos: Path, tmp_path: Path
) -> None:
    index = Index.build(MemoryPlace(), model=run_folder, source=FolderSource(photos))
    hit = index.search("a circle", k=1).hits[0]
    path = index.picture(hit.id)
    outside = tmp_path / "outside.png"
    shutil.copy(path, outside)
    path.unlink()
    path.symlink_to(outside)
    with serving(index) as client:
        is_problem(client.get(f"/v1/images/{hit.id}"), 404)
        is_problem(client.get(f"/v1/images/{hit.id}/thumbnail"), 404)


@pytest.mark.slow
def test_the_command_serves_an_index_until_it_is_told_to_stop(
    data: Path, run_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "index"
    built = Index.build(folder, model=run_folder, source=CorpusSource(data / "scenes"))
    wanted = [hit.id for hit in built.search(SENTENCE, k=5).hits]
    built.close()
    process = subprocess.Popen(
        [sys.executable, "-m", "visavis", "serve", str(folder), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    said = process.stdout.readline()
    found = re.fullmatch(r"open (http://127\.0\.0\.1:\d+)/  \(Ctrl\+C stops\)\n", said)
    assert found is not None
    with httpx.Client(base_url=found[1], timeout=30) as client:
        while client.get("/readyz").status_code != 200:
            time.sleep(0.05)
        assert "<title>visavis</title>" in client.get("/").text
        answer = client.post("/v1/search", json={"query": SENTENCE, "k": 5})
        assert [hit["id"] for hit in answer.json()["results"]] == wanted
    process.terminate()
    out, err = process.communicate(timeout=30)
    assert (out, err) == ("", "")


def test_the_command_says_in_one_line_that_there_is_no_index(
    visavis: Visavis, tmp_path: Path
) -> None:
    said = visavis("serve", tmp_path)
    assert said.code == 1
    assert "no index" in said.err
    assert len(said.err.splitlines()) == 1
