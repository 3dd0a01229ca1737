"""Keys: kept as SHA-256 only, compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from visavis.errors import RecipeError
from visavis.server.settings import ServeConfig

Role = Literal["read", "admin"]
SHORTEST = 16  # characters of a key: fewer can be guessed
_OPEN = ("/", "/docs", "/healthz", "/readyz")


def digest_of(key: str) -> str:
    """What is kept of a key."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def role_of(config: ServeConfig, key: str | None) -> Role | None:
    """What a key may do, or None when it is unknown. Every key is compared, whichever fits."""
    if not config.guarded:
        return "admin"
    digest = digest_of(key or "")
    admin = [hmac.compare_digest(digest, known) for known in config.admin_keys]
    read = [hmac.compare_digest(digest, known) for known in config.read_keys]
    if key is None:
        return None
    return "admin" if any(admin) else "read" if any(read) else None


def needed(method: str, path: str) -> Role | None:
    """What a request must be allowed to do; None: anyone may ask.

    The page itself holds no secret; what it asks for does.
    """
    if path in _OPEN or path.startswith("/page/"):
        return None
    if method in ("PUT", "DELETE", "PATCH") or path.startswith(("/v1/index/", "/v1/jobs/")):
        return "admin"
    return "read"


def key_of(headers: Mapping[str, str]) -> str | None:
    """The key that a request carries: `Authorization: Bearer KEY` or `x-api-key: KEY`."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return headers.get("x-api-key") or None


def keys_from_environment(environment: Mapping[str, str], role: Role) -> tuple[str, ...]:
    """The digests of the keys that VISAVIS_READ_KEYS or VISAVIS_ADMIN_KEYS holds.

    Raises:
        RecipeError: a key that is too short.
    """
    given = environment.get(f"VISAVIS_{role.upper()}_KEYS", "").split(",")
    keys = [key.strip() for key in given if key.strip()]
    if any(len(key) < SHORTEST for key in keys):
        raise RecipeError(
            f"VISAVIS_{role.upper()}_KEYS: a key of fewer than {SHORTEST} characters can be "
            "guessed; `openssl rand -hex 24` makes a good one"
        )
    return tuple(digest_of(key) for key in keys)


def keys_from_file(path: Path, role: Role) -> tuple[str, ...]:
    """The digests that a file holds: a line `read SHA256` or `admin SHA256` each.

    Raises:
        RecipeError: the file cannot be read, or a line of it is something else.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise RecipeError(f"{path}: cannot be read; name a text file of keys") from error
    found = []
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) != 2 or words[0] not in ("read", "admin"):
            raise RecipeError(f"{path}, line {number}: write `read SHA256` or `admin SHA256`")
        if words[0] == role:
            found.append(words[1].lower())
    return tuple(found)
