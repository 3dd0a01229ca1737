"""What routes of several files use."""

from __future__ import annotations

from typing import Any

from fastapi import Request

from visavis.server.problems import Refused
from visavis.server.schemas import Problem
from visavis.server.service import Service
from visavis.server.settings import ServeConfig

_SHOWN = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
_MEANING = {
    400: "Not HTTP or JSON that can be read.",
    401: "No key, or an unknown one.",
    403: "The key may not do this, or another site asked.",
    404: "No such thing.",
    408: "The request did not arrive in time.",
    409: "It does not fit what is there.",
    413: "Too large.",
    415: "No picture that can be read, or another kind of content.",
    422: "Something in it cannot be used.",
    429: "Too much to do; try again.",
    503: "Not ready.",
    504: "It took too long.",
}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"description": meaning, "model": Problem, "content": _SHOWN}
    for status, meaning in _MEANING.items()
}


async def service_of(request: Request) -> Service:
    """The service that answers a request.

    Raises:
        Refused: it is not ready.
    """
    service: Service = request.app.state.service
    if not service.ready:
        raise Refused(503, "the index is being loaded", retry_after=2)
    return service


def check_text(config: ServeConfig, text: str) -> None:
    """Refuse a sentence that is too long or no text.

    Raises:
        Refused: such a sentence.
    """
    if len(text) > config.query_characters:
        raise Refused(422, f"a sentence has at most {config.query_characters} characters here")
    if "\0" in text:
        raise Refused(422, "a sentence has no zero characters")


def check_limits(config: ServeConfig, k: int, where: str | None, candidates: int | None) -> None:
    """Refuse to give, filter or score more than the settings allow.

    Raises:
        Refused: more than that.
    """
    if k > config.results:
        raise Refused(422, f"k: at most {config.results} results are given at once")
    if candidates is not None and candidates > config.candidates:
        raise Refused(422, f"candidates: at most {config.candidates} are scored")
    if where is not None and len(where) > config.filter_characters:
        raise Refused(422, f"where: at most {config.filter_characters} characters")
