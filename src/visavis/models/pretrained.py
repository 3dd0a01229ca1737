"""Model folders: weights, settings, tokenizer and the identity of the features a model reads.

A folder holds `config.json`, `model.safetensors`, the tokenizer's files and `README.md` (the card).
Nothing in it is executed or unpickled.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from visavis import __version__
from visavis.config import build, plain
from visavis.data.features import FeatureIdentity
from visavis.data.tokenizer import Tokenizer, load_tokenizer
from visavis.errors import CheckpointError, DataError, RecipeError
from visavis.files import atomic_path, read_json, write_json
from visavis.models import config_class, model_class

FORMAT = 1


@dataclass(frozen=True, slots=True, eq=False)
class Pretrained:
    """A model with everything it needs to read pictures and sentences."""

    name: str  # in the table of models
    model: nn.Module
    tokenizer: Tokenizer
    features: FeatureIdentity
    details: Mapping[str, Any] = field(default_factory=dict)  # recipe, corpus, metrics
    language_model: str = ""  # folder or hub name of a frozen text encoder; empty for none

    def save_pretrained(self, folder: Path) -> None:
        """Write a model folder atomically.

        Raises:
            StorageError: the disk is full; what stood at `folder` is untouched.
        """
        with atomic_path(folder) as temporary:
            temporary.mkdir()
            save_weights(self.model, temporary / "model.safetensors")
            write_json(temporary / "config.json", self._config())
            self.tokenizer.save(temporary)
            (temporary / "README.md").write_text(card(self), encoding="utf-8")

    def _config(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "visavis": __version__,
            "name": self.name,
            "model": plain(self.model.config),
            "tokenizer_digest": self.tokenizer.digest,
            "features": plain(self.features),
            "details": plain(self.details),
            "language_model": self.language_model,
        }

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        device: str | torch.device | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
    ) -> Self:
        """Load a model folder, or one published on the Hugging Face hub, in evaluation mode.

        Args:
            source: a folder, a run folder (its `best` is taken) or a hub name `owner/model`.
            device: where the model is put; None is a CUDA device when there is one.
            revision: of a hub model.
            local_files_only: never ask the hub.

        Raises:
            CheckpointError: no such folder, damaged weights, another tokenizer, a newer format.
        """
        folder = _folder(str(source), revision, local_files_only=local_files_only)
        try:
            values = _checked(folder / "config.json")
            tokenizer = load_tokenizer(folder)
        except DataError as error:
            raise CheckpointError(str(error)) from error
        if tokenizer.digest != values["tokenizer_digest"]:
            raise CheckpointError(
                f"{folder}: the tokenizer is not the one the model was trained with; "
                "copy the whole model folder again"
            )
        try:
            config = build(config_class(values["name"]), values["model"], "model")
            identity = build(FeatureIdentity, values["features"], "features")
            model = model_class(values["name"])(config)
        except (RecipeError, RuntimeError, ValueError, OverflowError) as error:
            reason = " ".join(str(error).split())[:200]
            raise CheckpointError(f"{folder / 'config.json'}: {reason}") from error
        load_weights(model, folder / "model.safetensors")
        model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()
        return cls(
            values["name"],
            model,
            tokenizer,
            identity,
            values["details"],
            str(values.get("language_model", "")),
        )


def _folder(source: str, revision: str | None, *, local_files_only: bool) -> Path:
    path = Path(source)
    for candidate in (path, path / "best"):
        if (candidate / "config.json").is_file():
            return candidate
    if path.exists() or source.count("/") != 1 or source.startswith((".", "/")):
        raise CheckpointError(
            f"{source}: no model here (config.json is missing); "
            "give a folder that `visavis train` wrote"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        found = snapshot_download(source, revision=revision, local_files_only=local_files_only)
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise CheckpointError(
            f"{source}: neither a folder here nor a model the hub gives "
            f"({type(error).__name__}); check the name"
        ) from error
    return Path(found)


def _checked(path: Path) -> dict[str, Any]:
    values = read_json(path)
    needed = ("format", "name", "model", "tokenizer_digest", "features", "details")
    missing = [key for key in needed if not isinstance(values, dict) or key not in values]
    if missing:
        raise CheckpointError(f"{path}: not a visavis model ({missing[0]!r} is missing)")
    if values["format"] != FORMAT:
        raise CheckpointError(
            f"{path}: format {values['format']}, this version reads {FORMAT}; upgrade visavis"
        )
    if not isinstance(values["name"], str) or not isinstance(values["details"], dict):
        raise CheckpointError(f"{path}: not a visavis model; copy the model folder again")
    checked: dict[str, Any] = values
    return checked


def save_weights(model: nn.Module, path: Path) -> None:
    """Write weights; a full disk is the operating system's error."""
    weights = {key: value.contiguous() for key, value in model.state_dict().items()}
    try:
        save_file(weights, path)
    except SafetensorError as error:
        # The library tells the system's error in words only: "... (os error 28)".
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from error


def load_weights(model: nn.Module, path: Path) -> None:
    """Read weights, all of them and no others.

    Raises:
        CheckpointError: they cannot be read, or do not fit.
    """
    try:
        weights = load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path}: weights cannot be read ({error}); copy the model folder again"
        ) from error
    try:
        model.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path}: weights do not fit config.json ({reason})") from error


def card(pretrained: Pretrained) -> str:
    """The model card: what it is, what it was trained on, what it reached."""
    details = pretrained.details
    metrics: Mapping[str, float] = details.get("metrics", {})
    lines = [
        f"# {pretrained.name}: image-sentence matching",
        "",
        _origin(details),
        "",
        f"- features: {pretrained.features.extractor} ({pretrained.features.digest})",
        f"- parameters: {sum(p.numel() for p in pretrained.model.parameters()):,}",
        f"- vocabulary: {pretrained.tokenizer.vocab_size:,} tokens",
    ]
    if metrics:
        lines += ["", "Selected on held-out images:", "", "| metric | value |", "|---|---|"]
        lines += [f"| {key} | {value:.1f} |" for key, value in metrics.items()]
    usage = "from visavis import Pretrained\nmodel = Pretrained.from_pretrained(FOLDER)"
    lines += ["", "```python", usage, "```", ""]
    return "\n".join(lines)


def _origin(details: Mapping[str, Any]) -> str:
    corpus = f" on {details['corpus']}." if "corpus" in details else "."
    if "converted" in details:
        published = details["converted"]
        return (
            f"Trained by the published code of {published['title']}{corpus} Converted by visavis "
            f"{__version__} from `{published['file']}`."
        )
    recipe = f" by the recipe `{details['recipe']}`" if "recipe" in details else ""
    return f"Trained with visavis {__version__}{recipe}{corpus}"
