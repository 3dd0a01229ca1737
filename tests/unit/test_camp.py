"""CAMP: the fast form equals the equations, and both equal eq. 1-13 by loops."""

from __future__ import annotations

import math
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from tests.tiny import REGION_DIM, VOCAB, images, sentences
from tests.tiny_corpus import tiny_material, tiny_recipe
from visavis.config import build, plain
from visavis.errors import DataError, RecipeError
from visavis.layers.gated_fusion import AttentionPool, FusionConfig, GatedFusion
from visavis.metrics.ranks import ranks
from visavis.models.camp import Camp, CampConfig
from visavis.recipes.recipe import load_recipe, parse_recipe
from visavis.recipes.run import train
from visavis.scoring.matrix import score_matrix
from visavis.training.freeze import freeze
from visavis.types import Encoded, ImageBatch, Scores, SentenceBatch

RECIPES = sorted((Path(__file__).parents[2] / "recipes" / "camp").glob("*.yaml"))
LEAST: dict[str, Any] = {
    "region_dim": REGION_DIM,
    "vocab_size": VOCAB,
    "dim": 8,
    "heads": 2,
    "text": {"word_dim": 6},
}
CODE: dict[str, Any] = {"variant": "code_new", "gate": "scalar", "fusion": "concat"}
CROSS: dict[str, Any] = {"fuse": False, "match": "cosine"}
SETTINGS: list[dict[str, Any]] = [
    {},
    {"affinity_dim": 3, "normalise": True},
    {"fusion": "concat"},
    {"fusion": "product"},
    {"gate": "scalar"},
    {"gate": "scalar", "fusion": "product"},
    {"gate": "none"},
    {"gate": "none", "fusion": "concat"},
    {"residual": False},
    {"messages": "mean"},
    {"messages": "mean", "gate": "scalar", "fusion": "concat"},
    {"pooling": "mean", "padded_to": 9},
    {"match": "cosine"},
    CROSS,
    {**CROSS, "messages": "mean"},
    {**CROSS, "pooling": "mean"},
    {"variant": "code_v1", "gate": "scalar", "fusion": "concat"},
    {"variant": "code_v1", **CROSS},
    CODE,
    {**CODE, "fusion": "add"},
    {**CODE, "gate": "vector", "messages": "mean"},
    {**CODE, **CROSS},
    {**CODE, **CROSS, "pooling": "mean", "padded_to": 9},
    {**CODE, **CROSS, "messages": "mean"},
]
CASES = [((5, 3, 5, 1, 4, 5), (4, 1, 6, 3, 2, 6, 5)), ((1,), (1,)), ((1, 2), (1,)), ((4,), (1, 1))]

every_setting = pytest.mark.parametrize("values", SETTINGS, ids=lambda v: "-".join(map(str, v)))


def model_of(*, seed: int = 0, **values: Any) -> Camp:
    torch.manual_seed(seed)
    return Camp(build(CampConfig, {**LEAST, **values})).eval()


def straight(model: Camp) -> Camp:
    """The same weights, scored by building every pair."""
    found = Camp(CampConfig(**{**vars(model.config), "plain": True})).train(model.training)
    found.load_state_dict(model.state_dict())
    return found


def encoded(model: Camp, *sides: ImageBatch | SentenceBatch) -> tuple[Encoded, Encoded]:
    left, right = sides or (images(), sentences())
    assert isinstance(left, ImageBatch)
    assert isinstance(right, SentenceBatch)
    return model.encode_images(left), model.encode_sentences(right)


def scores_of(model: Camp, *sides: ImageBatch | SentenceBatch) -> Tensor:
    return model.score(*encoded(model, *sides)).i2t


def close(found: Tensor, expected: Tensor, atol: float = 1e-5) -> None:
    torch.testing.assert_close(found, expected, atol=atol, rtol=0)


@every_setting
@pytest.mark.parametrize(("regions", "words"), CASES)
def test_fast_scores_equal_those_of_single_pairs(
    values: dict[str, Any], regions: tuple[int, ...], words: tuple[int, ...]
) -> None:
    model = model_of(**values)
    sides = images(regions), sentences(words)
    close(scores_of(model, *sides), scores_of(straight(model), *sides))


