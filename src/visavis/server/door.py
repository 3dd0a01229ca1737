"""What every request passes before a route sees it: host, origin, key, size, patience."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from visavis.server.keys import key_of, needed, role_of
from visavis.server.metrics import Metrics
from visavis.server.problems import Refused, problem
from visavis.server.settings import ServeConfig, is_loopback

_LOG = logging.getLogger("visavis.server")
_QUIET = ("/healthz", "/readyz", "/metrics")  # not worth a line each time
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


class Door:
    """Lets a request in or answers it; adds headers to every answer and counts it."""

    def __init__(self, app: ASGIApp, config: ServeConfig, metrics: Metrics) -> None:
        self.app = app
        self.config = config
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection of the server interface."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        self.metrics.in_flight.inc()
        try:
            await self._answered(scope, receive, answer)
        finally:
            self.metrics.in_flight.dec()
            self._count(scope, status, time.perf_counter() - began)

    async def _answered(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def answer(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            self._check(scope)
            await self.app(scope, Body(scope, receive, self.config).receive, answer)
        except Refused as refused:
            await refused.response()(scope, receive, send)
        except Exception as error:
            _LOG.exception("%s %s failed: %r", scope["method"], _route(scope), error)
            if started:
                raise
            await problem(500, "something went wrong; the log of the service has more")(
                scope, receive, send
            )

    def _check(self, scope: Scope) -> None:
        """Refuse whoever may not ask, before anything is read."""
        headers = Headers(scope=scope)
        check_origin(headers, self.config)
        need = needed(scope["method"], scope["path"])
        if need is None:
            return
        role = role_of(self.config, key_of(headers))
        if role is None:
            raise Refused(401, "send a key: `Authorization: Bearer KEY` or `x-api-key: KEY`")
        if need == "admin" and role != "admin":
            raise Refused(403, "this key may only read")

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        route = _route(scope)
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self.metrics.requests.labels(route, method, str(status)).inc()
        self.metrics.seconds.labels(route).observe(seconds)
        if scope["path"] not in _QUIET:
            _LOG.info("%s %s %d %.1f ms", method, route, status, seconds * 1000)


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"})


def _route(scope: Scope) -> str:
    """The route's pattern: what a client may write must not fill the log or the metrics."""
    return str(getattr(scope.get("route"), "path", "none"))


def check_origin(headers: Mapping[str, str], config: ServeConfig) -> None:
    """Refuse what another site makes a browser ask, and names that merely lead to this machine.

    A service on this machine alone needs no keys, so any page in its user's browser could ask it:
    directly, which the browser says, or through a name of its own that it lets point here.

    Raises:
        Refused: such a request.
    """
    host = headers.get("host", "")
    if config.local and not config.guarded and not is_loopback(_name(host)):
        raise Refused(421, "this service answers to localhost alone")
    origin = headers.get("origin")
    if origin is not None and urlsplit_or_empty(origin) != host.lower():
        raise Refused(403, "requests of other sites are not answered")
    if (
        headers.get("sec-fetch-site") == "cross-site"
        and headers.get("sec-fetch-mode") != "navigate"
    ):
        raise Refused(403, "requests of other sites are not answered")


def urlsplit_or_empty(origin: str) -> str:
    """Host and port of an origin; empty for `null` and for what is none.

    >>> urlsplit_or_empty("http://localhost:8000"), urlsplit_or_empty("http://[")
    ('localhost:8000', '')
    """
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _name(host: str) -> str:
    """A host without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


class Body:
    """A request's body with a bound on its size and on how long it may take to arrive."""

    def __init__(self, scope: Scope, receive: Receive, config: ServeConfig) -> None:
        self._receive = receive
        self._limit = _limit(scope, config)
        self._read = 0
        self._until = time.monotonic() + config.upload_seconds
        self._whole = False
        length = Headers(scope=scope).get("content-length", "0")
        if length.isdecimal() and int(length[:20]) > self._limit:
            raise self._too_large()

    async def receive(self) -> Message:
        """The next part.

        Raises:
            HTTPException: 413 for too much, 408 for too slow; the framework passes these on.
        """
        if self._whole:  # what follows says only that the client is gone
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), self._until - time.monotonic())
        except TimeoutError:
            raise HTTPException(408, "the request did not arrive in time") from None
        self._read += len(message.get("body", b""))
        self._whole = not message.get("more_body", False)
        if self._read > self._limit:
            large = self._too_large()
            raise HTTPException(large.status, large.detail)
        return message

    def _too_large(self) -> Refused:
        return Refused(413, f"at most {self._limit:,} bytes are taken here")


def _limit(scope: Scope, config: ServeConfig) -> int:
    content = Headers(scope=scope).get("content-type", "").lower()
    uploads = content.startswith(("multipart/", "image/"))
    return config.upload_megabytes * 1_000_000 if uploads else config.json_kilobytes * 1000
