"""The service's routes, over an index whose answers are known."""

from __future__ import annotations

import base64
import hashlib
import io
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from tests.integration.serving import fake, is_problem, picture, serving
from tests.served import SENTENCES, FakeIndex, number


@pytest.fixture
def index(data: Path) -> FakeIndex:
    return fake(data)


@pytest.fixture
def client(index: FakeIndex) -> Iterator[TestClient]:
    with serving(index) as found:
        yield found


def best(index: FakeIndex, query: str, k: int) -> list[str]:
    return sorted(index.sizes, key=lambda name: -number(query + name))[:k]


def test_a_sentence_finds_the_pictures_of_the_highest_scores(
    client: TestClient, index: FakeIndex
) -> None:
    answer = client.post("/v1/search", json={"query": "a red circle", "k": 5}).json()
    assert [hit["id"] for hit in answer["results"]] == best(index, "a red circle", 5)
    assert [hit["rank"] for hit in answer["results"]] == [1, 2, 3, 4, 5]
    assert answer["results"][0]["width"] == 96
    assert answer["gallery"] == 40
    assert answer["model"] == "tiny"


def test_every_stage_says_what_it_took(client: TestClient) -> None:
    answer = client.post("/v1/search", json={"query": "a red circle"}).json()
    assert [stage["name"] for stage in answer["stages"]] == ["filter", "encode", "first", "exact"]
    assert answer["took_ms"] == {
        "filter": 0.1, "encode": 1.0, "first": 3.0, "exact": 20.0, "total": 24.1,
    }  # fmt: skip
    text = client.get("/metrics").text
    assert 'visavis_stage_seconds_count{stage="exact"} 1.0' in text
    assert 'visavis_requests_total{method="POST",route="/v1/search",status="200"} 1.0' in text


def test_a_sentence_that_nothing_fits_is_said_to_be_one(client: TestClient) -> None:
    assert client.post("/v1/search", json={"query": "nothing"}).json()["matches_well"] is False


def test_addresses_in_an_answer_lead_to_the_pictures(client: TestClient, index: FakeIndex) -> None:
    hit = client.post("/v1/search", json={"query": "a star", "k": 1}).json()["results"][0]
    whole = client.get(hit["image_url"])
    assert whole.content == index.picture(hit["id"]).read_bytes()
    assert whole.headers["content-type"] == "image/png"
    small = client.get(hit["thumbnail_url"], params={"w": 50})
    assert small.headers["content-type"] == "image/jpeg"
    with Image.open(io.BytesIO(small.content)) as opened:
        assert opened.width == 96  # no larger than the file, whatever width is wanted


def test_an_unchanged_picture_is_not_sent_again(client: TestClient) -> None:
    for path in ("/v1/images/000001", "/v1/images/000001/thumbnail", "/page/main.js", "/"):
        first = client.get(path)
        again = client.get(path, headers={"if-none-match": first.headers["etag"]})
        assert (first.status_code, again.status_code, again.content) == (200, 304, b"")


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
def test_a_picture_that_is_sent_finds_sentences_and_pictures(client: TestClient, form: str) -> None:
    sent = {"image": ("a", picture(form=form))}
    sentences = client.post("/v1/captions", files=sent, data={"k": 2}).json()
    assert len(sentences["results"]) == 2
    assert {hit["text"] for hit in sentences["results"]} <= set(SENTENCES)
    pictures = client.post("/v1/search/image", files=sent, data={"k": 3}).json()
    assert len(pictures["results"]) == 3


def test_what_the_index_is_given_is_decoded_first(data: Path) -> None:
    seen: list[bytes] = []

    class Watching(FakeIndex):
        def captions(self, picture: object, **how: object) -> object:  # type: ignore[override]
            assert isinstance(picture, bytes)
            seen.append(picture)
            return super().captions(picture)

    hidden = b"<script>alert(1)</script>"
    with serving(Watching(data / "scenes" / "images")) as client:
        sent = {"image": ("../../a.php", picture(form="JPEG", comment=hidden) + hidden)}
        assert client.post("/v1/captions", files=sent).status_code == 200
    assert seen[0][:2] == b"BM"
    assert hidden not in seen[0]


def test_a_picture_of_the_index_asks_by_its_id(client: TestClient, index: FakeIndex) -> None:
    answer = client.post("/v1/search/image", data={"id": "000003", "k": "2"}).json()
    assert [hit["id"] for hit in answer["results"]] == best(index, "000003", 2)
    is_problem(client.post("/v1/captions", data={"id": "999999"}), 404)
    is_problem(client.post("/v1/captions", data={}), 422)


def test_an_explanation_has_a_row_for_each_word_and_a_column_for_each_region(
    client: TestClient,
) -> None:
    why = client.post("/v1/explain", json={"id": "000001", "query": "a red circle"}).json()
    assert why["words"] == ["a", "red", "circle"]
    assert np.shape(why["weights"]) == (3, 4)
    assert np.shape(why["boxes"]) == (4, 4)
    assert len(why["word_scores"]) == 3
    assert why["kind"] == "attention"


