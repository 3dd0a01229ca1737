"""Two evaluations of the same queries, set against each other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from visavis.errors import DataError
from visavis.evaluation.evaluate import Evaluation
from visavis.evaluation.saved import load
from visavis.metrics.significance import Difference, Resampling, paired_test


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The first run less the second, metric by metric."""

    first: str
    second: str
    protocol: str
    corpus: str
    fingerprint: str
    differences: dict[str, Difference]  # of the six recalls and of their sum
    resampling: Resampling


def compare(
    first: Evaluation, second: Evaluation, resampling: Resampling | None = None
) -> Comparison:
    """Test whether one run is better than another, over the images both were asked about.

    Raises:
        DataError: another corpus, protocol or tie rule; ranks of single queries were not kept.
    """
    for what, one, other in (
        ("corpora", first.subject.fingerprint, second.subject.fingerprint),
        ("protocols", first.protocol, second.protocol),
        ("tie rules", first.ties, second.ties),
    ):
        if one != other:
            raise DataError(
                f"{first.name} and {second.name} were evaluated under different {what} "
                f"({one}, {other}); evaluate both alike to compare them"
            )
    settings = resampling or Resampling()
    return Comparison(
        first=first.name,
        second=second.name,
        protocol=first.protocol,
        corpus=first.subject.corpus,
        fingerprint=first.subject.fingerprint,
        differences=paired_test(first.units(), second.units(), settings),
        resampling=settings,
    )


def compare_files(first: Path, second: Path, resampling: Resampling | None = None) -> Comparison:
    """Compare two saved evaluations.

    Raises:
        DataError: a file that is no evaluation, or two that cannot be compared.
    """
    return compare(load(first), load(second), resampling)
