"""Many at once: the same answers, scored together; too many are told so."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.serving import fake, picture
from tests.served import FakeIndex
from visavis.server.app import create_app
from visavis.server.lanes import Lane
from visavis.server.problems import Refused
from visavis.server.scorer import Asked, Scorer
from visavis.server.settings import ServeConfig

QUERIES = [f"query number {place}" for place in range(16)]


@asynccontextmanager
async def asking(index: Any, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client whose requests may be under way together."""
    app = create_app(index, ServeConfig(**settings))
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
    ):
        while (await client.get("/readyz")).status_code != 200:
            await asyncio.sleep(0.01)
        yield client


async def search(client: httpx.AsyncClient, query: str, **asked: Any) -> httpx.Response:
    return await client.post("/v1/search", json={"query": query, **asked})


def untimed(response: httpx.Response) -> Any:
    return {**response.json(), "stages": None, "took_ms": None}


async def until(true: Callable[[], bool]) -> None:
    """Wait for what comes by itself: a busy machine may take its time."""
    async with asyncio.timeout(60):
        while not true():
            await asyncio.sleep(0.005)


async def until_waiting(client: httpx.AsyncClient, count: int) -> None:
    """Wait until so many queries wait for their turn, as the service itself tells."""
    told = f"\nvisavis_waiting_queries {count}.0\n"
    async with asyncio.timeout(60):
        while told not in (await client.get("/metrics")).text:
            await asyncio.sleep(0.005)


def test_sixteen_clients_at_once_get_what_each_gets_alone(data: Path) -> None:
    async def run() -> None:
        index = fake(data, seconds=0.01)
        async with asking(index) as client:
            alone = [untimed(await search(client, query, k=7)) for query in QUERIES]
            index.batches.clear()

            async def one(place: int) -> list[Any]:
                return [untimed(await search(client, QUERIES[place], k=7)) for _ in range(5)]

            together = await asyncio.gather(*(one(place) for place in range(16)))
            assert together == [[answer] * 5 for answer in alone]
            assert max(index.batches) > 4

    asyncio.run(run())


def test_what_arrives_while_others_are_scored_is_scored_in_one_call(data: Path) -> None:
    async def run() -> None:
        index = fake(data, gate=threading.Event())
        async with asking(index, batch=8) as client:
            first = asyncio.create_task(search(client, "first"))
            await until(lambda: index.batches == [1])
            others = [asyncio.create_task(search(client, query)) for query in QUERIES[:12]]
            await until_waiting(client, 12)
            index.gate.set()
            await asyncio.gather(first, *others)
            assert index.batches == [1, 8, 4]

    asyncio.run(run())


def test_queries_that_are_asked_differently_are_not_mixed(data: Path) -> None:
    async def run() -> None:
        index = fake(data, gate=threading.Event())
        async with asking(index) as client:
            first = asyncio.create_task(search(client, "first"))
            await until(lambda: index.batches == [1])
            asked = [{"k": 3}, {"k": 5}, {"k": 3}, {"k": 3, "exact": True}, {"k": 5}]
            others = [asyncio.create_task(search(client, "same", **how)) for how in asked]
            await until_waiting(client, 5)
            index.gate.set()
            answers = await asyncio.gather(*others)
            await first
            assert [len(answer.json()["results"]) for answer in answers] == [3, 5, 3, 3, 5]
            # The same query twice in a batch is scored once.
            assert index.batches == [1, 1, 1, 1]

    asyncio.run(run())


def test_a_query_that_is_refused_does_not_take_the_others_with_it(data: Path) -> None:
    async def run() -> None:
        index = fake(data, gate=threading.Event())
        async with asking(index) as client:
            first = asyncio.create_task(search(client, "first"))
            await until(lambda: index.batches == [1])
            others = [asyncio.create_task(search(client, q)) for q in ("a", "refuse", "b")]
            await until_waiting(client, 3)
            index.gate.set()
            answers = await asyncio.gather(first, *others)
            assert [answer.status_code for answer in answers] == [200, 200, 422, 200]

    asyncio.run(run())