def test_reranking_orders_ids_by_a_sentence(client: TestClient) -> None:
    ids = ["000004", "000002", "000009"]
    asked = {"query": "a car", "documents": ["000004", {"id": "000002"}, "000009"], "top_n": 2}
    results = client.post("/v1/rerank", json=asked).json()["results"]
    order = sorted(range(3), key=lambda place: -number("a car" + ids[place]))
    assert [hit["index"] for hit in results] == order[:2]
    assert results[0]["relevance_score"] == pytest.approx(number("a car" + ids[order[0]]))


def test_reranking_orders_sentences_by_a_picture(client: TestClient) -> None:
    texts = ["a dog", "a cat", "a dog"]
    asked = {"query": {"image": "000001"}, "documents": texts, "return_documents": True}
    results = client.post("/v1/rerank", json=asked).json()["results"]
    wanted = sorted(range(3), key=lambda place: -number("000001" + texts[place]))
    assert [hit["index"] for hit in results] == wanted
    assert [hit["document"]["text"] for hit in results] == [texts[place] for place in wanted]


def test_embeddings_come_as_numbers_and_as_base64(client: TestClient) -> None:
    numbers = client.post("/v1/embeddings", json={"input": ["a dog", "a cat"]}).json()
    assert [row["index"] for row in numbers["data"]] == [0, 1]
    asked = {"input": "a cat", "encoding_format": "base64", "model": "tiny"}
    text = client.post("/v1/embeddings", json=asked).json()["data"][0]["embedding"]
    found = np.frombuffer(base64.b64decode(text), dtype="<f4")
    assert found.tolist() == pytest.approx(numbers["data"][1]["embedding"], abs=1e-6)
    is_problem(client.post("/v1/embeddings", json={"input": "a", "model": "other"}), 404)
    is_problem(client.post("/v1/embeddings", json={"input": "a", "dimensions": 3}), 422)


def test_a_sync_is_a_job_that_ends_with_a_report(client: TestClient) -> None:
    started = client.post("/v1/index/sync")
    assert started.status_code == 202
    for _ in range(200):
        job = client.get(started.headers["location"]).json()
        if job["state"] == "done":
            break
        time.sleep(0.01)
    assert job["report"]["added"] == 1
    assert job["report"]["skipped"] == [["a.jpg", "(file): cut off"]]
    is_problem(client.get("/v1/jobs/unknown"), 404)


def test_deleting_takes_a_picture_out_of_the_index_and_leaves_its_file(
    client: TestClient, index: FakeIndex
) -> None:
    assert client.delete("/v1/images/000005").status_code == 204
    assert index.removed == ["000005"]
    assert index.picture("000005").exists()
    is_problem(client.delete("/v1/images/nobody"), 404)


def test_a_service_without_a_folder_for_them_keeps_no_pictures(client: TestClient) -> None:
    sent = picture()
    name = hashlib.sha256(sent).hexdigest()[:16]
    headers = {"content-type": "image/png"}
    is_problem(client.put(f"/v1/images/{name}", content=sent, headers=headers), 409)


def test_models_and_index_name_no_places(client: TestClient) -> None:
    assert client.get("/v1/models").json()["data"][0]["id"] == "tiny"
    about = client.get("/v1/index")
    assert about.json()["images"] == 40
    assert about.json()["limits"]["results"] == 200
    assert "secret" not in about.text


def test_the_page_needs_nothing_from_elsewhere(client: TestClient) -> None:
    names = set(re.findall(r'(?:href|src)="([^"]+)"', client.get("/").text))
    names |= set(re.findall(r'(?:href|src)="([^"]+)"', client.get("/docs").text))
    files = {name for name in names if name.startswith("/page/")}
    assert len(files) >= 6
    for name in sorted(files):
        part = client.get(name)
        assert part.status_code == 200
        assert part.headers["x-content-type-options"] == "nosniff"
        files |= {f"/page/{one}" for one in re.findall(r'from "\./(\w+\.js)"', part.text)}
    for name in sorted(files):
        text = client.get(name).text
        assert not re.search(r"(?:https?:)?//(?!www\.w3\.org)[a-z0-9-]+\.[a-z]", text), name


def test_no_answer_may_run_anything_but_the_page(client: TestClient) -> None:
    for path in ("/", "/v1/models", "/v1/images/000001", "/nowhere", "/metrics"):
        policy = client.get(path).headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy
    for path in ("/", "/docs"):
        page = client.get(path).text
        assert not re.search(r"<script(?![^>]*\bsrc=)", page)
        assert " style=" not in page
        assert not re.search(r"\son[a-z]+=", page)


def test_health_is_told_before_the_index_is_ready(data: Path) -> None:
    loaded = threading.Event()

    class Loading(FakeIndex):
        def warm(self) -> None:
            loaded.wait(30)

    from visavis.server.app import create_app

    with TestClient(
        create_app(Loading(data / "scenes" / "images")), base_url="http://localhost"
    ) as c:
        assert c.get("/healthz").json() == {"status": "ok"}
        is_problem(c.get("/readyz"), 503)
        early = c.post("/v1/search", json={"query": "a"})
        is_problem(early, 503)
        assert int(early.headers["retry-after"]) >= 1
        loaded.set()
        while c.get("/readyz").status_code != 200:
            time.sleep(0.01)
        assert c.post("/v1/search", json={"query": "a"}).status_code == 200