@every_setting
def test_fast_gradients_equal_those_of_single_pairs(values: dict[str, Any]) -> None:
    model = model_of(**values).train()
    other = straight(model)
    for each in (model, other):
        (scores_of(each) * torch.linspace(-1, 1, 42).view(6, 7)).sum().backward()
    expected = dict(other.named_parameters())
    for name, parameter in model.named_parameters():
        none = torch.zeros_like(parameter)
        grad, wanted = parameter.grad, expected[name].grad
        close(none if grad is None else grad, none if wanted is None else wanted, atol=2e-5)


@every_setting
def test_pairs_equal_the_diagonal(values: dict[str, Any]) -> None:
    model = model_of(**values)
    sides = images((5, 3, 1)), sentences((4, 1, 6))
    for each in (model, straight(model)):
        left, right = encoded(each, *sides)
        close(each.score_pairs(left, right).i2t, each.score(left, right).i2t.diagonal())


@every_setting
def test_padding_never_changes_a_score(values: dict[str, Any]) -> None:
    model = model_of(**values)
    left, right = images(), sentences()
    wide = ImageBatch(
        functional.pad(left.regions, (0, 0, 0, 3), value=7.0), functional.pad(left.mask, (0, 3))
    )
    long = SentenceBatch(
        functional.pad(right.ids, (0, 4), value=5), functional.pad(right.mask, (0, 4))
    )
    expected = scores_of(model, left, right)
    for each in (model, straight(model)):
        close(scores_of(each, wide, long), expected)


@settings(max_examples=15, deadline=None)
@given(masks=st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=4, max_size=4))
def test_any_masks_give_the_scores_of_single_pairs(masks: list[list[bool]]) -> None:
    mask = torch.tensor(masks)
    mask[:, 0] |= ~mask.any(dim=1)  # each item has something real
    either: list[dict[str, Any]] = [{}, CODE]
    for values in either:
        model = model_of(**values)
        left, right = encoded(model, images((4, 4)), sentences((4, 4)))
        sides = (
            model._encoded(left.tokens, mask[:2], model.regions, model.words),
            model._encoded(right.tokens, mask[2:], model.words, model.regions),
        )
        close(model.score(*sides).i2t, straight(model).score(*sides).i2t)


def vector(tensor: Tensor) -> list[float]:
    found: list[float] = tensor.tolist()
    return found


def dot(left: list[float], right: list[float]) -> float:
    return sum(x * y for x, y in zip(left, right, strict=True))


def times(layer: nn.Module, x: list[float]) -> list[float]:
    """A linear map, row by row."""
    bias = vector(layer.bias) if isinstance(layer.bias, Tensor) else None
    rows = [dot(vector(row), x) for row in layer.get_parameter("weight")]
    return rows if bias is None else [a + b for a, b in zip(rows, bias, strict=True)]


def softmax(logits: list[float]) -> list[float]:
    exps = [math.exp(x) for x in logits]
    return [x / sum(exps) for x in exps]


def combined(weights: list[float], rows: list[list[float]]) -> list[float]:
    return [
        sum(w * row[i] for w, row in zip(weights, rows, strict=True)) for i in range(len(rows[0]))
    ]


