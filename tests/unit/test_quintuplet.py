"""Losses with mined negatives: eq. 3 to 6 of AOQ, by slow loops and by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from visavis.config import build
from visavis.errors import RecipeError
from visavis.losses import loss_function
from visavis.losses.quintuplet import (
    OfflineConfig,
    OfflineScores,
    adaptive_hinge,
    derived_online,
    offline_hinges,
)
from visavis.training.config import ObjectiveConfig
from visavis.training.offline import ranking_terms
from visavis.types import Scores


def drawn(seed: int = 0, *, decoupled: bool = False) -> tuple[Scores, OfflineScores]:
    count = 5
    generator = torch.Generator().manual_seed(seed)
    i2t = torch.rand(count, count, generator=generator).requires_grad_()
    t2i = torch.rand(count, count, generator=generator).requires_grad_() if decoupled else i2t
    mined = [torch.rand(count, generator=generator).requires_grad_() for _ in range(4)]
    return Scores(i2t, t2i), OfflineScores(*mined)


def own(count: int = 5) -> Tensor:
    return torch.eye(count, dtype=torch.bool)


def slow(scores: Scores, mined: OfflineScores, loss: str, *, g1: float, g2: float) -> float:
    """Eq. 3, 4 or 5 as they stand, pair by pair."""
    assert mined.derived_text is not None
    assert mined.derived_image is not None
    total, count = 0.0, len(mined.to_text)
    for p in range(count):
        sides = (
            (
                scores.i2t[p, p].item(),
                max(scores.i2t[p, q].item() for q in range(count) if q != p),
                mined.to_text[p].item(),
                mined.derived_text[p].item(),
            ),
            (
                scores.t2i[p, p].item(),
                max(scores.t2i[q, p].item() for q in range(count) if q != p),
                mined.to_image[p].item(),
                mined.derived_image[p].item(),
            ),
        )
        for pair, online, off, derived in sides:
            weight = 1.5 - (off - online) / 0.3 if loss == "adaptive_quintuplet" else 1.0
            total += weight * max(0.0, g1 - pair + online) + max(0.0, g2 - pair + off)
            if loss != "off_triplet":
                total += max(0.0, g2 - pair + derived)
    return total


@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("loss", ["off_triplet", "off_quintuplet", "adaptive_quintuplet"])
def test_each_loss_is_its_equation(loss: Any, *, decoupled: bool) -> None:
    scores, mined = drawn(decoupled=decoupled)
    config = ObjectiveConfig(margin=0.2, offline=OfflineConfig(loss=loss, margin=0.05))
    given = OfflineScores(mined.to_text, mined.to_image) if loss == "off_triplet" else mined
    terms = ranking_terms(scores, own(), given, config, loss_function("hardest_hinge"))
    expected = slow(scores, mined, loss, g1=0.2, g2=0.05)
    assert sum(terms.values()).item() == pytest.approx(expected, rel=1e-5)  # type: ignore[union-attr]


def test_gradients_are_those_of_equation_6() -> None:
    scores, mined = drawn(3)
    config = ObjectiveConfig(offline=OfflineConfig(loss="adaptive_quintuplet"))
    ranking = adaptive_hinge(scores, own(), mined, 0.2, config.offline)
    (ranking + offline_hinges(scores, mined)).backward()
    assert mined.derived_text is not None
    alpha, beta, g1 = 0.3, 1.5, 0.2
    for p in range(5):
        row = scores.i2t[p].detach()
        pair = row[p].item()
        online = row.masked_fill(own()[p], -9).max().item()
        off = mined.to_text[p].item()
        first = float(g1 - pair + online > 0)
        second = float(off - pair > 0)
        assert mined.to_text.grad is not None
        wanted = ((pair - online) / alpha - g1 / alpha) * first + second
        assert mined.to_text.grad[p].item() == pytest.approx(wanted, abs=1e-5)
    # The score of the pair: both anchors add to it.
    p = 0
    row, column = scores.i2t[p].detach(), scores.i2t[:, p].detach()
    pair, wanted = row[p].item(), 0.0
    for rivals, off, far in (
        (row, mined.to_text[p].item(), mined.derived_text[p].item()),
        (column, mined.to_image[p].item(), mined.derived_image[p].item()),  # type: ignore[index]
    ):
        online = rivals.masked_fill(own()[p], -9).max().item()
        wanted += ((off - online) / alpha - beta) * float(g1 - pair + online > 0)
        wanted -= float(off > pair) + float(far > pair)
    assert scores.i2t.grad is not None
    assert scores.i2t.grad[p, p].item() == pytest.approx(wanted, abs=1e-5)


def test_a_clamped_weight_is_not_below_zero_and_a_detached_one_has_no_gradient() -> None:
    scores, mined = drawn()
    high = OfflineScores(torch.full((5,), 5.0, requires_grad=True), torch.full((5,), 5.0))
    assert adaptive_hinge(scores, own(), high).item() < 0
    assert adaptive_hinge(scores, own(), high, config=OfflineConfig(clamp=True)).item() == 0
    adaptive_hinge(scores, own(), mined, config=OfflineConfig(detach=True)).backward()
    assert mined.to_text.grad is None


def test_without_offline_adaptation_the_mined_scores_weigh_nothing() -> None:
    scores, mined = drawn()
    other = OfflineScores(mined.to_text + 1, mined.to_image - 1)
    config = OfflineConfig(adapt="positive")
    found = [adaptive_hinge(scores, own(), m, config=config) for m in (mined, other)]
    assert torch.equal(*found)
    assert not torch.equal(found[0], adaptive_hinge(scores, own(), mined))


def test_all_negatives_have_their_anchors_weight_unless_published() -> None:
    scores, mined = drawn()
    i2t = scores.i2t.detach()
    expected = {"paper": 0.0, "code": 0.0}
    hinge = loss_function("sum_hinge")
    weights = []
    for axis, off in ((1, mined.to_text), (0, mined.to_image)):
        weights.append(1.5 - (off - i2t.masked_fill(own(), -9).amax(dim=axis)) / 0.3)
    for p in range(5):
        for q in range(5):
            if p == q:
                continue
            to_text = max(0.0, (0.2 + i2t[p, q] - i2t[p, p]).item())
            to_image = max(0.0, (0.2 + i2t[p, q] - i2t[q, q]).item())
            expected["paper"] += (weights[0][p] * to_text + weights[1][q] * to_image).item()
            expected["code"] += (weights[0][q] * to_text + weights[1][q] * to_image).item()
    for variant, wanted in expected.items():
        offline = OfflineConfig(loss="adaptive_quintuplet", variant=variant)  # type: ignore[arg-type]
        config = ObjectiveConfig(loss="sum_hinge", offline=offline)
        terms = ranking_terms(scores, own(), mined, config, hinge)
        assert terms["ranking"].item() == pytest.approx(wanted, rel=1e-5)


def test_sentences_of_one_image_are_no_negatives_of_each_other() -> None:
    scores, mined = drawn()
    positives = own()
    positives[0, 1] = positives[1, 0] = True
    moved = Scores.shared(scores.i2t.detach().clone())
    moved.i2t[0, 1] = moved.i2t[1, 0] = 9.0
    assert torch.equal(
        adaptive_hinge(moved, positives, mined), adaptive_hinge(scores, positives, mined)
    )


def test_an_anchor_without_a_negative_in_the_batch_adds_nothing_and_is_finite() -> None:
    scores, mined = drawn()
    loss = adaptive_hinge(scores, torch.ones(5, 5, dtype=torch.bool), mined)
    loss.backward()
    assert loss.item() == 0
    assert scores.i2t.grad is not None
    assert torch.isfinite(scores.i2t.grad).all()


def test_only_offline_has_no_term_of_the_batch() -> None:
    scores, mined = drawn()
    settings = OfflineConfig(loss="off_quintuplet", online=False)
    config = ObjectiveConfig(offline=settings)
    terms = ranking_terms(scores, own(), mined, config, loss_function("hardest_hinge"))
    assert terms["ranking"].item() == 0
    torch.testing.assert_close(terms["offline"], offline_hinges(scores, mined))


def test_derived_pairs_of_the_batch_are_those_of_its_hardest_negatives() -> None:
    scores = Scores.shared(torch.tensor([[0.9, 0.8, 0.1], [0.3, 0.5, 0.2], [0.7, 0.6, 0.4]]))
    first, second = derived_online(scores, own(3))
    # t_on of 0, 1, 2: 1, 0, 0. i_on: 2, 0, 1.
    assert first.tolist() == pytest.approx([0.6, -torch.inf, 0.3])
    assert second.tolist() == pytest.approx([0.2, -torch.inf, 0.8])


def test_online_quintuplets_read_no_derived_pairs() -> None:
    config = OfflineConfig(loss="off_quintuplet", derived="online")
    assert not config.reads_derived
    scores, mined = drawn()
    terms = ranking_terms(
        scores,
        own(),
        OfflineScores(mined.to_text, mined.to_image),
        ObjectiveConfig(offline=config),
        loss_function("hardest_hinge"),
    )
    full = OfflineScores(mined.to_text, mined.to_image, *derived_online(scores, own()))
    torch.testing.assert_close(terms["offline"], offline_hinges(scores, full))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"alpha": 0.0}, "alpha must be above 0"),
        ({"margin": -1.0}, "margin must be at least 0"),
        ({"loss": "adaptive_quintuplet", "online": False}, "leave online true"),
        ({"loss": "off_triplets"}, "did you mean 'off_triplet'"),
    ],
)
def test_settings_that_cannot_be_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        build(OfflineConfig, values)


def test_the_collapsed_level_knows_the_weight_of_equal_scores() -> None:
    adaptive = OfflineConfig(loss="adaptive_quintuplet")
    equal = Scores.shared(torch.full((4, 4), 0.3))
    mined = OfflineScores(*(torch.full((4,), 0.3) for _ in range(4)))
    for offline in (OfflineConfig(loss="off_quintuplet"), adaptive):
        config = ObjectiveConfig(offline=offline)
        terms = ranking_terms(equal, own(4), mined, config, loss_function("hardest_hinge"))
        assert terms["ranking"].item() == pytest.approx(4 * config.level)
