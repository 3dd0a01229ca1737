"""What stands in a published checkpoint, whoever's it is.

SCAN, BFAN, VSRN, AOQ, CAMP and SAEM all save `{"epoch", "model", "best_rsum", "opt", "Eiters"}`,
where `model` lists the weights of one part after the other and `opt` the options of the command.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from visavis.convert.stored import StoredTensor
from visavis.convert.torch_file import TorchFile, read_torch_file
from visavis.errors import CheckpointError

_WANTED = "expected a checkpoint of SCAN, BFAN, VSRN, CAMP or SAEM"
_WRAPPED = "module."  # what nn.DataParallel puts before every name
_LONGEST = 100  # of texts that are taken over


@dataclass(frozen=True, slots=True, eq=False)
class Published:
    """A checkpoint: its parts, and its options as plain values."""

    file: TorchFile
    parts: Sequence[Mapping[str, StoredTensor]]  # of the image, of the sentence, and others
    options: Mapping[str, object]
    epoch: object
    best: object

    @property
    def path(self) -> Path:
        """The file it was read from."""
        return self.file.path

    def shape(self, part: int, name: str, axes: int = 2) -> tuple[int, ...]:
        """The shape of one tensor, which has so many axes.

        Raises:
            CheckpointError: there is none of that name and with so many axes.
        """
        found = self.parts[part][name].shape if self.has(part, name) else ()
        if len(found) != axes:
            raise CheckpointError(
                f"{self.path}: holds no {name} of {axes} axes in part {part + 1}; it is of another "
                "model, or --family is wrong"
            )
        return found

    def has(self, part: int, name: str) -> bool:
        """Whether a part holds a tensor of that name."""
        return part < len(self.parts) and name in self.parts[part]

    def load(self, part: int, name: str) -> Tensor:
        """One tensor.

        Raises:
            CheckpointError: the file is cut short, or a number is NaN or infinite.
        """
        tensor = self.file.tensor(self.parts[part][name])
        if not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{self.path}: {name} holds NaN or infinity; training failed")
        return tensor

    def text(self, option: str) -> str:
        """An option that is a short text, else nothing."""
        value = self.options.get(option)
        usable = isinstance(value, str) and len(value) <= _LONGEST and value.isprintable()
        return str(value) if usable else ""

    def number(self, option: str) -> float | None:
        """An option that is a number, else nothing."""
        return _number(self.options.get(option))

    def about(self) -> dict[str, object]:
        """Epoch and best rsum, where they are numbers."""
        values = {"epoch": _number(self.epoch), "best_rsum": _number(self.best)}
        return {name: value for name, value in values.items() if value is not None}


def read_published(path: Path) -> Published:
    """A checkpoint; nothing in it is run, and weights are read when they are asked for.

    Raises:
        CheckpointError: not such a file, damaged, or refused because it asks for more than plain
            values and tensors.
    """
    file = read_torch_file(path)
    value = file.value
    models = value.get("model") if isinstance(value, dict) else None
    if not isinstance(value, dict) or not isinstance(models, list | tuple) or not models:
        raise CheckpointError(f"{path}: holds no list of weights as 'model'; {_WANTED}")
    options = value.get("opt", {})
    if not isinstance(options, dict):
        raise CheckpointError(f"{path}: its options are {type(options).__name__}; {_WANTED}")
    parts = [_part(part, path) for part in models]
    _check_sizes([stored for part in parts for stored in part.values()], file)
    return Published(file, parts, options, value.get("epoch"), value.get("best_rsum"))


def _part(value: object, path: Path) -> dict[str, StoredTensor]:
    if not isinstance(value, dict) or not value:
        raise CheckpointError(f"{path}: a part of 'model' is no dictionary of weights; {_WANTED}")
    found: dict[str, StoredTensor] = {}
    wrapped = all(str(name).startswith(_WRAPPED) for name in value)
    for name, stored in value.items():
        if not isinstance(name, str) or not isinstance(stored, StoredTensor):
            raise CheckpointError(f"{path}: {ascii(name)[:80]} in 'model' is no tensor; {_WANTED}")
        found[name.removeprefix(_WRAPPED) if wrapped else name] = stored
    return found


def _check_sizes(tensors: Sequence[StoredTensor], file: TorchFile) -> None:
    """Refuse tensors that share their numbers: a small file could fill the memory with them."""
    if sum(stored.count for stored in tensors) > len(file.buffer):
        raise CheckpointError(f"{file.path}: its tensors claim more than the file holds")


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if abs(value) < 2**53 else None  # NaN, infinity and endless integers are none
