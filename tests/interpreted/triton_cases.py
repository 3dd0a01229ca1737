"""The Triton kernel against the equations in double precision.

Triton decides when it is imported whether it interprets, so these run in a process of their own:
`tests/unit/test_triton.py` starts it, with the interpreter on any machine, and without it where
there is a CUDA device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from visavis.kernels import triton_attend, triton_launch
from visavis.kernels.spec import FOCAL_TIE, Aggregation, AttendSpec, Attention, Focal, Items
from visavis.layers.attention import (
    aggregate,
    attended_cosine,
    attended_cosine_plain,
    attention_weights,
)
from visavis.models.bfan import focal_part

DEVICE = "cpu" if triton_launch.interpreting() else "cuda"
LOOKS = ("right", "left", "both")
RAGGED = ([5, 9, 1], [2, 6, 1, 12, 3, 4])


@dataclass(frozen=True)
class Case:
    """Both sides in double precision, and what is asked for in another."""

    left: Items
    right: Items
    attention: Attention

    @property
    def leaves(self) -> list[Tensor]:
        """The vectors that the kernel gets."""
        return [self.attention.left.vectors, self.attention.right.vectors]

    @property
    def doubles(self) -> list[Tensor]:
        return [self.left.vectors, self.right.vectors]


def first(lengths: list[int], longest: int) -> Tensor:
    return torch.arange(longest)[None] < torch.tensor(lengths)[:, None]


def items(mask: Tensor, width: int, seed: int, dtype: torch.dtype) -> Items:
    """Unit vectors of either sign whose affinities are not near 0, where clipping has a corner."""
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(*mask.shape, width, generator=generator, dtype=torch.float64)
    vectors = vectors * 0.5 / vectors.norm(dim=2, keepdim=True)
    vectors[:, :, 0] += 1
    sign = 1 - 2.0 * (torch.rand(*mask.shape, 1, generator=generator) < 0.3)
    vectors = torch.nn.functional.normalize(sign * vectors, dim=2) * mask.unsqueeze(2)
    return Items(vectors.to(dtype).double().requires_grad_(), mask)


def case(
    left: Tensor,
    right: Tensor,
    looks: str = "both",
    *,
    width: int = 20,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    **options: Any,
) -> Case:
    """A case whose focus no rounding decides: seeds are tried until there is one."""
    spec = AttendSpec(**{"smooth": 9.0, **options})
    for shift in range(0, 200, 2):
        sides = [
            items(mask, width, seed + shift + n, dtype) for n, mask in enumerate((left, right))
        ]
        leaves = [
            Items(side.vectors.detach().to(DEVICE, dtype).requires_grad_(), side.mask.to(DEVICE))
            for side in sides
        ]
        attention = Attention(
            left=leaves[0],
            right=leaves[1],
            left_looks=spec if looks != "right" else None,
            right_looks=spec if looks != "left" else None,
        )
        found = Case(sides[0], sides[1], attention)
        if decided(found):
            return found
    raise AssertionError("no seed without attention at the threshold")


def ways(given: Case) -> list[tuple[Items, Items, AttendSpec, bool]]:
    """Queries, sources, how they look, and whether rows of scores are sources."""
    specs = given.attention.right_looks, given.attention.left_looks
    pairs = (given.right, given.left, True), (given.left, given.right, False)
    return [
        (queries, sources, spec, straight)
        for (queries, sources, straight), spec in zip(pairs, specs, strict=True)
        if spec is not None
    ]


def decided(given: Case) -> bool:
    kept: list[bool] = []

    def weigh(affinity: Tensor, masks: tuple[Tensor, Tensor], spec: AttendSpec) -> Tensor:
        weights = attention_weights(affinity, masks, norm="clipped_l2norm", smooth=spec.smooth)
        if spec.focal == "none":
            return weights
        limit = 1 / masks[1].sum(dim=-1, keepdim=True)
        if spec.focal == "prob":
            root = weights.sqrt()
            limit = (weights * root).sum(dim=-1, keepdim=True) / root.sum(dim=-1, keepdim=True)
        near = (weights / (limit * (1 - FOCAL_TIE)) - 1).abs() < FOCAL_TIE * 0.7
        kept.append(not bool(near.any()))
        return weights

    with torch.no_grad():
        for queries, sources, spec, _ in ways(given):
            attended_cosine(queries, sources, lambda a, m, spec=spec: weigh(a, m, spec))  # type: ignore[arg-type, misc]
    return all(kept)


def expected(given: Case) -> Tensor:
    """Scores by the equations, with attended vectors: (left items, right items)."""
    total = torch.zeros(len(given.left.mask), len(given.right.mask), dtype=torch.float64)
    for queries, sources, spec, straight in ways(given):

        def weigh(
            affinity: Tensor, masks: tuple[Tensor, Tensor], spec: AttendSpec = spec
        ) -> Tensor:
            weights = attention_weights(affinity, masks, norm="clipped_l2norm", smooth=spec.smooth)
            return weights if spec.focal == "none" else focal_part(weights, masks[1], spec.focal)

        relevance = attended_cosine_plain(queries, sources, weigh)  # type: ignore[arg-type]
        scores = aggregate(relevance, queries.mask, spec.aggregation, spec.lambda_lse)
        total = total + (scores if straight else scores.T)
    return total


def close(found: Tensor | None, wanted: Tensor | None, share: float) -> None:
    """Within a share of the largest entry."""
    assert found is not None
    assert wanted is not None
    one, other = found.detach().cpu().double(), wanted.detach()
    assert torch.isfinite(one).all()
    assert float((one - other).abs().max()) <= share * max(1e-3, float(other.abs().max()))


def check(given: Case, *, share: float = 1.0, seed: int = 0, limits: tuple[float, float]) -> None:
    """Scores and gradients are those of the equations; `share` of the scores have a slope."""
    assert triton_attend.refusal(given.attention) == ""
    wanted, found = expected(given), triton_attend.attended_scores(given.attention)
    assert found.dtype == torch.float32
    close(found, wanted, limits[0])
    generator = torch.Generator().manual_seed(seed)
    slope = torch.randn(wanted.shape, generator=generator)
    slope = slope * (torch.rand(wanted.shape, generator=generator) < share)
    compare_gradients(given, wanted, found, slope, limits[1])


def compare_gradients(
    given: Case, wanted: Tensor, found: Tensor, slope: Tensor, limit: float
) -> None:
    ours = torch.autograd.grad((found * slope.to(DEVICE)).sum(), given.leaves)
    theirs = torch.autograd.grad((wanted * slope).sum(), given.doubles)
    for one, other in zip(ours, theirs, strict=True):
        close(one, other, limit)


EXACT = (1e-5, 1e-4)


@pytest.mark.parametrize("aggregation", get_args(Aggregation))
@pytest.mark.parametrize("looks", ["right", "left"])
def test_scan_of_either_direction_and_every_aggregation(looks: str, aggregation: str) -> None:
    left, right = first(RAGGED[0], 9), first(RAGGED[1], 12)
    check(case(left, right, looks, aggregation=aggregation), limits=EXACT)


@pytest.mark.parametrize("focal", ["equal", "prob"])
@pytest.mark.parametrize("looks", LOOKS)
def test_bfan_of_either_focus_in_one_direction_or_both(looks: str, focal: str) -> None:
    left, right = first(RAGGED[0], 9), first(RAGGED[1], 12)
    check(case(left, right, looks, focal=focal, aggregation="Mean", smooth=20.0), limits=EXACT)


@pytest.mark.parametrize(("longest", "longer"), [(1, 1), (1, 12), (36, 1), (36, 31), (65, 17)])
def test_odd_lengths(longest: int, longer: int) -> None:
    left, right = first([longest, 1], longest), first([longer, 1, max(1, longer - 3)], longer)
    check(case(left, right, "both", width=37), limits=EXACT)


@settings(max_examples=5, deadline=None)
@given(
    st.lists(st.integers(1, 7), min_size=1, max_size=3),
    st.lists(st.integers(1, 9), min_size=1, max_size=4),
    st.sampled_from(LOOKS),
    st.sampled_from(get_args(Focal)),
    st.sampled_from([1.0, 0.3]),
    st.integers(0, 999),
)
def test_any_shape_with_holes_and_few_slopes(
    lengths: list[int], longer: list[int], looks: str, focal: str, share: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    left, right = first(lengths, 7), first(longer, 10)
    right = right[:, torch.randperm(10, generator=generator)]
    check(case(left, right, looks, seed=seed, focal=focal), share=share, seed=seed, limits=EXACT)


def test_aligned_pairs_are_the_diagonal() -> None:
    given = case(first([5, 3, 9, 1], 9), first([17, 2, 4, 1], 17), "both")
    wanted, found = expected(given).diagonal(), triton_attend.attended_pairs(given.attention)
    close(found, wanted, EXACT[0])
    slope = torch.tensor([1.0, -2.0, 0.0, 0.5])
    compare_gradients(given, wanted, found, slope, EXACT[1])


@pytest.mark.parametrize("looks", LOOKS)
def test_an_item_is_scored_alone_as_in_company(looks: str) -> None:
    given = case(first([5, 3], 20), first([9, 1, 4, 2, 3] * 4, 9), looks).attention
    whole = triton_attend.attended_scores(given)
    sides = [
        Items(side.vectors[k : k + 1], side.mask[k : k + 1])
        for side, k in ((given.left, 1), (given.right, 17))
    ]
    alone = Attention(
        left=sides[0], right=sides[1], left_looks=given.left_looks, right_looks=given.right_looks
    )
    close(triton_attend.attended_scores(alone), whole[1:2, 17:18].detach().cpu().double(), 1e-6)


def test_known_gram_matrices_have_their_gradient_or_none() -> None:
    for wanted in (True, False):
        given = case(first([5, 3], 5), first([2, 6, 1], 6), "both")
        sides = []
        for side in (given.attention.left, given.attention.right):
            gram = (side.vectors @ side.vectors.transpose(1, 2)).detach().requires_grad_(wanted)
            sides.append(Items(side.vectors, side.mask, gram))
        spec = given.attention.left_looks
        found = triton_attend.attended_scores(
            Attention(left=sides[0], right=sides[1], left_looks=spec, right_looks=spec)
        )
        found.square().sum().backward()
        theirs = torch.autograd.grad(expected(given).square().sum(), given.doubles)
        for side, other in zip(sides, theirs, strict=True):
            assert side.vectors.grad is not None
            assert side.gram is not None
            assert (side.gram.grad is not None) == wanted
            if side.gram.grad is not None:
                through = 2 * side.gram.grad @ side.vectors.detach()
                close(side.vectors.grad + through, other, EXACT[1])


@pytest.mark.parametrize("frozen", [0, 1])
def test_only_wanted_gradients_are_computed(frozen: int) -> None:
    given = case(first([5, 3], 5), first([2, 6, 1], 6), "both")
    given.leaves[frozen].requires_grad_(False)  # noqa: FBT003
    triton_attend.attended_scores(given.attention).sum().backward()
    theirs = torch.autograd.grad(expected(given).sum(), given.doubles)
    assert given.leaves[frozen].grad is None
    close(given.leaves[1 - frozen].grad, theirs[1 - frozen], EXACT[1])


def test_splits_change_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for splits in (1, 3):
        monkeypatch.setattr(triton_launch, "MOST_SPLITS", splits)
        given = case(first([5, 3, 4], 5), first([9, 6, 1] * 4, 9), "both")
        triton_attend.attended_scores(given.attention).square().sum().backward()
        found.append([leaf.grad for leaf in given.leaves])
    for one, other in zip(*found, strict=True):
        assert one is not None
        assert other is not None
        close(one, other.cpu().double(), 1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_for_products_of_vectors_alone(dtype: torch.dtype) -> None:
    left, right = first(RAGGED[0], 9), first(RAGGED[1], 12)
    check(case(left, right, "both", dtype=dtype), limits=(1e-5, 1e-2))


def test_autocast_rounds_vectors_for_their_product_alone() -> None:
    given = case(first([5, 3], 5), first([2, 6, 1], 6), "both")
    exact = triton_attend.attended_scores(given.attention)
    with torch.autocast(DEVICE, dtype=torch.bfloat16):
        found = triton_attend.attended_scores(given.attention)
    assert found.dtype == torch.float32
    assert not torch.equal(found, exact)
    close(found, exact.detach().cpu().double(), 1e-2)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy sees the NaN, too
def test_nan_is_not_hidden() -> None:
    for aggregation in get_args(Aggregation):
        given = case(first([5, 3], 5), first([2, 6, 1], 6), "right", aggregation=aggregation)
        with torch.no_grad():
            given.attention.right.vectors[1, 3, 0] = torch.nan
            found = triton_attend.attended_scores(given.attention)
        assert torch.isnan(found[:, 1]).all()
        assert torch.isfinite(found[:, [0, 2]]).all()


def test_zero_vectors_give_zeros() -> None:
    zeros = Items(
        torch.zeros(2, 3, 5, device=DEVICE, requires_grad=True),
        torch.ones(2, 3, device=DEVICE).bool(),
    )
    spec = AttendSpec(smooth=9.0, aggregation="Mean")
    attention = Attention(left=zeros, right=zeros, left_looks=spec, right_looks=spec)
    found = triton_attend.attended_scores(attention)
    found.sum().backward()
    assert not found.any()
    assert zeros.vectors.grad is not None
    assert torch.isfinite(zeros.vectors.grad).all()


def test_a_second_derivative_is_refused_in_words() -> None:
    given = case(first([3], 3), first([2], 2), "right")
    scores = triton_attend.attended_scores(given.attention)
    with pytest.raises(
        RuntimeError, match=r"no second derivatives; score under .*using\('eager'\)"
    ):
        torch.autograd.grad(scores.sum(), given.leaves[0], create_graph=True)


def test_it_is_the_first_choice_where_it_can_run() -> None:
    from visavis.kernels.choose import kernel_name, using

    given = case(first([3], 3), first([2], 2), "right")
    assert kernel_name(given.attention) == "triton"
    with using("eager"):
        assert kernel_name(given.attention) == "eager"
