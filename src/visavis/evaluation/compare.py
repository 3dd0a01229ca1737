"""Evaluations of the same queries, set against each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from visavis.config import plain
from visavis.evaluation.evaluate import Evaluation
from visavis.evaluation.seeds import Method, check_alike
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
    first: Evaluation | Method, second: Evaluation | Method, resampling: Resampling | None = None
) -> Comparison:
    """Test whether one run, or the mean of one method's runs, is better than another.

    The test is over the images that both were asked about.

    Raises:
        DataError: another corpus, protocol or tie rule; ranks of single queries were not kept.
    """
    check_alike([first, second])
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


def as_json(methods: Sequence[Method], resampling: Resampling | None = None) -> dict[str, object]:
    """Methods, and each of them less the first, as JSON values.

    Raises:
        DataError: methods that cannot be compared.
    """
    check_alike(methods)
    first = methods[0]
    return {
        "format": "visavis-comparison",
        "version": 1,
        "corpus": first.subject.corpus,
        "fingerprint": first.subject.fingerprint,
        "protocol": first.protocol,
        "methods": [
            {
                "name": method.name,
                "runs": [{"name": run.name, "metrics": plain(run.metrics)} for run in method.runs],
                "metrics": plain(method.metrics),
                "spread": method.spread,
                "intervals": plain(method.intervals(resampling)),
            }
            for method in methods
        ],
        "differences": [plain(compare(other, first, resampling)) for other in methods[1:]],
    }
