"""How the service listens, whom it lets in and how much it takes."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from visavis.errors import RecipeError

LOOPBACK = ("localhost", "127.0.0.1", "::1")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """Settings of the service; sizes are upper limits."""

    host: str = "127.0.0.1"
    port: int = 8000  # 0: any free one
    read_keys: tuple[str, ...] = ()  # SHA-256 of keys that may search
    admin_keys: tuple[str, ...] = ()  # SHA-256 of keys that may change the index, too
    open: bool = False  # other machines are let in without keys
    uploads: str | None = None  # folder into which PUT writes pictures
    json_kilobytes: int = 512
    upload_megabytes: int = 20
    megapixels: float = 60.0
    results: int = 200  # k
    candidates: int = 10_000
    query_characters: int = 1000
    filter_characters: int = 1000
    items: int = 500  # documents of a re-ranking, sentences of an embedding
    batch: int = 32  # queries that are scored together
    waiting: int = 128  # requests that wait for each worker; more are answered 429
    seconds: float = 30.0  # for an answer
    upload_seconds: float = 30.0  # for a whole request to arrive
    connections: int = 1000

    def __post_init__(self) -> None:
        for digest in (*self.read_keys, *self.admin_keys):
            if not _DIGEST.fullmatch(digest):
                raise RecipeError("a key is kept as its SHA-256: 64 hexadecimal digits")
        if not 0 <= self.port < 65536:
            raise RecipeError(f"port {self.port}: give one from 1 to 65535, or 0 for a free one")
        sizes = (
            self.json_kilobytes, self.upload_megabytes, self.megapixels, self.results,
            self.candidates, self.query_characters, self.filter_characters, self.items,
            self.batch, self.waiting, self.seconds, self.upload_seconds, self.connections,
        )  # fmt: skip
        if not all(size > 0 for size in sizes):
            raise RecipeError("limits of the service must be larger than 0")

    @property
    def local(self) -> bool:
        """Whether only this machine can reach the service."""
        return is_loopback(self.host)

    @property
    def guarded(self) -> bool:
        """Whether a key is asked for."""
        return bool(self.read_keys or self.admin_keys)

    def check_reach(self) -> None:
        """Refuse to let other machines in without keys, unless told so.

        Raises:
            RecipeError: another host than this one, no keys, and not told so.
        """
        if not (self.local or self.guarded or self.open):
            raise RecipeError(
                f"{self.host}: other machines could reach the pictures and nobody asks them for a "
                "key; set VISAVIS_READ_KEYS or VISAVIS_ADMIN_KEYS, or pass --without-keys"
            )


def is_loopback(host: str) -> bool:
    """Whether a name or address means this machine alone.

    >>> [is_loopback(host) for host in ("localhost", "127.0.0.2", "::1", "0.0.0.0", "a.example")]
    [True, True, True, False, False]
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in LOOPBACK
