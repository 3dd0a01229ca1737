"""Background work with an id: one piece at a time, the last ones remembered."""

from __future__ import annotations

import logging
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from visavis.errors import VisavisError
from visavis.server.problems import said

if TYPE_CHECKING:
    from visavis.search.index import Report

_LOG = logging.getLogger("visavis.server")
KEPT = 50  # finished jobs that can be asked about
SKIPPED = 100  # reasons that a report names
Work = Callable[[Callable[[int, int], None]], "Report"]


@dataclass(slots=True)
class Job:
    """One piece of work."""

    id: str
    kind: Literal["sync"] = "sync"
    state: Literal["waiting", "running", "done", "failed"] = "waiting"
    done: int = 0
    total: int | None = None
    report: dict[str, object] | None = None
    error: str | None = None

    def tell(self, done: int, total: int) -> None:
        """How far it is."""
        self.done, self.total = done, total


class Jobs:
    """Runs work in a thread; who asks while some runs is told of that one."""

    def __init__(self) -> None:
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._lock = threading.Lock()

    def start(self, work: Work) -> Job:
        """Begin some work, unless some is under way: then that is the answer."""
        with self._lock:
            under_way = [job for job in self._jobs.values() if job.state in ("waiting", "running")]
            if under_way:
                return under_way[0]
            job = Job(secrets.token_hex(8))
            self._jobs[job.id] = job
            while len(self._jobs) > KEPT:
                self._jobs.popitem(last=False)
        # A daemon: what a stopped service leaves half done, the next sync goes on with.
        threading.Thread(target=_run, args=(job, work), name="visavis-job", daemon=True).start()
        return job

    def find(self, job_id: str) -> Job | None:
        """A job by its id."""
        with self._lock:
            return self._jobs.get(job_id)


def _run(job: Job, work: Work) -> None:
    job.state = "running"
    try:
        report = work(job.tell)
    except VisavisError as error:
        _LOG.warning("sync failed: %s", error)
        job.error, job.state = said(error), "failed"
    except Exception as error:  # noqa: BLE001  (whatever it is, the job has failed)
        _LOG.exception("sync failed: %r", error)
        job.error, job.state = "something went wrong; the log of the service has more", "failed"
    else:
        job.report = _plain(report)
        job.state = "done"


def _plain(report: Report) -> dict[str, object]:
    return {
        "added": report.added,
        "changed": report.changed,
        "removed": report.removed,
        "skipped": [[_name(path), said(ValueError(why))] for path, why in report.skipped[:SKIPPED]],
        "seconds": round(report.seconds, 3),
    }


def _name(path: str) -> str:
    return path.replace("\\", "/").rsplit("/", maxsplit=1)[-1]