def by_loops(model: Camp, v: list[list[float]], t: list[list[float]]) -> float:
    """The logit of eq. 13 for one pair, number by number."""
    summaries = []
    for side, other, own, seen in (
        (model.regions, model.words, v, t),
        (model.words, model.regions, t, v),
    ):
        fused = []
        for x in own:
            keys = [times(other.key, y) for y in seen]
            query = times(side.key, x)
            looks = softmax([dot(query, key) / math.sqrt(len(key)) for key in keys])  # eq. 1-2
            message = combined(looks, seen)  # eq. 3
            gate = [1 / (1 + math.exp(-a * b)) for a, b in zip(x, message, strict=True)]  # eq. 5
            inner = [g * (a + b) for g, a, b in zip(gate, x, message, strict=True)]
            mapped = times(side.fusion.linear, inner)
            fused.append([max(0.0, m) + a for m, a in zip(mapped, x, strict=True)])  # eq. 6
        weight = vector(side.pool.linear.weight[0])
        shares = softmax([dot(weight, x) / math.sqrt(len(weight)) for x in fused])  # eq. 10
        summaries.append(combined(shares, fused))
    both = [a + b for a, b in zip(*summaries, strict=True)]
    hidden = [max(0.0, x) for x in times(model.mlp[0], both)]
    return times(model.mlp[2], hidden)[0]  # eq. 13 before its sigmoid


def test_two_regions_and_three_words_match_as_the_equations_by_loops() -> None:
    model = model_of(dim=4, affinity_dim=3)
    v = [[0.5, -1.0, 2.0, 0.25], [1.5, 0.5, -0.5, 1.0]]
    t = [[-1.0, 2.0, 0.75, -0.25], [0.3, 0.1, -0.6, 0.9], [1.0, 1.0, -1.0, 0.0]]
    model.regions.fusion.linear.bias.data.fill_(0.1)  # biases start at 0
    model.mlp[0].get_parameter("bias").data.fill_(-0.05)
    left = model._encoded(torch.tensor([v]), torch.ones(1, 2).bool(), model.regions, model.words)
    right = model._encoded(torch.tensor([t]), torch.ones(1, 3).bool(), model.words, model.regions)
    assert model.score(left, right).i2t.item() == pytest.approx(by_loops(model, v, t), abs=1e-5)


def test_saturated_probabilities_do_not_tie_because_logits_rank() -> None:
    model = model_of()
    with torch.no_grad():
        model.mlp[2].get_parameter("bias").add_(60.0)
    left, right = encoded(model)
    scores = score_matrix(model, left, right)
    pairs = np.array([[int(row), column] for column, row in enumerate(scores.t2i.argmax(dim=0))])
    assert (scores.i2t.sigmoid() == 1).all()  # m alone would make all pairs equal
    assert ranks(scores, pairs).t2i.tolist() == [0] * 7
    assert ranks(Scores.shared(scores.i2t.sigmoid()), pairs).t2i.tolist() == [5] * 7


ABLATIONS: dict[str, dict[str, Any]] = {
    "w/o cross-attn": {"messages": "mean"},
    "w/o fusion": CROSS,
    "w/o gates": {"gate": "none"},
    "w/o residual": {"residual": False},
    "w/o attn-based agg": {"pooling": "mean"},
    "concat": {"fusion": "concat"},
    "product": {"fusion": "product"},
    "joint embedding": {"match": "cosine"},
    "base": {"messages": "none", **CROSS},
}


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_of_table_3_scores_differently(name: str) -> None:
    difference = scores_of(model_of(**ABLATIONS[name])) - scores_of(model_of())
    assert difference.abs().max() > 1e-2


def test_a_concatenation_with_equal_halves_is_an_addition() -> None:
    torch.manual_seed(0)
    add = GatedFusion(6, FusionConfig())
    concat = GatedFusion(6, FusionConfig(fusion="concat"))
    concat.load_state_dict({**add.state_dict(), "linear.weight": add.linear.weight.repeat(1, 2)})
    own, message = torch.randn(5, 6), torch.randn(5, 6)
    close(concat(own, message), add(own, message))


@pytest.mark.parametrize("fusion", ["add", "concat"])
@pytest.mark.parametrize("gate", ["scalar", "none"])
def test_fusion_taken_apart_equals_fusion(fusion: str, gate: str) -> None:
    torch.manual_seed(0)
    layer = GatedFusion(6, build(FusionConfig, {"fusion": fusion, "gate": gate}))
    assert layer.splits
    own, message = torch.randn(5, 6), torch.randn(5, 6)
    factor = layer.gate(own, message) if gate == "scalar" else None
    found = layer.joined(layer.own(own), layer.given(message), factor)
    close(layer.with_residual(found, own), layer(own, message))


