"""Runs of one method that differ in their seed, taken together.

Their recalls are averaged, and so are the queries that each image found: intervals and paired tests
of a method are those of its mean run, resampled over images. They hold for the seeds that were run;
how much seeds matter, `spread` says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from visavis.errors import DataError
from visavis.evaluation.evaluate import Evaluation, Subject
from visavis.evaluation.saved import load
from visavis.metrics.recall import METRICS
from visavis.metrics.significance import Interval, Resampling, Units, intervals


@dataclass(frozen=True, slots=True, eq=False)
class Method:
    """One or more evaluations of what is the same but for its seed.

    Raises:
        DataError: none, or runs of different corpora, protocols or tie rules.
    """

    name: str
    runs: tuple[Evaluation, ...]

    def __post_init__(self) -> None:
        if not self.runs:
            raise DataError(f"{self.name}: no evaluation given; name at least one saved result")
        check_alike(self.runs)

    @property
    def subject(self) -> Subject:
        """What was evaluated on."""
        return self.runs[0].subject

    @property
    def protocol(self) -> str:
        """The protocol of all runs."""
        return self.runs[0].protocol

    @property
    def ties(self) -> str:
        """The tie rule of all runs."""
        return self.runs[0].ties

    @property
    def metrics(self) -> dict[str, float]:
        """The mean over runs, by column."""
        return {key: float(np.mean([run.metrics[key] for run in self.runs])) for key in METRICS}

    @property
    def spread(self) -> float | None:
        """The standard deviation of rsum over runs; `None` for one run, which shows none."""
        if len(self.runs) == 1:
            return None
        return float(np.std([run.metrics["rsum"] for run in self.runs], ddof=1))

    def units(self) -> tuple[Units, ...]:
        """What each image of each fold found, in the mean over runs.

        Raises:
            DataError: the ranks of single queries were not kept.
        """
        folds = zip(*(run.units() for run in self.runs), strict=True)
        return tuple(
            Units(np.mean([unit.hits for unit in fold], axis=0), fold[0].queries) for fold in folds
        )

    def intervals(self, resampling: Resampling | None = None) -> dict[str, Interval]:
        """Bootstrap intervals of the mean over runs, over images."""
        return intervals(self.units(), resampling or Resampling())


def read_method(text: str) -> Method:
    """`FILE`, `FILE,FILE,...` or `NAME=FILE,...`: saved evaluations of one method.

    A method without a name is called after its first file.

    Raises:
        DataError: a file that is no evaluation, or evaluations that do not belong together.
    """
    name, _, files = text.rpartition("=")
    paths = [Path(part.strip()) for part in files.split(",") if part.strip()]
    if not paths:
        raise DataError(f"{text!r}: no file; write FILE, FILE,FILE or NAME=FILE,FILE")
    return Method(name.strip() or _stem(paths[0]), tuple(load(path) for path in paths))


def _stem(path: Path) -> str:
    """A file's name; that of the run's folder for the `results.json` in it."""
    return path.absolute().parent.name if path.name == "results.json" else path.stem


def check_alike(methods: Sequence[Evaluation | Method]) -> None:
    """Whatever is compared answers for the same queries.

    Raises:
        DataError: another corpus, protocol or tie rule than the first one's.
    """
    first = methods[0]
    for other in methods[1:]:
        for what, one, theirs in (
            ("corpora", first.subject.fingerprint, other.subject.fingerprint),
            ("protocols", first.protocol, other.protocol),
            ("tie rules", first.ties, other.ties),
        ):
            if one != theirs:
                raise DataError(
                    f"{first.name} and {other.name} were evaluated under different {what} "
                    f"({one}, {theirs}); evaluate both alike to compare them"
                )
