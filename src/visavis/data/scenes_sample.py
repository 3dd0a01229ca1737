"""Scenes from a seed: families of near-twins, where things stand, and which sentences are said.

Every family has its own generator, seeded by the corpus's seed and the family's number: the same
configuration gives the same scenes, whatever was drawn before.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from visavis.data.scenes_text import Objects, Units, describe
from visavis.data.scenes_world import (
    COLOURS,
    CONTACT,
    FLAT_KINDS,
    KINDS,
    PATTERNS,
    SIDE_BY_SIDE,
    SIZES,
    Box,
    Lookup,
    Scene,
    SceneConfig,
    SceneObject,
)

SENTENCES = 5  # of an image
POOL = 12  # sentences that are thought of, to choose those that fit no other image
GAP = 0.04  # least distance of two objects, as a fraction of the side
BORDER = 0.02
TRIES = 25  # random places for one object before the draft is given up
DRAFTS = 2000  # a draft in about five works; running out means that the configuration cannot
# Width over height of each drawing; the longer side is the extent.
ASPECTS = {"triangle": 1.12, "house": 0.92, "tree": 0.76, "fish": 1.4, "car": 1.4, "table": 1.35}

SWAPS = {
    "none": (), "colour": ("colour",), "size": ("size",), "pattern": ("pattern",),
    "place": ("kind", "colour", "size", "pattern"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Content:
    """What stands at a place."""

    kind: str
    colour: str
    size: str
    pattern: str


@dataclass(frozen=True, slots=True)
class _Draft:
    """A family before it is known whether it can be drawn and described."""

    units: Units
    members: tuple[tuple[_Content, ...], ...]  # of each member, what each place holds
    swap: str
    layout: str
    extents: dict[str, float]  # longer side of small and large things


def sample_scenes(config: SceneConfig) -> tuple[Scene, ...]:
    """Every scene of the corpus with its five sentences: train, then val, then test.

    A family lies in one split. Of the sentences that could be said, those are chosen that are
    true of no other image of the split, where there are enough of them.
    """
    counts = {
        "train": config.images - config.val - config.test, "val": config.val, "test": config.test,
    }  # fmt: skip
    scenes: list[Scene] = []
    family = 0
    for split, count in counts.items():
        drawn: list[Scene] = []
        while len(drawn) < count:
            rng = random.Random(f"visavis scenes {config.seed} {family}")
            drawn += _family(rng, config, family, count - len(drawn))
            family += 1
        chosen = _choose(drawn)
        for scene in chosen:
            name = f"scene-{len(scenes) + 1:06d}"
            scenes.append(replace(scene, id=name, split=split))
    return tuple(scenes)


def _family(rng: random.Random, config: SceneConfig, family: int, room: int) -> list[Scene]:
    """The members of one family, each with a pool of sentences in place of the chosen five."""
    size = _family_size(rng, config, room)
    look = rng.randrange(2**31)
    for _ in range(DRAFTS):
        draft = _draft(rng, config, size)
        members = _placed(rng, draft)
        if members is None or len(set(members)) < size:
            continue
        needed = frozenset({draft.swap} & {"colour", "size", "pattern"})
        pool = describe(rng, members, draft.units, needed, POOL)
        if len(pool) >= SENTENCES:
            return [
                Scene("", "", family, look, objects, tuple(entry[i] for entry in pool))
                for i, objects in enumerate(members)
            ]
    raise AssertionError(f"family {family}: no scene in {DRAFTS} drafts")


def _family_size(rng: random.Random, config: SceneConfig, room: int) -> int:
    sizes = [2, 2, 2, 3, 4] if config.max_objects > 2 else [2, 2, 2, 2, 4]
    average = sum(sizes) / len(sizes)
    # Families are drawn, images are counted: a larger family weighs more.
    odds = config.twin_share / average
    twins = rng.random() * (odds + 1 - config.twin_share) < odds
    size = rng.choice(sizes) if twins else 1
    if size <= room:
        return size
    return 2 if twins and room >= 2 else 1


def _draft(rng: random.Random, config: SceneConfig, size: int) -> _Draft:
    count = rng.randint(max(config.min_objects, 3 if size == 3 else 2), config.max_objects)
    swap = {
        1: "none",
        2: rng.choices(["colour", "place", "size", "pattern"], [9, 9, 2, 2])[0],
        3: rng.choice(["colour", "place"]),
        4: "colour and place",
    }[size]
    layouts = ["scatter", "row", "column", "near"]
    if swap in ("none", "colour", "pattern"):
        layouts.append("on")  # what stands on something cannot change its size or its place
    layout = rng.choice(layouts)
    units = _units(rng, count, grouped=size < 3 and swap != "place" and layout != "on")
    large = 0.5 if count < 4 else 0.3
    base = _contents(rng, len(units), large, layout)
    members = _members(base, swap, size)
    return _Draft(
        units=units,
        members=tuple(_spread(contents, units) for contents in members),
        swap=swap,
        layout=layout,
        extents={"small": rng.uniform(0.20, 0.23), "large": rng.uniform(0.31, 0.36)},
    )


def _units(rng: random.Random, count: int, *, grouped: bool) -> Units:
    """Places that hold alike things together: mostly single places, at times two or three alike."""
    alike = 1
    if grouped and count > 2 and rng.random() < 0.3:
        alike = 3 if count == 4 and rng.random() < 0.3 else 2
    places = list(range(count))
    rng.shuffle(places)
    group = [tuple(sorted(places[:alike]))]
    units = group + [(place,) for place in places[alike:]]
    return tuple(units)


def _contents(rng: random.Random, count: int, large: float, layout: str) -> list[_Content]:
    """Contents of units, no two of the same kind and colour."""
    found: dict[tuple[str, str], _Content] = {}
    while len(found) < count:
        flat = layout == "on" and len(found) == 1
        kind = rng.choice(FLAT_KINDS if flat else KINDS)
        colour = rng.choice(COLOURS)
        size = SIZES[rng.random() < large]
        pattern = rng.choices(PATTERNS, [6, 2, 2])[0]
        found.setdefault((kind, colour), _Content(kind, colour, size, pattern))
    return list(found.values())


def _swapped(base: list[_Content], swap: str, shift: int, among: int) -> list[_Content]:
    """Contents after the first `among` units passed some attributes on, `shift` places round."""
    passed = [
        replace(item, **{name: getattr(base[(i + shift) % among], name) for name in SWAPS[swap]})
        for i, item in enumerate(base[:among])
    ]
    return passed + base[among:]


def _members(base: list[_Content], swap: str, size: int) -> list[list[_Content]]:
    if size == 4:
        colours = [base, _swapped(base, "colour", 1, 2)]
        return colours + [_swapped(contents, "place", 1, 2) for contents in colours]
    return [_swapped(base, swap, i, max(2, size)) for i in range(size)]


def _spread(contents: Sequence[_Content], units: Units) -> tuple[_Content, ...]:
    """Contents of units as contents of places."""
    of_place = {place: contents[i] for i, places in enumerate(units) for place in places}
    return tuple(of_place[place] for place in range(len(of_place)))


def _placed(rng: random.Random, draft: _Draft) -> tuple[Objects, ...] | None:
    """The objects of each member, or None when they find no room. Places are shared by members."""
    centres = _anchors(rng, draft)
    for place in range(len(draft.members[0])):
        if place in centres:
            continue
        for _ in range(TRIES):
            trial = {**centres, place: (rng.uniform(0.1, 0.9), rng.uniform(0.1, 0.9))}
            if _fits(draft, trial):
                centres = trial
                break
        else:
            return None
    if not _fits(draft, centres):
        return None
    return tuple(
        tuple(
            SceneObject(item.kind, item.colour, item.size, item.pattern, box)
            for item, box in zip(contents, _boxes(draft, contents, centres), strict=True)
        )
        for contents in draft.members
    )


def _anchors(rng: random.Random, draft: _Draft) -> dict[int, tuple[float, float]]:
    """Centres of the places that the layout fixes."""
    contents = draft.members[0]
    count = len(contents)
    if draft.layout in ("row", "column"):
        level = rng.uniform(0.25, 0.75)
        line = [
            ((i + 0.5) / count + rng.uniform(-0.03, 0.03), level + rng.uniform(-0.03, 0.03))
            for i in range(count)
        ]
        return {i: (x, y) if draft.layout == "row" else (y, x) for i, (x, y) in enumerate(line)}
    if draft.layout == "scatter":
        return {}
    first, second = draft.units[0][0], draft.units[1][0]
    x, y = rng.uniform(0.2, 0.8), rng.uniform(0.2, 0.8)
    (w1, h1), (w2, h2) = (_extent(draft, contents[place]) for place in (first, second))
    if draft.layout == "near":
        across = (w1 + w2) / 2 + rng.uniform(GAP + 0.005, SIDE_BY_SIDE - 0.005)
        return {first: (x, y), second: (x + across, y + rng.uniform(-0.05, 0.05))}
    down = (h1 + h2) / 2 - CONTACT / 4
    return {first: (x + rng.uniform(-0.1, 0.1) * w2, y), second: (x, y + down)}


def _extent(draft: _Draft, item: _Content) -> tuple[float, float]:
    """Width and height."""
    aspect, longer = ASPECTS.get(item.kind, 1.0), draft.extents[item.size]
    return longer * min(1.0, aspect), longer / max(1.0, aspect)


def _boxes(
    draft: _Draft, contents: Sequence[_Content], centres: dict[int, tuple[float, float]]
) -> list[Box]:
    """Boxes of the places that have a centre, in the order of places."""
    boxes: list[Box] = []
    for place in sorted(centres):
        (x, y), (width, height) = centres[place], _extent(draft, contents[place])
        edges = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        boxes.append(
            (round(edges[0], 4), round(edges[1], 4), round(edges[2], 4), round(edges[3], 4))
        )
    return boxes


def _fits(draft: _Draft, centres: dict[int, tuple[float, float]]) -> bool:
    """Whether the places keep clear of the border and of each other, for every member."""
    places = sorted(centres)
    touching = {draft.units[0][0], draft.units[1][0]} if draft.layout == "on" else set()
    for contents in draft.members:
        boxes = _boxes(draft, contents, centres)
        if any(min(box) < BORDER or max(box) > 1 - BORDER for box in boxes):
            return False
        for (i, first), (j, second) in itertools.combinations(zip(places, boxes, strict=True), 2):
            if {i, j} != touching and _gap(first, second) < GAP:
                return False
    return True


def _gap(first: Box, second: Box) -> float:
    across = max(first[0], second[0]) - min(first[2], second[2])
    down = max(first[1], second[1]) - min(first[3], second[3])
    return max(across, down)


def _choose(scenes: Sequence[Scene]) -> list[Scene]:
    """The five sentences of each pool that fit the fewest other images, in the order thought of.

    Members of a family keep the same entries, so that their sentences go on matching.
    """
    lookup = Lookup(scenes)
    chosen: list[Scene] = []
    for _, members in itertools.groupby(enumerate(scenes), key=lambda entry: entry[1].family):
        family = list(members)
        others = [
            sum(len(lookup.images_of(scene.sentences[entry].facts) - {i}) for i, scene in family)
            for entry in range(len(family[0][1].sentences))
        ]
        best = sorted(sorted(range(len(others)), key=others.__getitem__)[:SENTENCES])
        for _, scene in family:
            kept = tuple(scene.sentences[entry] for entry in best)
            chosen.append(replace(scene, sentences=kept))
    return chosen