@pytest.mark.parametrize("gate", ["vector", "scalar"])
@pytest.mark.parametrize("fusion", ["add", "concat", "product"])
def test_gradients_of_gated_fusion_are_those_of_differences(gate: str, fusion: str) -> None:
    torch.manual_seed(0)
    layer = GatedFusion(3, build(FusionConfig, {"gate": gate, "fusion": fusion})).double()
    own, message = (torch.randn(2, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(layer, (own, message))
    assert torch.autograd.gradcheck(layer.gate, (own, message))


@pytest.mark.parametrize("values", [{}, CODE, {**CODE, **CROSS}], ids=["paper", "code", "cross"])
def test_gradients_of_scores_are_those_of_differences(values: dict[str, Any]) -> None:
    model = model_of(**values, dim=4).double()
    tokens = [torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    masks = torch.tensor([[1, 1, 0], [1, 1, 1]]).bool(), torch.tensor([[1, 1, 1], [1, 0, 0]]).bool()

    def score(regions: Tensor, words: Tensor) -> Tensor:
        left = model._encoded(regions, masks[0], model.regions, model.words)
        right = model._encoded(words, masks[1], model.words, model.regions)
        return model.score(left, right).i2t

    assert torch.autograd.gradcheck(score, tokens)


def test_a_gate_of_one_number_is_that_of_the_inner_product() -> None:
    layer = GatedFusion(2, FusionConfig(gate="scalar"))
    own, message = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.5, -1.0]])
    close(layer.gate(own, message), torch.tensor([[1 / (1 + math.exp(1.5))]]))
    gates = GatedFusion(2, FusionConfig()).gate(own, message)
    close(gates, torch.tensor([[1 / (1 + math.exp(-0.5)), 1 / (1 + math.exp(2.0))]]))


def test_pooling_heads_are_averaged() -> None:
    torch.manual_seed(0)
    pool = AttentionPool(4, 2)
    tokens, mask = torch.randn(1, 3, 4), torch.ones(1, 3, dtype=torch.bool)
    assert pool.out is not None
    logits = pool.out(pool.linear(tokens).relu())[0]  # (3, 2)
    expected = sum(logits[:, head].softmax(dim=0) @ tokens[0] for head in range(2)) / 2
    close(pool(tokens, mask)[0], expected)


def test_normalised_fragments_have_elements_of_about_one_and_padding_none() -> None:
    for items in encoded(model_of(normalise=True)):
        close(items.tokens.square().mean(dim=2), items.mask.float())


def test_padded_to_counts_words_of_zeros_in_the_mean() -> None:
    """As in the published code, which attends from zeros too; here to regions alone."""
    values: dict[str, Any] = {"pooling": "mean", **CROSS}
    model, padded = model_of(**values), model_of(**values, padded_to=6)
    left, right = encoded(model, images((3,)), sentences((4,)))
    weights = model.words.attention(right, left, model.regions)[0]  # (4, 3)
    messages = torch.cat([weights @ left.tokens[0], left.tokens[0].mean(dim=0).expand(2, 3 + 5)])
    looks = model.regions.attention(left, right, model.words)[0] @ right.tokens[0]
    expected = functional.cosine_similarity(messages.mean(dim=0), looks.mean(dim=0), dim=0)
    close(padded.score(left, right).i2t[0, 0], expected)
    assert (model.score(left, right).i2t[0, 0] - expected).abs() > 1e-4


def test_the_base_model_compares_vectors_that_are_made_alone() -> None:
    model = model_of(messages="none", **CROSS)
    left, right = encoded(model)
    assert not left.extra
    found = []
    for side, items in ((model.regions, left), (model.words, right)):
        logits = items.tokens @ side.pool.linear.weight[0] / math.sqrt(8)  # eq. 10-11
        shares = logits.masked_fill(~items.mask, -torch.inf).softmax(dim=1)
        found.append(functional.normalize((shares.unsqueeze(2) * items.tokens).sum(dim=1)))
    close(model.score(left, right).i2t, found[0] @ found[1].T)
    close(
        model.attend(left.select(slice(0, 2)), right.select(slice(0, 2))).sum(dim=2)[0, 0],
        torch.tensor(1.0),
    )


