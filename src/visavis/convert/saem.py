"""SAEM: one transformer unit over regions, filters over the states of a BERT.

The checkpoint holds the whole BERT, which was frozen. Here the language model stays a folder of its
own (`--bert`), and its weights are compared with those of the checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from visavis.convert.family import Family, Settings
from visavis.convert.published import Published
from visavis.convert.stored import StoredTensor
from visavis.convert.torch_file import read_torch_file
from visavis.errors import CheckpointError

SAME = 1e-5  # as far as two copies of one BERT may differ
LENGTH = 32  # word pieces, to which the published code cuts and fills up sentences
NORMS = {"gamma": "weight", "beta": "bias"}
_LAYERS = {
    "image.mapping.": "project.linear.",
    "image.layer.attention.self.": "unit.attention.",
    "image.layer.attention.output.dense.": "unit.attention.out.",
    "image.layer.attention.output.LayerNorm.": "unit.attention_norm.",
    "image.layer.intermediate.dense.": "unit.feed_forward.first.",
    "image.layer.output.dense.": "unit.feed_forward.second.",
    "image.layer.output.LayerNorm.": "unit.feed_forward_norm.",
}
NAMES = {
    **_LAYERS,
    **{
        theirs + old: ours + new
        for theirs, ours in _LAYERS.items()
        if theirs.endswith("LayerNorm.")
        for old, new in NORMS.items()
    },
    **{f"sentence.convs1.{n}.": f"phrases.convolutions.{n}." for n in range(3)},
    "sentence.mapping.": "phrases.linear.",
}


def _sizes(published: Published) -> Settings:
    dim, region_dim = published.shape(0, "mapping.weight")
    filters, _, _, state_dim = published.shape(1, "convs1.0.weight", axes=4)
    return {
        "dim": dim,
        "region_dim": region_dim,
        "vocab_size": published.shape(1, "bert.embeddings.word_embeddings.weight")[0],
        "text": {"encoder": "frozen", "state_dim": state_dim},
        "hidden": published.shape(0, "layer.intermediate.dense.weight")[0],
        "filters": filters,
        "positions": "all",
    }


def _turned(name: str, tensor: Tensor) -> Tensor:
    """Filters (F, 1, K, E) over a picture of words, to ours (F, E, K) over a line of them."""
    if name.startswith("phrases.convolutions.") and tensor.dim() == 4:
        return tensor.squeeze(1).transpose(1, 2)
    return tensor


SAEM = Family(
    model="saem",
    title="SAEM",
    parts=("image", "sentence"),
    names=NAMES,
    recognised=lambda published: published.has(1, "bert.embeddings.word_embeddings.weight"),
    sizes=_sizes,
    needed={"txt_stru": ("cnn",), "max_words": (LENGTH,)},
    dropped=("sentence.bert.*",),  # compared with the language model's folder instead
    turned=_turned,
    max_words=LENGTH,
    reads_words=False,
)


def check_language_model(published: Published, folder: Path) -> None:
    """Refuse a BERT that is not the one of the checkpoint; the pooling head is not used.

    Raises:
        CheckpointError: a weight differs or is missing, or the folder cannot be read.
    """
    theirs = {
        _plain_name(name): name
        for name in published.parts[1]
        if name.startswith("bert.") and ".pooler." not in name and "position_ids" not in name
    }
    found = _weights(folder)
    for plain, name in theirs.items():
        own = found[plain]() if plain in found else None
        weight = published.load(1, name)
        if own is None or own.shape != weight.shape or bool(((own - weight).abs() > SAME).any()):
            raise CheckpointError(
                f"{folder}: its {plain} is not that of {published.path}; give the BERT that the "
                "model was trained with"
            )


def _weights(folder: Path) -> dict[str, Callable[[], Tensor]]:
    """A reader for each weight of a BERT folder."""
    found: dict[str, Callable[[], Tensor]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, "pt") as file:
                names = list(file.keys())
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path}: weights cannot be read ({error})") from error
        found |= {_plain_name(name): partial(_read, path, name) for name in names}
    if found:
        return found
    for path in sorted(folder.glob("pytorch_model*.bin")):
        file = read_torch_file(path)
        values = file.value if isinstance(file.value, dict) else {}
        for name, stored in values.items():
            if isinstance(stored, StoredTensor):
                found[_plain_name(str(name))] = partial(file.tensor, stored)
    return found


def _read(path: Path, name: str) -> Tensor:
    with safe_open(path, "pt") as file:
        tensor: Tensor = file.get_tensor(name)
    return tensor.to(torch.float32)


def _plain_name(name: str) -> str:
    """A BERT's parameter as it is called today, without the prefix."""
    head, _, last = name.removeprefix("bert.").rpartition(".")
    return f"{head}.{NORMS.get(last, last)}"
