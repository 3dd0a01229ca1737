"""What a rendered scene is, what a sentence asserts about it, and when that is true.

A sentence keeps what it asserts as `Facts`: things with some attributes, and relations between
them. Truth is a search for objects that fit, so it needs no reading of the text.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

Box = tuple[float, float, float, float]  # x1 y1 x2 y2 as fractions of width and height

KINDS = (
    "circle", "square", "triangle", "star", "cross", "ring",
    "heart", "house", "tree", "fish", "car", "table",
)  # fmt: skip
COLOURS = ("red", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
SIZES = ("small", "large")
PATTERNS = ("plain", "striped", "spotted")
RELATIONS = {  # how many things each relates
    "left of": 2, "right of": 2, "above": 2, "below": 2, "on": 2, "next to": 2, "between": 3,
    "at left": 1, "at right": 1, "at top": 1, "at bottom": 1,
}  # fmt: skip
FLAT_KINDS = ("square", "table", "car")  # flat on top: something can stand on them

SIDE_BY_SIDE = 0.07  # a gap that anyone calls "next to"
CONTACT = 0.02  # how far a thing may be from what it stands on


@dataclass(frozen=True, kw_only=True)
class SceneConfig:
    """How many scenes, how they look and how many of them have near-twins."""

    images: int = 1250  # all splits together
    val: int = 150
    test: int = 200
    seed: int = 0
    size: int = 192  # width and height in pixels
    min_objects: int = 2
    max_objects: int = 4
    clutter: int = 8  # faint lines and dots that no sentence mentions
    noise: float = 3.0  # standard deviation in grey levels
    twin_share: float = 0.7  # share of images in families of 2 to 4 that share their words

    def __post_init__(self) -> None:
        if min(self.images, self.val, self.test) < 0 or self.val + self.test > self.images:
            raise ValueError(
                f"images {self.images}, val {self.val}, test {self.test}: "
                "val and test must fit into images"
            )
        if not 2 <= self.min_objects <= self.max_objects <= 4:
            raise ValueError(
                f"min_objects {self.min_objects}, max_objects {self.max_objects}: "
                "must be 2 to 4 in rising order"
            )
        if not 64 <= self.size <= 2048:
            raise ValueError(f"size {self.size}: must be 64 to 2048 pixels")
        if not 0.0 <= self.twin_share <= 1.0:
            raise ValueError(f"twin_share {self.twin_share}: must be 0 to 1")
        if not (0 <= self.clutter <= 100 and 0.0 <= self.noise <= 40.0):
            raise ValueError(
                f"clutter {self.clutter}, noise {self.noise}: must be 0 to 100 and 0 to 40"
            )


@dataclass(frozen=True, slots=True)
class SceneObject:
    """One drawn object."""

    kind: str
    colour: str
    size: str
    pattern: str
    box: Box  # tight around the drawing


@dataclass(frozen=True, slots=True)
class Thing:
    """A described thing; an attribute that is None is not mentioned."""

    kind: str | None = None
    colour: str | None = None
    size: str | None = None
    pattern: str | None = None
    count: int = 1

    def matches(self, item: SceneObject) -> bool:
        """Whether one object has every attribute that is mentioned."""
        return (
            self.kind in (None, item.kind)
            and self.colour in (None, item.colour)
            and self.size in (None, item.size)
            and self.pattern in (None, item.pattern)
        )


@dataclass(frozen=True, slots=True)
class Relation:
    """A relation between described things: positions in `Facts.things`."""

    name: str
    things: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that a sentence asserts."""

    things: tuple[Thing, ...]
    relations: tuple[Relation, ...] = ()


@dataclass(frozen=True, slots=True)
class SceneSentence:
    """A sentence with the objects that its words stand for.

    Texts are lower case without punctuation, so that splitting at spaces and a treebank tokenizer
    number the words alike.
    """

    text: str
    alignment: tuple[tuple[int, tuple[int, ...]], ...]  # (word, objects): content words only
    facts: Facts

    @property
    def words(self) -> tuple[str, ...]:
        """The words that `alignment` numbers from 0."""
        return tuple(self.text.split())


@dataclass(frozen=True, slots=True)
class Scene:
    """One picture before it is drawn."""

    id: str
    split: str
    family: int  # scenes of one family share their words and differ in who has or is which
    look: int  # seed of background, clutter and shades: one for a family
    objects: tuple[SceneObject, ...]
    sentences: tuple[SceneSentence, ...] = ()

    @property
    def file(self) -> str:
        """Where the picture lies in the folder of the scenes."""
        return f"images/{self.id.removeprefix('scene-')}.png"

    @property
    def sentence_ids(self) -> tuple[str, ...]:
        """An id for each sentence."""
        return tuple(f"{self.id}#{i}" for i in range(len(self.sentences)))