def test_all_stages_of_a_training_have_the_same_parameters() -> None:
    for base in ({}, CODE):
        names = {k: v.shape for k, v in model_of(**base).state_dict().items()}
        for stage in (
            CROSS,
            {**CROSS, "pooling": "mean", "padded_to": 50},
            {"messages": "none", **CROSS},
        ):
            assert {k: v.shape for k, v in model_of(**base, **stage).state_dict().items()} == names


@pytest.mark.parametrize(
    ("values", "idle"),
    [
        ({"messages": "mean"}, {"regions.key", "words.key"}),
        ({"pooling": "mean"}, {"regions.pool", "words.pool"}),
        ({"match": "cosine"}, {"mlp.0", "mlp.2"}),
        (CROSS, {"regions.fusion", "words.fusion", "mlp.0", "mlp.2"}),
    ],
    ids=["mean", "pool", "cosine", "cross"],
)
def test_only_what_a_setting_leaves_out_gets_no_gradient(
    values: dict[str, Any], idle: set[str]
) -> None:
    model = model_of(**values)
    scores_of(model).square().sum().backward()
    found = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert {".".join(name.split(".")[:2]) for name in found} == idle


@pytest.mark.parametrize("values", [{}, CODE, {"messages": "mean"}], ids=["paper", "code", "mean"])
def test_attention_sums_to_one_over_real_regions(values: dict[str, Any]) -> None:
    model = model_of(**values)
    left, right = encoded(model, images((5, 1)), sentences((1, 6)))
    weights = model.attend(left, right)
    close(weights.sum(dim=2), right.mask.float())
    assert not weights[1, :, 1:].any()  # the second image has one region


def test_attention_is_that_of_eq_2() -> None:
    model = model_of(affinity_dim=3)
    left, right = encoded(model, images((4,)), sentences((3,)))
    v, t = model.regions.key(left.tokens[0]), model.words.key(right.tokens[0])
    close(model.attend(left, right)[0], (t @ v.T / math.sqrt(3)).softmax(dim=1))


@pytest.mark.parametrize("values", [{}, {"gate": "scalar"}, CODE], ids=["paper", "scalar", "code"])
def test_gates_are_those_of_the_messages_and_padding_has_none(values: dict[str, Any]) -> None:
    model = model_of(**values)
    left, right = encoded(model, images((5, 1)), sentences((2, 6)))
    gates = model.gates(left, right)
    for name, items in (("regions", left), ("words", right)):
        assert gates[name].shape == items.mask.shape
        assert not gates[name][~items.mask].any()
        assert ((gates[name] > 0) == items.mask).all()
        assert (gates[name] < 1).all()
    if not values:
        message = model.attend(left, right)[0, :2] @ left.tokens[0]
        expected = (right.tokens[0, :2] * message).sigmoid().mean(dim=1)  # eq. 7
        close(gates["words"][0, :2], expected)


@pytest.mark.parametrize("values", [CROSS, {"gate": "none"}])
def test_a_model_without_gates_says_so(values: dict[str, Any]) -> None:
    model = model_of(**values)
    with pytest.raises(DataError, match="this model has no gates; train one with"):
        model.gates(*encoded(model, images((2,)), sentences((2,))))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"heads": 0}, "heads must be at least 1, got 0"),
        ({"dim": 0}, "dim must be at least 1, got 0"),
        ({"affinity_dim": -1}, "affinity_dim must be at least 0, got -1"),
        ({"region_dropout": 1.0}, r"region_dropout must be in \[0, 1\), got 1.0"),
        ({"messages": "none"}, "messages: none needs fuse: false and match: cosine"),
        ({"padded_to": 50}, "padded_to 50 needs pooling: mean"),
        ({"gate": "vectors"}, "'vectors' is not a choice; did you mean 'vector'"),
        ({"variant": "code"}, "'code' is not a choice"),
    ],
)
def test_what_cannot_be_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        model_of(**values)


