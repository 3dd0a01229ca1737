"""SCAN's encoders, scores, losses and training steps against the original implementation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.parity.fixtures import Case, case_names, load_case, word_mask
from visavis.layers.attention import gram_matrix
from visavis.layers.text import TextConfig
from visavis.losses.hinge import hardest_hinge, sum_hinge
from visavis.models.scan import Scan, ScanConfig
from visavis.scoring.matrix import score_stripe
from visavis.types import Encoded, ImageBatch, SentenceBatch

pytestmark = pytest.mark.parity

SCORE_CASES = [
    name
    for name in case_names("scan_*")
    if not name.startswith("scan_encoders") and "_train_" not in name
]


def scan_of(options: dict[str, Any], *, plain: bool = False) -> Scan:
    config = ScanConfig(
        region_dim=options.get("img_dim", 4),
        vocab_size=options.get("vocab_size", 4),
        dim=options.get("embed_size", 4),
        text=TextConfig(
            word_dim=options.get("word_dim", 4), bidirectional=options.get("bi_gru", True)
        ),
        direction=options.get("cross_attn", "t2i"),
        lambda_softmax=options["lambda_softmax"],
        lambda_lse=options["lambda_lse"],
        aggregation=options["agg_func"],
        feature_norm=options["raw_feature_norm"],
        weight_normalised=options.get("precomp_enc_type") == "weight_norm",
        normalise_images=not options.get("no_imgnorm", False),
        normalise_sentences=not options.get("no_txtnorm", False),
        plain=plain,
    )
    return Scan(config)


def encoded(case: Case) -> tuple[Encoded, Encoded]:
    regions = case["input.regions"].requires_grad_()
    words = case["input.words"].requires_grad_()
    mask = torch.ones(regions.shape[:2], dtype=torch.bool)
    images = Encoded(regions, mask)
    return images, Encoded(words, word_mask(case["input.lengths"], words.shape[1]))


def with_original_weights(model: Scan, weights: dict[str, Tensor]) -> None:
    """Original parameter names to ours, strictly."""
    renamed = {}
    for name, value in weights.items():
        side, _, rest = name.partition(".")
        if side == "txt":
            renamed[f"text.encoder.{rest}"] = value
        elif "weight_" in rest:
            part = "original0" if rest.endswith("_g") else "original1"
            renamed[f"project.linear.parametrizations.weight.{part}"] = value
        else:
            renamed[f"project.linear.{rest.removeprefix('fc.')}"] = value
    model.load_state_dict(renamed, strict=True)


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("name", SCORE_CASES)
def test_scores_and_gradients_equal_the_original(name: str, *, plain: bool) -> None:
    case = load_case(name)
    images, sentences = encoded(case)
    scores = scan_of(case.options, plain=plain).score(images, sentences).i2t
    torch.testing.assert_close(scores, case["output.scores"], atol=1e-5, rtol=0)
    (scores * case["input.score_grad"]).sum().backward()
    torch.testing.assert_close(images.tokens.grad, case["grad.regions"], atol=1e-4, rtol=0)
    torch.testing.assert_close(sentences.tokens.grad, case["grad.words"], atol=1e-4, rtol=0)


def test_no_score_case_is_missing() -> None:
    assert len(SCORE_CASES) == 20


@pytest.mark.parametrize("name", case_names("scan_*_train_*"))
def test_training_loss_and_gradients_equal_the_original(name: str) -> None:
    case = load_case(name)
    images, sentences = encoded(case)
    scores = score_stripe(scan_of(case.options), images, sentences, budget_bytes=3200)
    loss = hardest_hinge if case.options["max_violation"] else sum_hinge
    value = loss(scores, torch.eye(len(scores.i2t)).bool(), case.options["margin"])
    torch.testing.assert_close(value, case["output.loss"], atol=0, rtol=1e-5)
    value.backward()
    torch.testing.assert_close(images.tokens.grad, case["grad.regions"], atol=1e-4, rtol=0)
    torch.testing.assert_close(sentences.tokens.grad, case["grad.words"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", case_names("scan_encoders_*"))
def test_encoders_equal_the_original(name: str) -> None:
    case = load_case(name)
    model = scan_of(case.options)
    with_original_weights(model, case.under("weight."))
    regions = case["input.images"]
    images = model.encode_images(ImageBatch(regions, torch.ones(regions.shape[:2]).bool()))
    mask = word_mask(case["input.lengths"], case["input.tokens"].shape[1])
    sentences = model.encode_sentences(SentenceBatch(case["input.tokens"], mask))
    torch.testing.assert_close(images.tokens, case["output.regions"], atol=1e-5, rtol=0)
    expected = case["output.words"]
    words = sentences.tokens[:, : expected.shape[1]]
    torch.testing.assert_close(words, expected, atol=1e-5, rtol=0)
    if "output.scores" in case.tensors:
        scores = model.score(images, sentences).i2t
        torch.testing.assert_close(scores, case["output.scores"], atol=1e-5, rtol=0)


def test_three_training_steps_equal_the_original() -> None:
    case = load_case("train_steps_scan")
    model = scan_of(case.options)
    with_original_weights(model, case.under("weight."))
    optimiser = torch.optim.Adam(model.parameters(), lr=case.options["learning_rate"])
    regions = case["input.images"]
    images = ImageBatch(regions, torch.ones(regions.shape[:2]).bool())
    mask = word_mask(case["input.lengths"], case["input.tokens"].shape[1])
    positives = torch.eye(len(regions), dtype=torch.bool)
    for step in range(case.options["steps"]):
        sentences = model.encode_sentences(SentenceBatch(case["input.tokens"], mask))
        scores = model.score(model.encode_images(images), sentences)
        loss = hardest_hinge(scores, positives, case.options["margin"])
        torch.testing.assert_close(loss, case["output.losses"][step], atol=0, rtol=1e-4)
        optimiser.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), case.options["grad_clip"])
        torch.testing.assert_close(norm, case["output.grad_norms"][step], atol=0, rtol=1e-4)
        optimiser.step()
    after = scan_of(case.options)
    with_original_weights(after, case.under("output.after."))
    for ours, theirs in zip(model.parameters(), after.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_gram_matrix_by_hand() -> None:
    vectors = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    assert gram_matrix(vectors).tolist() == [[[5.0, 11.0], [11.0, 25.0]]]
