"""What another precision changes for a trained model on a corpus."""

from __future__ import annotations

from dataclasses import replace

from visavis.data.features import Features
from visavis.evaluation.protocols import Protocol
from visavis.models.pretrained import Pretrained
from visavis.recipes.engine import Engine, scorer_of
from visavis.scoring.precision import RankChanges, rank_changes


def precision_changes(
    pretrained: Pretrained, features: Features, folds: Protocol, engine: Engine
) -> RankChanges:
    """Scores in the engine's precision against those in float32: the mean over folds.

    The largest error is that of all folds. Both matrices exist at once.
    """
    exact = replace(engine, block=replace(engine.block, precision="fp32"))
    both = [scorer_of(pretrained, features, engine=each) for each in (exact, _apart(engine))]
    found = []
    for fold in folds.folds:
        one, other = (scorer(fold) for scorer in both)
        found.append(rank_changes(one, other, fold.pairs))
    return RankChanges(
        max_error=max(each.max_error for each in found),
        recall={key: _mean([each.recall[key] for each in found]) for key in found[0].recall},
        i2t_top1=_mean([each.i2t_top1 for each in found]),
        i2t_top10=_mean([each.i2t_top10 for each in found]),
        t2i_top1=_mean([each.t2i_top1 for each in found]),
        t2i_top10=_mean([each.t2i_top10 for each in found]),
    )


def _apart(engine: Engine) -> Engine:
    """With matrices of its own on disk."""
    scratch = None if engine.scratch is None else engine.scratch / "other"
    return replace(engine, scratch=scratch)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
