"""A BERT-family model that is never trained: its folder, its identity, its hidden states."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from visavis.data.sentences import digest_of
from visavis.data.wordpiece import WordPieceTokenizer
from visavis.errors import CheckpointError, DataError, MissingExtraError
from visavis.files import sha256_of
from visavis.types import SentenceBatch

_SETTINGS = (
    "config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"
)  # fmt: skip
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")  # the first kind that is there is loaded


def model_folder(model: str | Path) -> Path:
    """The folder of a model; a hub name is looked up, and downloaded where the network allows.

    Raises:
        CheckpointError: neither a model folder nor a name that the hub gives.
    """
    folder = Path(model)
    if (folder / "config.json").is_file():
        return folder
    if folder.exists() or str(model).startswith((".", "/", "~")):
        raise CheckpointError(
            f"{model}: no config.json here; give the folder of a BERT-family model, or a hub name"
        )
    from huggingface_hub import snapshot_download

    try:
        for pattern in _WEIGHTS:
            folder = Path(snapshot_download(str(model), allow_patterns=[*_SETTINGS, pattern]))
            if next(folder.glob(pattern), None):
                break
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{model}: neither a folder nor a model that the hub gives ({_first_line(error)}); "
            "download it once where there is a network, or give its folder"
        ) from error
    return folder


def model_digest(folder: Path, *, max_words: int) -> str:
    """A hash of weights, settings, tokenizer and `max_words`: all that the states depend on.

    Raises:
        CheckpointError: the folder holds no weights.
    """
    files = [folder / name for name in _SETTINGS if (folder / name).is_file()]
    parts = [f"{path.name} {sha256_of(path)}" for path in files]
    parts += [f"{path.name} {sha256_of(path)}" for path in _weights(folder)]
    return digest_of("\n".join([*parts, f"max_words {max_words}"]))


class FrozenEncoder:
    """A frozen model with its tokenizer, in evaluation mode."""

    def __init__(
        self, model: str | Path, *, max_words: int = 32, device: torch.device | str = "cpu"
    ) -> None:
        """Load from a folder or a hub name; `max_words` counts [CLS] and [SEP] too.

        Raises:
            MissingExtraError: transformers is not installed.
            CheckpointError: the model is missing or cannot be loaded.
        """
        folder = model_folder(model)
        self.device = torch.device(device)
        self.digest = model_digest(folder, max_words=max_words)
        self._model, backend = _load(folder)
        self._model.to(self.device)
        longest = getattr(self._model.config, "max_position_embeddings", max_words)
        if max_words > longest:
            raise CheckpointError(f"{folder}: reads {longest} tokens at most, not {max_words}")
        self.tokenizer = WordPieceTokenizer(backend, max_words=max_words)

    @property
    def dim(self) -> int:
        """Width H of a hidden state."""
        return int(self._model.config.hidden_size)

    def encode(self, texts: Sequence[str]) -> SentenceBatch:
        """Ids, mask and last hidden states (M, W, H) of some sentences; padding is 0."""
        return self.encode_lists(self.tokenizer.encode_lists(texts))

    @torch.inference_mode()
    def encode_lists(self, lists: Sequence[Sequence[int]]) -> SentenceBatch:
        """The same for sentences that are token numbers already."""
        batch = self.tokenizer.pad(lists).to(self.device)
        output = self._model(input_ids=batch.ids, attention_mask=batch.mask.long())
        states = output.last_hidden_state.float()  # (M, W, H)
        return SentenceBatch(
            batch.ids, batch.mask, states.masked_fill(~batch.mask.unsqueeze(2), 0.0)
        )


def _weights(folder: Path) -> list[Path]:
    for pattern in _WEIGHTS:
        files = sorted(folder.glob(pattern))
        if files:
            return files
    raise CheckpointError(f"{folder}: holds no weights; expected model.safetensors")


def _load(folder: Path) -> tuple[Any, Any]:
    """The model in float32 and its tokenizer's rules, both from local files only."""
    try:
        from transformers import AutoModel, AutoTokenizer
    except ImportError as error:
        raise MissingExtraError("transformers", "hf") from error
    try:
        model, report = AutoModel.from_pretrained(
            folder, local_files_only=True, output_loading_info=True
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{folder}: cannot be loaded ({_first_line(error)})") from error
    # What the file lacks is filled with random numbers; only the pooling head is never used here.
    lacking = sorted(key for key in report["missing_keys"] if "pooler" not in key)
    if lacking:
        raise CheckpointError(
            f"{folder}: the weights lack {lacking[0]} and {len(lacking) - 1} more"
        )
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise DataError(f"{folder}: its tokenizer has no fast form; add its tokenizer.json")
    return model.float().eval().requires_grad_(requires_grad=False), backend


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
