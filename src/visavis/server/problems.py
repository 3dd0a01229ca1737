"""Errors as RFC 9457 problem details: what was sent wrongly, and nothing of this machine."""

from __future__ import annotations

import http
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.responses import Response

# What looks like a place on a disk does not leave the machine.
_PATH = re.compile(r"(?<![\w/.])(?:[A-Za-z]:)?[\\/][^\s:;,'\"()]+")
_LONGEST = 300


class Refused(Exception):
    """A request that is answered with a problem."""

    def __init__(self, status: int, detail: str, *, retry_after: float | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.retry_after = retry_after

    def response(self) -> Response:
        """The answer."""
        headers = {}
        if self.retry_after is not None:
            headers["retry-after"] = str(max(1, round(self.retry_after)))
        if self.status == http.HTTPStatus.UNAUTHORIZED:
            headers["www-authenticate"] = "Bearer"
        return problem(self.status, self.detail, headers=headers)


def problem(
    status: int,
    detail: str,
    *,
    errors: Sequence[Mapping[str, str]] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A problem as a response."""
    value: dict[str, Any] = {
        "type": "about:blank",
        "title": http.HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    if errors:
        value["errors"] = list(errors)
    # Escaped ASCII: half of a surrogate pair in a message must not break the answer.
    return Response(
        json.dumps(value).encode("ascii"),
        status,
        headers={**(headers or {}), "cache-control": "no-store"},
        media_type="application/problem+json",
    )


def said(error: Exception) -> str:
    """An error of the library in one line, without paths.

    >>> said(ValueError("/home/me/a.jpg: no such file"))
    '(file): no such file'
    """
    text = _PATH.sub("(file)", " ".join(str(error).split()))
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def invalid(errors: Sequence[Mapping[str, Any]]) -> Response:
    """What is wrong with a request that does not fit its schema; what was sent is not repeated."""
    found = [
        {
            "where": ".".join(str(part) for part in error.get("loc", ()))[:_LONGEST],
            "what": str(error.get("msg", "cannot be used"))[:_LONGEST],
        }
        for error in errors[:20]
    ]
    return problem(422, "the request does not fit the interface; see errors", errors=found)
