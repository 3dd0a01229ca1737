"""CAMP's stages, encoders and losses against the original implementation.

Ours and theirs: `fuse: false` with `match: cosine` is their `cross_attention`, `fuse: true` their
`gate_fusion`; `code_v1` and `code_new` are theirs without and with `_new`; `pooling: mean` is
`reduce_func: mean`, where words of zeros count: `padded_to`. Their score is the sigmoid of ours.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.parity.fixtures import Case, case_names, load_case, word_mask
from visavis.layers.text import TextConfig
from visavis.losses import loss_function
from visavis.models.camp import Camp, CampConfig
from visavis.types import Encoded, ImageBatch, Scores, SentenceBatch

pytestmark = pytest.mark.parity

STAGES = case_names("camp_cross_attention*") + case_names("camp_gate_fusion*")
OURS = {
    "img_key_fc": "regions.key",
    "txt_key_fc": "words.key",
    "img_query_fc": "regions.query",
    "txt_query_fc": "words.query",
    "weighted_img_key_fc": "regions.again_key",
    "weighted_txt_key_fc": "words.again_key",
    "weighted_img_query_fc": "regions.again_query",
    "weighted_txt_query_fc": "words.again_query",
    "fc_1.0": "regions.fusion.linear",
    "fc_2.0": "words.fusion.linear",
    "fc_out.0": "mlp.0",
    "fc_out.3": "mlp.2",
    **{
        f"{name}_{number}.linear.{theirs}": f"{side}.pool.{ours}"
        for name in ("reduce_layer", "final_reduce")
        for number, side in ((1, "regions"), (2, "words"))
        for theirs, ours in ((0, "linear"), (2, "out"))
    },
}


def config_of(options: dict[str, Any], words: int, *, plain: bool) -> CampConfig:
    fuse = "fusion_func" in options
    mean = options.get("reduce_func") == "mean"
    return CampConfig(
        region_dim=4,
        vocab_size=4,
        dim=options["dim"],
        variant="code_new" if options["class"].endswith("New") else "code_v1",
        gate="scalar",
        fusion="concat" if options.get("fusion_func") == "concat" else "add",
        fuse=fuse,
        match="mlp" if fuse else "cosine",
        pooling="mean" if mean else "attention",
        heads=options["heads"],
        padded_to=words if mean else 0,
        plain=plain,
    )


def camp_of(case: Case, *, plain: bool) -> Camp:
    """Our model with their weights; what a stage does not have keeps what it started with."""
    model = Camp(config_of(case.options, case["input.words"].shape[1], plain=plain))
    state = {}
    for name, tensor in case.under("weight.").items():
        module, _, part = name.rpartition(".")
        if not name.endswith("linear.2.bias"):  # the same for all fragments: it does nothing
            state[f"{OURS[module]}.{part}"] = tensor
    result = model.load_state_dict(state, strict=False)
    assert not result.unexpected_keys
    if case.options.get("fusion_func"):
        assert not [k for k in result.missing_keys if not k.startswith(("project.", "text."))]
    return model.eval()


def sides(model: Camp, case: Case) -> tuple[Encoded, Encoded]:
    regions = case["input.regions"].requires_grad_()
    words = case["input.words"].requires_grad_()
    every = torch.ones(regions.shape[:2], dtype=torch.bool)
    return (
        model._encoded(regions, every, model.regions, model.words),
        model._encoded(words, case["input.mask"].bool(), model.words, model.regions),
    )


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("name", STAGES)
def test_scores_and_gradients_equal_the_original(name: str, *, plain: bool) -> None:
    case = load_case(name)
    model = camp_of(case, plain=plain)
    scores = model.score(*sides(model, case)).i2t
    if case.options.get("fusion_func"):
        scores = scores.sigmoid()
    torch.testing.assert_close(scores, case["output.scores"], atol=1e-5, rtol=0)
    (scores * case["input.score_grad"]).sum().backward()
    regions, words = case["input.regions"].grad, case["input.words"].grad
    torch.testing.assert_close(regions, case["grad.regions"], atol=1e-5, rtol=0)
    # Padding is zeros that nothing made: what the original computes for it leads nowhere.
    real = case["input.mask"].bool()
    assert words is not None
    torch.testing.assert_close(words[real], case["grad.words"][real], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", STAGES)
def test_scores_of_pairs_equal_the_original(name: str) -> None:
    case = load_case(name)
    model = camp_of(case, plain=False)
    left, right = sides(model, case)
    row, column = torch.tensor([0, 3, 4, 3]), torch.tensor([5, 0, 2, 2])
    scores = model.score_pairs(left.select(row), right.select(column)).i2t
    if case.options.get("fusion_func"):
        scores = scores.sigmoid()
    torch.testing.assert_close(scores, case["output.scores"][row, column], atol=1e-5, rtol=0)


def test_encoders_equal_the_original() -> None:
    case = load_case("camp_encoders")
    options = case.options
    config = CampConfig(
        region_dim=options["img_dim"],
        vocab_size=options["vocab_size"],
        dim=options["embed_size"],
        text=TextConfig(word_dim=options["word_dim"]),
    )
    model = Camp(config)
    theirs = {"img.fc": "project.linear", "txt.": "text.encoder."}
    for name, tensor in case.under("weight.").items():
        for prefix, ours in theirs.items():
            if name.startswith(prefix):
                model.get_parameter(ours + name[len(prefix) :]).data.copy_(tensor)
    images = case["input.images"]
    regions = model.encode_images(ImageBatch(images, torch.ones(images.shape[:2]).bool())).tokens
    torch.testing.assert_close(regions, case["output.regions"], atol=1e-5, rtol=0)
    tokens = case["input.tokens"]
    mask = word_mask(case["input.lengths"], tokens.shape[1])
    words = model.encode_sentences(SentenceBatch(tokens, mask)).tokens
    expected = case["output.words"]
    torch.testing.assert_close(words, expected[:, : words.shape[1]], atol=1e-5, rtol=0)
    assert not expected[:, words.shape[1] :].any()


def loss_and_gradient(name: str, case: Case) -> tuple[Tensor, Tensor]:
    scores = case["input.scores"].requires_grad_()
    value = loss_function(name)(Scores.shared(scores), torch.eye(len(scores)).bool(), 0.2)
    value.backward()
    assert scores.grad is not None
    return value.detach(), scores.grad


@pytest.mark.parametrize(
    ("name", "loss", "relative"),
    [
        ("camp_bce", "hardest_bce_clamped", 1e-5),
        ("camp_bce_mean", "bce_clamped", 1e-5),
        ("camp_bce_cosine", "hardest_bce_clamped", 1e-3),
    ],
)
def test_clamped_losses_and_gradients_equal_the_original(
    name: str, loss: str, relative: float
) -> None:
    case = load_case(name)
    value, gradient = loss_and_gradient(loss, case)
    torch.testing.assert_close(value, case["output.loss"], atol=0, rtol=relative)
    torch.testing.assert_close(gradient, case["grad.scores"], atol=1e-5, rtol=1e-5)


def test_the_loss_of_logits_equals_the_original_where_its_clamp_does_not_bite() -> None:
    case = load_case("camp_bce")
    logits = torch.logit(case["input.scores"].double()).requires_grad_()
    positives = torch.eye(len(logits), dtype=torch.bool)
    value = loss_function("hardest_bce")(Scores.shared(logits), positives, 0.2)
    torch.testing.assert_close(value.float(), case["output.loss"], atol=0, rtol=1e-5)
    value.backward()
    slope = case["input.scores"] * (1 - case["input.scores"])  # of m, by its logit
    assert logits.grad is not None
    expected = case["grad.scores"] * slope
    torch.testing.assert_close(logits.grad.float(), expected, atol=1e-5, rtol=1e-5)
