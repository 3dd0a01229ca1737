"""The page: a handful of files that are part of the package, read once."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI, Request, Response

from visavis.server.problems import Refused

FOLDER = Path(__file__).with_name("page")
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class _Part:
    data: bytes
    content_type: str
    tag: str


def add(app: FastAPI) -> None:
    """Serve the page: `/`, `/docs`, and the files they need under `/page/`."""
    parts = {path.name: _read(path) for path in FOLDER.iterdir() if path.suffix in _TYPES}

    @app.get("/", include_in_schema=False)
    async def start(request: Request) -> Response:
        return _given(parts["index.html"], request)

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> Response:
        return _given(parts["docs.html"], request)

    @app.get("/page/{name}", include_in_schema=False)
    async def part(name: str, request: Request) -> Response:
        if name not in parts:
            raise Refused(404, "no such file")
        return _given(parts[name], request)


def _read(path: Path) -> _Part:
    data = path.read_bytes()
    return _Part(data, _TYPES[path.suffix], f'"{hashlib.sha256(data).hexdigest()[:24]}"')


def _given(part: _Part, request: Request) -> Response:
    headers = {"etag": part.tag, "cache-control": "no-cache"}
    if part.tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(part.data, headers={**headers, "content-type": part.content_type})
