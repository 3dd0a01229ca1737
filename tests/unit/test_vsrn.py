"""Regions that reason about each other, the memory, and the sentence said from them."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.tiny import DIM, REGION_DIM, VOCAB, images, sentences
from visavis.errors import RecipeError
from visavis.layers.caption import CaptionConfig
from visavis.layers.text import TextConfig
from visavis.models.vsrn import RegionRelations, Vsrn, VsrnConfig, real_first
from visavis.recipes.recipe import parse_recipe
from visavis.types import ImageBatch, SentenceBatch, TrainingStep

CAPTION = CaptionConfig(dim=5, word_dim=4, dropout=0.0)


def vsrn(caption: CaptionConfig = CAPTION, **options: Any) -> Vsrn:
    torch.manual_seed(0)
    text = TextConfig(word_dim=6, bidirectional=False)
    config = VsrnConfig(
        region_dim=REGION_DIM, vocab_size=VOCAB, dim=DIM, text=text, caption=caption, **options
    )
    model = Vsrn(config)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.0)  # as after some training
    return model.eval()


def vectors(model: Vsrn, batch: ImageBatch) -> Tensor:
    return model.encode_images(batch).tokens[:, 0]


def term(model: Vsrn, left: ImageBatch, right: SentenceBatch) -> Tensor:
    """The caption loss of a batch, in training mode."""
    model.train()
    encoded = model.encode_images(left), model.encode_sentences(right)
    positives = torch.eye(len(left), dtype=torch.bool)
    return model.own_terms(TrainingStep(left, right, *encoded, positives, epoch=0))["caption"]


both_norms = pytest.mark.parametrize("legacy", [False, True])


@both_norms
def test_gaps_between_regions_do_not_count(*, legacy: bool) -> None:
    model = vsrn(legacy=legacy)
    whole = images((5, 5))
    mask = torch.tensor([[True, False, True, True, False], [False, False, False, True, True]])
    closed = torch.zeros(2, 3, REGION_DIM)
    closed[0], closed[1, :2] = whole.regions[0, [0, 2, 3]], whole.regions[1, [3, 4]]
    short = ImageBatch(closed, torch.tensor([[True, True, True], [True, True, False]]))
    found = vectors(model, ImageBatch(whole.regions, mask))
    torch.testing.assert_close(found, vectors(model, short), atol=1e-6, rtol=0)


def test_the_order_of_regions_counts() -> None:
    model, batch = vsrn(), images((5,))
    turned = ImageBatch(batch.regions.flip(1), batch.mask)
    assert (vectors(model, batch) - vectors(model, turned)).abs().max() > 1e-3


def test_real_regions_come_first_in_their_order() -> None:
    regions = torch.arange(8.0).view(2, 4, 1)
    mask = torch.tensor([[False, True, False, True], [False, True, False, False]])
    moved, real = real_first(ImageBatch(regions, mask))
    assert real.tolist() == [[True, True], [True, False]]
    assert moved[real].flatten().tolist() == [1.0, 3.0, 5.0]


def test_padding_is_in_no_statistics() -> None:
    layer, padded_layer = RegionRelations(4), RegionRelations(4)
    padded_layer.load_state_dict(layer.state_dict())
    regions = torch.randn(3, 2, 4)
    layer(regions, torch.ones(3, 2).bool())
    padded = torch.cat([regions, torch.full((3, 2, 4), 9.0)], dim=1)
    padded_layer(padded, torch.tensor([[True, True, False, False]] * 3))
    torch.testing.assert_close(layer.norm.running_mean, padded_layer.norm.running_mean)
    torch.testing.assert_close(layer.norm.running_var, padded_layer.norm.running_var)


def test_relations_start_as_the_identity() -> None:
    regions = torch.randn(2, 3, DIM)
    assert torch.equal(RegionRelations(DIM)(regions, torch.ones(2, 3).bool()), regions)


def test_relations_equal_a_loop_over_regions() -> None:
    layer = RegionRelations(4).eval()
    torch.nn.init.ones_(layer.norm.weight)
    regions = torch.randn(1, 3, 4)
    v = regions[0]
    updates = []
    for i in range(3):
        total = torch.zeros(4)
        for j in range(3):
            total += (layer.theta(v[i]) @ layer.phi(v[j])) / 3 * layer.value(v[j])
        updates.append(layer.out(total) / (1 + 1e-5) ** 0.5)
    found = layer(regions, torch.ones(1, 3).bool())
    torch.testing.assert_close(found[0], v + torch.stack(updates), atol=1e-5, rtol=0)


@both_norms
def test_lengths_run_over_channels_or_as_published_over_regions(*, legacy: bool) -> None:
    model, batch = vsrn(legacy=legacy), images((5, 3))
    norms = model.reason(batch.regions, batch.mask).norm(dim=1 if legacy else 2)
    expected = torch.ones(2, DIM) if legacy else batch.mask.float()
    torch.testing.assert_close(norms, expected)


def test_regions_are_kept_while_training_and_never_else() -> None:
    model = vsrn()
    assert not model.encode_images(images()).extra
    assert not model.encode_sentences(sentences()).extra
    assert set(model.train().encode_images(images()).extra) == {"regions", "region_mask"}
    assert not model.encode_sentences(sentences()).extra


def test_without_weight_there_are_no_captions() -> None:
    model = vsrn(CaptionConfig(weight=0.0)).train()
    left, right = images((5, 3)), sentences((4, 2))
    encoded = model.encode_images(left), model.encode_sentences(right)
    step = TrainingStep(left, right, *encoded, torch.eye(2).bool(), epoch=0)
    assert model.own_terms(step) == {}
    assert not encoded[0].extra
    assert not [name for name in model.state_dict() if name.startswith("captioner")]


def test_the_weight_multiplies_the_caption_loss() -> None:
    left, right = images((5, 3)), sentences((4, 2))
    one, half = (
        term(vsrn(CaptionConfig(weight=weight, dim=5, word_dim=4, dropout=0.0)), left, right)
        for weight in (1.0, 0.5)
    )
    torch.testing.assert_close(0.5 * one, half)


@pytest.mark.parametrize("pad_after_end", [False, True])
def test_caption_loss_equals_a_loop_over_words(*, pad_after_end: bool) -> None:
    captioner = vsrn().captioner
    assert captioner is not None
    captioner.pad_after_end = pad_after_end
    regions, mask, right = torch.randn(3, 4, DIM), images((4, 2, 3)).mask, sentences((4, 6, 2))
    total = 0.0
    for i in range(3):
        encoded, state = captioner.encoder(captioner.project(regions[i][mask[i]]))
        state = state[0]
        words = right.ids[i][right.mask[i]].tolist() + [0] * pad_after_end
        for heard, said in itertools.pairwise(words):
            both = torch.cat([encoded, state.expand(len(encoded), -1)], dim=1)
            weights = captioner.relevance(torch.tanh(captioner.compare(both)))[:, 0].softmax(dim=0)
            word = captioner.embed.weight[heard]
            state = captioner.decoder(torch.cat([word, weights @ encoded])[None], state[None])[0]
            total -= captioner.predict(state).log_softmax(dim=0)[said].item()
    assert captioner(regions, mask, right).item() == pytest.approx(total / 3, rel=1e-5)


def test_long_sentences_are_cut_and_keep_their_end_mark() -> None:
    captioner = vsrn(CaptionConfig(dim=5, word_dim=4, max_words=4)).captioner
    assert captioner is not None
    ids = torch.tensor([[1, 5, 6, 7, 8, 2], [1, 9, 2, 0, 0, 0]])
    saying = captioner.saying(SentenceBatch(ids, ids > 0))
    assert saying.order.tolist() == [0, 1]
    assert saying.sizes == [2, 2, 1]
    assert saying.heard.tolist() == [1, 1, 5, 9, 6]
    assert saying.said.tolist() == [5, 9, 6, 2, 2]


def test_captions_teach_the_regions_and_not_the_memory() -> None:
    model = vsrn()
    term(model, images((5, 3)), sentences((4, 2))).backward()
    assert all(p.grad is None for p in model.memory.parameters())
    assert all(p.grad is None for p in model.text.parameters())
    for name, parameter in model.relations.named_parameters():
        assert parameter.grad is not None, name


def test_image_vectors_can_be_batch_normalised() -> None:
    model = vsrn(batch_norm=True)
    vectors(model.train(), images())
    assert isinstance(model.image_norm, torch.nn.BatchNorm1d)
    assert model.image_norm.running_mean is not None
    assert model.image_norm.running_mean.abs().sum() > 0


@pytest.mark.parametrize("how", ["mean", "max"])
def test_words_can_be_pooled(how: str) -> None:
    found = vsrn(sentence_pooling=how).encode_sentences(sentences())
    other = vsrn().encode_sentences(sentences())
    assert (found.tokens - other.tokens).abs().max() > 1e-3


@pytest.mark.parametrize("wrong", [{"weight": -1.0}, {"max_words": 1}])
def test_captions_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    values = {"source": "x", "model": {"name": "vsrn", "caption": wrong}, "data": {"corpus": "x"}}
    with pytest.raises(RecipeError, match="caption"):
        parse_recipe(values)


def test_as_many_parameters_as_the_original() -> None:
    with torch.device("meta"):
        model = Vsrn(VsrnConfig(region_dim=2048, vocab_size=8481))
    count = {
        part: sum(p.numel() for p in getattr(model, part).parameters()) / 1e6
        for part in ("project", "relations", "memory", "text", "captioner")
    }
    assert count["project"] + count["relations"] + count["memory"] == pytest.approx(96.5, abs=0.05)
    assert count["text"] == pytest.approx(17.0, abs=0.05)
    assert count["captioner"] == pytest.approx(12.1, abs=0.05)
