"""Reciprocal re-ranking against the equations as loops, and what it must not depend on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from visavis.errors import DataError
from visavis.metrics.ranks import ranks
from visavis.rerank import groups as groups_module
from visavis.rerank import matrices
from visavis.rerank.groups import Groups, alone, nearest, nearest_vectors, oracle
from visavis.rerank.reciprocal import (
    ReciprocalConfig,
    i2t_candidates,
    rerank,
    t2i_candidates,
)
from visavis.types import Scores

seeds = st.integers(0, 10_000)
few = settings(max_examples=25, deadline=None)


def drawn(seed: int, images: int = 7, sentences: int = 12) -> Scores:
    """Two matrices without ties."""
    generator = torch.Generator().manual_seed(seed)
    count = images * sentences
    both = [torch.randperm(count, generator=generator).float() / 7 - 3 for _ in range(2)]
    return Scores(*(matrix.reshape(images, sentences) for matrix in both))


def similarity_of(seed: int, sentences: int = 12) -> Tensor:
    generator = torch.Generator().manual_seed(seed + 1)
    return torch.randperm(sentences**2, generator=generator).float().reshape(sentences, -1)


def falling(values: list[float]) -> list[int]:
    return sorted(range(len(values)), key=lambda place: -values[place])


def i2t_by_the_equations(scores: Scores, k: int) -> list[list[int]]:
    """Eq. 8-12, a loop for each image."""
    found = []
    for image in range(len(scores.i2t)):
        order = falling(scores.i2t[image].tolist())
        places = {}
        for sentence in order[:k]:  # R_I2T(I, K)
            images = falling(scores.t2i[:, sentence].tolist())  # R_T2I(T_j, N)
            places[sentence] = images.index(image)  # p(T_j)
        found.append([*sorted(order[:k], key=places.__getitem__), *order[k:]])
    return found


def group_by_the_equation(similarity: Tensor, sentence: int, size: int) -> set[int]:
    """Eq. 14, the sentence itself among them."""
    row = similarity[sentence].clone()
    row[sentence] = torch.inf
    return set(falling(row.tolist())[:size])


def t2i_by_the_equations(
    scores: Scores, similarity: Tensor, k: int, size: int, reading: str
) -> list[list[int]]:
    """Eq. 13-15, a loop for each sentence."""
    group = [group_by_the_equation(similarity, t, size) for t in range(len(similarity))]
    found = []
    for sentence in range(scores.t2i.shape[1]):
        order = falling(scores.t2i[:, sentence].tolist())
        places = {}
        for image in order[:k]:  # R_T2I(T, K)
            sentences = falling(scores.i2t[image].tolist())  # R_I2T(I_j, N)
            places[image] = next(
                place
                for place, other in enumerate(sentences)
                if (other in group[sentence] if reading == "words" else sentence in group[other])
            )
        found.append([*sorted(order[:k], key=places.__getitem__), *order[k:]])
    return found


def orders(scores: Scores) -> tuple[list[list[int]], list[list[int]]]:
    """How ordinary ranking orders sentences for images and images for sentences."""
    i2t = scores.i2t.argsort(dim=1, descending=True, stable=True)
    return i2t.tolist(), scores.t2i.T.argsort(dim=1, descending=True, stable=True).tolist()


@given(seed=seeds, k=st.integers(1, 7))
@few
def test_i2t_equals_a_loop_over_the_equations(seed: int, k: int) -> None:
    scores = drawn(seed)
    found, _ = orders(rerank(scores, config=ReciprocalConfig(k=k)))
    assert found == i2t_by_the_equations(scores, k)


@pytest.mark.parametrize("reading", ["words", "equation"])
@given(seed=seeds, k=st.integers(1, 7), size=st.integers(1, 12))
@few
def test_t2i_equals_a_loop_over_the_equations(reading: str, seed: int, k: int, size: int) -> None:
    scores, similarity = drawn(seed), similarity_of(seed)
    config = ReciprocalConfig(k=k, reading=reading)  # type: ignore[arg-type]
    _, found = orders(rerank(scores, nearest(similarity, size), config))
    assert found == t2i_by_the_equations(scores, similarity, k, size, reading)


def test_the_two_readings_of_equation_15_differ() -> None:
    scores, similarity = drawn(3), similarity_of(3)
    words, equation = (
        t2i_by_the_equations(scores, similarity, 7, 3, reading) for reading in ("words", "equation")
    )
    assert words != equation


def test_by_hand() -> None:
    # Image 0 likes sentence 0 best, which likes image 1 better; sentence 1 likes image 0 best.
    scores = torch.tensor([[0.9, 0.8, 0.1], [1.0, 0.2, 0.3]])
    found = rerank(Scores.shared(scores), config=ReciprocalConfig(k=2))
    torch.testing.assert_close(found.i2t, torch.tensor([[0.8, 0.9, 0.1], [1.0, 0.2, 0.3]]))


@given(seed=seeds, k=st.integers(1, 6))
@few
def test_a_smaller_k_needs_no_second_look(seed: int, k: int) -> None:
    scores = drawn(seed)
    groups = nearest(similarity_of(seed), 3)
    for many, few_ in (
        (i2t_candidates(scores, 7), i2t_candidates(scores, k)),
        (t2i_candidates(scores, 7, groups), t2i_candidates(scores, k, groups)),
    ):
        one, other = many.first(k).reordered(), few_.reordered()
        assert one.items.tolist() == other.items.tolist()
        assert one.scores.tolist() == other.scores.tolist()


@given(seed=seeds)
@few
def test_one_candidate_changes_nothing(seed: int) -> None:
    scores = drawn(seed)
    found = rerank(scores, nearest(similarity_of(seed), 4), ReciprocalConfig(k=1))
    assert torch.equal(found.i2t, scores.i2t)
    assert torch.equal(found.t2i, scores.t2i)


@given(seed=seeds, k=st.integers(1, 7))
@few
def test_only_the_order_of_scores_counts(seed: int, k: int) -> None:
    scores, groups = drawn(seed), nearest(similarity_of(seed), 4)
    bent = Scores(torch.exp(scores.i2t / 2), scores.t2i * 4 + 100)
    config = ReciprocalConfig(k=k)
    assert orders(rerank(bent, groups, config)) == orders(rerank(scores, groups, config))


@given(seed=seeds, k=st.integers(1, 7), levels=st.sampled_from([3, 9, 84]))
@few
def test_the_order_of_images_and_sentences_does_not_matter_even_with_ties(
    seed: int, k: int, levels: int
) -> None:
    whole = drawn(seed)
    scores = Scores((whole.i2t * 7).floor() % levels, (whole.t2i * 7).floor() % levels)
    similarity = similarity_of(seed) % 20
    generator = torch.Generator().manual_seed(seed)
    rows, columns = (torch.randperm(n, generator=generator) for n in (7, 12))
    moved = Scores(scores.i2t[rows][:, columns], scores.t2i[rows][:, columns])
    config = ReciprocalConfig(k=k)
    here = rerank(scores, nearest(similarity, 3), config)
    there = rerank(moved, nearest(similarity[columns][:, columns], 3), config)
    assert torch.equal(there.i2t, here.i2t[rows][:, columns])
    assert torch.equal(there.t2i, here.t2i[rows][:, columns])


@given(seed=seeds, k=st.integers(1, 7))
@few
def test_the_same_scores_are_dealt_out_anew(seed: int, k: int) -> None:
    scores = drawn(seed)
    found = rerank(scores, config=ReciprocalConfig(k=k))
    assert torch.equal(found.i2t.sort(dim=1).values, scores.i2t.sort(dim=1).values)
    assert torch.equal(found.t2i.sort(dim=0).values, scores.t2i.sort(dim=0).values)


@pytest.mark.parametrize("value", [0.0, -0.0, 1.0, -1e-40, 3e38])
def test_equal_scores_whose_positions_differ_are_told_apart(value: float) -> None:
    i2t = torch.tensor([[value, value, value, -1e30]])
    t2i = torch.tensor([[0.1, 0.3, 0.2, 0.5], [0.9, 0.0, 0.9, 0.0], [0.8, 0.1, 0.1, 0.1]])
    scores = Scores(i2t.repeat(3, 1), t2i)
    found = rerank(scores, config=ReciprocalConfig(k=3)).i2t[0]
    assert found[1] > found[2] > found[0] >= value > found[3]
    assert found[1].item() == pytest.approx(value, rel=1e-6, abs=1e-40)


def test_scores_that_are_all_equal_stay_so() -> None:
    found = rerank(Scores.shared(torch.zeros(6, 30)), config=ReciprocalConfig(k=5))
    assert not found.i2t.any()
    assert not found.t2i.any()
    pairs = np.array([[j // 5, j] for j in range(30)])
    assert set(ranks(found, pairs).i2t.tolist()) == {25}  # ties lose, as before


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = drawn(5)
    vectors = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
    config = ReciprocalConfig(k=6)
    whole = rerank(scores, nearest_vectors(vectors, 4), config)
    monkeypatch.setattr(matrices.stripes, "__kwdefaults__", {"block_bytes": 60})
    parts = rerank(scores, nearest_vectors(vectors, 4, block_bytes=60), config)
    assert torch.equal(parts.i2t, whole.i2t)
    assert torch.equal(parts.t2i, whole.t2i)


def test_large_results_are_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(matrices, "RAM_BYTES", 0)
    scores, config = drawn(5), ReciprocalConfig(k=6)
    whole = rerank(scores, config=config)
    kept = rerank(scores, config=config, folder=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"reranked_i2t.npy", "reranked_t2i.npy"}
    assert torch.equal(kept.i2t, whole.i2t)
    assert torch.equal(kept.t2i, whole.t2i)
    again = rerank(scores, config=ReciprocalConfig(k=1), folder=tmp_path)
    assert torch.equal(kept.i2t, whole.i2t)  # of the same name, but not overwritten
    assert torch.equal(again.i2t, scores.i2t)


def test_the_input_is_left_alone() -> None:
    scores = drawn(5)
    before = scores.i2t.clone(), scores.t2i.clone()
    rerank(scores, config=ReciprocalConfig(k=6))
    assert torch.equal(scores.i2t, before[0])
    assert torch.equal(scores.t2i, before[1])


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_results_are_float32(kind: torch.dtype) -> None:
    scores = drawn(2)
    coarse = Scores(scores.i2t.to(kind), scores.t2i.to(kind))
    found = rerank(coarse, config=ReciprocalConfig(k=3))
    exact = rerank(Scores(coarse.i2t.float(), coarse.t2i.float()), config=ReciprocalConfig(k=3))
    assert found.i2t.dtype == torch.float32
    assert torch.equal(found.i2t, exact.i2t)
    assert torch.equal(found.t2i, exact.t2i)


def edges(groups: Groups) -> set[tuple[int, int]]:
    found = list(zip(groups.sentences.tolist(), groups.members.tolist(), strict=True))
    assert len(found) == len(set(found))
    return set(found)


def test_vectors_give_the_groups_of_their_inner_products() -> None:
    left, right = torch.randn(2, 15, 6, generator=torch.Generator().manual_seed(1))
    assert edges(nearest_vectors(left, 4)) == edges(nearest(left @ left.T, 4))
    two_sided = nearest_vectors(left, 4, others=right)
    assert edges(two_sided) == edges(nearest(left @ right.T, 4)) != edges(nearest_vectors(left, 4))


@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_sentence_is_in_its_own_group_whatever_its_similarity(size: int) -> None:
    opposite = torch.ones(5, 5) - 2 * torch.eye(5) + torch.arange(5.0)
    found = edges(nearest(opposite, size))
    assert {(t, t) for t in range(5)} <= found
    assert len(found) == 5 * size


def test_sentences_as_similar_as_one_left_out_are_left_out() -> None:
    similarity = torch.tensor([[1.0, 0.5, 0.5, 0.9], [0.5, 1.0, 0.5, 0.5]] * 2)
    found = edges(nearest(similarity, 3))
    assert {member for sentence, member in found if sentence == 0} == {0, 3}
    assert {member for sentence, member in found if sentence == 1} == {1}


def test_oracle_groups_are_the_sentences_of_an_image() -> None:
    pairs = np.array([[4, 0], [0, 3], [4, 2], [0, 1], [4, 0], [7, 1]])
    found = edges(oracle(pairs, 5))
    assert found == {(0, 0), (0, 2), (2, 0), (2, 2), (1, 1), (1, 3), (3, 1), (3, 3), (4, 4)}


def test_progress_of_the_neighbours_is_told() -> None:
    told: list[int] = []
    nearest_vectors(torch.eye(7), 2, block_bytes=4 * 7 * 3, advance=told.append)
    assert told == [3, 3, 1]
    assert groups_module.GROUP == 5


BAD = Scores(torch.tensor([[1.0, torch.nan], [0.0, 1.0]]), torch.zeros(2, 2))


@pytest.mark.parametrize(
    ("scores", "k", "groups", "said"),
    [
        (Scores.shared(torch.zeros(20, 5)), 6, None, "k 6 for a gallery of 5 sentences"),
        (Scores.shared(torch.zeros(5, 20)), 6, None, "k 6 for a gallery of 5 images"),
        (BAD, 1, None, "NaN or infinity"),
        (Scores(BAD.t2i, BAD.i2t), 1, None, "NaN or infinity"),
        (Scores.shared(torch.full((2, 2), torch.inf)), 1, None, "NaN or infinity"),
        (Scores(torch.zeros(2, 3), torch.zeros(3, 2)), 1, None, r"one shape \(N, M\)"),
        (Scores.shared(torch.zeros(3)), 1, None, r"one shape \(N, M\)"),
        (Scores.shared(torch.zeros(0, 3)), 1, None, r"one shape \(N, M\)"),
        (Scores.shared(torch.zeros(2, 3, dtype=torch.int64)), 1, None, "floating point"),
        (Scores.shared(torch.zeros(2, 3)), 1, alone(4), "groups of 4 sentences for scores of 3"),
    ],
)
def test_what_cannot_be_reranked_is_refused(
    scores: Scores, k: int, groups: Groups | None, said: str
) -> None:
    with pytest.raises(DataError, match=said):
        rerank(scores, groups, ReciprocalConfig(k=k))


def test_groups_that_cannot_be_made_are_refused() -> None:
    with pytest.raises(DataError, match=r"expected \(M, M\)"):
        nearest(torch.zeros(2, 3))
    with pytest.raises(DataError, match="text-text similarities hold NaN"):
        nearest(torch.full((6, 6), torch.nan))
    with pytest.raises(DataError, match="groups of 5 among 3 sentences"):
        nearest(torch.eye(3))
    with pytest.raises(DataError, match="groups of 0 among 3 sentences"):
        nearest_vectors(torch.eye(3), 0)
    with pytest.raises(DataError, match=r"one shape \(M, D\)"):
        nearest_vectors(torch.eye(3), 2, others=torch.eye(4))
    with pytest.raises(DataError, match="sentence vectors hold NaN"):
        nearest_vectors(torch.full((6, 6), torch.nan))
    with pytest.raises(DataError, match="oracle groups need ground truth"):
        oracle(np.zeros((0, 2), dtype=np.int64), 3)
    with pytest.raises(DataError, match="names sentence 3 of 3"):
        oracle(np.array([[0, 3]]), 3)


@pytest.mark.parametrize("k", [0, -1])
def test_k_is_at_least_one(k: int) -> None:
    with pytest.raises(ValueError, match="at least one candidate"):
        ReciprocalConfig(k=k)
    with pytest.raises(ValueError, match="give 1 to 3"):
        i2t_candidates(drawn(1), 3).first(k)
