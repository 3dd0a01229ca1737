"""Karpathy's `dataset_*.json`: Flickr8k, Flickr30k, COCO and whatever follows their layout.

    {"dataset": name, "images": [{"filename", "split", "imgid", "sentences": [{"raw", "tokens",
     "sentid"}], and for COCO "filepath", "cocoid"}]}

Karpathy, Fei-Fei: Deep Visual-Semantic Alignments for Generating Image Descriptions, CVPR 2015.
The split `restval` (COCO) is kept as it is; joining it to `train` is the recipe's choice.

- The id of an image is its `cocoid` where there is one, else its `filename`.
- The text of a sentence is `raw`, stripped; where that is missing or blank, the joined `tokens`.
  A sentence that has neither letters nor tokens is kept, empty: `visavis data check` names it.
- The id of a sentence is its `sentid`; when some sentence has none, `IMAGE#0`, `IMAGE#1`, ...
- The feature row of an image is its `row` (our addition) where every image has one, else its place
  in the order of `imgid`, else its place in the file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from visavis.data.corpus import Corpus
from visavis.data.draft import BYTES_FAULT, Draft, Faults, Refuse, is_printed_bytes
from visavis.errors import DataError
from visavis.files import read_json


def read_karpathy(path: Path) -> Corpus:
    """Read a corpus from a JSON file, or from a folder that holds one `dataset_*.json`.

    Pictures are looked for beside the JSON file: `images/FILE`, `FILE`, `FILEPATH/FILE` and
    `images/FILEPATH/FILE`.

    Raises:
        DataError: no such file, not JSON, a missing key, a wrong type, a repeated id, a caption
            that is a printed bytes object.
    """
    return draft_karpathy(path, Refuse()).corpus()


def dataset_file(path: Path) -> Path:
    """The JSON file itself, or the only `dataset_*.json` of a folder.

    Raises:
        DataError: the folder holds none or several.
    """
    if not path.is_dir():
        return path
    found = sorted(path.glob("dataset_*.json"))
    if not found:
        raise DataError(f"{path}: no dataset_*.json in this folder; give the JSON file itself")
    if len(found) > 1:
        names = ", ".join(file.name for file in found)
        raise DataError(f"{path}: {len(found)} corpora ({names}); give the JSON file itself")
    return found[0]


def draft_karpathy(path: Path, faults: Faults) -> Draft:
    """Everything usable in the file; what is not goes to `faults`.

    Raises:
        DataError: no such file, not JSON, no list of images.
    """
    file = dataset_file(path)
    content = read_json(file)
    images = content.get("images") if isinstance(content, dict) else None
    if not isinstance(images, list) or not images:
        raise DataError(
            f"{file}: no images; expected an object with a list of images under 'images'"
        )
    name = content.get("dataset")
    draft = Draft(name=name if isinstance(name, str) and name else _name_of(file))
    reader = _Reader(file, faults, draft)
    for position, image in enumerate(images):
        reader.add_image(position, image)
    reader.finish()
    return draft


def _name_of(file: Path) -> str:
    return file.stem.removeprefix("dataset_")


class _Reader:
    """Fills a draft, image by image."""

    def __init__(self, file: Path, faults: Faults, draft: Draft) -> None:
        self._file = file
        self._faults = faults
        self._draft = draft
        self._pictures = _Pictures(file.parent)
        self._numbers: dict[str, list[int | None]] = {"row": [], "imgid": []}
        self._sentids: list[int | None] = []

    def add_image(self, position: int, image: object) -> None:
        where = f"{self._file}: image {position}"
        if not isinstance(image, dict):
            self._faults.add(where, "is not an object with keys and values")
            return
        file_name = self._text(image, "filename", where)
        split = self._text(image, "split", where)
        cocoid = self._number(image, "cocoid", where)
        sentences = image.get("sentences")
        if not isinstance(sentences, list):
            self._faults.add(where, "has no list under 'sentences'")
            sentences = []
        if not file_name or not split:
            return
        draft = self._draft
        draft.image_ids.append(file_name if cocoid is None else str(cocoid))
        draft.image_splits.append(split)
        draft.file_names.append(file_name)
        draft.pictures.append(self._pictures.find(file_name, image.get("filepath")))
        for key, numbers in self._numbers.items():
            numbers.append(self._number(image, key, where))
        for place, sentence in enumerate(sentences):
            self._add_sentence(where, place, sentence)

    def _add_sentence(self, where: str, place: int, sentence: object) -> None:
        if not isinstance(sentence, dict):
            self._faults.add(f"{where}, sentence {place}", "is not an object with keys and values")
            return
        text = self._sentence_text(sentence, where, place)
        if text is None:
            return
        if is_printed_bytes(text):
            self._faults.add(f"{where}, sentence {place}", BYTES_FAULT)
        draft = self._draft
        image = len(draft.image_ids) - 1
        draft.pairs.append((image, len(draft.texts)))
        draft.texts.append(text)
        draft.sentence_ids.append(f"{draft.image_ids[image]}#{place}")
        self._sentids.append(self._number(sentence, "sentid", where))

    def _sentence_text(self, sentence: Mapping[str, object], where: str, place: int) -> str | None:
        raw, tokens = sentence.get("raw"), sentence.get("tokens")
        wrong = not isinstance(raw, str | None)
        if isinstance(raw, str) and (text := raw.strip()):
            return text
        if isinstance(tokens, list) and all(isinstance(token, str) for token in tokens):
            return " ".join(tokens).strip()
        if wrong or tokens is not None or raw is None:
            self._faults.add(
                f"{where}, sentence {place}",
                "needs a text under 'raw', or a list of words under 'tokens'",
            )
            return None
        return ""

    def finish(self) -> None:
        """Feature rows and sentence ids: both depend on whether every entry has its number."""
        draft = self._draft
        draft.image_keys = draft.image_ids
        rows = self._numbers["row"]
        given = sum(row is not None for row in rows)
        if 0 < given < len(rows):
            self._faults.add(
                f"{self._file}", f"{given} of {len(rows)} images have a 'row'; give all or none"
            )
        draft.rows = _all_given(rows) or _order(self._numbers["imgid"])
        sentids = _all_given(self._sentids)
        if sentids is not None:
            draft.sentence_ids = [str(number) for number in sentids]

    def _text(self, entry: Mapping[str, object], key: str, where: str) -> str | None:
        value = entry.get(key)
        if isinstance(value, str) and value:
            return value
        self._faults.add(where, f"needs a text under {key!r}")
        return None

    def _number(self, entry: Mapping[str, object], key: str, where: str) -> int | None:
        value = entry.get(key)
        if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
            return value
        self._faults.add(where, f"needs a whole number from 0 under {key!r}")
        return None


def _all_given(numbers: Sequence[int | None]) -> list[int] | None:
    given = [number for number in numbers if number is not None]
    return given if given and len(given) == len(numbers) else None


def _order(imgids: Sequence[int | None]) -> list[int]:
    """The place of each image in the order of `imgid`, or in the file where that cannot tell."""
    given = _all_given(imgids)
    if given is None or len(set(given)) != len(given):
        return list(range(len(imgids)))
    place = {number: row for row, number in enumerate(sorted(given))}
    return [place[number] for number in given]


class _Pictures:
    """Finds picture files; each folder is listed once, however many pictures are asked for."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._listed: dict[str, frozenset[str]] = {}

    def find(self, file_name: str, file_path: object) -> Path | None:
        folders = ["images", ""]
        # Only folders below the corpus: a file from outside may not point anywhere else.
        if isinstance(file_path, str) and _inside(file_path):
            folders += [file_path, f"images/{file_path}"]
        for folder in folders:
            if file_name in self._names(folder):
                return self._root / folder / file_name
        return None

    def _names(self, folder: str) -> frozenset[str]:
        if folder not in self._listed:
            try:
                with os.scandir(self._root / folder) as entries:
                    self._listed[folder] = frozenset(entry.name for entry in entries)
            except (FileNotFoundError, NotADirectoryError):
                self._listed[folder] = frozenset()
            except OSError as error:
                raise DataError(
                    f"{self._root / folder}: cannot be listed ({error.strerror})"
                ) from error
        return self._listed[folder]


def _inside(folder: str) -> bool:
    path = PurePosixPath(folder)
    return not path.is_absolute() and ".." not in path.parts
