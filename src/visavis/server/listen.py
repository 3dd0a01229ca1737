"""Listening on a port: uvicorn, with patience for whole requests only."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from visavis.errors import RecipeError
from visavis.server.settings import ServeConfig

if TYPE_CHECKING:
    from fastapi import FastAPI

HEADER_BYTES = 32_768
_FULL = (
    b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 1\r\ncontent-length: 0\r\n"
    b"connection: close\r\n\r\n"
)


class Patient(H11Protocol):
    """One connection. It is closed when it sends no whole request line and headers in time."""

    most = 1000  # connections at once
    patience = 10.0  # seconds for the first line and the headers of a request
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or send it away when there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self.most:
            transport.write(_FULL)
            transport.close()
            return
        self._deadline = self.loop.call_later(self.patience, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection."""
        self._forget()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Once a request is being answered, its own limits hold."""
        super().handle_events()
        if self.cycle is not None:
            self._forget()

    def _forget(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            self.transport.abort()


class _Server(uvicorn.Server):
    """Says where it listens once it does."""

    announce: Callable[[], None] = staticmethod(lambda: None)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say so."""
        await super().startup(sockets=sockets)
        if self.started:
            self.announce()


def listen(app: FastAPI, config: ServeConfig, *, said: Callable[[str], None]) -> None:
    """Serve until told to stop (SIGINT, SIGTERM); requests under way are finished.

    Args:
        app: the application.
        config: where to listen.
        said: told the address of the page once it can be opened.

    Raises:
        RecipeError: other machines would be let in without keys, or the port is taken.
    """
    config.check_reach()
    bound = _bound(config)
    bounds = {"most": config.connections, "patience": min(10.0, config.upload_seconds)}
    protocol = type("Bounded", (Patient,), bounds)
    server = _Server(
        uvicorn.Config(
            app,
            http=protocol,
            ws="none",
            lifespan="on",
            log_config=None,
            log_level="error",  # what is said of rude clients would fill the log
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=15,
            timeout_graceful_shutdown=round(config.seconds) + 1,
            h11_max_incomplete_event_size=HEADER_BYTES,
        )
    )
    server.announce = lambda: said(_address(bound))
    with bound:
        server.run(sockets=[bound])


def _bound(config: ServeConfig) -> socket.socket:
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    try:
        return socket.create_server((config.host, config.port), family=family, backlog=1024)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RecipeError(
            f"{config.host} port {config.port}: cannot be listened on ({reason}); "
            "pass another --host or --port"
        ) from error


def _address(bound: socket.socket) -> str:
    """Where a browser on this machine finds the page."""
    host, port = bound.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = "localhost"
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"
