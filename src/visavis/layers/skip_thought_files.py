"""The published weights of skip-thought vectors: arrays of numbers, of which nothing is unpickled.

A folder holds `dictionary.txt` (a word in each line), `utable.npy` (its vectors, 620 wide) and
`uni_skip.npz` (the GRU, 2,400 wide), as Kiros et al. offered them.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from visavis.errors import CheckpointError
from visavis.layers.skip_thought import SkipThought

DICTIONARY, TABLE, WEIGHTS = "dictionary.txt", "utable.npy", "uni_skip.npz"
UNKNOWN = "UNK"  # the dictionary's row for words that it lacks
MARKS = {"<end>": "<eos>"}  # of our vocabularies, and what the dictionary calls it
# Of the columns of W and U the first half belongs to r, the second to i; Wx and Ux belong to n.
_INPUT, _RECURRENT, _BIASES = (
    ("encoder_W", "encoder_Wx"),
    ("encoder_U", "encoder_Ux"),
    ("encoder_b", "encoder_bx"),
)
_DAMAGE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)

Array = NDArray[np.floating]


@torch.no_grad()
def load_skip_thoughts(encoder: SkipThought, folder: Path, words: Sequence[str]) -> int:
    """Put the published weights in; how many of the words have a vector of their own.

    Other words get that of `UNK`, and `<end>` that of `<eos>`. Of the table only the rows that are
    needed are read.

    Args:
        encoder: its widths must be those of the files.
        folder: holds the three files.
        words: the word of each number; number 0 is padding, whose vector stays 0.

    Raises:
        CheckpointError: a file is missing, damaged, holds pickled objects or has other widths.
    """
    places = _dictionary(folder / DICTIONARY)
    table = _array(folder / TABLE)
    if table.ndim != 2 or len(table) != max(places.values()) + 1:
        raise CheckpointError(
            f"{folder / TABLE}: shape {table.shape} for the {max(places.values()) + 1} words of "
            f"{DICTIONARY}; take both from one download"
        )
    known = [MARKS.get(word, word) for word in words[1:]]
    rows = [places.get(word, places[UNKNOWN]) for word in known]
    weights = _gru(folder / WEIGHTS)
    _fill(encoder.embed.weight[1:], table[rows], folder / TABLE)
    for parameter, values in zip(encoder.rnn.all_weights[0], weights, strict=True):
        _fill(parameter, values, folder / WEIGHTS)
    return sum(word in places for word in known)


def _dictionary(path: Path) -> dict[str, int]:
    try:
        lines = path.read_bytes().decode("utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error
    places = {line.strip(): number for number, line in enumerate(lines)}
    if UNKNOWN not in places:
        raise CheckpointError(f"{path}: has no line {UNKNOWN}; it is not the published dictionary")
    return places


def _array(path: Path) -> Array:
    try:
        found: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    except _DAMAGE as error:
        raise _unreadable(path, error) from error
    return found


def _gru(path: Path) -> tuple[Array, Array]:
    """Weights of the input, with the biases as last column, and of the states: (3 H, E + 1), ..."""
    try:
        with np.load(path, allow_pickle=False) as archive:  # an array is read when it is asked for
            inputs, states, biases = (
                [np.asarray(archive[name]).T for name in names]
                for names in (_INPUT, _RECURRENT, _BIASES)
            )
        joined = np.concatenate(inputs), np.concatenate(biases)[:, None]
        return np.concatenate(joined, axis=1), np.concatenate(states)
    except _DAMAGE as error:
        raise _unreadable(path, error) from error


def _fill(parameter: Tensor, values: Array, source: Path) -> None:
    if tuple(parameter.shape) != values.shape:
        raise CheckpointError(
            f"{source}: weights of shape {values.shape}, the encoder has {tuple(parameter.shape)}; "
            "set text.word_dim to 620 and text.state_dim to 2400"
        )
    parameter.copy_(torch.from_numpy(np.array(values, dtype=np.float32)))


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    reason = " ".join(str(error).split())[:100] or type(error).__name__
    return CheckpointError(
        f"{path}: cannot be read as the published skip-thought file ({reason}); download it again"
    )
