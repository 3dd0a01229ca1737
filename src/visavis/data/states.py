"""Hidden states of a frozen language model, computed once and kept on disk.

A cache folder holds one folder per model identity (weights, tokenizer, cutting), and in it shards
that are written whole and never changed. A run that stops loses at most one shard; the next one
goes on from there, and another corpus with the same sentences finds them.

    <cache>/<digest>/shard-<name>/{keys,lengths,ids,states}.npy
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from visavis.data.frozen import FrozenEncoder, model_digest, model_folder
from visavis.data.sentences import all_checked
from visavis.errors import DataError
from visavis.files import atomic_path
from visavis.types import SentenceBatch

SHARD = 2048  # sentences; what a run that is stopped may lose
_KEY = 16  # bytes of the hash that stands for a sentence


@dataclass(frozen=True, slots=True, eq=False)
class _Shard:
    keys: list[bytes]
    lengths: NDArray[np.int32]  # (M,)
    starts: NDArray[np.int64]  # (M,) first row of each sentence
    ids: NDArray[np.int32]  # (T,) token numbers, one sentence after the other
    states: NDArray[np.float16]  # (T, H) memory-mapped


class StateCache:
    """A folder of hidden states, shared by corpora and models."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def missing(self, digest: str, texts: Sequence[str]) -> list[str]:
        """Sentences without states of one model, each once, in order of first appearance."""
        known = {key for shard in self._shards(digest) for key in shard.keys}
        return [text for text in dict.fromkeys(texts) if _key(text) not in known]

    def append(self, digest: str, texts: Sequence[str], batches: Sequence[SentenceBatch]) -> None:
        """Write one shard, atomically: the batches hold the states of all texts, in order.

        Raises:
            DataError: a state is not finite in half precision.
            StorageError: the disk is full.
        """
        keys = b"".join(_key(text) for text in texts)
        lengths = torch.cat([batch.mask.sum(dim=1) for batch in batches])
        ids = torch.cat([batch.ids[batch.mask] for batch in batches])
        rows = [b.states[b.mask].half().cpu() for b in batches if b.states is not None]
        states = torch.cat(rows)
        if len(lengths) != len(texts) or len(states) != len(ids):
            raise ValueError("every text needs its states")
        if not torch.isfinite(states).all():
            raise DataError("a hidden state is NaN, infinite or too large for half precision")
        name = f"shard-{hashlib.sha256(keys).hexdigest()[:16]}"
        with atomic_path(self.folder / digest / name) as temporary:
            temporary.mkdir()
            np.save(temporary / "keys.npy", np.frombuffer(keys, np.uint8).reshape(-1, _KEY))
            np.save(temporary / "lengths.npy", lengths.cpu().numpy().astype(np.int32))
            np.save(temporary / "ids.npy", ids.cpu().numpy().astype(np.int32))
            np.save(temporary / "states.npy", states.numpy())

    def open(self, digest: str, texts: Sequence[str]) -> CachedStates:
        """States of some sentences, all of them in the cache.

        Raises:
            DataError: a sentence is not in the cache, or a shard is damaged.
        """
        shards = list(self._shards(digest))
        places = {
            key: (number, row) for number, shard in enumerate(shards) for row, key in
            enumerate(shard.keys)
        }  # fmt: skip
        found = [places.get(_key(text)) for text in texts]
        for text, place in zip(texts, found, strict=True):
            if place is None:
                raise DataError(f"{self.folder}: holds no states of {text[:60]!a}")
        chosen = [place for place in found if place is not None]
        return CachedStates(digest, shards, np.array(chosen, np.int64).reshape(-1, 2))

    def _shards(self, digest: str) -> Iterator[_Shard]:
        for folder in sorted((self.folder / digest).glob("shard-*")):
            yield _read_shard(folder)