def centre(box: Box) -> tuple[float, float]:
    """The middle of a box."""
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def related(name: str, boxes: Sequence[Box], *, clearly: bool = False) -> bool:
    """Whether boxes stand in a relation; `clearly` asks for more than truth: no one would doubt it.

    Only what is clear is said, but whatever is true in the loose sense counts as true.
    """
    if name in _MIRRORED:
        return related(_MIRRORED[name], boxes[::-1], clearly=clearly)
    if name.startswith("at "):
        x, y = centre(boxes[0])
        offset = {"at left": 0.5 - x, "at right": x - 0.5, "at top": 0.5 - y, "at bottom": y - 0.5}
        return offset[name] > (0.14 if clearly else 0.05)
    if name == "between":
        return _between(boxes, clearly=clearly)
    first, second = boxes
    (x1, y1), (x2, y2) = centre(first), centre(second)
    across, down = x2 - x1, y2 - y1
    if name == "left of":
        apart = first[2] <= second[0] + 0.01 and across >= abs(down)
        return across > 0.05 and (apart or not clearly)
    if name == "above":
        apart = first[3] <= second[1] + 0.01 and down >= abs(across)
        return down > 0.05 and (apart or not clearly)
    if name == "on":
        return abs(second[1] - first[3]) <= CONTACT and second[0] <= x1 <= second[2]
    if name == "next to":
        gap = max(first[0], second[0]) - min(first[2], second[2])
        slack = 1.0 if clearly else 1.5
        return -CONTACT <= gap <= SIDE_BY_SIDE * slack and abs(down) <= 0.1 * slack
    raise ValueError(f"relation {name!r}: not known")


_MIRRORED = {"right of": "left of", "below": "above"}


def _between(boxes: Sequence[Box], *, clearly: bool) -> bool:
    x, y = centre(boxes[0])
    (x1, y1), (x2, y2) = centre(boxes[1]), centre(boxes[2])
    length = (x2 - x1) ** 2 + (y2 - y1) ** 2
    if length == 0.0:
        return False
    along = ((x - x1) * (x2 - x1) + (y - y1) * (y2 - y1)) / length
    away = abs((x - x1) * (y2 - y1) - (y - y1) * (x2 - x1)) / length**0.5
    edge, width = (0.25, 0.07) if clearly else (0.1, 0.14)
    return edge < along < 1 - edge and away < width


def holds(facts: Facts, objects: Sequence[SceneObject]) -> bool:
    """Whether everything that is asserted is true of these objects.

    A thing of count 1 asks for at least one object, a larger count for exactly so many; no object
    stands for two things; a relation of several objects holds for each of them.
    """
    return any(
        all(
            _all_related(relation.name, [objects_of[i] for i in relation.things], objects)
            for relation in facts.relations
        )
        for objects_of in _readings(facts.things, objects)
    )


def _readings(
    things: Sequence[Thing], objects: Sequence[SceneObject]
) -> Iterator[tuple[tuple[int, ...], ...]]:
    """Every way to let disjoint objects stand for the things."""
    choices: list[list[tuple[int, ...]]] = []
    for thing in things:
        fitting = [i for i, item in enumerate(objects) if thing.matches(item)]
        if thing.count == 1:
            choices.append([(i,) for i in fitting])
        else:
            choices.append([tuple(fitting)] if len(fitting) == thing.count else [])
    for reading in itertools.product(*choices):
        used = [i for group in reading for i in group]
        if len(set(used)) == len(used):
            yield reading


def _all_related(
    name: str, groups: Sequence[tuple[int, ...]], objects: Sequence[SceneObject]
) -> bool:
    return all(
        related(name, [objects[i].box for i in chosen]) for chosen in itertools.product(*groups)
    )


class Lookup:
    """Which of many scenes some facts are true of, without looking at all of them."""

    def __init__(self, scenes: Sequence[Scene]) -> None:
        self._objects = [scene.objects for scene in scenes]
        self._holding: defaultdict[tuple[str | None, str | None], set[int]] = defaultdict(set)
        for i, objects in enumerate(self._objects):
            for item in objects:
                for key in itertools.product((item.kind, None), (item.colour, None)):
                    self._holding[key].add(i)

    def images_of(self, facts: Facts) -> set[int]:
        """Positions of the scenes that the facts are true of."""
        holding = [self._holding.get((thing.kind, thing.colour), set()) for thing in facts.things]
        return {i for i in set.intersection(*holding) if holds(facts, self._objects[i])}
