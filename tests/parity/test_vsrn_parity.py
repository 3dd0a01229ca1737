"""VSRN's encoders, caption loss and training steps against the original implementation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from tests.parity.fixtures import Case, load_case, word_mask
from visavis.layers.caption import CaptionConfig, Captioner
from visavis.layers.text import TextConfig
from visavis.losses.hinge import hardest_hinge
from visavis.models.vsrn import RegionRelations, Vsrn, VsrnConfig
from visavis.types import ImageBatch, SentenceBatch, TrainingStep

pytestmark = pytest.mark.parity

corpora = pytest.mark.parametrize("corpus", ["f30k", "coco"])

CAPTION_NAMES = {
    "encoder.vid2hid": "project",
    "encoder.rnn": "encoder",
    "decoder.embedding": "embed",
    "decoder.attention.linear1": "compare",
    "decoder.attention.linear2": "relevance",
    "decoder.rnn": "decoder",
    "decoder.out": "predict",
}


def vsrn_of(options: dict[str, Any]) -> Vsrn:
    """The published settings, which depend on the name of the corpus."""
    f30k = options["data_name"] == "f30k_precomp"
    caption = CaptionConfig(
        weight=1.0 if "dim_hidden" in options else 0.0,
        dim=options.get("dim_hidden", 1),
        word_dim=options.get("dim_word", 1),
        dropout=0.0,
        max_words=options.get("max_len", 60),
    )
    config = VsrnConfig(
        region_dim=options["img_dim"],
        vocab_size=options.get("vocab_size", 4),
        dim=options["embed_size"],
        text=TextConfig(word_dim=options.get("word_dim", 4), bidirectional=False),
        normalise_regions=not f30k,
        batch_norm=f30k,
        caption=caption,
        legacy=True,
    )
    return Vsrn(config)


def ours(name: str) -> str:
    """Our name of an original parameter."""
    side, _, rest = name.partition(".")
    if side == "txt":
        return f"text.encoder.{rest}"
    if side == "caption":
        return f"captioner.{caption_name(rest)}"
    if rest.startswith("Rs_GCN_"):
        number, _, inner = rest.removeprefix("Rs_GCN_").partition(".")
        return f"relations.{int(number) - 1}.{relation_name(inner)}"
    for theirs, here in (
        ("fc.", "project.linear."),
        ("img_rnn.", "memory."),
        ("bn.", "image_norm."),
    ):
        if rest.startswith(theirs):
            return here + rest.removeprefix(theirs)
    raise AssertionError(name)


def relation_name(name: str) -> str:
    for theirs, here in (("W.0.", "out."), ("W.1.", "norm."), ("g.", "value.")):
        if name.startswith(theirs):
            return here + name.removeprefix(theirs)
    return name


def caption_name(name: str) -> str:
    for theirs, here in CAPTION_NAMES.items():
        if name.startswith(f"{theirs}."):
            rest = name.removeprefix(f"{theirs}.")
            return f"{here}.{rest.removesuffix('_l0') if here == 'decoder' else rest}"
    raise AssertionError(name)


def flat(value: Tensor) -> Tensor:
    """A convolution over single places is a linear map."""
    return value.squeeze(2) if value.dim() == 3 else value


def load(model: nn.Module, weights: dict[str, Tensor]) -> None:
    model.load_state_dict({name: flat(value) for name, value in weights.items()}, strict=True)


def image_batch(regions: Tensor) -> ImageBatch:
    return ImageBatch(regions, torch.ones(regions.shape[:2], dtype=torch.bool))


def test_one_layer_of_relations_equals_the_original() -> None:
    case = load_case("vsrn_gcn_layer")
    layer = RegionRelations(case.options["embed_size"])
    load(layer, {relation_name(k): v for k, v in case.under("weight.").items()})
    regions = case["input.x"].transpose(1, 2)
    mask = torch.ones(regions.shape[:2], dtype=torch.bool)
    for mode in ("eval", "train"):
        found = layer.train(mode == "train")(regions, mask).transpose(1, 2)
        torch.testing.assert_close(found, case[f"output.{mode}"], atol=1e-5, rtol=0)


@corpora
def test_images_equal_the_original(corpus: str) -> None:
    case = load_case(f"vsrn_{corpus}_image")
    model = vsrn_of(case.options)
    text = {k: v for k, v in model.state_dict().items() if k.startswith("text.")}
    load(model, text | {ours(f"img.{k}"): v for k, v in case.under("weight.").items()})
    images = image_batch(case["input.images"].requires_grad_())
    found = {}
    for mode in ("eval", "train"):
        model.train(mode == "train")
        vectors, regions = model.encode_images(images).pooled, model.reason(*plain(images))
        assert vectors is not None
        found[mode] = vectors, regions
        torch.testing.assert_close(vectors, case[f"output.{mode}.features"], atol=1e-4, rtol=0)
        torch.testing.assert_close(regions, case[f"output.{mode}.regions"], atol=1e-4, rtol=0)
    vectors, regions = found["train"]
    loss = (vectors * case["input.features_grad"]).sum()
    (loss + (regions * case["input.regions_grad"]).sum()).backward()
    torch.testing.assert_close(images.regions.grad, case["grad.images"], atol=1e-3, rtol=1e-4)
    parameters = dict(model.named_parameters())
    for name, grad in case.under("grad.weight.").items():
        ours_grad = parameters[ours(f"img.{name}")].grad
        torch.testing.assert_close(ours_grad, flat(grad), atol=1e-3, rtol=1e-4)


def plain(images: ImageBatch) -> tuple[Tensor, Tensor]:
    return images.regions, images.mask


@corpora
def test_running_statistics_equal_the_original(corpus: str) -> None:
    case = load_case(f"vsrn_{corpus}_image")
    model = vsrn_of(case.options)
    text = {k: v for k, v in model.state_dict().items() if k.startswith("text.")}
    load(model, text | {ours(f"img.{k}"): v for k, v in case.under("weight.").items()})
    model.train().encode_images(image_batch(case["input.images"]))
    state = model.state_dict()
    for name, after in case.under("output.train.after.").items():
        torch.testing.assert_close(state[ours(f"img.{name}")], after, atol=1e-4, rtol=1e-4)


def test_sentences_equal_the_original() -> None:
    case = load_case("vsrn_text")
    model = vsrn_of({**case.options, "img_dim": 4, "data_name": "coco_precomp"})
    load(model.text.encoder, case.under("weight."))
    mask = word_mask(case["input.lengths"], case["input.tokens"].shape[1])
    found = model.encode_sentences(SentenceBatch(case["input.tokens"], mask)).pooled
    torch.testing.assert_close(found, case["output.features"], atol=1e-4, rtol=0)


def test_no_step_is_learned_beyond_the_published_mask() -> None:
    case = load_case("vsrn_caption_loss")
    captioner, sentences = captioner_of(case)
    saying = captioner.saying(sentences)
    steps = case.options["max_len"] - 1
    counted = case["input.caption_masks"][:, 1 : steps + 1]
    assert len(saying.said) == int(counted.sum())
    assert saying.said.sum() == (case["input.caption_labels"][:, 1 : steps + 1] * counted).sum()


def captioner_of(case: Case) -> tuple[Captioner, SentenceBatch]:
    options = case.options
    captioner = Captioner(
        CaptionConfig(
            dim=options["dim_hidden"],
            word_dim=options["dim_word"],
            dropout=options["input_dropout_p"],
            max_words=options["max_len"],
        ),
        region_dim=options["dim_vid"],
        vocab_size=options["vocab_size"],
        pad_after_end=True,
    )
    load(captioner, {caption_name(k): v for k, v in case.under("weight.").items()})
    labels = case["input.caption_labels"][:, : options["max_len"]]
    return captioner, SentenceBatch(labels, labels != 0)


def test_caption_loss_and_gradients_equal_the_original() -> None:
    case = load_case("vsrn_caption_loss")
    captioner, sentences = captioner_of(case)
    regions = case["input.regions"].requires_grad_()
    mask = torch.ones(regions.shape[:2], dtype=torch.bool)
    loss = captioner(regions, mask, sentences)
    torch.testing.assert_close(loss, case["output.loss"], atol=0, rtol=1e-5)
    loss.backward()
    torch.testing.assert_close(regions.grad, case["grad.regions"], atol=1e-4, rtol=0)
    parameters = dict(captioner.named_parameters())
    for name, grad in case.under("grad.weight.").items():
        found = parameters[caption_name(name)].grad
        torch.testing.assert_close(found, grad, atol=1e-4, rtol=1e-4)


def test_word_probabilities_equal_the_original() -> None:
    case = load_case("vsrn_caption_loss")
    captioner, sentences = captioner_of(case)
    mask = torch.ones(case["input.regions"].shape[:2], dtype=torch.bool)
    saying = captioner.saying(sentences)
    states = captioner.states(case["input.regions"], mask, saying)
    found = captioner.predict(states).log_softmax(dim=1)
    steps = case["input.caption_masks"][:, 1 : case.options["max_len"]].sum(dim=1)
    expected = case["output.logprobs"][saying.order]
    packed = pack_padded_sequence(expected, steps[saying.order], batch_first=True)
    assert packed.batch_sizes.tolist() == saying.sizes
    torch.testing.assert_close(found, packed.data, atol=1e-5, rtol=0)


def terms_of(model: Vsrn, case: Case) -> tuple[Tensor, Tensor, Tensor]:
    """Scores, ranking loss and caption loss of a training batch."""
    images = image_batch(case["input.images"])
    mask = word_mask(case["input.lengths"], case["input.tokens"].shape[1])
    sentences = SentenceBatch(case["input.tokens"], mask)
    left, right = model.encode_images(images), model.encode_sentences(sentences)
    positives = torch.eye(len(images), dtype=torch.bool)
    scores = model.score(left, right)
    step = TrainingStep(images, sentences, left, right, positives, epoch=0)
    ranking = hardest_hinge(scores, positives, case.options["margin"])
    return scores.i2t, ranking, model.own_terms(step)["caption"]


@corpora
def test_total_loss_equals_the_original(corpus: str) -> None:
    case = load_case(f"vsrn_{corpus}_total_loss")
    model = vsrn_of(case.options).train()
    load(model, {ours(k): v for k, v in case.under("weight.").items()})
    case["input.images"].requires_grad_()
    scores, ranking, caption = terms_of(model, case)
    torch.testing.assert_close(scores, case["output.scores"], atol=1e-4, rtol=0)
    torch.testing.assert_close(ranking, case["output.loss_retrieval"], atol=0, rtol=1e-4)
    torch.testing.assert_close(caption, case["output.loss_caption"], atol=0, rtol=1e-5)
    torch.testing.assert_close(ranking + caption, case["output.loss"], atol=0, rtol=1e-5)
    (ranking + caption).backward()
    grad = case["input.images"].grad
    torch.testing.assert_close(grad, case["grad.images"], atol=1e-3, rtol=1e-4)
    parameters = dict(model.named_parameters())
    for name, expected in case.under("grad.weight.").items():
        torch.testing.assert_close(parameters[ours(name)].grad, expected, atol=1e-3, rtol=1e-4)


def listed(model: Vsrn) -> list[nn.Parameter]:
    """Parameters as the published code lists them: those of the captions stand there twice."""
    twice = [p for name, p in model.named_parameters() if name.startswith("captioner.")]
    return [*(p for p in model.parameters()), *twice]


@corpora
@pytest.mark.filterwarnings("ignore:.*duplicate parameters.*")
def test_three_training_steps_equal_the_original(corpus: str) -> None:
    case = load_case(f"train_steps_vsrn_{corpus}")
    model = vsrn_of(case.options).train()
    load(model, {ours(k): v for k, v in case.under("weight.").items()})
    parameters = dict(model.named_parameters())
    everything = listed(model)
    optimiser = torch.optim.Adam(everything, lr=case.options["learning_rate"], foreach=False)
    for step in range(case.options["steps"]):
        _, ranking, caption = terms_of(model, case)
        loss = ranking + caption
        torch.testing.assert_close(loss, case["output.losses"][step], atol=0, rtol=1e-4)
        optimiser.zero_grad()
        loss.backward()
        clip = torch.nn.utils.clip_grad_norm_
        norm = clip(everything, case.options["grad_clip"], foreach=False)
        torch.testing.assert_close(norm, case["output.grad_norms"][step], atol=0, rtol=1e-4)
        if step == 0:
            for name, grad in case.under("grad.").items():
                found = parameters[ours(name)].grad
                torch.testing.assert_close(found, flat(grad), atol=1e-5, rtol=1e-4)
        optimiser.step()
    assert_parameters_after(case, parameters)


def assert_parameters_after(case: Case, parameters: dict[str, nn.Parameter]) -> None:
    compared = 0
    for name, after in case.under("output.after.").items():
        if name.endswith("W.0.bias"):
            continue  # the true gradient is 0: what Adam does there is rounding noise
        sure = flat(case[f"grad.{name}"]).abs() > 1e-6
        found = parameters[ours(name)].detach()
        torch.testing.assert_close(found[sure], flat(after)[sure], atol=1e-5, rtol=0)
        compared += int(sure.sum())
    assert compared > 1000
