"""Mined negatives on disk: for each image the hardest sentences, for each sentence the images.

One safetensors file holds both lists with their scores and says what they were mined from. The
lists that the published code of AOQ works with (`i2t_NAME.npy`, `t2i_NAME.npy`) are read and
written, too; they hold places alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from visavis.data.corpus import Corpus
from visavis.errors import DataError
from visavis.files import atomic_path

FORMAT = "visavis-negatives-1"
NONE = -1  # stands behind the end of a list that is shorter than the others


@dataclass(frozen=True, slots=True, eq=False)
class Negatives:
    """The hardest negatives of every image and sentence of a corpus, hardest first."""

    sentences: NDArray[np.int32]  # (N, h) for each image, indices into the corpus's sentences
    images: NDArray[np.int32]  # (M, h') for each sentence, indices into its images
    sentence_scores: NDArray[np.float32] | None = None  # (N, h), -inf where the index is -1
    image_scores: NDArray[np.float32] | None = None  # (M, h')
    pair_scores: NDArray[np.float32] | None = None  # (P, 2) of the pairs: i2t, t2i
    about: Mapping[str, Any] = field(default_factory=dict)  # corpus, miner, settings

    def check(self, corpus: Corpus, place: str) -> None:
        """Refuse lists of another corpus.

        Raises:
            DataError: another fingerprint or size, an index that is not there, an own pair.
        """
        known = str(self.about.get("fingerprint", ""))
        if known and known != corpus.fingerprint():
            raise DataError(
                f"{place}: mined from another corpus ({known}, not {corpus.fingerprint()}); mine "
                "with the same data, splits and hold_out as are trained on"
            )
        sizes = len(corpus.image_ids), len(corpus.sentence_ids)
        if (len(self.sentences), len(self.images)) != sizes:
            raise DataError(
                f"{place}: lists of {len(self.sentences)} images and {len(self.images)} sentences, "
                f"the training data has {sizes[0]} and {sizes[1]}; mine it anew"
            )
        for lists, count in ((self.sentences, sizes[1]), (self.images, sizes[0])):
            if lists.ndim != 2 or not lists.shape[1] or (lists[:, 0] < 0).any():
                raise DataError(f"{place}: an image or a sentence has no negatives; mine it anew")
            if lists.max() >= count or lists.min() < NONE:
                raise DataError(f"{place}: an index is not in the corpus; mine it anew")
        self._check_own(corpus, place)

    def _check_own(self, corpus: Corpus, place: str) -> None:
        images, sentences = corpus.pairs[:, 0], corpus.pairs[:, 1]
        for start in range(0, len(images), 4096):  # blocks: (P, h) may be large
            own, other = images[start : start + 4096], sentences[start : start + 4096]
            if (self.sentences[own] == other[:, None]).any() or (
                self.images[other] == own[:, None]
            ).any():
                raise DataError(f"{place}: a pair of the ground truth is listed as a negative")


def save_negatives(found: Negatives, path: Path) -> None:
    """Write the lists atomically."""
    tensors = {"sentences": found.sentences, "images": found.images}
    for name in ("sentence_scores", "image_scores", "pair_scores"):
        value = getattr(found, name)
        if value is not None:
            tensors[name] = value
    # One entry: several would be written in any order, and equal lists shall be equal files.
    metadata = {"negatives": json.dumps({"format": FORMAT, "about": dict(found.about)})}
    with atomic_path(path) as temporary:
        save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, temporary, metadata)


def read_about(path: Path) -> dict[str, Any]:
    """What a file of mined negatives says of itself, without its lists.

    Raises:
        DataError: no such file, or not one of mined negatives.
    """
    try:
        with safe_open(path, framework="np") as file:
            values = json.loads((file.metadata() or {}).get("negatives", "{}"))
    except (SafetensorError, OSError, ValueError) as error:
        raise DataError(f"{path}: mined negatives cannot be read ({error}); mine anew") from error
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise DataError(f"{path}: not a file of mined negatives; make one with `visavis mine`")
    about: dict[str, Any] = values["about"]
    return about


def load_negatives(path: Path) -> Negatives:
    """Read a file that `save_negatives` wrote, or the folder of the published lists.

    Raises:
        DataError: missing, damaged or something else.
    """
    if path.is_dir():
        return load_published(path)
    about = read_about(path)
    try:
        with safe_open(path, framework="np") as file:
            found = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        lists = found["sentences"], found["images"]
    except (SafetensorError, OSError, KeyError) as error:
        raise DataError(f"{path}: mined negatives cannot be read ({error}); mine anew") from error
    return Negatives(
        *lists,
        sentence_scores=found.get("sentence_scores"),
        image_scores=found.get("image_scores"),
        pair_scores=found.get("pair_scores"),
        about=about,
    )


def is_published(folder: Path) -> bool:
    """Whether a folder holds the lists of the published code."""
    return folder.is_dir() and any(folder.glob("i2t_*.npy"))


def load_published(folder: Path) -> Negatives:
    """Read `i2t_NAME.npy` (N, h) and `t2i_NAME.npy` (M, h') of a folder.

    Raises:
        DataError: not exactly one of each, or not integers.
    """
    lists = []
    for side in ("i2t", "t2i"):
        paths = sorted(folder.glob(f"{side}_*.npy"))
        if len(paths) != 1:
            raise DataError(f"{folder}: {len(paths)} files {side}_*.npy; keep exactly one")
        try:
            values = np.load(paths[0], allow_pickle=False, mmap_mode="r")
        except (OSError, ValueError) as error:
            raise DataError(f"{paths[0]}: cannot be read ({error})") from error
        if values.ndim != 2 or values.dtype.kind not in "iu":
            raise DataError(f"{paths[0]}: {values.dtype} of shape {values.shape}, expected indices")
        lists.append(np.asarray(values, dtype=np.int32))
    return Negatives(lists[0], lists[1])


def save_published(found: Negatives, folder: Path, name: str) -> None:
    """Write the lists as the published code reads them: int32, hardest first, no scores.

    Raises:
        DataError: lists of unequal length, which that format cannot say.
    """
    for side, values in (("i2t", found.sentences), ("t2i", found.images)):
        if (values == NONE).any():
            raise DataError(
                f"{folder}: lists of unequal length have no published form; mine without limits "
                "and with a smaller h"
            )
        target = folder / f"{side}_{name}.npy"
        with atomic_path(target) as temporary, temporary.open("wb") as stream:
            np.save(stream, values.astype(np.int32), allow_pickle=False)
