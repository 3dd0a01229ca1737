"""AOQ's loss, its lists and its draws are those of the published code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.mined import Fixed, sides_of
from tests.parity.fixtures import Case, case_names, load_case, word_mask
from visavis.data.batching import PairSource
from visavis.data.negatives import Negatives
from visavis.data.offline import DrawConfig, OfflineSource
from visavis.losses import loss_function
from visavis.losses.quintuplet import OfflineConfig
from visavis.mining.mine import mine
from visavis.mining.settings import MiningConfig
from visavis.mining.sides import exhaustive
from visavis.models.bfan import Bfan, BfanConfig
from visavis.models.vse import Vse, VseConfig
from visavis.training.config import ObjectiveConfig
from visavis.training.offline import offline_scores, ranking_terms
from visavis.types import Encoded, Matcher

pytestmark = pytest.mark.parity
NAMES = ("image", "text", "image_off", "text_off", "image_off2", "text_off2")


def terms_of(case: Case, model: Matcher, images: Encoded, sentences: Encoded) -> dict[str, Tensor]:
    """The loss of eq. 5 by the code that trains, on items that stand as a source puts them."""
    options = case.options
    settings = OfflineConfig(
        loss="adaptive_quintuplet",
        margin=options["margin_offline"],
        alpha=options["alpha"],
        beta=options["beta"],
        variant="code",
    )
    name = "hardest_hinge" if options["max_violation"] else "sum_hinge"
    config = ObjectiveConfig(loss=name, margin=options["margin_online"], offline=settings)
    pairs = len(case["input.image"])
    first = slice(0, pairs)
    scores = model.score(images.select(first), sentences.select(first))
    offline = offline_scores(model, images, sentences, pairs)
    torch.testing.assert_close(scores.i2t, case["output.scores"], rtol=0, atol=1e-5)
    for ours, theirs in (
        (offline.to_text, "score_i_toff"),
        (offline.to_image, "score_ioff_t"),
        (offline.derived_text, "score_ioff_toff"),
        (offline.derived_image, "score_ioff2_toff2"),
    ):
        torch.testing.assert_close(ours, case[f"output.{theirs}"], rtol=0, atol=1e-5)
    return ranking_terms(
        scores, torch.eye(pairs, dtype=torch.bool), offline, config, loss_function(name)
    )


def check_gradients(case: Case, inputs: dict[str, Tensor], terms: dict[str, Tensor]) -> None:
    loss = terms["ranking"] + terms["offline"]
    torch.testing.assert_close(loss, case["output.loss"], rtol=1e-5, atol=1e-5)
    loss.backward()
    for name, value in inputs.items():
        grad = torch.zeros_like(value) if value.grad is None else value.grad
        torch.testing.assert_close(grad, case[f"grad.{name}"], rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", case_names("aoq_loss*"))
def test_value_and_all_gradients_on_vectors(name: str) -> None:
    case = load_case(name)
    inputs = {key: case[f"input.{key}"].clone().requires_grad_() for key in NAMES}
    model = Vse(VseConfig(region_dim=4, vocab_size=4, dim=16)).eval()

    def items(kind: str) -> Encoded:
        vectors = torch.cat([inputs[f"{kind}{end}"] for end in ("", "_off", "_off2")])
        return Encoded(vectors[:, None], torch.ones(len(vectors), 1, dtype=torch.bool))

    check_gradients(case, inputs, terms_of(case, model, items("image"), items("text")))


def test_some_weights_of_the_fixture_are_below_zero() -> None:
    case = load_case("aoq_loss_negative_weight")
    both = torch.cat([case["output.weight_text"], case["output.weight_image"]])
    assert (both < 0).any()


@pytest.mark.parametrize("focal", ["equal", "prob"])
@pytest.mark.parametrize("plain", [True, False])
def test_value_and_all_gradients_on_attention(focal: Any, plain: bool) -> None:
    case = load_case(f"aoq_bfan_{focal}")
    inputs = {key: case[f"input.{key}"].clone().requires_grad_() for key in NAMES}
    model = Bfan(
        BfanConfig(
            region_dim=4,
            vocab_size=4,
            dim=16,
            focal=focal,
            lambda_softmax=case.options["lambda_softmax"],
            plain=plain,
        )
    ).eval()
    images = torch.cat([inputs[key] for key in NAMES[::2]])
    words = torch.cat([inputs[key] for key in NAMES[1::2]])
    lengths = torch.cat([case[f"input.lengths{end}"] for end in ("", "_off", "_off2")])
    terms = terms_of(
        case,
        model,
        Encoded(images, torch.ones(images.shape[:2], dtype=torch.bool)),
        Encoded(words, word_mask(lengths, words.shape[1])),
    )
    check_gradients(case, inputs, terms)


def test_mined_lists_are_the_published_ones(tmp_path: Path) -> None:
    case = load_case("aoq_candidates")
    corpus, sides = sides_of(case["input.image"], each=5)
    found = mine(
        exhaustive(Fixed(case["input.text"]), sides),
        corpus,
        MiningConfig(h=case.options["h_text"], images=case.options["h_image"]),
        tmp_path / "mined.safetensors",
        {},
    )
    assert np.array_equal(found.sentences, case["output.candidates_i2t"].numpy())
    assert np.array_equal(found.images, case["output.candidates_t2i"].numpy())


def test_draws_are_the_published_ones() -> None:
    case = load_case("aoq_sampling")
    lists = [case[f"input.candidates_{side}"].numpy().astype(np.int32) for side in ("i2t", "t2i")]
    corpus, sides = sides_of(torch.zeros(len(lists[0]), 2), each=5)
    source = OfflineSource(
        PairSource(corpus, sides.features, sides.texts),
        Negatives(*lists),
        DrawConfig(range_max=case.options["offcandisize"], coupled=True, resample=False),
    )
    caption, n, n2 = case["input.draws"].numpy().T
    draws = np.stack([np.zeros(len(n2)), (n2 + 0.5) / 5], axis=1)
    assert n.max() < source.of_images.counts.min()
    found = source.picked(caption, n, n // source.each, draws)
    expected = case["output.indices"].numpy()
    images = corpus.pairs[caption, 0]
    # Theirs: caption, image, i_off, t_off, i~, t~.
    assert np.array_equal(np.column_stack([caption, images, found]), expected)


def test_coupled_ranks_are_drawn_as_published() -> None:
    """Places in both lists are n and n // 5 of one n below the limit."""
    generator = np.random.default_rng(0)
    corpus, sides = sides_of(torch.zeros(12, 2), each=5)
    lists = (np.tile(np.arange(60, dtype=np.int32), (12, 1)), np.tile(np.arange(12), (60, 1)))
    source = OfflineSource(
        PairSource(corpus, sides.features, sides.texts),
        Negatives(lists[0], lists[1].astype(np.int32)),
        DrawConfig(range_max=20, coupled=True, resample=False),
    )
    found = source.draw(np.tile(np.arange(60), 50), generator)
    assert set(found[:, 1]) == set(range(20))
    assert np.array_equal(found[:, 0], found[:, 1] // 5)
