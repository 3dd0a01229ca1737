"""DCPA by its equations: loops by hand, the straight form, and what must not matter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.tiny import REGION_DIM, VOCAB, close, encoded, images, sentences, twin
from tests.tiny_corpus import tiny_material
from visavis.errors import DataError
from visavis.layers.phrase_attention import mean_of_best
from visavis.layers.text import TextConfig
from visavis.layers.transformer import DecoderUnit
from visavis.models.dcpa import Dcpa, DcpaConfig
from visavis.models.pretrained import Pretrained
from visavis.recipes.recipe import parse_recipe
from visavis.recipes.run import train
from visavis.types import ImageBatch, Scores, SentenceBatch

VARIANTS: dict[str, dict[str, Any]] = {
    "full": {},
    "bias": {"attention_bias": True, "layer_norm": False},
    "intra": {"parts": "intra"},
    "inter": {"parts": "inter"},
    "shared": {"decoupled": False},
    "global": {"intra_aggregation": "global", "inter_aggregation": "global"},
    "global_inter": {"inter_aggregation": "global"},
    "large_k": {"top_k": 50},
}
every_variant = pytest.mark.parametrize("variant", VARIANTS)


def config(**settings: object) -> DcpaConfig:
    values: dict[str, Any] = {"dim": 8, "heads": 2, "hidden": 12, "filters": 6, "top_k": 2}
    values |= {"text": TextConfig(word_dim=6), "region_dim": REGION_DIM, "vocab_size": VOCAB}
    return DcpaConfig(**(values | settings))


def model(**settings: object) -> Dcpa:
    torch.manual_seed(0)
    found = Dcpa(config(**settings))
    for parameter in found.parameters():  # norms and biases begin at 1 and 0, which hide faults
        parameter.data += 0.1 * torch.randn_like(parameter)
    return found.eval()


def scores(of: Dcpa, left: ImageBatch | None = None, right: SentenceBatch | None = None) -> Tensor:
    """Both matrices, one after the other: (2, N, M)."""
    found = of.score(*encoded(of, left, right))
    return torch.stack([found.i2t, found.t2i])


# The equations, in loops


def unit_vector(vector: Tensor) -> Tensor:
    unit: Tensor = vector / vector.norm()
    return unit


def decoded(branch: DecoderUnit, tokens: Tensor, sources: Tensor) -> Tensor:
    """A decoder layer for one pair, head by head (eq. 1-5, 11): (L, D) and (S, D) to (L, D)."""

    def attention(part: Any, queries: Tensor, keys: Tensor) -> Tensor:
        heads = []
        width = queries.shape[1] // part.heads
        for head in range(part.heads):
            own = slice(head * width, (head + 1) * width)
            q, k, v = (
                source @ linear.weight[own].T
                for source, linear in ((queries, part.query), (keys, part.key), (keys, part.value))
            )
            heads.append((q @ k.T / width**0.5).softmax(dim=1) @ v)
        joined: Tensor = torch.cat(heads, dim=1) @ part.out.weight.T
        return joined

    phrases = branch.self_norm(tokens + attention(branch.self_attention, tokens, tokens))
    unit = branch.cross
    found = unit.attention_norm(phrases + attention(unit.attention, phrases, sources))
    inner = (found @ unit.feed_forward.first.weight.T + unit.feed_forward.first.bias).clamp_min(0)
    inner = inner @ unit.feed_forward.second.weight.T + unit.feed_forward.second.bias
    normed: Tensor = unit.feed_forward_norm(found + inner)
    return normed


def branch_by_hand(branch: DecoderUnit, looking: Tensor, seen: Tensor, k: int) -> float:
    """Eq. 12-14 for one pair of unpadded items."""
    best = []
    for phrase in decoded(branch, looking, seen):
        cosines = [float(unit_vector(phrase) @ unit_vector(target)) for target in seen]
        best.append(max(cosines))
    best = sorted(best, reverse=True)[:k]
    return sum(best) / len(best)


@torch.no_grad()
def pair_by_hand(of: Dcpa, regions: Tensor, ids: Tensor) -> dict[str, float]:
    """Every similarity of one image and one sentence without padding."""
    k = of.config.top_k
    i = of.project(regions)
    states = of.text(SentenceBatch(ids[None], torch.ones(1, len(ids), dtype=torch.bool)))
    real = torch.ones(1, len(i), dtype=torch.bool)
    visual = [unit_vector(vector) for vector in of.intra.unit(i[None], real)[0]]
    sentence = of.intra.phrases(states, torch.ones(1, len(ids), dtype=torch.bool))[0]
    cosines = sorted((float(vector @ sentence) for vector in visual), reverse=True)[:k]
    words = of.inter.words(states)[0]
    return {
        "intra": sum(cosines) / len(cosines),
        "i2t": branch_by_hand(of.inter.i2t, i, words, k),
        "t2i": branch_by_hand(of.inter.t2i, words, i, k),
    }


@pytest.mark.parametrize(("top_k", "weights"), [(1, (0.6, 0.4)), (2, (0.3, 0.9)), (10, (1.0, 0.0))])
def test_scores_equal_loops_over_the_equations(top_k: int, weights: tuple[float, float]) -> None:
    of = model(top_k=top_k, w_intra=weights[0], w_inter=weights[1])
    left, right = images(), sentences()
    found = scores(of, left, right)
    for n in range(len(left)):
        for m in range(len(right)):
            hand = pair_by_hand(of, left.regions[n][left.mask[n]], right.ids[m][right.mask[m]])
            base = weights[0] * hand["intra"]
            expected = torch.tensor([base + weights[1] * hand[way] for way in ("i2t", "t2i")])
            close(found[:, n, m], expected)


def test_each_part_alone_is_what_the_sum_is_made_of() -> None:
    of = model()
    intra, inter = scores(twin(of, parts="intra")), scores(twin(of, parts="inter"))
    close(scores(of), 0.6 * intra + 0.4 * inter)
    hand = pair_by_hand(of, images().regions[0], sentences().ids[2])
    assert intra[0, 0, 2].item() == pytest.approx(hand["intra"], abs=1e-5)
    assert inter[1, 0, 2].item() == pytest.approx(hand["t2i"], abs=1e-5)


def test_without_decoupling_both_directions_have_the_mean_of_the_two() -> None:
    of = model(parts="inter")
    found = twin(of, decoupled=False).score(*encoded(twin(of, decoupled=False)))
    assert not found.decoupled
    close(found.i2t, scores(of).mean(dim=0))


def test_global_aggregation_compares_means_of_features() -> None:
    of = model(w_intra=0.5, w_inter=0.5, **VARIANTS["global"])
    regions, ids = images().regions[0], sentences().ids[2]
    i = of.project(regions)
    real = torch.ones(1, len(ids), dtype=torch.bool)
    states = of.text(SentenceBatch(ids[None], real))
    words = of.inter.words(states)[0]
    visual = of.intra.unit(i[None], torch.ones(1, len(i), dtype=torch.bool))[0].mean(dim=0)
    intra = functional.cosine_similarity(visual, of.intra.phrases(states, real)[0], dim=0)
    rebuilt = decoded(of.inter.i2t, i, words).mean(dim=0)
    i2t = functional.cosine_similarity(rebuilt, words.mean(dim=0), dim=0)
    close(scores(of)[0, 0, 2], (intra + i2t) / 2)


# The fast form


@every_variant
def test_fast_form_equals_the_straight_one_with_its_gradients(variant: str) -> None:
    fast = model(**{"dropout": 0.0, **VARIANTS[variant]})
    plain = twin(fast, plain=True)
    generator = torch.Generator().manual_seed(5)
    left = ImageBatch(
        images().regions, images().mask & (torch.rand(6, 5, generator=generator) > 0.3)
    )
    left.mask[:, 0] = True
    found, expected = scores(fast, left), scores(plain, left)
    close(found, expected)
    for matrix in (found, expected):
        (matrix * torch.arange(matrix.numel()).view(matrix.shape).cos()).sum().backward()
    for name, parameter in fast.named_parameters():
        other = plain.get_parameter(name).grad
        if other is None:  # a part that takes no part
            assert parameter.grad is None, name
        else:
            close(parameter.grad, other, atol=1e-4)  # type: ignore[arg-type]


@pytest.mark.parametrize("many", [1, 12])
def test_the_layout_of_the_attention_does_not_matter(many: int) -> None:
    of = model()
    left = images((5,) * many)
    whole = scores(of, left)
    close(whole[:, :1], scores(of, left.select(slice(1))))
    close(whole, scores(twin(of, plain=True), left))


@every_variant
def test_pairs_are_the_diagonal(variant: str) -> None:
    of = model(**VARIANTS[variant])
    left, right = encoded(of, images(), sentences().select(slice(6)))
    pairs: Scores = of.score_pairs(left, right)
    whole = of.score(left, right)
    close(pairs.i2t, whole.i2t.diagonal())
    close(pairs.t2i, whole.t2i.diagonal())
    assert pairs.decoupled is whole.decoupled


def test_pairs_of_the_straight_form_are_the_diagonal() -> None:
    of = model(plain=True)
    left, right = encoded(of, images(), sentences().select(slice(6)))
    close(of.score_pairs(left, right).i2t, of.score(left, right).i2t.diagonal())


# What does not matter, and what does


@every_variant
def test_padding_changes_no_score(variant: str) -> None:
    of = model(**VARIANTS[variant])
    left, right = images(), sentences()
    wide_left = ImageBatch(
        functional.pad(left.regions, (0, 0, 0, 4), value=9.0), functional.pad(left.mask, (0, 4))
    )
    wide_right = SentenceBatch(
        functional.pad(right.ids, (0, 3), value=7), functional.pad(right.mask, (0, 3))
    )
    close(scores(of, wide_left, wide_right), scores(of))


def test_trimmed_sentences_score_the_same() -> None:
    of = model()
    left, right = encoded(of)
    short = right.select(torch.tensor([1, 4]))
    close(of.score(left, short.trimmed()).t2i, of.score(left, right).t2i[:, [1, 4]])


@every_variant
def test_the_order_of_regions_does_not_matter(variant: str) -> None:
    of = model(**VARIANTS[variant])
    left = images()
    order = torch.tensor([3, 0, 4, 2, 1])
    close(scores(of, ImageBatch(left.regions[:, order], left.mask[:, order])), scores(of))


@every_variant
def test_the_order_of_words_matters(variant: str) -> None:
    of = model(**VARIANTS[variant])
    right = sentences((4, 4))
    turned = SentenceBatch(right.ids[:, [2, 0, 3, 1]], right.mask)
    assert (scores(of, right=turned) - scores(of, right=right)).abs().max() > 1e-3


def test_one_region_and_one_word_are_compared_without_a_choice() -> None:
    of = model(parts="inter")
    left, right = images((1,)), sentences((1,))
    i = of.project(left.regions[0])
    word = of.inter.words(of.text(right))[0]
    rebuilt = decoded(of.inter.i2t, i, word)
    close(scores(of, left, right)[0, 0, 0], functional.cosine_similarity(rebuilt, word)[0])


def test_mean_of_best_takes_fewer_where_fewer_are_real() -> None:
    values = torch.tensor([[0.9, 0.5, 0.1, 0.7], [-0.5, -0.9, 0.8, 0.8]])
    mask = torch.tensor([[True, True, True, True], [True, True, False, False]])
    close(mean_of_best(values, mask, 3), torch.tensor([0.7, -0.7]))
    close(mean_of_best(values, mask, 9), torch.tensor([0.55, -0.7]))


# Training


def test_each_mode_scores_by_its_own_setting() -> None:
    of = model(dropout=0.0, trained="inter", parts="full")
    assert not of.train().encode_images(images()).extra.keys() & {"visual"}
    close(scores(of.train()), scores(twin(of, parts="inter")))
    close(scores(of.eval()), scores(twin(of, parts="full")))


def test_intra_alone_encodes_one_vector_for_a_sentence() -> None:
    left, right = encoded(model(parts="intra"))
    assert left.extra.keys() == {"middle", "axes", "rest"}  # for bounds
    assert not right.extra
    assert right.tokens.shape == (7, 1, 8)


@pytest.mark.parametrize(("trained", "still"), [("intra", "inter."), ("inter", "intra.")])
def test_training_one_part_leaves_the_other_without_gradients(trained: str, still: str) -> None:
    of = model(trained=trained).train()
    scores(of).square().sum().backward()
    for name, parameter in of.named_parameters():
        assert (parameter.grad is None) is name.startswith(still), name


def test_dropout_draws_anew_for_each_pair() -> None:
    of = model(dropout=0.5, trained="inter").train()
    left, right = encoded(of, images((5,)).select(torch.zeros(4, dtype=torch.long)))
    same = left.select(torch.zeros(4, dtype=torch.long))  # one image four times, encoded once
    assert of.score(same, right).i2t.std(dim=0).min() > 1e-4


# Explanations


def test_attention_is_that_of_the_words_to_the_regions() -> None:
    of = model()
    left, right = encoded(of, images((5, 3)), sentences((4, 2)))
    found = of.attend(left, right)
    close(found.sum(dim=2), right.mask.float())
    assert (found[1, :, 3:] == 0).all()
    unit = of.inter.t2i.cross.attention
    q = unit.query(right.extra["phrases"][0])
    k = unit.key(of.project(images((5, 3)).regions)[0])
    by_hand = [(q[:, own] @ k[:, own].T / 4**0.5).softmax(dim=1) for own in (slice(4), slice(4, 8))]
    assert unit.heads == 2
    close(found[0], (by_hand[0] + by_hand[1]) / 2)
    plain = twin(of, plain=True)
    close(plain.attend(*encoded(plain, images((5, 3)), sentences((4, 2)))), found)


def test_selected_regions_are_those_of_the_equations() -> None:
    of = model(top_k=3)
    left, right = images((5, 2, 5)), sentences((6, 4, 2))
    found = of.selected(*encoded(of, left, right))
    for row in range(3):
        regions, ids = left.regions[row][left.mask[row]], right.ids[row][right.mask[row]]
        i = of.project(regions)
        real = torch.ones(1, len(ids), dtype=torch.bool)
        states = of.text(SentenceBatch(ids[None], real))
        visual = of.intra.unit(i[None], torch.ones(1, len(i), dtype=torch.bool))[0]
        cosines = functional.normalize(visual, dim=1) @ of.intra.phrases(states, real)[0]
        best = set(cosines.topk(min(3, len(i))).indices.tolist())
        assert set(found["intra"][row].nonzero().flatten().tolist()) == best
        rebuilt = decoded(of.inter.t2i, of.inter.words(states)[0], i)
        table = functional.normalize(rebuilt, dim=1) @ functional.normalize(i, dim=1).T
        words = table.amax(dim=1).topk(min(3, len(ids))).indices
        regions_of_words = set(table.argmax(dim=1)[words].tolist())
        assert set(found["inter"][row].nonzero().flatten().tolist()) == regions_of_words


def test_explanations_need_the_parts_they_show() -> None:
    intra = model(parts="intra")
    with pytest.raises(DataError, match="no word looks at a region"):
        intra.attend(*encoded(intra, images((5,)), sentences((4,))))
    inter = model(parts="inter")
    with pytest.raises(DataError, match="parts: full"):
        inter.selected(*encoded(inter, images((5,)), sentences((4,))))


# Costs and settings


def test_operations_are_counted_as_the_products_are_made() -> None:
    of, regions, words = model(), 5, 4
    d, h = 8, 12
    branch = {
        looking: 2 * looking * d * (2 * seen + min(seen + d, 2 * seen) + 2 * h)
        for looking, seen in ((regions, words), (words, regions))
    }
    assert of.pair_flops(regions, words) == 2 * regions * d + sum(branch.values())
    assert twin(of, parts="intra").pair_flops(regions, words) == 2 * regions * d


def test_memory_of_a_pair_covers_what_is_allocated() -> None:
    of = model(dim=64, heads=4, hidden=32)
    left, right = encoded(of, images((20,) * 10), sentences((9,) * 10))
    with torch.inference_mode(), torch.profiler.profile(profile_memory=True) as record:
        of.score(left, right)
    held = peak = 0
    for event in record.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    assert 0.5 < peak / 100 / of.pair_bytes(20, 9) < 1.2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"top_k": 0}, "top_k and filters must be at least 1, got 0"),
        ({"w_inter": -0.1}, "w_intra and w_inter must be at least 0"),
        ({"w_intra": 0.0, "w_inter": 0.0}, "not both 0"),
        ({"heads": 3}, "dim must be a multiple of heads, got dim 8 and heads 3"),
        ({"hidden": 0}, "heads and hidden must be at least 1"),
        ({"dropout": 1.0}, "dropout must be in"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**settings)


def test_the_second_stage_trains_inter_pam_and_nothing_else(tmp_path: Path) -> None:
    small = {"name": "dcpa", "dim": 16, "heads": 2, "hidden": 16, "filters": 8, "top_k": 2}
    recipe = parse_recipe(
        {
            "source": "a test",
            "model": {**small, "dropout": 0.0, "text": {"word_dim": 8}},
            "data": {"corpus": "tiny"},
            "tokenizer": {"threshold": 1},
            "objective": {"loss": "sum_hinge"},
            "train": {"epochs": 1, "batch_size": 12, "lr": 5e-3},
            "stages": [
                {
                    "name": "intra",
                    "freeze": ["inter"],
                    "model": {"parts": "intra", "trained": "intra"},
                },
                {"name": "inter", "only": ["inter"], "model": {"trained": "inter"}},
            ],
        }
    )
    train(recipe, tiny_material(), tmp_path / "run", show_progress=False)
    best = Pretrained.from_pretrained(tmp_path / "run" / "best").model
    first = Pretrained.from_pretrained(tmp_path / "run" / "stages" / "1-intra" / "best").model
    assert best.config.parts == "full"
    for name, value in first.state_dict().items():
        assert torch.equal(value, best.state_dict()[name]) is not name.startswith("inter."), name
