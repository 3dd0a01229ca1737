"""A service to be asked in this process, and pictures to ask it with."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi.testclient import TestClient
from PIL import Image

from tests.served import FakeIndex
from visavis.server.app import create_app
from visavis.server.listen import Patient
from visavis.server.settings import ServeConfig

Json = Any


@contextmanager
def serving(index: Any, config: ServeConfig | None = None) -> Iterator[TestClient]:
    """A client of a service that is ready."""
    app = create_app(index, config)
    with TestClient(app, base_url="http://localhost") as client:
        for _ in range(500):
            if client.get("/readyz").status_code == 200:
                break
        yield client


@contextmanager
def listening(index: Any, **settings: Any) -> Iterator[str]:
    """The address of a service that runs in a thread of this process."""
    app = create_app(index, ServeConfig(**settings))
    server = uvicorn.Server(
        uvicorn.Config(app, port=0, http=Patient, ws="none", lifespan="on", log_config=None)
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.02)
        assert thread.is_alive()
    address = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    while httpx.get(f"{address}/readyz").status_code != 200:
        thread.join(0.02)
    yield address
    server.should_exit = True
    thread.join(20)


def fake(data: Path, **settings: Any) -> FakeIndex:
    """An index over the drawn pictures of the tests."""
    return FakeIndex(data / "scenes" / "images", **settings)


def picture(size: tuple[int, int] = (64, 48), form: str = "PNG", **settings: Any) -> bytes:
    """A picture's bytes."""
    held = io.BytesIO()
    Image.new("RGB", size, (200, 30, 30)).save(held, format=form, **settings)
    return held.getvalue()


def is_problem(response: Any, status: int) -> Json:
    """The answer, which must be a problem of a status and name nothing of this machine."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    value = json.loads(response.content)
    assert value["status"] == status
    assert value["detail"]
    for told in ("/secret", "/tmp", "/home", "Traceback", "site-packages", 'File "'):
        assert told not in response.text
    return value
