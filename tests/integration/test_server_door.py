"""Who is let in: keys, origins, hosts; and where the service listens at all."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.integration.conftest import Visavis
from tests.integration.serving import fake, is_problem, picture, serving
from visavis.errors import RecipeError
from visavis.server.keys import (
    digest_of,
    key_of,
    keys_from_environment,
    keys_from_file,
    needed,
    role_of,
)
from visavis.server.settings import ServeConfig

READ, ADMIN = "read-key-of-the-tests", "admin-key-of-the-tests"
GUARDED = ServeConfig(read_keys=(digest_of(READ),), admin_keys=(digest_of(ADMIN),))
ASKED = {"query": "a red circle"}


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def test_without_the_right_key_nothing_is_answered(data: Path) -> None:
    with serving(fake(data), GUARDED) as client:
        for headers in (
            {},
            bearer("wrong"),
            bearer(""),
            bearer(READ + " "[:0] + "x"),
            bearer(digest_of(READ)),  # what is kept is no key
            {"authorization": f"Basic {READ}"},
            {"x-api-key": ""},
            {"x-api-key": "wrong"},
        ):
            said = client.post("/v1/search", json=ASKED, headers=headers)
            is_problem(said, 401)
            assert said.headers["www-authenticate"] == "Bearer"
        for path in ("/v1/images/000001", "/v1/index", "/metrics", "/openapi.json", "/v1/nowhere"):
            is_problem(client.get(path), 401)


def test_both_ways_of_sending_a_key_open_the_door(data: Path) -> None:
    with serving(fake(data), GUARDED) as client:
        for headers in (bearer(READ), {"x-api-key": READ}, bearer(ADMIN), {"X-API-Key": ADMIN}):
            assert client.post("/v1/search", json=ASKED, headers=headers).status_code == 200


def test_a_read_key_changes_nothing(data: Path) -> None:
    index = fake(data)
    with serving(index, GUARDED) as client:
        sent = picture()
        name = hashlib.sha256(sent).hexdigest()[:16]
        is_problem(client.delete("/v1/images/000001", headers=bearer(READ)), 403)
        is_problem(client.put(f"/v1/images/{name}", content=sent, headers=bearer(READ)), 403)
        is_problem(client.post("/v1/index/sync", headers=bearer(READ)), 403)
        is_problem(client.get("/v1/jobs/x", headers=bearer(READ)), 403)
        assert index.removed == []
        assert client.delete("/v1/images/000001", headers=bearer(ADMIN)).status_code == 204


def test_health_and_the_empty_page_need_no_key(data: Path) -> None:
    with serving(fake(data), GUARDED) as client:
        for path in ("/healthz", "/readyz", "/", "/docs", "/page/main.js"):
            assert client.get(path).status_code == 200


def test_every_way_of_writing_needs_an_admin_key() -> None:
    for method, path in (
        ("PUT", "/v1/images/a"), ("DELETE", "/v1/images/a"), ("PATCH", "/v1/anything"),
        ("POST", "/v1/index/sync"), ("GET", "/v1/jobs/a"),
    ):  # fmt: skip
        assert needed(method, path) == "admin"
    for path in ("/healthz/../v1/search", "/page", "/v1/index", "/unknown"):
        assert needed("GET", path) == "read"


def test_keys_are_kept_as_digests_only(tmp_path: Path) -> None:
    config = ServeConfig(read_keys=keys_from_environment({"VISAVIS_READ_KEYS": READ}, "read"))
    assert READ not in repr(config)
    assert role_of(config, READ) == "read"
    assert role_of(config, None) is None
    file = tmp_path / "keys"
    file.write_text(f"# ours\nadmin {digest_of(ADMIN).upper()}\nread {digest_of(READ)}\n")
    assert keys_from_file(file, "admin") == (digest_of(ADMIN),)
    file.write_text(f"read {digest_of(READ)}\nroot {digest_of(READ)}\n")
    with pytest.raises(RecipeError, match="line 2"):
        keys_from_file(file, "read")


def test_short_keys_and_plain_keys_are_refused() -> None:
    with pytest.raises(RecipeError, match="fewer than 16"):
        keys_from_environment({"VISAVIS_ADMIN_KEYS": "secret"}, "admin")
    with pytest.raises(RecipeError, match="SHA-256"):
        ServeConfig(read_keys=(READ,))


def test_a_key_may_be_any_text() -> None:
    assert key_of({"authorization": "bearer  a b "}) == "a b"
    assert role_of(GUARDED, "\udcff\u2603") is None


def test_other_sites_cannot_ask_through_a_users_browser(data: Path) -> None:
    index = fake(data)
    with serving(index) as client:
        for headers in (
            {"origin": "http://evil.example"},
            {"origin": "null"},
            {"origin": "http://localhost:9999"},
            {"origin": "http://["},
            {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
        ):
            is_problem(client.delete("/v1/images/000001", headers=headers), 403)
            is_problem(client.get("/v1/images/000001", headers=headers), 403)
        assert index.removed == []
        own = {"origin": "http://localhost", "sec-fetch-site": "same-origin"}
        assert client.post("/v1/search", json=ASKED, headers=own).status_code == 200
        link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
        assert client.get("/", headers=link).status_code == 200


def test_a_name_that_was_bent_to_this_machine_is_not_answered(data: Path) -> None:
    with serving(fake(data)) as client:
        for host in (
            "evil.example",
            "evil.example:8000",
            "localhost.evil.example",
            "",
            "[",
            "10.0.0.1",
        ):
            is_problem(client.get("/v1/index", headers={"host": host}), 421)
        for host in ("localhost", "localhost:8000", "127.0.0.1:1", "[::1]:8000"):
            assert client.get("/v1/index", headers={"host": host}).status_code == 200


def test_other_machines_are_not_let_in_without_keys() -> None:
    for host in ("0.0.0.0", "::", "192.168.1.2", "photos.example"):
        with pytest.raises(RecipeError, match="without-keys"):
            ServeConfig(host=host).check_reach()
        ServeConfig(host=host, open=True).check_reach()
        ServeConfig(host=host, read_keys=(digest_of(READ),)).check_reach()
    for host in ("127.0.0.1", "127.8.8.8", "::1", "localhost"):
        ServeConfig(host=host).check_reach()


def test_the_command_refuses_before_it_opens_anything(visavis: Visavis, tmp_path: Path) -> None:
    said = visavis("serve", tmp_path / "no-index", "--host", "0.0.0.0")
    assert said.code == 1
    assert "without-keys" in said.err
    assert len(said.err.splitlines()) == 1


def test_limits_below_one_are_refused() -> None:
    with pytest.raises(RecipeError, match="larger than 0"):
        ServeConfig(batch=0)
    with pytest.raises(RecipeError, match="port"):
        ServeConfig(port=70_000)
