"""SAEM against the original implementation: image branch, filters over words, losses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.parity.fixtures import Case, load_case
from tests.tiny import close
from visavis.layers.phrase_cnn import PhraseCnn
from visavis.losses.angular import angular
from visavis.losses.hinge import hardest_hinge, sum_hinge
from visavis.models.saem import Saem, SaemConfig
from visavis.types import Encoded, ImageBatch, Scores, SentenceBatch, TrainingStep

pytestmark = pytest.mark.parity

NAMES = {  # parameters of the image branch: the original's name and ours
    "mapping.": "project.linear.",
    "layer.attention.self.": "unit.attention.",
    "layer.attention.output.dense.": "unit.attention.out.",
    "layer.attention.output.LayerNorm.": "unit.attention_norm.",
    "layer.intermediate.dense.": "unit.feed_forward.first.",
    "layer.output.dense.": "unit.feed_forward.second.",
    "layer.output.LayerNorm.": "unit.feed_forward_norm.",
    "gamma": "weight",
    "beta": "bias",
}


def ours(name: str) -> str:
    for theirs, own in NAMES.items():
        name = name.replace(theirs, own)
    return name


def model_of(case: Case, **settings: Any) -> Saem:
    """A model with the image branch of a fixture; its sentence branch is not used."""
    options = case.options
    config = SaemConfig(
        region_dim=options["img_dim"],
        vocab_size=4,
        dim=options["final_dims"],
        heads=options["heads"],
        hidden=options["intermediate_size"],
        **settings,
    )
    model = Saem(config).eval()
    weights = {ours(name): tensor for name, tensor in case.under("weight.").items()}
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected
    assert all(name.startswith(("text.", "phrases.")) for name in missing)
    return model


def test_image_branch_and_its_gradients() -> None:
    case = load_case("saem_image")
    model = model_of(case)
    regions = case["input.images"].requires_grad_()
    mask = torch.ones(regions.shape[:2], dtype=torch.bool)
    encoded = model.encode_images(ImageBatch(regions, mask))
    assert encoded.pooled is not None
    close(model.unit(model.project(regions), mask), case["output.hidden"])
    close(encoded.pooled, case["output.features"])
    (encoded.pooled * case["input.features_grad"]).sum().backward()
    assert regions.grad is not None
    close(regions.grad, case["grad.images"])


def test_filters_over_words_and_their_gradients() -> None:
    case = load_case("saem_text_cnn")
    options = case.options
    layer = PhraseCnn(
        options["bert_dim"], options["out_channels"], options["final_dims"], positions="all"
    )
    weights = {}
    for name, tensor in case.under("weight.").items():
        own = name.replace("convs1.", "convolutions.").replace("mapping.", "linear.")
        weights[own] = tensor.squeeze(1).transpose(1, 2) if tensor.dim() == 4 else tensor
    layer.load_state_dict(weights, strict=True)
    states = case["input.states"].requires_grad_()
    features = layer(states, torch.ones(states.shape[:2], dtype=torch.bool))
    close(features, case["output.features"])
    (features * case["input.features_grad"]).sum().backward()
    assert states.grad is not None
    close(states.grad, case["grad.states"])


def own_pairs(case: Case) -> tuple[Tensor, Tensor, Tensor]:
    images = case["input.image"].clone().requires_grad_()
    sentences = case["input.text"].clone().requires_grad_()
    return images, sentences, torch.eye(len(images), dtype=torch.bool)


def loss_of(name: str, images: Tensor, sentences: Tensor, positives: Tensor) -> Tensor:
    if name.startswith("triplet"):
        hinge = hardest_hinge if name == "triplet" else sum_hinge
        # The original divides by the length once more, which a model's unit vectors do not feel.
        cosine = functional.normalize(images, dim=1) @ functional.normalize(sentences, dim=1).T
        return hinge(Scores.shared(cosine), positives, 0.2)
    return angular(images, sentences, positives, hardest=name == "angular")


@pytest.mark.parametrize("name", ["triplet", "triplet_sum", "angular", "angular_mean"])
def test_loss_and_its_gradients(name: str) -> None:
    case = load_case("saem_losses")
    images, sentences, positives = own_pairs(case)
    loss = loss_of(name, images, sentences, positives)
    torch.testing.assert_close(loss, case[f"output.{name}"], rtol=1e-5, atol=1e-6)
    loss.backward()
    assert images.grad is not None
    assert sentences.grad is not None
    close(images.grad, case[f"grad.{name}.image"])
    close(sentences.grad, case[f"grad.{name}.text"])


@pytest.mark.parametrize("epoch", [0, 7, 21])
def test_total_loss_of_an_epoch(epoch: int) -> None:
    case = load_case("saem_losses")
    model = model_of(case)
    images, sentences, positives = own_pairs(case)
    mask = torch.ones(len(images), 1, dtype=torch.bool)
    step = TrainingStep(
        images=ImageBatch(torch.zeros(len(images), 1, case.options["img_dim"]), mask),
        sentences=SentenceBatch(torch.zeros(len(images), 1, dtype=torch.int64), mask),
        encoded_images=Encoded(images.unsqueeze(1), mask),
        encoded_sentences=Encoded(sentences.unsqueeze(1), mask),
        positives=positives,
        epoch=epoch,
    )
    ranking = loss_of("triplet", images, sentences, positives)
    total = ranking + sum(model.own_terms(step).values())
    torch.testing.assert_close(total, case[f"output.total_epoch{epoch}"], rtol=1e-5, atol=1e-6)
