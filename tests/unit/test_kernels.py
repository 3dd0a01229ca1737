"""The native kernel against the equations, for every shape, direction and aggregation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from visavis.kernels import native
from visavis.kernels.spec import Aggregation, AttendSpec, Attention, Focal, Items
from visavis.layers.attention import (
    Side,
    aggregate,
    attended_cosine,
    attended_cosine_plain,
    attention_weights,
)
from visavis.models.bfan import focal_part, focal_weights_plain

pytestmark = pytest.mark.skipif(
    bool(native.missing()), reason=f"the native kernel cannot be had: {native.missing()}"
)

LOOKS = ["left", "right", "both"]


@dataclass(frozen=True)
class Case:
    """Both sides in double precision, and how they look at each other."""

    left: Items
    right: Items
    attention: Attention  # the same in single precision

    @property
    def leaves(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        found = self.attention
        return self.left.vectors, self.right.vectors, found.left.vectors, found.right.vectors


def items(mask: Tensor, width: int, seed: int) -> Items:
    """Unit vectors along one line, more or less, and of either sign.

    No affinity is near 0, where clipping has a corner and a normalised affinity no slope: there
    single precision gives no gradient to compare, by whatever form.
    """
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(*mask.shape, width, generator=generator, dtype=torch.float64)
    vectors = vectors * 0.5 / vectors.norm(dim=2, keepdim=True)
    vectors[:, :, 0] += 1
    sign = 1 - 2.0 * (torch.rand(*mask.shape, 1, generator=generator) < 0.3)
    return Items(normalize(sign * vectors, dim=2) * mask.unsqueeze(2), mask)


def case(left: Tensor, right: Tensor, width: int, seed: int, looks: str, **options: Any) -> Case:
    spec = AttendSpec(**{"smooth": 9.0, **options})
    doubles = items(left, width, seed), items(right, width, seed + 1)
    for side in doubles:
        side.vectors.requires_grad_()
    singles = [Items(s.vectors.detach().float().requires_grad_(), s.mask) for s in doubles]
    attention = Attention(
        left=singles[0],
        right=singles[1],
        left_looks=spec if looks != "right" else None,
        right_looks=spec if looks != "left" else None,
    )
    return Case(*doubles, attention)


def plain(given: Case) -> Tensor:
    """Scores by the equations: (left items, right items)."""
    attention = given.attention
    parts = []
    if attention.right_looks is not None:
        parts.append(one_way(given.right, given.left, attention.right_looks))
    if attention.left_looks is not None:
        parts.append(one_way(given.left, given.right, attention.left_looks).T)
    return torch.stack(parts).sum(dim=0)


def one_way(queries: Items, sources: Items, spec: AttendSpec) -> Tensor:
    def weigh(affinity: Tensor, masks: tuple[Tensor, Tensor]) -> Tensor:
        weights = attention_weights(affinity, masks, norm=spec.norm, smooth=spec.smooth)  # type: ignore[arg-type]
        if spec.focal == "none":
            return weights
        # Kept or not is a jump: where rounding could decide it, there is nothing to compare.
        kept = [focal_part(weights * by, masks[1], spec.focal) > 0 for by in (1 - 1e-4, 1 + 1e-4)]
        if spec.focal == "equal":
            assume(torch.equal(*kept))
        else:
            assume(not bool(near_threshold(weights).any()))
        return focal_weights_plain(weights, masks[1], spec.focal)

    relevance = attended_cosine_plain(queries, sources, weigh)  # type: ignore[arg-type]
    return aggregate(relevance, queries.mask, spec.aggregation, spec.lambda_lse)


def near_threshold(weights: Tensor) -> Tensor:
    root = weights.sqrt()
    threshold = (weights * root).sum(dim=-1, keepdim=True) / root.sum(dim=-1, keepdim=True)
    return ((weights / threshold - 1).abs() < 1e-4) & (weights > 0)


def close(found: Tensor | None, expected: Tensor | None, tolerance: float = 1e-5) -> None:
    """Within a share of the largest entry."""
    assert found is not None
    assert expected is not None
    one, other = found.detach().double(), expected.detach().double()
    assert torch.isfinite(one).all()
    assert float((one - other).abs().max()) <= tolerance * max(1.0, float(other.abs().max()))


def check(given: Case, *, share: float = 1.0, seed: int = 0) -> None:
    """Scores and gradients are those of the equations."""
    expected, found = plain(given), native.attended_scores(given.attention)
    close(found, expected)
    generator = torch.Generator().manual_seed(seed)
    slope = torch.randn(expected.shape, generator=generator)
    slope = slope * (torch.rand(expected.shape, generator=generator) < share)
    (expected * slope).sum().backward()
    (found * slope).sum().backward()
    left, right, single_left, single_right = given.leaves
    close(single_left.grad, left.grad)
    close(single_right.grad, right.grad)


def first(lengths: list[int], longest: int) -> Tensor:
    return torch.arange(longest)[None] < torch.tensor(lengths)[:, None]


@st.composite
def masks(draw: Any, items: int, longest: int) -> Tensor:
    """Ragged sides: tails of padding, one token, holes."""
    count, length = draw(st.integers(1, items)), draw(st.integers(1, longest))
    lengths = draw(st.lists(st.integers(1, length), min_size=count, max_size=count))
    mask = first(lengths, length + draw(st.integers(0, 2)))
    if draw(st.booleans()):
        generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
        mask = mask[:, torch.randperm(mask.shape[1], generator=generator)]
    return mask


@settings(max_examples=60, deadline=None)
@given(
    masks(40, 11),
    masks(20, 7),
    st.integers(1, 35),
    st.sampled_from(LOOKS),
    st.sampled_from(get_args(Aggregation)),
    st.sampled_from(get_args(Focal)),
    st.sampled_from([1.0, 0.3, 0.1]),
    st.integers(0, 999),
)
def test_scores_and_gradients_are_those_of_the_equations(
    left: Tensor,
    right: Tensor,
    width: int,
    looks: str,
    aggregation: str,
    focal: str,
    share: float,
    seed: int,
) -> None:
    options = {"aggregation": aggregation, "focal": focal, "lambda_lse": 5.0}
    assume(width > 1)  # in one dimension every cosine is 1 or -1, and has no slope to speak of
    check(case(left, right, width, seed, looks, **options), share=share, seed=seed)


@pytest.mark.parametrize("looks", LOOKS)
@pytest.mark.parametrize("focal", get_args(Focal))
def test_many_items_of_usual_size_agree(looks: str, focal: str) -> None:
    generator = torch.Generator().manual_seed(5)
    lengths = torch.randint(3, 30, (45,), generator=generator).tolist()
    given = case(first([36] * 33, 36), first(lengths, 30), 64, 3, looks, focal=focal, smooth=20.0)
    if focal == "none":
        check(given)
        return
    # Some of 50,000 sources lie at the threshold whatever the seed: nearly all scores agree.
    with torch.no_grad():
        expected = eager(given)
        found = native.attended_scores(given.attention)
    far = ((found - expected).abs() > 1e-5).float().mean()
    assert float(far) < 0.01


def eager(given: Case) -> Tensor:
    """Scores by the equations, whatever lies at the focal threshold."""
    parts = []
    sides = (given.right, given.left), (given.left, given.right)
    looks = given.attention.right_looks, given.attention.left_looks
    for number, ((queries, sources), spec) in enumerate(zip(sides, looks, strict=True)):
        if spec is None:
            continue

        def weigh(
            affinity: Tensor, masks: tuple[Tensor, Tensor], spec: AttendSpec = spec
        ) -> Tensor:
            weights = attention_weights(affinity, masks, norm="clipped_l2norm", smooth=spec.smooth)
            return focal_part(weights, masks[1], spec.focal)  # type: ignore[arg-type]

        relevance = attended_cosine_plain(queries, sources, weigh)  # type: ignore[arg-type]
        scores = aggregate(relevance, queries.mask, spec.aggregation, spec.lambda_lse)
        parts.append(scores.T if number else scores)
    return torch.stack(parts).sum(dim=0)


@settings(max_examples=25, deadline=None)
@given(masks(40, 9), masks(1, 6), st.sampled_from(LOOKS), st.integers(0, 99))
def test_aligned_pairs_are_the_diagonal(left: Tensor, right: Tensor, looks: str, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 1 + right.shape[1], (len(left),), generator=generator)
    given = case(left, first(lengths.tolist(), right.shape[1]), 16, seed, looks)
    expected, found = plain(given).diagonal(), native.attended_pairs(given.attention)
    close(found, expected)
    slope = torch.randn(len(found), generator=generator)
    (expected * slope).sum().backward()
    (found * slope).sum().backward()
    ours, theirs = given.leaves[2:], given.leaves[:2]
    for one, other in zip(ours, theirs, strict=True):
        close(one.grad, other.grad)


@pytest.mark.parametrize("looks", LOOKS)
def test_results_do_not_depend_on_the_number_of_threads(looks: str) -> None:
    before = torch.get_num_threads()
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        try:
            given = case(first([5] * 40, 5), first([9, 1, 4] * 30, 9), 32, 1, looks)
            scores = native.attended_scores(given.attention)
            scores.square().sum().backward()
        finally:
            torch.set_num_threads(before)
        found.append((scores.detach(), *(leaf.grad for leaf in given.leaves[2:])))
    for other in found[1:]:
        assert torch.equal(found[0][0], other[0])
        for one, gradient in zip(found[0][1:], other[1:], strict=True):
            close(gradient, one)


@pytest.mark.parametrize("looks", LOOKS)
@pytest.mark.parametrize("share", [1.0, 0.1])
def test_gradients_do_not_depend_on_blocks(
    looks: str, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    for budget in (1, 4000, 2**24):
        monkeypatch.setattr("visavis.kernels.cells.BLOCK_BYTES", budget)
        monkeypatch.setattr("visavis.kernels.rows.BLOCK_BYTES", budget)
        check(case(first([5, 2, 4] * 9, 5), first([3, 6, 1] * 7, 6), 8, 2, looks), share=share)


@pytest.mark.parametrize("looks", LOOKS)
def test_items_without_a_slope_have_no_gradient(looks: str) -> None:
    given = case(first([5, 2, 4] * 9, 5), first([3, 6, 1] * 7, 6), 8, 2, looks)
    expected, found = plain(given), native.attended_scores(given.attention)
    for scores in (expected, found):
        scores[3:20, 2:17:2].sum().backward()  # more than a fifth of a few rows and columns
    left, right, single_left, single_right = given.leaves
    close(single_left.grad, left.grad)
    close(single_right.grad, right.grad)
    assert single_left.grad is not None
    assert not single_left.grad[20:].any()


@pytest.mark.parametrize("looks", LOOKS)
def test_an_item_is_scored_alone_as_in_company(looks: str) -> None:
    given = case(first([5, 3, 36] * 9, 36), first([9, 1, 4] * 30, 9), 32, 1, looks).attention
    whole = native.attended_scores(given)
    for i, j in ((0, 0), (26, 89), (4, 7)):
        sides = [
            Items(side.vectors[k : k + 1], side.mask[k : k + 1])
            for side, k in ((given.left, i), (given.right, j))
        ]
        alone = Attention(
            left=sides[0],
            right=sides[1],
            left_looks=given.left_looks,
            right_looks=given.right_looks,
        )
        close(native.attended_scores(alone), whole[i : i + 1, j : j + 1], 1e-6)


@pytest.mark.parametrize("share", [1.0, 0.1])
def test_known_gram_matrices_have_their_gradient(share: float) -> None:
    given = case(first([5, 3, 4] * 6, 7), first([2, 6, 1], 6), 8, 2, "both")
    grams = [leaf.detach() @ leaf.detach().transpose(1, 2) for leaf in given.leaves]
    for gram in grams:
        gram.requires_grad_()
    sides = [Items(leaf, side.mask, gram) for leaf, side, gram in zip(
        given.leaves[2:], (given.left, given.right), grams[2:], strict=True)]  # fmt: skip
    spec = given.attention.left_looks
    found = native.attended_scores(
        Attention(left=sides[0], right=sides[1], left_looks=spec, right_looks=spec)
    )
    expected = plain(given)
    slope = torch.rand(expected.shape, generator=torch.Generator().manual_seed(1)) < share
    (found * slope).sum().backward()
    (expected * slope).sum().backward()
    for side, double in zip(sides, (given.left, given.right), strict=True):
        assert side.gram is not None
        assert side.gram.grad is not None
        assert side.vectors.grad is not None
        through = 2 * side.gram.grad @ side.vectors.detach()
        close(side.vectors.grad + through, double.vectors.grad)


@pytest.mark.parametrize("looks", LOOKS)
def test_only_wanted_gradients_are_computed(looks: str) -> None:
    for frozen in (0, 1):
        given = case(first([5, 3], 5), first([2, 6, 1], 6), 8, 2, looks)
        given.leaves[2 + frozen].requires_grad_(False)  # noqa: FBT003
        native.attended_scores(given.attention).sum().backward()
        plain(given).sum().backward()
        assert given.leaves[2 + frozen].grad is None
        close(given.leaves[3 - frozen].grad, given.leaves[1 - frozen].grad)


@pytest.mark.parametrize("looks", LOOKS)
def test_zero_vectors_give_zeros(looks: str) -> None:
    zeros = Items(torch.zeros(3, 4, 5, requires_grad=True), torch.ones(3, 4).bool())
    spec = AttendSpec(smooth=9.0, aggregation="Mean")
    attention = Attention(
        left=zeros,
        right=zeros,
        left_looks=spec if looks != "right" else None,
        right_looks=spec if looks != "left" else None,
    )
    found = native.attended_scores(attention)
    found.sum().backward()
    assert not found.any()
    assert zeros.vectors.grad is not None
    assert torch.isfinite(zeros.vectors.grad).all()


@pytest.mark.parametrize("aggregation", get_args(Aggregation))
def test_nan_is_not_hidden(aggregation: str) -> None:
    given = case(first([5, 3], 5), first([2, 6, 1], 6), 8, 2, "right", aggregation=aggregation)
    with torch.no_grad():
        given.attention.right.vectors[1, 3, 0] = torch.nan
        found = native.attended_scores(given.attention)
    assert torch.isnan(found[:, 1]).all()
    assert torch.isfinite(found[:, [0, 2]]).all()


def test_a_second_derivative_is_refused_in_words() -> None:
    given = case(first([3], 3), first([2], 2), 8, 2, "right")
    scores = native.attended_scores(given.attention)
    with pytest.raises(
        RuntimeError, match=r"no second derivatives; score under .*using\('eager'\)"
    ):
        torch.autograd.grad(scores.sum(), given.leaves[2], create_graph=True)


def halves(given: Case) -> Tensor:
    """Scores whose affinities alone are products of numbers rounded to bfloat16."""
    attention = given.attention
    parts = []
    sides = (given.right, given.left), (given.left, given.right)
    for (queries, sources), spec in zip(
        sides, (attention.right_looks, attention.left_looks), strict=True
    ):
        if spec is not None:
            parts.append(half_way(queries, sources, spec))
    return parts[0] if len(parts) == 1 else parts[0] + parts[1].T


def half_way(queries: Items, sources: Items, spec: AttendSpec) -> Tensor:
    rounded = (side.vectors.detach().float().bfloat16().double() for side in (queries, sources))
    affinity = torch.einsum("aqd,bsd->baqs", *rounded)
    relevance = attended_cosine(
        Side(queries.vectors.detach(), queries.mask),
        Side(sources.vectors.detach(), sources.mask),
        lambda found, masks: attention_weights(
            found, masks, norm="clipped_l2norm", smooth=spec.smooth
        ),
        affinity,
    )
    return aggregate(relevance, queries.mask, spec.aggregation, spec.lambda_lse)


@pytest.mark.parametrize("width", [1, 2, 31, 64, 65])
@pytest.mark.parametrize("looks", LOOKS)
def test_bfloat16_is_for_products_of_vectors_alone(looks: str, width: int) -> None:
    given = case(first([5, 3, 9] * 7, 9), first([2, 6, 1], 6), width, 4, looks)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        found = native.attended_scores(given.attention)
        pairs = native.attended_pairs(
            Attention(
                left=Items(given.attention.left.vectors[:3], given.left.mask[:3]),
                right=given.attention.right,
                left_looks=given.attention.left_looks,
                right_looks=given.attention.right_looks,
            )
        )
    expected = halves(given)
    if looks == "left":
        expected = expected.T
    assert found.dtype == torch.float32
    close(found, expected)
    close(pairs, expected.diagonal())


@pytest.mark.parametrize("share", [1.0, 0.1])
def test_bfloat16_has_nearly_the_same_scores_and_gradients(share: float) -> None:
    found = []
    for half in (False, True):
        given = case(first([36] * 20, 36), first([14, 5, 9] * 5, 14), 128, 4, "both")
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            scores = native.attended_scores(given.attention)
        slope = torch.rand(scores.shape, generator=torch.Generator().manual_seed(1)) < share
        (scores * slope).sum().backward()
        found.append((scores.detach(), *(leaf.grad for leaf in given.leaves[2:])))
    assert not torch.equal(found[0][0], found[1][0])
    for one, other in zip(*found, strict=True):
        assert one is not None
        close(other / one.abs().max(), one / one.abs().max(), 1e-2)
