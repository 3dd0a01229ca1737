"""BFAN's scores, losses and training steps against the original implementation."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.parity.fixtures import Case, load_case, word_mask
from visavis.layers.text import TextConfig
from visavis.losses.hinge import hardest_hinge
from visavis.models.bfan import Bfan, BfanConfig
from visavis.scoring.matrix import score_stripe
from visavis.types import Encoded, ImageBatch, SentenceBatch

pytestmark = pytest.mark.parity

focal_types = pytest.mark.parametrize("focal", ["equal", "prob"])


def bfan_of(options: dict[str, Any], *, plain: bool = False, direction: str = "both") -> Bfan:
    config = BfanConfig(
        region_dim=options.get("img_dim", 4),
        vocab_size=options.get("vocab_size", 4),
        dim=options.get("embed_size", 4),
        text=TextConfig(word_dim=options.get("word_dim", 4)),
        focal=options["focal_type"],
        direction=direction,  # type: ignore[arg-type]
        lambda_softmax=options["lambda_softmax"],
        plain=plain,
    )
    return Bfan(config)


def encoded(case: Case) -> tuple[Encoded, Encoded]:
    regions = case["input.regions"].requires_grad_()
    words = case["input.words"].requires_grad_()
    images = Encoded(regions, torch.ones(regions.shape[:2], dtype=torch.bool))
    return images, Encoded(words, word_mask(case["input.lengths"], words.shape[1]))


@pytest.mark.parametrize("plain", [False, True])
@focal_types
def test_scores_and_gradients_equal_the_original(focal: str, *, plain: bool) -> None:
    case = load_case(f"bfan_{focal}")
    images, sentences = encoded(case)
    scores = bfan_of(case.options, plain=plain).score(images, sentences).i2t
    torch.testing.assert_close(scores, case["output.scores"], atol=1e-5, rtol=0)
    (scores * case["input.score_grad"]).sum().backward()
    torch.testing.assert_close(images.tokens.grad, case["grad.regions"], atol=1e-4, rtol=0)
    torch.testing.assert_close(sentences.tokens.grad, case["grad.words"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("direction", ["t2i", "i2t"])
@focal_types
def test_each_direction_equals_the_original(focal: str, direction: str, *, plain: bool) -> None:
    case = load_case(f"bfan_{focal}")
    model = bfan_of(case.options, plain=plain, direction=direction)
    scores = model.score(*encoded(case)).i2t
    torch.testing.assert_close(scores, case[f"output.scores_{direction}"], atol=1e-5, rtol=0)


@focal_types
def test_training_loss_and_gradients_equal_the_original(focal: str) -> None:
    case = load_case(f"bfan_{focal}_train")
    images, sentences = encoded(case)
    scores = score_stripe(bfan_of(case.options), images, sentences, budget_bytes=6400)
    value = hardest_hinge(scores, torch.eye(len(scores.i2t)).bool(), case.options["margin"])
    torch.testing.assert_close(value, case["output.loss"], atol=0, rtol=1e-5)
    value.backward()
    torch.testing.assert_close(images.tokens.grad, case["grad.regions"], atol=1e-4, rtol=0)
    torch.testing.assert_close(sentences.tokens.grad, case["grad.words"], atol=1e-4, rtol=0)


def ours(name: str) -> str:
    """Our name of an original parameter."""
    side, _, rest = name.partition(".")
    return f"text.encoder.{rest}" if side == "txt" else f"project.linear.{rest[len('fc.') :]}"


def test_three_training_steps_equal_the_original() -> None:
    case = load_case("train_steps_bfan")
    model = bfan_of(case.options)
    model.load_state_dict({ours(k): v for k, v in case.under("weight.").items()}, strict=True)
    parameters = dict(model.named_parameters())
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
        if step == 0:
            for name, grad in case.under("grad.").items():
                torch.testing.assert_close(parameters[ours(name)].grad, grad, atol=1e-5, rtol=0)
        optimiser.step()
    for name, after in case.under("output.after.").items():
        torch.testing.assert_close(parameters[ours(name)].detach(), after, atol=1e-5, rtol=0)
