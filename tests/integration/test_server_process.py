"""The service as a process: slow and rude clients, large bodies, signals."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.integration.serving import fake
from visavis.errors import RecipeError
from visavis.server.app import create_app
from visavis.server.listen import listen
from visavis.server.settings import ServeConfig

ROOT = Path(__file__).parents[2]
ASKED = b"POST /v1/search HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"


@dataclass(frozen=True)
class Running:
    """A service that listens."""

    process: subprocess.Popen[str]
    address: str

    @property
    def place(self) -> tuple[str, int]:
        parts = urlsplit(self.address)
        return str(parts.hostname), int(parts.port or 0)

    def connect(self) -> socket.socket:
        return socket.create_connection(self.place, timeout=10)

    def well(self) -> bool:
        return httpx.get(f"{self.address}healthz", timeout=10).status_code == 200

    def metrics(self) -> str:
        return httpx.get(f"{self.address}metrics", timeout=10).text

    def resident(self) -> int:
        """Bytes of memory."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        (line,) = [line for line in lines if line.startswith("VmRSS")]
        return int(line.split()[1]) * 1024


@contextmanager
def running(data: Path, seconds: float = 0.0, **settings: Any) -> Iterator[Running]:
    command = [sys.executable, "-m", "tests.serve_fake", str(data / "scenes" / "images")]
    process = subprocess.Popen(
        [*command, str(seconds), json.dumps(settings)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:"), process.stderr
        service = Running(process, address)
        while httpx.get(f"{address}readyz").status_code != 200:
            time.sleep(0.02)
        yield service
    finally:
        process.terminate()
        process.communicate(timeout=20)


@pytest.fixture(scope="module")
def service(data: Path) -> Iterator[Running]:
    with running(data, upload_seconds=1.0, connections=60, upload_megabytes=2) as found:
        yield found


def answer_to(service: Running, sent: bytes) -> bytes:
    """What the service says to some bytes until it closes or a second is over."""
    with service.connect() as connection:
        connection.sendall(sent)
        connection.settimeout(1.0)
        said = b""
        try:
            while part := connection.recv(65536):
                said += part
        except (TimeoutError, ConnectionResetError):
            pass
        return said


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 200,
        b"GET\r\n\r\n",
        b"GET /\0 HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: localhost\r\n" + b"x: y\r\n" * 300_000 + b"\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"GET /v1/images/../../etc/passwd HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"GET /page/../app.py HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"GET /page/%2e%2e/app.py HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"GET //etc/passwd HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"GET http://evil.example/ HTTP/1.1\r\nhost: evil.example\r\n\r\n",
        ASKED + b"content-length: 5\r\ncontent-length: 6\r\n\r\n{}",
        ASKED + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        ASKED + b"transfer-encoding: chunked\r\n\r\nzz\r\n",
        ASKED + b"transfer-encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF\r\n{",
        ASKED + b"upgrade: websocket\r\nconnection: upgrade\r\ncontent-length: 0\r\n\r\n",
    ],
)
def test_rude_bytes_are_a_4xx_or_nothing(service: Running, sent: bytes) -> None:
    said = answer_to(service, sent)
    if said:
        assert said.startswith(b"HTTP/1.1 4"), said[:200]
        assert b"root:" not in said
        assert b"import" not in said
    assert service.well()


def test_requests_that_never_arrive_are_given_up(service: Running) -> None:
    began = time.monotonic()
    slow = [service.connect() for _ in range(40)]
    for number, connection in enumerate(slow):
        connection.sendall(b"GET / HT" if number % 2 else ASKED)  # half a line; half the headers
    assert service.well()  # others are served meanwhile
    for connection in slow:
        connection.settimeout(8)
        with suppress(ConnectionResetError):
            assert connection.recv(1000) == b""
        connection.close()
    assert time.monotonic() - began < 8


def test_a_body_that_trickles_is_answered_408(service: Running) -> None:
    with service.connect() as connection:
        connection.settimeout(8)
        connection.sendall(ASKED + b"content-length: 1000\r\n\r\n{")
        for _ in range(5):
            time.sleep(0.1)
            connection.sendall(b" ")
        assert connection.recv(65536).startswith(b"HTTP/1.1 408")


def test_more_connections_than_are_taken_are_told_so(service: Running) -> None:
    held = [service.connect() for _ in range(60)]
    time.sleep(0.2)
    with service.connect() as one_more:
        one_more.settimeout(5)
        assert one_more.recv(1000).startswith(b"HTTP/1.1 429")
    for connection in held:
        connection.close()
    time.sleep(0.2)
    assert service.well()


def test_a_hundred_megabytes_are_refused_and_not_kept(service: Running) -> None:
    before = service.resident()
    part = b"x" * 1_000_000

    def body() -> Iterator[bytes]:
        for _ in range(100):
            yield part

    for path, headers in (
        ("v1/captions", {"content-type": "image/jpeg", "content-length": "100000000"}),
        ("v1/captions", {"content-type": "multipart/form-data; boundary=x"}),
        ("v1/search", {"content-type": "application/json"}),
    ):
        try:
            said = httpx.post(
                f"{service.address}{path}", content=body(), headers=headers, timeout=20
            )
            assert said.status_code in (400, 413)
        except (httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError):
            pass  # the service closed while the client was still sending
    assert service.well()
    assert service.resident() - before < 30_000_000


def test_a_connection_serves_many_requests(service: Running) -> None:
    with httpx.Client(base_url=service.address) as client:
        for _ in range(20):
            assert client.post("/v1/search", json={"query": "a"}).status_code == 200
            assert client.post("/v1/search", json={"query": ""}).status_code == 422


def test_what_is_under_way_is_finished_when_the_service_is_told_to_stop(data: Path) -> None:
    with running(data, seconds=2.0) as service:
        answers: list[int] = []

        def ask(query: str) -> None:
            asked = {"query": query}
            said = httpx.post(f"{service.address}v1/search", json=asked, timeout=20)
            answers.append(said.status_code)

        threads = [threading.Thread(target=ask, args=(query,)) for query in ("a", "b", "c")]
        for thread in threads:
            thread.start()
        # The query that is scored, those that wait, and the one that asks here.
        while "\nvisavis_requests_in_flight 4.0\n" not in service.metrics():
            assert not answers
            time.sleep(0.01)
        service.process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join(20)
        assert answers == [200, 200, 200]
        assert service.process.wait(20) in (0, -signal.SIGTERM)
        with pytest.raises(ConnectionRefusedError):
            service.connect()


def test_a_port_that_is_taken_is_said_in_one_line(data: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = ServeConfig(port=taken.getsockname()[1])
        with pytest.raises(RecipeError, match="--port"):
            listen(create_app(fake(data), config), config, said=lambda _: None)  # type: ignore[arg-type]
    config = ServeConfig(host="127.0.0.1.example", open=True)
    with pytest.raises(RecipeError, match="--host"):
        listen(create_app(fake(data), config), config, said=lambda _: None)  # type: ignore[arg-type]


def test_memory_does_not_grow_with_requests(service: Running) -> None:
    with httpx.Client(base_url=service.address) as client:
        for _ in range(30):
            client.post("/v1/search", json={"query": "a", "k": 40})
        before = service.resident()
        for number in range(100):
            client.post("/v1/search", json={"query": f"a {number}", "k": 40})
    assert service.resident() - before < 10_000_000
