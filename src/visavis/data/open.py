"""Opening a corpus by its path or by its name, and joining it to features."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from typing import cast

import numpy as np
from numpy.typing import NDArray

from visavis.data.corpus import Corpus
from visavis.data.features import Features
from visavis.errors import DataError

# Format: its reader. A new format is a reader, a line here and a line in `recognise`.
FORMATS = {
    "karpathy": "visavis.data.karpathy:read_karpathy",
    "precomp": "visavis.data.precomp:read_precomp",
    "scenes": "visavis.data.scenes:read_scenes",
}
_WANTED = "dataset_*.json (Karpathy), SPLIT_caps.txt with SPLIT_ims.npy (precomp) or scenes.json"


def open_corpus(path: Path, name: str | None = None) -> Corpus:
    """Read a corpus, whatever its format; `name` replaces the name that the files give.

    A folder with precomputed features is read as such even if a Karpathy file lies in it: give
    the JSON file itself to read that.

    Raises:
        DataError: no format recognised, or the files are not as they must be.
    """
    kind = recognise(path)
    if kind is None:
        state = "no corpus here" if path.exists() else "no such file or folder"
        raise DataError(f"{path}: {state}; looked for {_WANTED}")
    module, function = FORMATS[kind].split(":")
    read = cast("Callable[[Path], Corpus]", getattr(importlib.import_module(module), function))
    corpus = read(path)
    return corpus if name is None else replace(corpus, name=name)


def recognise(path: Path) -> str | None:
    """The format of a file or folder, one of `FORMATS`, or None. Only names are looked at."""
    if path.is_file():
        return "karpathy" if path.suffix == ".json" and path.name != "scenes.json" else None
    if (path / "scenes.json").is_file():
        return "scenes"
    if any(path.glob("*_caps.txt")) and any(path.glob("*_ims.npy")):
        return "precomp"
    if any(path.glob("dataset_*.json")):
        return "karpathy"
    return None


def find_corpus(name: str, root: Path) -> Path:
    """Where the corpus of a name lies: `root/NAME`, or `root` when it is a corpus itself.

    A root with a `dataset_OTHER.json` is another corpus and is not taken.

    Raises:
        DataError: it is in neither place.
    """
    below = root / name
    if recognise(below) is not None:
        return below
    if recognise(root) is not None:
        others = sorted(root.glob("dataset_*.json")) if recognise(root) == "karpathy" else []
        if not others or root / f"dataset_{name}.json" in others:
            return root
    raise DataError(
        f"corpus {name!r} is neither in {below} nor in {root}; looked for {_WANTED}; pass --data "
        "or set VISAVIS_DATA to the folder that holds it"
    )


def link(corpus: Corpus, features: Features) -> NDArray[np.int64]:
    """(N,) the feature row of each image.

    When the features name their rows, image ids are looked for among the names: as they are, then
    without folder and extension, then by the file name of the picture, then by the number at the
    end (COCO's `COCO_val2014_000000391895.jpg` is image 391895). The first way that finds every
    image counts. When the features name nothing, the corpus's own rows count.

    Raises:
        DataError: some images have no features.
    """
    if features.ids is None:
        return _by_rows(corpus, len(features))
    best = np.full(len(corpus.image_ids), -1, dtype=np.int64)
    for wanted, offered in _ways(corpus, features.ids):
        rows = _matched(wanted, offered)
        if (rows >= 0).all():
            return rows
        if (rows >= 0).sum() > (best >= 0).sum():
            best = rows
    missing = np.flatnonzero(best < 0)
    raise DataError(
        f"{corpus.name}: {len(missing)} of {len(best)} images have no features, for example "
        f"{corpus.image_ids[int(missing[0])]!r} (features name their images like "
        f"{next(iter(features.ids), 'nothing')!r}); extract the features of this corpus"
    )


_Ways = list[tuple[Sequence[str], Sequence[str]]]


def _ways(corpus: Corpus, names: Sequence[str]) -> _Ways:
    ids = corpus.image_ids
    stems = [_stem(name) for name in names]
    ways: _Ways = [(ids, names), ([_stem(image) for image in ids], stems)]
    if corpus.pictures is not None:
        ways.append(([_stem(str(path or "")) for path in corpus.pictures], stems))
    if all(image.isdecimal() for image in ids):
        ways.append((ids, [_last_number(stem) for stem in stems]))
    return ways


def _matched(wanted: Sequence[str], offered: Sequence[str]) -> NDArray[np.int64]:
    """(N,) where each name is offered, -1 where it is not or where two rows offer it."""
    row_of: dict[str, int] = {}
    for row, name in enumerate(offered):
        row_of[name] = row if name not in row_of else -1
    return np.array([_row(row_of, name) for name in wanted], dtype=np.int64)


def _row(row_of: Mapping[str, int], name: str) -> int:
    return row_of.get(name, -1) if name else -1


def _stem(name: str) -> str:
    # Only a short ending is an extension: `1.5 dogs` is a name.
    path = PurePath(name)
    return path.stem if 1 < len(path.suffix) <= 5 else path.name


def _last_number(stem: str) -> str:
    number = stem.rsplit("_", 1)[-1]
    return str(int(number)) if number.isdecimal() else ""


def _by_rows(corpus: Corpus, count: int) -> NDArray[np.int64]:
    if corpus.rows is None:
        raise DataError(
            f"{corpus.name}: neither corpus nor features tell which row belongs to which image; "
            "write an ids.txt beside the features, one image id for each row"
        )
    beyond = int((corpus.rows >= count).sum())
    if beyond:
        raise DataError(
            f"{corpus.name}: {beyond} of {len(corpus.rows)} images have rows up to "
            f"{corpus.rows.max()}, but there are {count} feature rows; these features are of "
            "another corpus"
        )
    return corpus.rows