class CachedStates:
    """States of a list of sentences, memory-mapped: reading some reads only those."""

    def __init__(self, digest: str, shards: Sequence[_Shard], places: NDArray[np.int64]) -> None:
        self.digest = digest  # of the model that made the states
        self._shards = shards
        self._places = places  # (M, 2) shard, sentence within the shard

    def __len__(self) -> int:
        return len(self._places)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Number of tokens of each sentence: (M,)."""
        found = [self._shards[shard].lengths[row] for shard, row in self._places]
        return np.array(found, dtype=np.int64)

    @property
    def dim(self) -> int:
        """Width H of a hidden state."""
        return int(self._shards[0].states.shape[1])

    def read(self, rows: Sequence[int] | NDArray[np.int64]) -> SentenceBatch:
        """Ids, mask and float32 states (M, W, H) of some sentences, in the order given."""
        places = self._places[np.asarray(rows, dtype=np.int64)]
        parts = [self._one(int(shard), int(row)) for shard, row in places]
        width = max((len(ids) for ids, _ in parts), default=0)
        ids = np.zeros((len(parts), width), np.int64)
        mask = np.zeros((len(parts), width), np.bool_)
        states = np.zeros((len(parts), width, self.dim), np.float32)
        for row, (tokens, vectors) in enumerate(parts):
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = True
            states[row, : len(tokens)] = vectors
        return SentenceBatch(*(torch.from_numpy(array) for array in (ids, mask, states)))

    def _one(self, shard: int, row: int) -> tuple[NDArray[np.int32], NDArray[np.float16]]:
        held = self._shards[shard]
        start = int(held.starts[row])
        end = start + int(held.lengths[row])
        return held.ids[start:end], held.states[start:end]


def encode_states(
    texts: Sequence[str],
    model: str | Path,
    cache: StateCache,
    *,
    batch_size: int = 64,
    max_words: int = 32,
    device: torch.device | str = "cpu",
) -> CachedStates:
    """States of every sentence: from the cache, or computed and put there.

    The model (a folder or a hub name) is loaded only when a sentence is missing.

    Raises:
        DataError: a sentence has no token, or is bytes and not text.
        CheckpointError: the model is missing or cannot be loaded.
        MissingExtraError: transformers is not installed and states must be computed.
    """
    sentences = all_checked(texts)
    if not sentences:
        raise DataError("no sentences to encode; the corpus is empty")
    folder = model_folder(model)
    digest = model_digest(folder, max_words=max_words)
    missing = cache.missing(digest, sentences)
    if missing:
        encoder = FrozenEncoder(folder, max_words=max_words, device=device)
        _fill(cache, encoder, missing, batch_size)
    return cache.open(digest, sentences)


def _fill(cache: StateCache, encoder: FrozenEncoder, texts: list[str], batch_size: int) -> None:
    lists = encoder.tokenizer.encode_lists(texts)  # all of them first: errors come early
    # Sentences of like length share a batch, so that little is computed for padding.
    order = sorted(range(len(texts)), key=lambda item: len(lists[item]))
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("hidden states", total=len(texts))
        for first in range(0, len(order), SHARD):
            shard = order[first : first + SHARD]
            batches = []
            for start in range(0, len(shard), batch_size):
                chosen = shard[start : start + batch_size]
                batches.append(encoder.encode_lists([lists[item] for item in chosen]).to("cpu"))
                progress.advance(task, len(chosen))
            cache.append(encoder.digest, [texts[item] for item in shard], batches)


def _read_shard(folder: Path) -> _Shard:
    try:
        keys, lengths, ids = (
            np.load(folder / f"{name}.npy", allow_pickle=False)
            for name in ("keys", "lengths", "ids")
        )
        states = np.load(folder / "states.npy", mmap_mode="r", allow_pickle=False)
        starts = np.cumsum(lengths, dtype=np.int64) - lengths
    except (OSError, ValueError, EOFError) as error:
        raise _damaged(folder, str(error)) from error
    if keys.shape != (len(lengths), _KEY) or not len(ids) == len(states) == int(lengths.sum()):
        raise _damaged(folder, "its files do not belong together")
    return _Shard([row.tobytes() for row in keys], lengths, starts, ids, states)


def _damaged(folder: Path, reason: str) -> DataError:
    return DataError(f"{folder}: damaged ({reason}); delete this folder and run the command again")


def _key(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8")).digest()[:_KEY]
