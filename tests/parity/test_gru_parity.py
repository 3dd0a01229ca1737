"""The recurrent text encoder against the original implementations."""

from __future__ import annotations

import pytest
import torch

from tests.parity.fixtures import Case, load_case, word_mask
from visavis.layers.gru import GruEncoder, last_word
from visavis.layers.norm import l2norm
from visavis.types import SentenceBatch

pytestmark = pytest.mark.parity


def encode(case: Case, *, bidirectional: bool) -> tuple[torch.Tensor, torch.Tensor]:
    options = case.options
    encoder = GruEncoder(
        options["vocab_size"],
        word_dim=options["word_dim"],
        dim=options["embed_size"],
        bidirectional=bidirectional,
    )
    encoder.load_state_dict(case.under("weight."), strict=True)
    mask = word_mask(case["input.lengths"], case["input.tokens"].shape[1])
    return encoder(SentenceBatch(case["input.tokens"], mask)), mask


def test_directions_are_averaged_and_order_is_kept() -> None:
    case = load_case("text_bigru_details")
    words, _ = encode(case, bidirectional=True)
    order = case["output.sorted_index"]
    torch.testing.assert_close(words[order], case["output.averaged_raw_sorted"], atol=1e-5, rtol=0)
    torch.testing.assert_close(
        l2norm(words), case["output.unsorted_input_words"], atol=1e-5, rtol=0
    )


def test_last_word_of_an_unsorted_batch() -> None:
    case = load_case("text_last_state_unsorted")
    words, mask = encode(case, bidirectional=False)
    vectors = l2norm(last_word(words, mask))
    torch.testing.assert_close(vectors, case["output.features"], atol=1e-5, rtol=0)
