"""Work in threads, few at a time, with a bound on what may wait."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable
from typing import TypeVar

from visavis.server.problems import Refused

T = TypeVar("T")


def busy(waiting: int) -> Refused:
    """The answer to a request for which there is no place."""
    return Refused(429, f"{waiting} requests are waiting already; try again", retry_after=1)


def late(seconds: float, *, started: bool) -> Refused:
    """The answer to a request that took too long."""
    if started:
        return Refused(504, f"no answer within {seconds:g} seconds; ask for less")
    return Refused(503, f"no worker was free within {seconds:g} seconds", retry_after=2)


class Lane:
    """Threads that take work in order of arrival.

    Args:
        name: of the threads.
        threads: how many.
        waiting: how much work may wait for a thread.
    """

    def __init__(self, name: str, *, threads: int, waiting: int) -> None:
        self.waiting = waiting
        self._threads = threads
        self._taken = 0
        self._pool = concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix=name)

    @property
    def queued(self) -> int:
        """How much work waits for a thread."""
        return max(0, self._taken - self._threads)

    async def run(self, work: Callable[[], T], seconds: float) -> T:
        """The result of a piece of work.

        Raises:
            Refused: too much waits (429), no thread was free in time (503), or it took too long
                (504; a thread cannot be stopped, so the work goes on and its result is dropped).
        """
        if self._taken >= self._threads + self.waiting:
            raise busy(self.waiting)
        loop = asyncio.get_running_loop()
        self._taken += 1
        future = self._pool.submit(work)
        future.add_done_callback(lambda _: _tell(loop, self._free))
        try:
            return await asyncio.wait_for(
                asyncio.shield(asyncio.wrap_future(future)), timeout=seconds
            )
        except TimeoutError:
            if future.done() and not future.cancelled():
                raise  # the work itself says so
            raise late(seconds, started=not future.cancel()) from None
        except asyncio.CancelledError:
            future.cancel()
            raise

    def close(self) -> None:
        """Finish what runs; drop what waits."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _free(self) -> None:
        self._taken -= 1


def _tell(loop: asyncio.AbstractEventLoop, told: Callable[[], None]) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(told)
