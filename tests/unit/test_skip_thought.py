"""The skip-thought encoder: its dropout, and the published files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.tiny import VOCAB, sentences
from tests.tiny_corpus import tiny_material
from visavis.errors import CheckpointError, RecipeError
from visavis.layers.skip_thought import SkipThought
from visavis.layers.skip_thought_files import load_skip_thoughts
from visavis.layers.text import TextConfig, TextEncoder
from visavis.recipes.assemble import assemble
from visavis.recipes.recipe import Recipe, parse_recipe
from visavis.types import SentenceBatch

WORD_DIM, HIDDEN = 3, 4
WORDS = ["<eos>", "UNK", "dog", "a", "café"]  # of the dictionary


def encoder(dropout: float = 0.0, dim: int | None = None) -> SkipThought:
    torch.manual_seed(0)
    return SkipThought(VOCAB, word_dim=WORD_DIM, hidden=HIDDEN, dim=dim, dropout=dropout)


def published(folder: Path) -> dict[str, np.ndarray]:
    """Files as they were offered, with small arrays; what the archive holds."""
    generator = np.random.default_rng(0)
    e, h = WORD_DIM, HIDDEN
    shapes = {
        "Wemb": (5, e), "encoder_W": (e, 2 * h), "encoder_Wx": (e, h), "encoder_U": (h, 2 * h),
        "encoder_Ux": (h, h), "encoder_b": (2 * h,), "encoder_bx": (h,),
    }  # fmt: skip
    arrays = {name: generator.standard_normal(s).astype(np.float32) for name, s in shapes.items()}
    folder.mkdir(exist_ok=True)
    archive(folder, arrays)
    table = np.arange(5 * e, dtype=np.float32).reshape(5, e)
    np.save(folder / "utable.npy", table)
    (folder / "dictionary.txt").write_text("".join(f"{word}\n" for word in WORDS), "utf-8")
    return {**arrays, "table": table}


def archive(folder: Path, arrays: dict[str, Any]) -> None:
    np.savez(folder / "uni_skip.npz", **arrays)


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_word_by_word_without_dropout_it_is_the_library_s_layer() -> None:
    of, batch = encoder(), sentences()
    words = torch.nn.functional.pad(of.embed(batch.ids), (0, 1), value=1.0)
    states = of._dropped(words, batch.mask) * batch.mask.unsqueeze(2)
    close(states, of(batch))


def test_dropout_is_drawn_for_each_sentence_and_only_while_training() -> None:
    of = encoder(dropout=0.5)
    one = sentences((5,))
    twice = SentenceBatch(one.ids.repeat(2, 1), one.mask.repeat(2, 1))
    first, second = of.train()(twice)
    assert not torch.allclose(first, second)
    assert torch.equal(*of.eval()(twice))


def test_dropout_keeps_its_mask_from_word_to_word() -> None:
    of = encoder(dropout=0.5).train()
    inputs, recurrent = of.rnn.all_weights[0]
    recurrent.data.zero_()
    inputs.data[HIDDEN : 2 * HIDDEN] = 0.0
    inputs.data[HIDDEN : 2 * HIDDEN, -1] = -50.0  # i = 0: a state is its word alone
    same = SentenceBatch(torch.full((1, 6), 7), torch.ones(1, 6, dtype=torch.bool))
    states = of(same)[0]
    close(states, states[:1].expand(6, -1))


def test_padding_is_0_and_states_can_be_mapped() -> None:
    found = encoder(dim=9)(sentences())
    assert found.shape == (7, 6, 9)
    assert not found[~sentences().mask].any()


def test_published_weights_are_those_of_the_equations(tmp_path: Path) -> None:
    arrays = {k: torch.from_numpy(v) for k, v in published(tmp_path).items()}
    words = ["<pad>", "a", "dog"]
    of = SkipThought(3, word_dim=WORD_DIM, hidden=HIDDEN, dim=None, dropout=0.0)
    assert load_skip_thoughts(of, tmp_path, words) == 2
    h = torch.zeros(HIDDEN)
    for row in (3, 2):  # a dog
        x = arrays["table"][row]
        gates = x @ arrays["encoder_W"] + arrays["encoder_b"] + h @ arrays["encoder_U"]
        r, u = gates.sigmoid().chunk(2)
        new = x @ arrays["encoder_Wx"] + arrays["encoder_bx"] + r * (h @ arrays["encoder_Ux"])
        h = u * h + (1 - u) * new.tanh()
    batch = SentenceBatch(torch.tensor([[1, 2]]), torch.ones(1, 2, dtype=torch.bool))
    close(of(batch)[0, 1], h)


def test_words_get_their_rows_and_unknown_ones_that_of_unk(tmp_path: Path) -> None:
    table = torch.from_numpy(published(tmp_path)["table"])
    words = ["<pad>", "<start>", "<end>", "café", "zebra"]
    of = SkipThought(5, word_dim=WORD_DIM, hidden=HIDDEN, dim=None, dropout=0.0)
    assert load_skip_thoughts(of, tmp_path, words) == 2
    close(of.embed.weight[1:], table[[1, 0, 4, 1]])
    assert not of.embed.weight[0].any()


def error_of(folder: Path) -> str:
    of = SkipThought(3, word_dim=WORD_DIM, hidden=HIDDEN, dim=None, dropout=0.0)
    with pytest.raises(CheckpointError) as caught:
        load_skip_thoughts(of, folder, ["<pad>", "a", "dog"])
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["dictionary.txt", "utable.npy", "uni_skip.npz"])
def test_missing_and_damaged_files_are_named(name: str, tmp_path: Path) -> None:
    published(tmp_path)
    path = tmp_path / name
    path.write_bytes(b"\xff\xfe damaged")
    assert f"{path}: cannot be read" in error_of(tmp_path)
    path.unlink()
    assert f"{path}: cannot be read" in error_of(tmp_path)


def test_pickled_arrays_are_refused(tmp_path: Path) -> None:
    published(tmp_path)
    np.save(tmp_path / "utable.npy", np.array([{"a": 1}] * 5, dtype=object), allow_pickle=True)
    assert "Python objects" in error_of(tmp_path)
    arrays = published(tmp_path)
    archive(tmp_path, {**arrays, "encoder_b": np.array([{"a": 1}], object)})
    assert "allow_pickle=False" in error_of(tmp_path)


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    arrays = published(tmp_path)
    np.save(tmp_path / "utable.npy", arrays["table"][:4])
    assert "for the 5 words of dictionary.txt" in error_of(tmp_path)
    published(tmp_path)
    del arrays["encoder_bx"]
    archive(tmp_path, arrays)
    assert "encoder_bx" in error_of(tmp_path)
    published(tmp_path)
    (tmp_path / "dictionary.txt").write_text("a\nb\nc\nd\ne\n", "utf-8")
    assert "has no line UNK" in error_of(tmp_path)
    of = SkipThought(3, word_dim=WORD_DIM + 1, hidden=HIDDEN, dim=None, dropout=0.0)
    published(tmp_path)
    with pytest.raises(CheckpointError, match=r"set text\.word_dim"):
        load_skip_thoughts(of, tmp_path, ["<pad>", "a", "dog"])


def recipe(folder: str, **tokenizer: object) -> Recipe:
    text = {"encoder": "skip_thought", "word_dim": WORD_DIM, "state_dim": HIDDEN, "weights": folder}
    return parse_recipe(
        {
            "source": "a test",
            "model": {"name": "mtfn", "dim": 4, "rank": 2, "text": text},
            "data": {"corpus": "tiny"},
            "tokenizer": {"threshold": 1, **tokenizer},
        }
    )


def test_a_recipe_starts_from_published_weights(tmp_path: Path) -> None:
    table = torch.from_numpy(published(tmp_path)["table"])
    made = assemble(recipe(str(tmp_path), vocabulary="mtfn"), tiny_material())
    tokenizer = made.pretrained.tokenizer
    found = made.pretrained.model.get_parameter("text.encoder.embed.weight")
    assert tokenizer.tokens("A dog, on sand.") == ["a", "dog", "on", "sand"]
    numbers = tokenizer.encode_lists(["dog sand"])[0]
    assert torch.equal(found[numbers], table[[2, 1]])


def test_weights_of_words_need_words() -> None:
    with pytest.raises(RecipeError, match="weights are of skip_thought"):
        parse_recipe(
            {
                "source": "a test",
                "model": {"name": "vse", "text": {"weights": "folder"}},
                "data": {"corpus": "tiny"},
            }
        )


def test_any_model_can_read_its_states() -> None:
    text = TextConfig(encoder="skip_thought", word_dim=WORD_DIM, state_dim=HIDDEN)
    assert TextEncoder(text, vocab_size=VOCAB, dim=9)(sentences()).shape == (7, 6, 9)
    kept = TextEncoder(text, vocab_size=VOCAB, dim=9, mapped=False)
    assert kept.width == HIDDEN
    assert kept(sentences()).shape == (7, 6, HIDDEN)
