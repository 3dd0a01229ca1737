"""Dynamic batching: queries that arrive while others are scored are scored together, next."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from visavis.errors import VisavisError
from visavis.server.lanes import busy, late

if TYPE_CHECKING:
    from visavis.search.index import Answer, Index


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """How to search. Only queries that are asked for alike can be scored together."""

    k: int
    where: str | None = None
    candidates: int | None = None
    exact: bool = False


@dataclass(slots=True, eq=False)
class _Waiting:
    query: str
    asked: Asked
    answer: asyncio.Future[Answer]
    started: bool = False


@dataclass(slots=True)
class Scorer:
    """One thread that scores whatever has arrived, at most `batch` queries at a time."""

    index: Index
    batch: int
    waiting: int
    on_batch: Callable[[int], None] = lambda _: None  # told how many were scored together
    _queue: deque[_Waiting] = field(default_factory=deque)
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)
    _task: asyncio.Task[None] | None = None
    _closing: bool = False
    _pool: concurrent.futures.ThreadPoolExecutor = field(
        default_factory=lambda: concurrent.futures.ThreadPoolExecutor(1, "visavis-scorer")
    )

    @property
    def queued(self) -> int:
        """How many queries wait."""
        return len(self._queue)

    def start(self) -> None:
        """Begin to score, on the running event loop."""
        self._task = asyncio.create_task(self._serve())

    async def close(self) -> None:
        """Score what waits, then stop."""
        self._closing = True
        self._arrived.set()
        if self._task is not None:
            await self._task
        self._pool.shutdown(wait=True)

    async def answer(self, query: str, asked: Asked, seconds: float) -> Answer:
        """The answer to one query.

        Raises:
            Refused: too many wait (429), its turn did not come (503), or scoring took too long
                (504).
            VisavisError: the index refuses the query.
        """
        if len(self._queue) >= self.waiting:
            raise busy(self.waiting)
        mine = _Waiting(query, asked, asyncio.get_running_loop().create_future())
        self._queue.append(mine)
        self._arrived.set()
        try:
            return await asyncio.wait_for(mine.answer, timeout=seconds)
        except TimeoutError:
            raise late(seconds, started=mine.started) from None
        finally:
            if not mine.started:  # given up before its turn
                with contextlib.suppress(ValueError):
                    self._queue.remove(mine)

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._arrived.wait()
            together = self._take()
            if not together:
                if self._closing:
                    return
                self._arrived.clear()
                continue
            self.on_batch(len(together))
            found = await loop.run_in_executor(
                self._pool, self._score, [one.query for one in together], together[0].asked
            )
            for one in together:
                _tell(one.answer, found[one.query])

    def _take(self) -> list[_Waiting]:
        """The first that waits, and the others that were asked alike; their turn has come."""
        if not self._queue:
            return []
        asked = self._queue[0].asked
        together = [one for one in self._queue if one.asked == asked][: self.batch]
        for one in together:
            one.started = True
        self._queue = deque(one for one in self._queue if not one.started)
        return together

    def _score(self, queries: Sequence[str], asked: Asked) -> dict[str, Answer | Exception]:
        """Each query's answer or error. One that is refused does not take the others with it."""
        each = list(dict.fromkeys(queries))
        try:
            return dict(zip(each, self._search(each, asked), strict=True))
        except Exception as error:  # noqa: BLE001  (it is raised where the query was asked)
            if len(each) == 1 or not isinstance(error, VisavisError):
                return dict.fromkeys(each, error)
        return {
            query: answer for one in each for query, answer in self._score([one], asked).items()
        }

    def _search(self, queries: list[str], asked: Asked) -> list[Answer]:
        return self.index.search_many(
            queries,
            k=asked.k,
            where=asked.where,
            candidates=asked.candidates,
            exact=asked.exact,
        )


def _tell(waiting: asyncio.Future[Answer], found: Answer | Exception) -> None:
    if waiting.done():  # given up
        return
    if isinstance(found, Exception):
        waiting.set_exception(found)
    else:
        waiting.set_result(found)
