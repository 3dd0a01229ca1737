"""What the routes share: the index, its workers, and how library errors become answers."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from visavis.errors import DataError, IndexError_, MissingExtraError, StorageError, VisavisError
from visavis.server.jobs import Jobs
from visavis.server.lanes import Lane
from visavis.server.metrics import Metrics
from visavis.server.pictures import Thumbnails
from visavis.server.problems import Refused, said
from visavis.server.schemas import ID
from visavis.server.scorer import Asked, Scorer
from visavis.server.settings import ServeConfig

if TYPE_CHECKING:
    from visavis.search.index import Answer, Index, Info

T = TypeVar("T")
_DIGEST = re.compile(r" [0-9a-f]{12}$")
_LOG = logging.getLogger("visavis.server")


@dataclass(slots=True)
class Service:
    """An index with workers before it."""

    index: Index
    config: ServeConfig
    metrics: Metrics
    scorer: Scorer
    model_lane: Lane  # explanations, pictures that ask, vectors
    picture_lane: Lane  # thumbnails
    write_lane: Lane
    jobs: Jobs
    thumbnails: Thumbnails
    model_name: str = ""
    ready: bool = False

    @staticmethod
    def make(index: Index, config: ServeConfig) -> Service:
        """A service that is not started yet."""
        metrics = Metrics()
        waiting = config.waiting
        scorer = Scorer(
            index, config.batch, waiting, on_batch=lambda size: metrics.batches.observe(size)
        )
        service = Service(
            index=index,
            config=config,
            metrics=metrics,
            scorer=scorer,
            model_lane=Lane("visavis-model", threads=1, waiting=waiting),
            picture_lane=Lane("visavis-picture", threads=2, waiting=4 * waiting),
            write_lane=Lane("visavis-write", threads=1, waiting=waiting),
            jobs=Jobs(),
            thumbnails=Thumbnails(),
        )
        metrics.watch("visavis_waiting_queries", "Queries that wait.", lambda: scorer.queued)
        return service

    def warm(self) -> None:
        """Load what searching needs; until then the service is not ready."""
        self.model_name = name_of(self.index.info().model)
        self.index.warm()
        self.ready = True

    def start(self) -> None:
        """Start the workers, on the running event loop."""
        self.scorer.start()
        threading.Thread(target=self._warm, name="visavis-warm", daemon=True).start()

    def _warm(self) -> None:
        try:
            self.warm()
        except VisavisError as error:  # it stays not ready; requests say why
            _LOG.error("the index cannot be searched: %s", error)
        except Exception as error:  # noqa: BLE001  (said by `readyz` and the log)
            _LOG.exception("the index cannot be searched: %r", error)

    async def close(self) -> None:
        """Finish what runs."""
        await self.scorer.close()
        for lane in (self.model_lane, self.picture_lane, self.write_lane):
            lane.close()

    async def search(self, query: str, asked: Asked) -> Answer:
        """Pictures for a sentence, scored together with what else arrives.

        Raises:
            Refused: a query that cannot be answered, too much to do, or too late.
        """
        try:
            answer = await self.scorer.answer(query, asked, self.config.seconds)
        except VisavisError as error:
            raise refused(error) from error
        self.metrics.staged(answer.stages)
        return answer

    async def model(self, work: Callable[[], T], image_id: str | None = None) -> T:
        """The result of work with the model, about a picture of the index or none.

        Raises:
            Refused: as `search`; no such picture (404), or none that the index can do (409).
        """
        try:
            return await self._run(self.model_lane, work)
        except IndexError_ as error:
            if image_id is not None and not await self.pictures(lambda: self.holds(image_id)):
                raise Refused(404, "no such picture") from error
            raise Refused(409, said(error)) from error

    async def pictures(self, work: Callable[[], T]) -> T:
        """The result of work with picture files.

        Raises:
            Refused: as `search`.
        """
        return await self._run(self.picture_lane, work)

    async def write(self, work: Callable[[], T]) -> T:
        """The result of a change of the index.

        Raises:
            Refused: as `search`.
        """
        return await self._run(self.write_lane, work)

    async def _run(self, lane: Lane, work: Callable[[], T]) -> T:
        try:
            return await lane.run(work, self.config.seconds)
        except IndexError_:
            raise
        except VisavisError as error:
            raise refused(error) from error

    async def info(self) -> Info:
        """What the index holds."""
        return await self.pictures(self.index.info)

    def check_id(self, image_id: str) -> None:
        """Refuse what cannot be an id.

        Raises:
            Refused: such a text.
        """
        if not re.fullmatch(ID, image_id):
            raise Refused(404, "no such picture")

    def holds(self, image_id: str) -> bool:
        """Whether a picture is in the index, with its file."""
        try:
            self.index.picture(image_id)
        except VisavisError:
            return False
        return True

    def file_of(self, image_id: str) -> Path:
        """The file of a picture, inside an indexed folder.

        Raises:
            Refused: no such picture.
        """
        self.check_id(image_id)
        try:
            return self.index.picture(image_id)
        except VisavisError as error:
            raise Refused(404, "no such picture, or its file is gone") from error


def name_of(model: str) -> str:
    """What a model is called: its name without its digest, a folder by its own name.

    >>> [name_of(model) for model in ("/me/runs/scan/best", "someone/scan", "scan 35e917397e79")]
    ['scan', 'someone/scan', 'scan']
    """
    path = Path(_DIGEST.sub("", model))
    if not path.is_absolute() and len(path.parts) <= 2:
        return str(path)
    return path.parent.name if path.name == "best" else path.name


def refused(error: VisavisError) -> Refused:
    """An error of the library as an answer; what is not the client's doing is told to the log."""
    if isinstance(error, DataError):
        return Refused(422, said(error))
    if isinstance(error, MissingExtraError):
        return Refused(501, said(error))
    if isinstance(error, StorageError):
        _LOG.error("%s", error)
        return Refused(507, "the service cannot write; its log has more")
    _LOG.error("%s", error)
    return Refused(503, "the index cannot answer; the log of the service has more")
