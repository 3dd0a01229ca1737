"""The built-in corpus: drawn scenes with five sentences each, from a seed and without a download.

Families of near-twins share their words and differ in which thing has which colour, or in what
stands where, so that a bag of words cannot tell their pictures apart. Which objects each word
stands for is kept, and what each sentence asserts.

A folder holds `images/000001.png` and so on, and `scenes.json`::

    {"format": "visavis-scenes", "version": 1, "config": {...}, "images": [
      {"id": "scene-000001", "split": "train", "file": "images/000001.png", "family": 0, "look": 7,
       "objects": [{"kind", "colour", "size", "pattern", "box": [x1, y1, x2, y2]}, ...],
       "sentences": [{"id": "scene-000001#0", "text", "alignment": [[word, [object, ...]], ...],
                      "facts": {"things": [...], "relations": [[name, [thing, ...]], ...]}}, ...]},
      ...]}

Boxes are fractions of width and height. Words are numbered from 0 as splitting at spaces gives
them; texts are lower case without punctuation, so a treebank tokenizer numbers them alike.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visavis.config import plain
from visavis.data.corpus import Corpus
from visavis.data.scenes_draw import draw_scene
from visavis.data.scenes_sample import sample_scenes
from visavis.data.scenes_world import (
    RELATIONS,
    Facts,
    Lookup,
    Relation,
    Scene,
    SceneConfig,
    SceneObject,
    SceneSentence,
    Thing,
    holds,
)
from visavis.errors import DataError, StorageError
from visavis.files import atomic_path, read_json

__all__ = [
    "Scene",
    "SceneConfig",
    "SentenceAlignment",
    "accidental_pairs",
    "draw_scene",
    "holds",
    "read_alignment",
    "read_scene_records",
    "read_scenes",
    "sample_scenes",
    "write_scenes",
]

FORMAT = "visavis-scenes"
VERSION = 1
COMPRESSION = 1  # of PNG files: with noise, more effort costs time and saves little
NAME = "scenes.json"


@dataclass(frozen=True, slots=True, eq=False)
class SentenceAlignment:
    """Which objects of its picture the words of a sentence stand for."""

    words: tuple[str, ...]  # W
    objects: tuple[tuple[int, ...], ...]  # W, empty for a word that stands for none
    boxes: NDArray[np.float32]  # (O, 4) of every object, x1 y1 x2 y2 as fractions

    def boxes_of(self, word: int) -> NDArray[np.float32]:
        """The boxes that one word stands for: (K, 4), K = 0 for words such as `and`."""
        return self.boxes[list(self.objects[word])]


def write_scenes(
    folder: Path, config: SceneConfig, progress: Callable[[int, int], None] | None = None
) -> Corpus:
    """Draw a corpus into a folder, atomically; `progress` is told images done and images wanted.

    Raises:
        StorageError: the folder cannot be written, or holds something other than scenes.
    """
    _refuse_other_files(folder)
    scenes = sample_scenes(config)
    with atomic_path(folder) as temporary:
        (temporary / "images").mkdir(parents=True)
        for done, scene in enumerate(scenes, start=1):
            picture = draw_scene(scene, config)
            picture.save(temporary / scene.file, format="PNG", compress_level=COMPRESSION)
            if progress is not None:
                progress(done, len(scenes))
        (temporary / NAME).write_text(_as_json(scenes, config), encoding="utf-8")
    return _corpus(folder, scenes)


def read_scenes(folder: Path) -> Corpus:
    """The corpus of a folder that `write_scenes` made.

    Raises:
        DataError: `scenes.json` is missing or is not as it was written.
    """
    return _corpus(folder, read_scene_records(folder))


def read_alignment(folder: Path) -> dict[str, SentenceAlignment]:
    """For each sentence id, the objects that its words stand for.

    Raises:
        DataError: `scenes.json` is missing or is not as it was written.
    """
    found: dict[str, SentenceAlignment] = {}
    for scene in read_scene_records(folder):
        boxes = np.array([item.box for item in scene.objects], dtype=np.float32)
        for name, sentence in zip(scene.sentence_ids, scene.sentences, strict=True):
            of_word = dict(sentence.alignment)
            objects = tuple(of_word.get(word, ()) for word in range(len(sentence.words)))
            found[name] = SentenceAlignment(sentence.words, objects, boxes)
    return found


def accidental_pairs(scenes: Sequence[Scene]) -> NDArray[np.int64]:
    """Pairs that happen to be true although they are not ground truth.

    Returns:
        (P, 2) image and sentence, numbered as in the corpus of exactly these scenes.
    """
    lookup = Lookup(scenes)
    pairs: list[tuple[int, int]] = []
    sentence_number = 0
    for i, scene in enumerate(scenes):
        for sentence in scene.sentences:
            others = sorted(lookup.images_of(sentence.facts) - {i})
            pairs += [(other, sentence_number) for other in others]
            sentence_number += 1
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def read_scene_records(folder: Path) -> tuple[Scene, ...]:
    """Everything that is known of the scenes in a folder.

    Raises:
        DataError: `scenes.json` is missing or is not as it was written.
    """
    path = folder / NAME
    content = read_json(path)
    if not isinstance(content, Mapping) or content.get("format") != FORMAT:
        raise DataError(f"{path}: not a file of scenes; expected format {FORMAT!r}")
    if content.get("version") != VERSION:
        raise DataError(
            f"{path}: version {content.get('version')!r}, expected {VERSION}; "
            "write the scenes again"
        )
    scenes: list[Scene] = []
    try:
        for value in content["images"]:
            scenes.append(_scene(value))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: image {len(scenes) + 1} is damaged ({type(error).__name__}: {error}); "
            "write the scenes again"
        ) from error
    return tuple(scenes)


def _refuse_other_files(folder: Path) -> None:
    """Writing replaces the folder, so nothing else may lie in it."""
    if folder.exists() and not folder.is_dir():
        raise StorageError(f"{folder}: is a file; name a folder for the scenes")
    others = (
        {path.name for path in folder.iterdir()} - {"images", NAME} if folder.is_dir() else set()
    )
    if others:
        raise StorageError(
            f"{folder}: holds {min(others)!r}, which is no part of the scenes; "
            "name a new folder or move it away"
        )


def _corpus(folder: Path, scenes: Sequence[Scene]) -> Corpus:
    pairs = [(i, name) for i, scene in enumerate(scenes) for name in scene.sentence_ids]
    images = np.array([i for i, _ in pairs], dtype=np.int64)
    return Corpus(
        name="scenes",
        image_ids=tuple(scene.id for scene in scenes),
        image_splits=tuple(scene.split for scene in scenes),
        sentence_ids=tuple(name for _, name in pairs),
        sentence_texts=tuple(item.text for scene in scenes for item in scene.sentences),
        pairs=np.stack([images, np.arange(len(pairs), dtype=np.int64)], axis=1),
        pictures=tuple(folder / scene.file for scene in scenes),
    )


def _as_json(scenes: Sequence[Scene], config: SceneConfig) -> str:
    """One image on a line, so that a difference between two files can be read."""
    head = {"format": FORMAT, "version": VERSION, "config": plain(config)}
    lines = ",\n".join(json.dumps(_scene_values(scene)) for scene in scenes)
    return f'{json.dumps(head)[:-1]}, "images": [\n{lines}\n]}}\n'


def _scene_values(scene: Scene) -> dict[str, object]:
    sentences = [
        {
            "id": name,
            "text": sentence.text,
            "alignment": sentence.alignment,
            "facts": {
                "things": [_thing_values(thing) for thing in sentence.facts.things],
                "relations": [(item.name, item.things) for item in sentence.facts.relations],
            },
        }
        for name, sentence in zip(scene.sentence_ids, scene.sentences, strict=True)
    ]
    return {
        "id": scene.id,
        "split": scene.split,
        "file": scene.file,
        "family": scene.family,
        "look": scene.look,
        "objects": [plain(item) for item in scene.objects],
        "sentences": sentences,
    }


def _thing_values(thing: Thing) -> dict[str, object]:
    """Only what is mentioned."""
    values = plain(thing)
    return {key: value for key, value in values.items() if value not in (None, 1)}


def _scene(value: Mapping[str, Any]) -> Scene:
    objects = tuple(
        SceneObject(item["kind"], item["colour"], item["size"], item["pattern"], _box(item["box"]))
        for item in value["objects"]
    )
    scene = Scene(
        id=value["id"],
        split=value["split"],
        family=value["family"],
        look=value["look"],
        objects=objects,
        sentences=tuple(_sentence(item, len(objects)) for item in value["sentences"]),
    )
    if not re.fullmatch(r"scene-\d{6,}", scene.id) or scene.file != value["file"]:
        raise ValueError(f"id {scene.id!r} and file {value['file']!r} do not belong together")
    return scene


def _box(value: Sequence[float]) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = (float(edge) for edge in value)
    if not (0.0 <= x1 < x2 <= 1.0 and 0.0 <= y1 < y2 <= 1.0):
        raise ValueError(f"box {value!r}, expected rising fractions")
    return x1, y1, x2, y2


def _sentence(value: Mapping[str, Any], objects: int) -> SceneSentence:
    facts = Facts(
        things=tuple(Thing(**thing) for thing in value["facts"]["things"]),
        relations=tuple(
            Relation(name, tuple(things)) for name, things in value["facts"]["relations"]
        ),
    )
    alignment = tuple((int(word), tuple(places)) for word, places in value["alignment"])
    sentence = SceneSentence(value["text"], alignment, facts)
    for word, places in alignment:
        if word not in range(len(sentence.words)) or not set(places) <= set(range(objects)):
            raise ValueError(f"alignment {word} {places} of {sentence.text!r}")
    for relation in facts.relations:
        known = set(relation.things) <= set(range(len(facts.things)))
        if not known or RELATIONS.get(relation.name) != len(relation.things):
            raise ValueError(f"relation {relation.name!r} of {sentence.text!r}")
    return sentence