def test_too_many_are_told_to_come_again_and_nobody_else_is_hurt(data: Path) -> None:
    async def run() -> None:
        index = fake(data, gate=threading.Event())
        async with asking(index, waiting=4) as client:
            first = asyncio.create_task(search(client, "first"))
            await until(lambda: index.batches == [1])
            others = [asyncio.create_task(search(client, query)) for query in QUERIES]
            await until(lambda: sum(task.done() for task in others) == 12)
            refused = [task for task in others if task.done()]
            assert len(refused) == 12
            for task in refused:
                assert task.result().status_code == 429
                assert int(task.result().headers["retry-after"]) >= 1
            assert (await client.get("/healthz")).status_code == 200
            index.gate.set()
            assert (await first).status_code == 200
            taken = await asyncio.gather(*(task for task in others if task not in refused))
            assert [answer.status_code for answer in taken] == [200] * 4
            assert (await search(client, "later")).status_code == 200

    asyncio.run(run())


def test_who_waits_too_long_is_told_whether_it_had_begun(data: Path) -> None:
    async def run() -> None:
        index = fake(data, gate=threading.Event())
        async with asking(index, seconds=1.0) as client:
            begun = asyncio.create_task(search(client, "first"))
            await until(lambda: index.batches == [1])
            waits = asyncio.create_task(search(client, "second"))
            assert (await begun).status_code == 504
            late = await waits
            assert late.status_code == 503
            assert "retry-after" in late.headers
            index.gate.set()
            assert (await search(client, "third")).status_code == 200
            assert index.batches[-1] == 1  # what was given up is not scored

    asyncio.run(run())


def test_pictures_that_ask_have_a_bound_of_their_own(data: Path) -> None:
    class Slow(FakeIndex):
        def captions(self, picture: Any, **how: Any) -> Any:
            self._wait()
            return super().captions(picture, **how)

    async def run() -> None:
        index = Slow(data / "scenes" / "images", gate=threading.Event())
        async with asking(index, waiting=2) as client:
            sent = picture((8, 8))

            async def ask() -> int:
                files = {"image": ("a", sent)}
                return (await client.post("/v1/captions", files=files)).status_code

            tasks = [asyncio.create_task(ask()) for _ in range(6)]
            await until(lambda: sum(task.done() for task in tasks) == 3)
            index.gate.set()
            assert sorted(await asyncio.gather(*tasks)) == [200, 200, 200, 429, 429, 429]

    asyncio.run(run())


def test_closing_finishes_what_was_asked(data: Path) -> None:
    async def run() -> None:
        index: Any = fake(data, seconds=0.1)
        scorer = Scorer(index, batch=2, waiting=10)
        scorer.start()
        tasks = [asyncio.create_task(scorer.answer(query, Asked(k=1), 5)) for query in QUERIES[:5]]
        await until(lambda: index.batches == [2])
        await scorer.close()
        answers = await asyncio.wait_for(asyncio.gather(*tasks), 60)
        assert [answer.query for answer in answers] == QUERIES[:5]

    asyncio.run(run())


def test_a_lane_has_its_places_back_after_errors_and_time_outs() -> None:
    async def refused(work: Awaitable[Any]) -> int:
        with pytest.raises(Refused) as error:
            await work
        return error.value.status

    async def run() -> None:
        lane = Lane("test", threads=1, waiting=1)
        gate = threading.Event()
        running = asyncio.create_task(lane.run(lambda: gate.wait(60), 1.0))
        waiting = asyncio.create_task(lane.run(lambda: 1, 0.8))
        await until(lambda: lane.queued == 1)
        assert await refused(lane.run(lambda: 1, 1)) == 429
        assert await refused(waiting) == 503
        assert await refused(running) == 504
        gate.set()
        for _ in range(5):
            with pytest.raises(ZeroDivisionError):
                await lane.run(lambda: 1 // 0, 1)
        assert await lane.run(lambda: 7, 1) == 7
        assert lane.queued == 0
        lane.close()

    asyncio.run(run())
