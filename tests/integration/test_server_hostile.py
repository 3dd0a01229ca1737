"""Input that wants to do harm: it is refused with a 4xx that tells nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from tests.integration.serving import fake, is_problem, serving
from tests.served import FakeIndex
from visavis.server.settings import ServeConfig

JSON = {"content-type": "application/json"}
SMALL = ServeConfig(upload_megabytes=1, json_kilobytes=64, megapixels=2.0)
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><script>1</script></svg>'


@pytest.fixture(scope="module")
def client(data: Path) -> Iterator[TestClient]:
    with serving(fake(data), SMALL) as found:
        yield found


@pytest.mark.parametrize(
    "name",
    [
        "..%2f..%2f..%2fetc%2fpasswd",
        "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "..",
        ".",
        "....//etc/passwd",
        "/etc/passwd",
        "%2fetc%2fpasswd",
        "..%5c..%5cwindows%5cwin.ini",
        "000001.png",
        "000001%00.png",
        "000001%0a",
        "a" * 3000,
        "%ff%fe",
        "~root",
        "C:%5cboot.ini",
        "000001;ls",
        "' OR 1=1 --",
    ],
)
def test_pictures_are_had_by_id_only(client: TestClient, name: str) -> None:
    for path in (f"/v1/images/{name}", f"/v1/images/{name}/thumbnail", f"/page/{name}"):
        answer = client.get(path)
        # The client itself makes / of /page/..
        assert 400 <= answer.status_code < 500 or answer.url.path == "/", path
        assert "root:" not in answer.text
    assert 400 <= client.delete(f"/v1/images/{name}").status_code < 500
    assert 400 <= client.post("/v1/explain", json={"id": name, "query": "a"}).status_code < 500


@pytest.mark.parametrize(
    "body",
    [
        b'{"query": "a", "k": NaN}',
        b'{"query": "a", "k": Infinity}',
        b'{"query": "a", "k": -Infinity}',
        b'{"query": "a", "k": 1e999}',
        b'{"query": "a", "candidates": NaN}',
        b'{"query": NaN}',
        b'{"query": "a", "unknown": NaN}',
        b'{"query": "a", "k": 0}',
        b'{"query": "a", "k": -1}',
        b'{"query": "a", "k": 1.5}',
        b'{"query": "a", "k": "10"}',
        b'{"query": "a", "k": true}',
        b'{"query": "a", "k": 100000000000000000000000}',
        b'{"query": "a", "candidates": 100000000}',
        b'{"query": "a", "exact": "yes"}',
        b'{"query": "a", "rerank": "other"}',
        b'{"query": ""}',
        b'{"query": "   "}',
        b'{"query": null}',
        b'{"query": ["a"]}',
        b'{"query": {"$ne": 1}}',
        b'{"query": "\\ud800"}',
        b'{"\\ud800": "a", "query": "a"}',
        b'{"query": "a\\u0000b"}',
        b'{"query": "' + b"a" * 2000 + b'"}',
        b'{"query": "a", "where": "' + b"x" * 2000 + b'"}',
        b'{"query": "a", "where": 5}',
        b'{"query": "a", "where": "path = \'open"}',
        b"[]",
        b"5",
        b'"a"',
        b"null",
        b"",
    ],
)
def test_a_body_that_does_not_fit_is_422(client: TestClient, body: bytes) -> None:
    value = is_problem(client.post("/v1/search", content=body, headers=JSON), 422)
    assert "aaaaaaaaaa" not in json.dumps(value)


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b'{"query": "a"',
        b"\xff\xfe{}",
        b'{"query": "\xff"}',
        b"[" * 30_000,
        b'{"query": ' + b"[" * 20_000 + b"]" * 20_000 + b"}",
        b'{"query": "a", "k": ' + b"9" * 6000 + b"}",
        b"\0\0\0\0",
    ],
)
def test_what_is_no_json_is_refused(client: TestClient, body: bytes) -> None:
    answer = client.post("/v1/search", content=body, headers=JSON)
    assert answer.status_code in (400, 422)
    is_problem(answer, answer.status_code)


def test_other_kinds_of_content_are_no_json(client: TestClient) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/xml", "a" * 500):
        answer = client.post(
            "/v1/search", content=b'{"query": "a"}', headers={"content-type": kind}
        )
        is_problem(answer, 422)


def test_errors_do_not_repeat_what_the_library_says_of_this_machine(client: TestClient) -> None:
    value = is_problem(client.post("/v1/search", json={"query": "refuse"}), 422)
    assert value["detail"] == "(file): the query has no known word"


def test_bodies_over_the_limit_are_refused_before_they_are_read(client: TestClient) -> None:
    large = b"x" * 1_200_000
    for path, headers in (
        ("/v1/search", JSON),
        ("/v1/captions", {"content-type": "multipart/form-data; boundary=x"}),
        ("/v1/search", {"content-type": "image/png"}),
    ):
        is_problem(client.post(path, content=large, headers=headers), 413)
        chunked = (large[start : start + 50_000] for start in range(0, len(large), 50_000))
        is_problem(client.post(path, content=chunked, headers=headers), 413)


def test_a_length_that_is_no_number_is_no_way_in(client: TestClient) -> None:
    for length in ("-1", "9" * 400, "abc", "1e9", "٣"):
        headers = [(b"content-length", length.encode()), (b"content-type", b"application/json")]
        answer = client.request("POST", "/v1/search", headers=headers, content=b"{")
        assert 400 <= answer.status_code < 500


@pytest.mark.parametrize(
    "sent",
    [
        b"--x\r\n",
        b"--x\r\ncontent-disposition: form-data; name=image\r\n\r\n" + b"a" * 100,
        b"--x\r\ncontent-disposition: form-data; name=" + b"n" * 20_000 + b"\r\n\r\na\r\n--x--",
        b"--x\r\nno header\r\n\r\na\r\n--x--",
        b"".join(
            b'--x\r\ncontent-disposition: form-data; name="k"\r\n\r\n1\r\n' for _ in range(3000)
        )
        + b"--x--",
        b'--x\r\ncontent-disposition: form-data; name="id"\r\n\r\n../../x\r\n--x--',
        b"",
    ],
)
def test_forms_that_are_none_are_refused(client: TestClient, sent: bytes) -> None:
    headers = {"content-type": "multipart/form-data; boundary=x"}
    for path in ("/v1/captions", "/v1/search/image"):
        answer = client.post(path, content=sent, headers=headers)
        assert 400 <= answer.status_code < 500
        is_problem(answer, answer.status_code)


def test_an_address_is_never_fetched(client: TestClient) -> None:
    for given in ("http://127.0.0.1:1/a.png", "file:///etc/passwd", "data:image/png;base64,AAAA"):
        is_problem(client.post("/v1/captions", data={"id": given}), 422)
        is_problem(client.post("/v1/search/image", data={"url": given}), 422)
        is_problem(client.post("/v1/captions", files={"image": ("a", given.encode())}), 415)
        is_problem(
            client.post("/v1/rerank", json={"query": {"image": given}, "documents": ["a"]}), 422
        )
        is_problem(client.post("/v1/rerank", json={"query": "a", "documents": [given]}), 404)


def test_methods_and_paths_that_are_not_there_are_problems(client: TestClient) -> None:
    is_problem(client.get("/nowhere"), 404)
    is_problem(client.get("/v1/search"), 405)
    is_problem(client.request("BREW", "/v1/search"), 405)
    text = client.get("/metrics").text
    assert "nowhere" not in text
    assert "BREW" not in text


def test_an_index_that_breaks_is_a_500_that_tells_nothing(data: Path) -> None:
    class Broken(FakeIndex):
        def explain(self, image_id: str, query: str) -> object:  # type: ignore[override]
            raise RuntimeError("/secret/place is on fire")

    from visavis.server.app import create_app

    app = create_app(Broken(data / "scenes" / "images"))
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
        while client.get("/readyz").status_code != 200:
            pass
        answer = client.post("/v1/explain", json={"id": "000001", "query": "a"})
        is_problem(answer, 500)
        assert answer.headers["x-content-type-options"] == "nosniff"
