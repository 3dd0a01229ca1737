"""MTFN by its equations: loops by hand, the straight form, ranking, and the text-text branch."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.tiny import REGION_DIM, VOCAB, close, encoded, images, scores_of, sentences, twin
from visavis.errors import DataError
from visavis.layers.fusion import KeptMatrix, LowRankFusion, with_one
from visavis.layers.sphere import on_sphere
from visavis.layers.text import TextConfig
from visavis.losses import loss_function
from visavis.losses.same_side import same_side_hinge
from visavis.models.mtfn import Mtfn, MtfnConfig
from visavis.recipes.recipe import load_recipe
from visavis.types import (
    ComparesSentences,
    Scores,
    TrainingStep,
)

RECIPES = Path(__file__).parents[2] / "recipes" / "mtfn"
LAYERED: dict[str, Any] = {"text_text": False, "hidden": 7, "layers": 2}
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "legacy": {"legacy": True},
    "attention": {"attention": True},
    "local": {"features": "local", "text_text": False},
    "sum": {"fusion": "sum", **LAYERED},
    "product": {"fusion": "product", **LAYERED},
    "concatenation": {"fusion": "concatenation", **LAYERED},
    "sum_attention": {"fusion": "sum", "attention": True, **LAYERED},
    "product_attention": {"fusion": "product", "attention": True, **LAYERED},
    "concatenation_attention": {"fusion": "concatenation", "attention": True, **LAYERED},
}
every_variant = pytest.mark.parametrize("variant", VARIANTS)


def config(**settings: Any) -> MtfnConfig:
    values: dict[str, Any] = {"dim": 8, "rank": 3, "fusion_dim": 5, "dropout": 0.0}
    values |= {"text": TextConfig(word_dim=6, bidirectional=False)}
    return MtfnConfig(region_dim=REGION_DIM, vocab_size=VOCAB, **(values | settings))


def model(**settings: Any) -> Mtfn:
    torch.manual_seed(0)
    found = Mtfn(config(**settings))
    for parameter in found.parameters():  # the text-text branch begins at 0, which hides faults
        parameter.data += 0.2 * torch.randn_like(parameter)
    return found.eval()


# The equations, in loops


def fused_by_hand(of: LowRankFusion, x: Tensor, y: Tensor) -> Tensor:
    """Eq. 3-4 without the sigmoid: one rank after the other."""
    width = of.out.in_features
    f = torch.zeros(width)
    for r in range(of.rank):
        rows = slice(r * width, (r + 1) * width)
        a, b = of.left.weight[rows] @ x, of.right.weight[rows] @ y
        if of.biased:
            a, b = a + of.left.bias[rows], b + of.right.bias[rows]
        f = f + a * b
    logit = of.out.weight[0] @ f
    return logit + of.out.bias[0] if of.biased else logit


def score_by_hand(
    of: Mtfn, x: Tensor, y: Tensor, fuse: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """The logit of regions x (R, D) and words y (W, D), or of single vectors (1, D)."""
    if of.attention is not None:
        part = of.attention
        asks = torch.tanh(part.query(y[0]))
        weights = [part.out.weight[0] @ (torch.tanh(part.key(region)) * asks) for region in x]
        shares = torch.stack(weights).softmax(dim=0)
        x = sum((share * region for share, region in zip(shares, x, strict=True)), x[0] * 0)[None]
    best = [max(float(fuse(region, word)) for region in x) for word in y]
    return torch.tensor(sum(best) / len(best))


def layers_by_hand(of: Any, x: Tensor, y: Tensor) -> Tensor:
    if of.how == "concatenation":
        hidden = of.first.weight @ x + of.second.weight @ y + of.first.bias
    else:
        hidden = of.first(x * y if of.how == "product" else x + y)
    found: Tensor = of.rest(hidden)
    return found[0]


@every_variant
@torch.no_grad()
def test_scores_equal_the_equations_in_loops(variant: str) -> None:
    of = model(**VARIANTS[variant])
    left, right = images(), sentences()
    act = torch.tanh if of.config.legacy else torch.clone
    expected = torch.zeros(len(left), len(right))

    def fuse(x: Tensor, y: Tensor) -> Tensor:
        hand = fused_by_hand if isinstance(of.fusion, LowRankFusion) else layers_by_hand
        return hand(of.fusion, x, y)

    for n in range(len(left)):
        regions = left.regions[n][left.mask[n]]
        v = regions if of.config.by_region else regions.mean(dim=0, keepdim=True)
        x = act(of.project(v))
        for m in range(len(right)):
            one = right.select(slice(m, m + 1))
            states = of.text(one)[0][one.mask[0]]
            t = states if of.config.features == "local" else states[-1:]
            expected[n, m] = score_by_hand(of, x, act(of.project_sentence(t)), fuse)
    close(scores_of(of), expected)


@every_variant
def test_the_straight_form_gives_the_same_scores_and_gradients(variant: str) -> None:
    fast = model(**VARIANTS[variant])
    slow = twin(fast, plain=True)
    close(scores_of(slow), scores_of(fast))
    rows = torch.tensor([0, 4, 5])
    for of in (fast, slow):
        left, right = encoded(of)
        pairs = of.score_pairs(left.select(rows), right.select(rows))
        close(pairs.i2t, scores_of(fast)[rows, rows])
        scores_of(of).square().sum().backward()
    grads = {name: value.grad for name, value in slow.named_parameters() if value.grad is not None}
    assert len(grads) >= 6
    for name, value in fast.named_parameters():
        if value.grad is not None:
            torch.testing.assert_close(grads[name], value.grad, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("biased", [False, True])
def test_with_the_matrix_and_without_vectors_are_turned_alike(*, biased: bool) -> None:
    torch.manual_seed(0)
    fusion = LowRankFusion(8, 5, 3, biased=biased)
    factors, x = fusion.factors(), torch.randn(9, 8)
    close(factors.turned(x), with_one(x, biased=biased) @ factors.matrix())
    close(fusion.images(x[:3]), fusion.images(x)[:3])  # 3 rows do without, 9 make the matrix
    with torch.no_grad():
        close(fusion.images(x), factors.turned(x))


# Ranking


def test_scores_whose_sigmoids_are_equal_are_ranked_all_the_same() -> None:
    of = model()
    of.fusion.out.weight.data *= 1e3  # type: ignore[operator, union-attr]
    found = scores_of(of.eval())
    saturated = found.sigmoid()
    assert any(len(row.unique()) < len(row) for row in saturated)
    assert all(len(row.unique()) == len(row) for row in found)
    assert all(len(column.unique()) == len(column) for column in found.T)


def test_the_loss_of_the_paper_is_of_sigmoids() -> None:
    scores = Scores.shared(torch.tensor([[2.0, 1.0, -3.0], [0.5, 0.4, 0.3], [9.0, 0.0, 9.0]]))
    s = [[1 / (1 + math.exp(-x)) for x in row] for row in scores.i2t.tolist()]
    hardest, every = 0.0, 0.0
    for p in range(3):
        rivals = [([s[p][h] for h in range(3) if h != p]), [s[h][p] for h in range(3) if h != p]]
        for side in rivals:
            hardest += max(0.0, 0.2 - s[p][p] + max(side))  # eq. 5
            every += sum(max(0.0, 0.2 - s[p][p] + rival) for rival in side)
    published = [path for path in RECIPES.glob("*.yaml") if not path.stem.startswith("flickr8k")]
    assert len(published) > 10
    for path in published:
        assert load_recipe(path).objective.loss == "hardest_hinge_probability", path
    for name, expected in (("hardest", hardest), ("sum", every)):
        loss = loss_function(f"{name}_hinge_probability")
        found = loss(scores, torch.eye(3, dtype=torch.bool), 0.2)
        assert found.item() == pytest.approx(expected, abs=1e-6)


def after_training(**settings: Any) -> Mtfn:
    of = model(**settings).train()
    encoded(of)
    return of.eval()


@pytest.mark.parametrize("legacy", [False, True])
def test_pooled_vectors_of_length_1_rank_as_the_scores_do(*, legacy: bool) -> None:
    of = after_training(legacy=legacy)
    left, right = encoded(of)
    assert left.pooled is not None
    assert right.pooled is not None
    for side in (left.pooled, right.pooled):
        close(side.norm(dim=1), torch.ones(len(side)))
    found, scores = left.pooled @ right.pooled.T, scores_of(of)
    assert torch.equal(found.argsort(dim=1), scores.argsort(dim=1))
    assert torch.equal(found.argsort(dim=0), scores.argsort(dim=0))
    factor = 4 * of.longest_image * of.longest_sentence
    close(found * factor, scores, atol=1e-4)


def test_pooled_vectors_do_not_depend_on_company() -> None:
    of = after_training()
    whole = of.encode_images(images()).pooled
    assert whole is not None
    alone = of.encode_images(images().select(slice(3, 4))).pooled
    assert alone is not None
    close(alone, whole[3:4])


def test_before_any_training_there_are_no_pooled_vectors() -> None:
    left, right = encoded(model())
    assert left.pooled is None
    assert right.pooled is None


def test_on_the_sphere_a_vector_beyond_its_reach_counts_as_if_it_were_as_long() -> None:
    vectors = torch.tensor([[3.0, 4.0], [0.6, 0.8]])
    found = on_sphere(vectors, torch.tensor(2.0), 0)
    close(found, torch.tensor([[0.6, 0.8, 0.0, 0.0], [0.3, 0.4, 0.75**0.5, 0.0]]))
    close(on_sphere(vectors[1:], torch.tensor(2.0), 1)[:, 2:], torch.tensor([[0.0, 0.75**0.5]]))


def changed_in_place(of: Mtfn) -> None:
    with torch.no_grad():
        of.fusion.left.weight.mul_(2)  # type: ignore[union-attr]


def changed_behind_the_back(of: Mtfn) -> None:
    of.fusion.left.weight.data.mul_(2)  # type: ignore[union-attr]
    of.eval()


def loaded(of: Mtfn) -> None:
    state = of.state_dict()
    state["fusion.left.weight"] = state["fusion.left.weight"] * 2
    of.load_state_dict(state)


@pytest.mark.parametrize("change", [changed_in_place, changed_behind_the_back, loaded])
@torch.no_grad()
def test_what_is_kept_of_the_weights_follows_them(change: Callable[[Mtfn], None]) -> None:
    of = model()
    before = scores_of(of)
    change(of)
    close(scores_of(of), 2 * before)


def test_the_matrix_is_made_once_while_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    kept, made = KeptMatrix(), []
    fusion = LowRankFusion(4, 3, 2, biased=True)

    def factors() -> Any:
        made.append(1)
        return fusion.factors()

    with torch.inference_mode():
        for _ in range(3):
            kept.turned(torch.ones(2, 4), factors, list(fusion.parameters()))
    assert len(made) == 1


# Sentence with sentence


def test_text_similarity_equals_equation_6_in_loops() -> None:
    of = model(legacy=True)
    right = of.encode_sentences(sentences())
    joined = twin(of).text_fusion
    assert joined is not None
    for mine, theirs in (("left", "right"), ("right", "right"), ("out", "out")):
        for part in ("weight", "bias"):
            base = of.fusion.get_parameter(f"{theirs}.{part}")
            joined.get_parameter(f"{mine}.{part}").data += base.data
    y = right.tokens[:, 0, :8]
    expected = torch.stack([torch.stack([fused_by_hand(joined, a, b) for b in y]) for a in y])
    close(of.text_similarity(right, right), expected.sigmoid())
    left, others = of.text_vectors(right)
    close(left @ others.T, expected)
    close(
        twin(of, plain=True).text_similarity(*2 * (of.encode_sentences(sentences()),)),
        expected.sigmoid(),
    )


def test_the_text_branch_begins_as_the_sentence_side_of_the_image_branch() -> None:
    of = Mtfn(config()).eval()
    right = of.encode_sentences(sentences())
    y = right.tokens[:, 0]
    assert isinstance(of.fusion, LowRankFusion)
    b, w = of.fusion.right.weight, of.fusion.out.weight[0].repeat(3)
    expected = (y @ b.T * w) @ (y @ b.T).T
    close(of.text_similarity(right, right), expected.sigmoid())
    with torch.no_grad():
        of.fusion.out.weight.mul_(2)
    close(of.text_similarity(right, right), (2 * expected).sigmoid())


def test_a_model_with_the_branch_compares_sentences() -> None:
    assert isinstance(model(), ComparesSentences)


def test_without_the_branch_sentences_are_compared_by_cosine() -> None:
    of = model(**VARIANTS["local"])
    right = of.encode_sentences(sentences())
    vectors, others = of.text_vectors(right)
    close(vectors.norm(dim=1), torch.ones(len(right)))
    assert torch.equal(vectors, others)
    with pytest.raises(DataError, match="no text-text branch"):
        of.text_similarity(right, right)


def step_of(of: Mtfn, owner: list[int]) -> TrainingStep:
    """A batch whose pairs belong to the images numbered in `owner`."""
    left, right = images(), sentences().select(slice(0, 6))
    numbers = torch.tensor(owner)
    return TrainingStep(
        left, right, *encoded(of, left, right), numbers[:, None] == numbers[None], epoch=0
    )


@pytest.mark.parametrize("negatives", ["hardest", "all"])
def test_the_text_loss_equals_equation_7_in_loops(negatives: str) -> None:
    of = model(text_margin=0.3, text_negatives=negatives).train()
    owner = [0, 0, 1, 2, 1, 1]
    step = step_of(of, owner)
    s = of.text_similarity(step.encoded_sentences, step.encoded_sentences).detach()
    expected = 0.0
    for p in range(6):
        for q in range(6):
            if p != q and owner[p] == owner[q]:
                rivals = [float(s[p, h]) for h in range(6) if owner[h] != owner[p]]
                for rival in [max(rivals)] if negatives == "hardest" else rivals:
                    expected += max(0.0, 0.3 - float(s[p, q]) + rival)
    assert expected > 0
    assert of.own_terms(step)["text_text"].item() == pytest.approx(expected, abs=1e-5)


def test_the_text_loss_teaches_the_text_branch_alone() -> None:
    of = model().train()
    of.own_terms(step_of(of, [0, 0, 1, 1, 2, 2]))["text_text"].backward()
    taught = {name for name, value in of.named_parameters() if value.grad is not None}
    assert taught == {f"text_fusion.{name}.weight" for name in ("left", "right", "out")}
    assert all(of.get_parameter(name).grad.abs().sum() > 0 for name in taught)  # type: ignore[union-attr]


def test_a_batch_without_two_sentences_of_an_image_teaches_nothing() -> None:
    of = model().train()
    loss = of.own_terms(step_of(of, [0, 1, 2, 3, 4, 5]))["text_text"]
    loss.backward()
    assert loss.item() == 0
    assert all(value.grad is None or not value.grad.any() for value in of.parameters())


def test_one_image_alone_in_a_batch_has_no_rival() -> None:
    similarity = torch.rand(3, 3, requires_grad=True)
    loss = same_side_hinge(similarity, torch.ones(3, 3, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0
    assert similarity.grad is not None
    assert not similarity.grad.any()


def test_a_frozen_text_branch_has_no_loss() -> None:
    of = model().train()
    assert of.text_fusion is not None
    of.text_fusion.requires_grad_(requires_grad=False)
    assert of.own_terms(step_of(of, [0, 0, 1, 1, 2, 2])) == {}


# Settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 0}, "rank must be at least 1, got 0"),
        ({"fusion_dim": -1}, "fusion_dim must be at least 0"),
        ({"dropout": 1.0}, "dropout must be in"),
        ({"fusion": "sum"}, "text_text needs fusion tensor"),
        ({"features": "local"}, "text_text needs fusion tensor and features global"),
        ({"features": "local", "attention": True}, "features local goes with"),
        ({"text": TextConfig()}, "backward GRU has seen that word alone"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**settings)


def test_by_default_it_has_as_many_parameters_as_the_paper_says() -> None:
    with torch.device("meta"):
        of = Mtfn(MtfnConfig(region_dim=2048, vocab_size=7679, legacy=True))
        layered = Mtfn(
            MtfnConfig(region_dim=2048, vocab_size=7679, fusion="concatenation", text_text=False)
        )
    count = {
        name: sum(value.numel() for value in part.parameters())
        for name, part in of.named_children()
    }
    assert count["text"] == 7679 * 620 + 3 * 2400 * (620 + 1 + 2400)
    fusion = count["project"] + count["project_sentence"] + count["fusion"]
    assert fusion == pytest.approx(46.5e6, rel=0.01)  # of the published code
    assert count["text_fusion"] == count["fusion"]
    layers = sum(value.numel() for value in layered.fusion.parameters())
    assert layers == pytest.approx(count["fusion"], rel=0.01)  # table 3: a similar amount


def test_recipes_say_what_the_tables_say() -> None:
    names = {path.stem for path in RECIPES.glob("*.yaml")}
    assert {"f30k", "coco_1k", "coco_5k", "flickr8k", "f30k_legacy", "coco_1k_local"} <= names
    for path in RECIPES.glob("*.yaml"):
        expected = dict(load_recipe(path).expected)
        if expected:
            rsum = expected.pop("rsum")
            assert rsum == pytest.approx(sum(value or 0.0 for value in expected.values())), path
