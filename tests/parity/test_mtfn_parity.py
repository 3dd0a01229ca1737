"""MTFN against the original implementation: fusion, skip-thought GRU, and both together."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.parity.fixtures import Case, load_case
from tests.tiny import close
from visavis.layers.fusion import LowRankFusion
from visavis.layers.skip_thought import SkipThought
from visavis.layers.text import TextConfig
from visavis.models.mtfn import Mtfn, MtfnConfig
from visavis.types import ImageBatch, SentenceBatch

pytestmark = pytest.mark.parity

GATES = ("ir", "ii", "in")


def encoder_weights(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The original's gates side by side, the biases as the last column of the input's weights."""

    def gate(name: str, part: str = "weight") -> Tensor:
        return weights[f"rnn.gru_cell.weight_{name}.{part}"]

    inputs = [torch.cat([gate(name), gate(name, "bias")[:, None]], dim=1) for name in GATES]
    return {
        "embed.weight": weights["embedding.weight"],
        "rnn.weight_ih_l0": torch.cat(inputs),
        "rnn.weight_hh_l0": torch.cat([gate(name.replace("i", "h", 1)) for name in GATES]),
    }


def fusion_weights(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The original keeps a list of maps; ours stand below each other, rank by rank."""
    ours = {
        "project.linear.weight": weights["fusion.linear_v.weight"],
        "project.linear.bias": weights["fusion.linear_v.bias"],
        "project_sentence.1.weight": weights["fusion.linear_t.weight"],
        "project_sentence.1.bias": weights["fusion.linear_t.bias"],
        "fusion.out.weight": weights["linear_classif.weight"],
        "fusion.out.bias": weights["linear_classif.bias"],
    }
    rank = sum(name.endswith("weight") and ".list_linear_hv." in name for name in weights)
    for side, theirs in (("left", "hv"), ("right", "ht")):
        for part in ("weight", "bias"):
            parts = [weights[f"fusion.list_linear_{theirs}.{r}.{part}"] for r in range(rank)]
            ours[f"fusion.{side}.{part}"] = torch.cat(parts)
    return ours


def model_of(case: Case, **settings: Any) -> Mtfn:
    fusion = case.options["fusion"]
    text = {
        "encoder": "skip_thought",
        "word_dim": case.options.get("emb_dim", 3),
        "state_dim": fusion["dim_t"],
    }
    config = MtfnConfig(
        region_dim=fusion["dim_v"],
        vocab_size=case.options.get("n_words", 3) + 1,
        dim=fusion["dim_hv"],
        fusion_dim=fusion["dim_mm"],
        rank=fusion["R"],
        legacy=True,
        text_text=False,
        text=TextConfig(**text),
        **settings,
    )
    weights = case.under("weight.")
    state = fusion_weights(weights)
    if any(name.startswith("seq2vec.") for name in weights):
        encoder = encoder_weights(
            {k.removeprefix("seq2vec."): v for k, v in weights.items() if k.startswith("seq2vec.")}
        )
        state |= {f"text.encoder.{name}": value for name, value in encoder.items()}
    model = Mtfn(config)
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected
    assert all(name.startswith(("text.", "longest_")) for name in missing)
    return model.eval()


def sentences_of(tokens: Tensor) -> SentenceBatch:
    return SentenceBatch(tokens, tokens > 0)


def images_of(regions: Tensor) -> ImageBatch:
    return ImageBatch(regions, torch.ones(regions.shape[:2], dtype=torch.bool))


def test_states_of_the_skip_thought_encoder() -> None:
    case = load_case("mtfn_bayesian_gru")
    options = case.options
    encoder = SkipThought(
        options["n_words"] + 1,
        word_dim=options["emb_dim"],
        hidden=options["hidden"],
        dim=None,
        dropout=0.25,
    )
    encoder.load_state_dict(encoder_weights(case.under("weight.")))
    sentences = sentences_of(case["input.tokens"])
    last = sentences.mask.sum(dim=1) - 1
    rows = torch.arange(len(last))
    close(encoder.eval()(sentences)[rows, last], case["output.features"])
    encoder.dropout = 0.0
    words = torch.nn.functional.pad(encoder.embed(sentences.ids), (0, 1), value=1.0)
    close(encoder._dropped(words, sentences.mask)[rows, last], case["output.features"])


def fused(model: Mtfn, regions: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
    """The vectors x and y that enter the fusion, from an image's regions and a sentence vector."""
    x = torch.tanh(model.project(regions.mean(dim=1)))
    return x, torch.tanh(model.project_sentence(text))


def test_fused_vectors() -> None:
    case = load_case("mtfn_fusion")
    model = model_of(case)
    assert isinstance(model.fusion, LowRankFusion)
    x, y = fused(model, case["input.regions"], case["input.text"])
    found = model.fusion.factors().fused(x[:, None], y[None], model.config.rank)
    close(found, case["output.fused"])


@pytest.mark.parametrize("way", ["turned", "matrix", "straight"])
def test_scores_of_the_fusion_and_their_gradients(way: str) -> None:
    case = load_case("mtfn_fusion")
    model = model_of(case)
    assert isinstance(model.fusion, LowRankFusion)
    regions = case["input.regions"].requires_grad_()
    text = case["input.text"].requires_grad_()
    x, y = fused(model, regions, text)
    factors = model.fusion.factors()
    if way == "straight":
        logits = model.fusion.straight(x[:, None], y[None])
    else:
        ones = torch.ones(len(x), 1)
        left = (
            factors.turned(x) if way == "turned" else torch.cat([x, ones], dim=1) @ factors.matrix()
        )
        logits = left @ model.fusion.sentences(y).T
    scores = logits.sigmoid()
    close(scores, case["output.scores"])
    (scores * case["input.score_grad"]).sum().backward()
    assert regions.grad is not None
    assert text.grad is not None
    close(regions.grad, case["grad.regions"], atol=1e-4)
    close(text.grad, case["grad.text"], atol=1e-4)


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("kept", [False, True])
def test_scores_from_regions_and_tokens(*, plain: bool, kept: bool) -> None:
    case = load_case("mtfn_full")
    model = model_of(case, plain=plain)
    with torch.inference_mode(mode=kept):
        images = model.encode_images(images_of(case["input.regions"]))
        sentences = model.encode_sentences(sentences_of(case["input.tokens"]))
        close(model.score(images, sentences).i2t.sigmoid(), case["output.scores"])


def test_in_training_without_dropout_scores_are_those_of_the_original() -> None:
    case = load_case("mtfn_full")
    model = model_of(case, dropout=0.0).train()
    images = model.encode_images(images_of(case["input.regions"]))
    sentences = model.encode_sentences(sentences_of(case["input.tokens"]))
    close(model.score(images, sentences).i2t.sigmoid(), case["output.scores"])