@pytest.mark.parametrize(
    "values", [v for v in SETTINGS if v.get("fuse", True) or v.get("messages") != "mean"]
)
def test_operations_of_a_pair_are_those_that_must_be(values: dict[str, Any]) -> None:
    model = model_of(**{**values, "dim": 64, "padded_to": 0}).requires_grad_(requires_grad=False)
    left, right = encoded(model, images((20,) * 4), sentences((9,) * 4))
    with FlopCounterMode(display=False) as counter:
        model.score(left, right)
    ratio = counter.get_total_flops() / (16 * model.pair_flops(20, 9))
    # It counts no cosines, and no product that pools the residual; means are made per item.
    assert 0.98 < ratio < 1.13


class Live(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the tensors that are alive, and their highest number."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self.sizes: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        given = {_storage(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        for leaf in tree_leaves(found):
            if isinstance(leaf, Tensor) and _storage(leaf) not in {*given, *self.sizes}:
                storage = leaf.untyped_storage()
                self.sizes[_storage(leaf)] = storage.nbytes()
                self.now += storage.nbytes()
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self._gone, _storage(leaf))
        return found

    def _gone(self, key: int) -> None:
        self.now -= self.sizes.pop(key, 0)


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


@every_setting
@pytest.mark.parametrize("plain", [False, True])
def test_memory_of_a_pair_is_no_more_than_it_says(values: dict[str, Any], *, plain: bool) -> None:
    model = model_of(**{**values, "dim": 48}, plain=plain).requires_grad_(requires_grad=False)
    for r, w in ((20, 9), (4, 15)):
        here = model.pair_bytes(r, w)
        assert here <= min(model.pair_bytes(r + 1, w), model.pair_bytes(r, w + 1))
        left, right = encoded(model, images((r,) * 5), sentences((w, w, 1, w, w)))
        with Live() as live:
            model.score(left, right)
        assert 0 < live.peak <= 25 * here * 1.01


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_can_be_trained_and_its_figures_add_up(path: Path) -> None:
    recipe = load_recipe(path)
    for number, stage in enumerate(recipe.stages):
        config = recipe.of_stage(number).model_config(region_dim=4, vocab_size=5)
        model = Camp(CampConfig(**{**vars(config), "dim": 8}))
        if stage.only or stage.freeze:
            freeze(model, stage.only or stage.freeze, "stage", others=bool(stage.only))
    six = [value for name, value in recipe.expected.items() if name != "rsum"]
    if recipe.expected:
        assert len(six) == 6
        assert sum(value or 0.0 for value in six) == pytest.approx(
            recipe.expected["rsum"], abs=0.05
        )


def test_every_row_of_the_tables_has_a_recipe() -> None:
    rows = {"coco_1k", "coco_5k", "f30k", "f30k_code", "flickr8k"}
    assert {path.stem for path in RECIPES} >= rows
    assert len([path for path in RECIPES if path.stem.startswith("f30k_")]) == 11 + 1


@pytest.mark.parametrize("name", ["f30k_code", "flickr8k"])
def test_the_stages_of_a_recipe_follow_each_other(name: str, tmp_path: Path) -> None:
    recipe = plain(load_recipe(Path(__file__).parents[2] / "recipes" / "camp" / f"{name}.yaml"))
    recipe["model"] |= {"dim": 8, "text": {"word_dim": 6}}
    recipe["data"] = plain(tiny_recipe(epochs=1).data)
    recipe["tokenizer"] = {"threshold": 1}
    for stage in recipe["stages"]:
        stage["train"] |= {"epochs": 1, "batch_size": 8}
    outcome = train(parse_recipe(recipe), tiny_material(), tmp_path, show_progress=False)
    assert len(list((tmp_path / "stages").iterdir())) == 3
    assert outcome.result.epochs == 1
    assert 0 < outcome.result.best_rsum <= 600
