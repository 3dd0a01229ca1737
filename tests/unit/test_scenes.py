"""The built-in scenes: truth, twins, alignment and pixels, each checked by other means."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from visavis.config import build
from visavis.data.corpus import Corpus
from visavis.data.scenes import (
    Scene,
    SceneConfig,
    accidental_pairs,
    draw_scene,
    holds,
    read_alignment,
    read_scene_records,
    read_scenes,
    sample_scenes,
    write_scenes,
)
from visavis.data.scenes_world import Facts, Relation, SceneObject, SceneSentence, Thing
from visavis.errors import DataError, RecipeError, StorageError

CONFIG = SceneConfig(images=260, val=30, test=100, seed=3, size=128)
SMALL = SceneConfig(images=12, val=2, test=2, size=64)
Box = tuple[float, float, float, float]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("scenes") / "corpus"
    write_scenes(target, CONFIG)
    return target


@pytest.fixture(scope="module")
def scenes(folder: Path) -> tuple[Scene, ...]:
    return read_scene_records(folder)


@pytest.fixture(scope="module")
def families(scenes: tuple[Scene, ...]) -> list[list[Scene]]:
    found: defaultdict[int, list[Scene]] = defaultdict(list)
    for scene in scenes:
        found[scene.family].append(scene)
    return list(found.values())


# A second account of truth: objects are tried in every order, and what a relation means is written
# down from centres and edges alone.


def middle(box: Box) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def amid(a: Box, b: Box, c: Box) -> bool:
    """Near the line from b to c, away from its ends."""
    start, end, point = np.array(middle(b)), np.array(middle(c)), np.array(middle(a))
    steps = np.linspace(0.1, 0.9, 801)[:, None]
    return bool(np.linalg.norm(start + steps * (end - start) - point, axis=1).min() < 0.14)


MEANING: dict[str, Callable[..., bool]] = {
    "left of": lambda a, b: middle(a)[0] < middle(b)[0],
    "right of": lambda a, b: middle(a)[0] > middle(b)[0],
    "above": lambda a, b: middle(a)[1] < middle(b)[1],
    "below": lambda a, b: middle(a)[1] > middle(b)[1],
    "on": lambda a, b: abs(a[3] - b[1]) < 0.03 and b[0] < middle(a)[0] < b[2],
    "next to": lambda a, b: (
        (0 < b[0] - a[2] < 0.12 or 0 < a[0] - b[2] < 0.12)
        and abs(middle(a)[1] - middle(b)[1]) < 0.16
    ),
    "between": amid,
    "at left": lambda a: middle(a)[0] < 0.5,
    "at right": lambda a: middle(a)[0] > 0.5,
    "at top": lambda a: middle(a)[1] < 0.5,
    "at bottom": lambda a: middle(a)[1] > 0.5,
}


def fits(thing: Thing, item: SceneObject) -> bool:
    said = {"kind": thing.kind, "colour": thing.colour, "size": thing.size}
    said["pattern"] = thing.pattern
    return all(value is None or getattr(item, name) == value for name, value in said.items())


def true_of(facts: Facts, objects: Sequence[SceneObject]) -> bool:
    counts = [thing.count for thing in facts.things]
    ends = list(itertools.accumulate(counts))
    for order in itertools.permutations(range(len(objects)), sum(counts)):
        groups = [order[end - count : end] for end, count in zip(ends, counts, strict=True)]
        if any(
            not all(fits(thing, objects[i]) for i in group)
            or (thing.count > 1 and sum(fits(thing, item) for item in objects) != thing.count)
            for thing, group in zip(facts.things, groups, strict=True)
        ):
            continue
        if all(
            MEANING[relation.name](*(objects[i].box for i in chosen))
            for relation in facts.relations
            for chosen in itertools.product(*(groups[thing] for thing in relation.things))
        ):
            return True
    return False


def test_every_sentence_is_true_of_its_own_picture(scenes: tuple[Scene, ...]) -> None:
    assert len(scenes) == 260
    for scene in scenes:
        for sentence in scene.sentences:
            assert true_of(sentence.facts, scene.objects), (scene.objects, sentence.text)


def test_every_sentence_is_false_of_the_twins(families: list[list[Scene]]) -> None:
    twins = [family for family in families if len(family) > 1]
    assert len(twins) > 50
    for family in twins:
        for scene, other in itertools.permutations(family, 2):
            for sentence in scene.sentences:
                assert not true_of(sentence.facts, other.objects), (scene.id, sentence.text)


def test_twins_use_the_same_words_sentence_by_sentence(families: list[list[Scene]]) -> None:
    kinds = Counter(len(family) for family in families)
    assert set(kinds) == {1, 2, 3, 4}
    for family in families:
        for told in zip(*(scene.sentences for scene in family), strict=True):
            assert len({tuple(sorted(sentence.text.split())) for sentence in told}) == 1
            assert len({sentence.text for sentence in told}) == len(family)


def test_a_bag_of_words_finds_at_most_one_image_per_bag(scenes: tuple[Scene, ...]) -> None:
    # Whatever a scorer makes of a bag, it can put one image first: the best any can do is to give
    # each bag the image that most sentences with that bag belong to.
    images_of: defaultdict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    for scene in scenes:
        for sentence in scene.sentences:
            images_of[tuple(sorted(sentence.text.split()))][scene.id] += 1
    reachable = sum(counts.most_common(1)[0][1] for counts in images_of.values())
    assert reachable / (5 * len(scenes)) < 0.65


def test_twins_hold_the_same_attributes(families: list[list[Scene]]) -> None:
    for family in families:
        for name in ("kind", "colour", "size", "pattern"):
            held = [{getattr(item, name) for item in scene.objects} for scene in family]
            assert all(values == held[0] for values in held)


def test_a_family_lies_in_one_split(families: list[list[Scene]]) -> None:
    assert all(len({scene.split for scene in family}) == 1 for family in families)


def test_the_share_of_twins_is_as_asked(families: list[list[Scene]]) -> None:
    twins = sum(len(family) for family in families if len(family) > 1)
    assert twins / 260 == pytest.approx(0.7, abs=0.12)


@pytest.mark.parametrize(("share", "expected"), [(0.0, {1}), (1.0, {2, 3, 4})])
def test_twins_can_be_all_or_none(share: float, expected: set[int]) -> None:
    config = SceneConfig(images=40, val=0, test=0, twin_share=share)
    sizes = set(Counter(scene.family for scene in sample_scenes(config)).values())
    assert sizes <= expected | ({1} if share else set())  # the last family takes what room is left
    assert len(sizes) >= len(expected)


WORD_MEANS = {
    "crimson": "red", "scarlet": "red", "golden": "yellow", "violet": "purple",
    "ball": "circle", "disc": "circle", "box": "square", "block": "square", "hoop": "ring",
    "cottage": "house", "fir": "tree", "vehicle": "car", "desk": "table", "tiny": "small",
    "little": "small", "big": "large", "huge": "large", "dotted": "spotted",
}  # fmt: skip
NOT_AN_ATTRIBUTE = {"two": 2, "three": 3, "thing": 1, "things": 2, "shape": 1, "shapes": 2}


def meaning(word: str) -> str:
    singular = {"boxes": "box", "crosses": "cross"}.get(word, word)
    if singular not in WORD_MEANS and singular.endswith("s") and singular != "cross":
        singular = singular[:-1]
    return WORD_MEANS.get(singular, singular)


def test_words_stand_for_objects_that_are_as_they_say(scenes: tuple[Scene, ...]) -> None:
    checked = 0
    for scene in scenes:
        for sentence in scene.sentences:
            words = sentence.text.split()
            for word, places in sentence.alignment:
                for place in places:
                    item = scene.objects[place]
                    known = {item.kind, item.colour, item.size, item.pattern}
                    if words[word] not in NOT_AN_ATTRIBUTE:
                        assert meaning(words[word]) in known, (sentence.text, words[word], item)
                        checked += 1
                if words[word] in ("two", "three"):
                    assert len(places) == NOT_AN_ATTRIBUTE[words[word]]
    assert checked > 5000


def test_no_word_that_names_an_attribute_is_left_out(scenes: tuple[Scene, ...]) -> None:
    attributes = {
        value
        for scene in scenes
        for item in scene.objects
        for value in (item.kind, item.colour, item.size, item.pattern)
    } - {"plain"}
    for scene in scenes:
        for sentence in scene.sentences:
            aligned = {word for word, _ in sentence.alignment}
            for i, word in enumerate(sentence.text.split()):
                assert (meaning(word) in attributes) <= (i in aligned), (sentence.text, word)


def test_texts_are_plain_words_with_the_right_article(scenes: tuple[Scene, ...]) -> None:
    for scene in scenes:
        for sentence in scene.sentences:
            assert re.fullmatch(r"[a-z]+( [a-z]+)*", sentence.text)
            assert not re.search(r"\ba [aeiou]", sentence.text), sentence.text


def test_verbs_agree_with_their_subject(scenes: tuple[Scene, ...]) -> None:
    plural = r"(?:two|three)(?: [a-z]+)*?"
    texts = [sentence.text for scene in scenes for sentence in scene.sentences]
    assert not any(re.search(r"there is (the )?(two|three)", text) for text in texts)
    assert not any(re.search(r"there are (a|the [a-z]+ [a-z]+[^s]) ", text) for text in texts)
    assert not any(re.match(rf"(the )?{plural} (is|sits|stands|carries) ", text) for text in texts)


def test_an_image_has_five_different_sentences(scenes: tuple[Scene, ...]) -> None:
    for scene in scenes:
        assert len({sentence.text for sentence in scene.sentences}) == 5


def test_the_vocabulary_is_small_but_not_tiny(scenes: tuple[Scene, ...]) -> None:
    words = {word for scene in scenes for item in scene.sentences for word in item.text.split()}
    assert 60 <= len(words) <= 120


def test_objects_keep_clear_of_each_other_and_of_the_border(scenes: tuple[Scene, ...]) -> None:
    counts = Counter(len(scene.objects) for scene in scenes)
    assert set(counts) == {2, 3, 4}
    for scene in scenes:
        boxes = [item.box for item in scene.objects]
        for x1, y1, x2, y2 in boxes:
            assert 0.015 < x1 < x2 < 0.985
            assert 0.015 < y1 < y2 < 0.985
            assert x2 - x1 >= 0.14
            assert y2 - y1 >= 0.14
        for a, b in itertools.combinations(boxes, 2):
            width = min(a[2], b[2]) - max(a[0], b[0])
            height = min(a[3], b[3]) - max(a[1], b[1])
            assert width < 0 or height < 0.01


# Pixels


def pixels(scene: Scene, config: SceneConfig) -> np.ndarray:
    return np.asarray(draw_scene(scene, config)).astype(int)


def test_a_box_is_tight_around_what_is_drawn(scenes: tuple[Scene, ...]) -> None:
    config = replace(CONFIG, noise=0.0, clutter=0)
    seen = set()
    for scene in scenes:
        for item in scene.objects:
            if item.kind in seen:
                continue
            seen.add(item.kind)
            # The same look and colours, with and without the object: what differs is its drawing.
            far = replace(item, box=(0.0, 0.0, 0.02, 0.02))
            one = pixels(replace(scene, objects=(item,)), config)
            none = pixels(replace(scene, objects=(far,)), config)
            changed = np.abs(one - none).sum(axis=2) > 12
            changed[:4, :4] = False
            rows, columns = np.nonzero(changed)
            found = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            assert found == pytest.approx([edge * config.size for edge in item.box], abs=2.0)
    assert len(seen) == 12


REFERENCE = {
    "red": (214, 40, 40), "yellow": (246, 208, 45), "green": (46, 150, 66), "blue": (42, 92, 214),
    "purple": (128, 52, 172), "pink": (246, 138, 190), "brown": (130, 82, 44),
    "black": (28, 28, 32), "white": (248, 248, 248),
}  # fmt: skip


def test_plain_objects_show_their_colour_and_not_another(
    folder: Path, scenes: tuple[Scene, ...]
) -> None:
    seen = set()
    for scene in scenes:
        picture = np.asarray(Image.open(folder / scene.file)).astype(int)
        for item in scene.objects:
            if item.kind in ("circle", "square", "cross", "heart") and item.pattern == "plain":
                x, y = (round(value * CONFIG.size) for value in middle(item.box))
                shown = picture[y - 3 : y + 4, x - 3 : x + 4].reshape(-1, 3).mean(axis=0)
                gaps = {name: np.abs(shown - rgb).sum() for name, rgb in REFERENCE.items()}
                assert min(gaps, key=lambda name: gaps[name]) == item.colour, (scene.id, item)
                seen.add(item.colour)
    assert seen == set(REFERENCE)


def test_twins_differ_in_their_objects_only(folder: Path, families: list[list[Scene]]) -> None:
    for family in [family for family in families if len(family) > 1][:20]:
        first, second = (
            np.asarray(Image.open(folder / scene.file)).astype(int) for scene in family[:2]
        )
        outside = np.ones((CONFIG.size, CONFIG.size), dtype=bool)
        for scene in family[:2]:
            for item in scene.objects:
                x1, y1, x2, y2 = (round(edge * CONFIG.size) for edge in item.box)
                outside[max(0, y1 - 1) : y2 + 2, max(0, x1 - 1) : x2 + 2] = False
        assert outside.mean() > 0.3
        assert (first == second)[outside].all()
        assert (first != second)[~outside].any()


def test_clutter_and_noise_change_the_picture_only_when_asked_for(
    scenes: tuple[Scene, ...],
) -> None:
    clean = pixels(scenes[0], replace(CONFIG, clutter=0, noise=0.0))
    assert (pixels(scenes[0], replace(CONFIG, clutter=20, noise=0.0)) != clean).any()
    noisy = pixels(scenes[0], replace(CONFIG, clutter=0, noise=3.0)) - clean
    assert noisy.std() == pytest.approx(3.0, abs=0.5)


@pytest.mark.parametrize("size", [64, 97, 320])
def test_a_picture_has_the_size_asked_for(scenes: tuple[Scene, ...], size: int) -> None:
    assert draw_scene(scenes[0], replace(CONFIG, size=size)).size == (size, size)


# Truth by hand


def item(colour: str, kind: str, x: float, y: float) -> SceneObject:
    return SceneObject(kind, colour, "small", "plain", (x - 0.1, y - 0.1, x + 0.1, y + 0.1))


RED_CIRCLE_LEFT = (item("red", "circle", 0.2, 0.5), item("blue", "square", 0.7, 0.5))
RED, BLUE, CIRCLES = Thing(colour="red"), Thing(colour="blue"), Thing(kind="circle", count=2)


@pytest.mark.parametrize(
    ("things", "relations", "expected"),
    [
        ((RED, BLUE), [("left of", (0, 1))], True),
        ((RED, BLUE), [("left of", (1, 0))], False),
        ((RED, BLUE), [("right of", (1, 0))], True),
        ((RED, BLUE), [("above", (0, 1))], False),
        ((RED,), [("at left", (0,))], True),
        ((RED,), [("at right", (0,))], False),
        ((Thing(kind="circle", colour="blue"),), [], False),
        ((RED, RED), [], False),  # one object cannot be two things
        ((CIRCLES,), [], False),
    ],
)
def test_truth_by_hand(
    things: tuple[Thing, ...], relations: list[tuple[str, tuple[int, ...]]], expected: bool
) -> None:
    facts = Facts(things, tuple(Relation(*relation) for relation in relations))
    assert holds(facts, RED_CIRCLE_LEFT) is expected


def test_a_count_is_exact() -> None:
    circles = [item("red", "circle", x, 0.5) for x in (0.15, 0.45, 0.85)]
    assert holds(Facts((CIRCLES,)), circles[:2])
    assert not holds(Facts((CIRCLES,)), circles)


def test_truth_agrees_with_the_second_account(scenes: tuple[Scene, ...]) -> None:
    # The second account takes the bare order of centres, so it may only call more things true.
    found = Counter[tuple[bool, bool]]()
    for scene in scenes[:25]:
        for other in scenes[:60]:
            for sentence in scene.sentences:
                ours = holds(sentence.facts, other.objects)
                found[ours, true_of(sentence.facts, other.objects)] += 1
    assert found[True, False] == 0
    assert found[False, True] <= 3
    assert found[True, True] >= 125


def test_accidental_pairs_are_rare_and_complete(scenes: tuple[Scene, ...]) -> None:
    part = [scene for scene in scenes if scene.split == "test"]
    expected = {
        (j, 5 * i + k)
        for i, scene in enumerate(part)
        for k, sentence in enumerate(scene.sentences)
        for j, other in enumerate(part)
        if i != j and holds(sentence.facts, other.objects)
    }
    assert {tuple(pair) for pair in accidental_pairs(part).tolist()} == expected
    assert len(expected) / (5 * len(part)) < 0.03


def test_accidental_pairs_are_found_where_there_are_some() -> None:
    said = SceneSentence("the red thing", ((1, (0,)), (2, (0,))), Facts((RED,)))
    blue = SceneSentence("the blue thing", ((1, (1,)), (2, (1,))), Facts((BLUE,)))
    pair = [
        Scene("scene-000001", "test", 0, 0, RED_CIRCLE_LEFT, (said,)),
        Scene("scene-000002", "test", 1, 1, RED_CIRCLE_LEFT[1:], (blue,)),
    ]
    assert accidental_pairs(pair).tolist() == [[0, 1]]


# Files


def test_the_corpus_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = write_scenes(tmp_path / "a", SMALL)
    read = read_scenes(tmp_path / "a")
    assert read.fingerprint() == written.fingerprint()
    assert read.pictures == written.pictures
    assert read_scene_records(tmp_path / "a") == sample_scenes(SMALL)


def test_the_corpus_has_splits_pairs_and_pictures(folder: Path) -> None:
    corpus: Corpus = read_scenes(folder)
    assert Counter(corpus.image_splits) == {"train": 130, "val": 30, "test": 100}
    assert corpus.splits == ("train", "val", "test")
    assert corpus.image_ids[:2] == ("scene-000001", "scene-000002")
    assert corpus.pairs[:6].tolist() == [[0, 0], [0, 1], [0, 2], [0, 3], [0, 4], [1, 5]]
    assert corpus.pairs.shape == (1300, 2)
    assert corpus.rows is None
    assert corpus.pictures is not None
    assert all(path is not None and path.is_file() for path in corpus.pictures)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(tmp_path: Path) -> None:
    for name, config in (("a", SMALL), ("b", SMALL), ("c", replace(SMALL, seed=1))):
        write_scenes(tmp_path / name, config)
    a, b, c = ((tmp_path / name / "scenes.json").read_bytes() for name in "abc")
    assert a == b
    assert a != c
    files = sorted(path.name for path in (tmp_path / "a" / "images").iterdir())
    assert len(files) == 12
    for name in files:
        first, second = (Image.open(tmp_path / x / "images" / name).tobytes() for x in "ab")
        assert first == second


def test_the_first_scene_of_seed_0_stays_as_it_is() -> None:
    # The sequence may not depend on the platform, the process or the order of a set.
    first = sample_scenes(SceneConfig(images=60, val=10, test=10))[0]
    assert [sentence.text for sentence in first.sentences] == [
        "a little brown tree together with two big blue cars",
        "one can see two blue cars and a brown fir",
        "two blue cars and a brown tree",
        "a striped brown tree with two blue cars",
        "a picture of two blue things and a brown thing",
    ]


def test_alignment_gives_the_boxes_of_a_word(folder: Path, scenes: tuple[Scene, ...]) -> None:
    alignment = read_alignment(folder)
    assert len(alignment) == 1300
    for scene in scenes[:20]:
        for k, sentence in enumerate(scene.sentences):
            found = alignment[f"{scene.id}#{k}"]
            assert " ".join(found.words) == sentence.text
            linked = dict(sentence.alignment)
            for word in range(len(found.words)):
                expected = [scene.objects[i].box for i in linked.get(word, ())]
                assert found.boxes_of(word).shape == (len(expected), 4)
                assert found.boxes_of(word) == pytest.approx(np.array(expected).reshape(-1, 4))


def test_progress_is_told_after_each_image(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    write_scenes(tmp_path / "a", SMALL, lambda done, wanted: told.append((done, wanted)))
    assert told == [(i, 12) for i in range(1, 13)]


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    write_scenes(tmp_path / "a", SMALL)
    before = (tmp_path / "a" / "scenes.json").read_bytes()

    def stop(done: int, wanted: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_scenes(tmp_path / "a", replace(SMALL, seed=9), stop)
    assert (tmp_path / "a" / "scenes.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_folder_with_other_files_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(StorageError, match=r"thesis\.txt"):
        write_scenes(tmp_path, SMALL)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def damaged(change: Callable[[dict[str, object]], object]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        content = json.loads(path.read_text(encoding="utf-8"))
        change(content)
        path.write_text(json.dumps(content), encoding="utf-8")

    return write


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "no such file"),
        (lambda path: path.write_text("{"), "not a JSON file"),
        (lambda path: path.write_text("[]"), "not a file of scenes"),
        (damaged(lambda c: c.update(version=9)), "version 9, expected 1"),
        (damaged(lambda c: c["images"][1].pop("objects")), "image 2 is damaged"),
        (damaged(lambda c: c["images"][0].update(file="../x.png")), "do not belong together"),
        (damaged(lambda c: c["images"][0].update(id=7)), "image 1 is damaged"),
        (damaged(lambda c: c["images"][0]["objects"][0].update(box=[0, 0, 2, 1])), "fractions"),
        (damaged(lambda c: c["images"][0]["sentences"][0].update(alignment=[[99, [0]]])), "99"),
        (damaged(lambda c: c["images"][0]["sentences"][0].update(text=3)), "image 1 is damaged"),
        (
            damaged(
                lambda c: c["images"][0]["sentences"][0]["facts"].update(relations=[["x", [0]]])
            ),
            "relation 'x'",
        ),
    ],
)
def test_a_damaged_file_is_a_data_error(
    tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    write_scenes(tmp_path / "a", SceneConfig(images=3, val=0, test=0, size=64))
    damage(tmp_path / "a" / "scenes.json")
    with pytest.raises(DataError, match=re.escape(message)):
        read_scenes(tmp_path / "a")


@pytest.mark.parametrize(
    "values",
    [
        {"images": 10, "val": 6, "test": 6},
        {"min_objects": 1},
        {"max_objects": 5},
        {"min_objects": 4, "max_objects": 3},
        {"size": 10},
        {"twin_share": 1.5},
        {"noise": -1.0},
    ],
)
def test_a_configuration_that_cannot_be_used_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(RecipeError):
        build(SceneConfig, values)


@settings(max_examples=6, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    objects=st.sampled_from([(2, 2), (2, 3), (3, 3), (4, 4)]),
    images=st.integers(0, 9),
)
def test_any_seed_gives_true_sentences(seed: int, objects: tuple[int, int], images: int) -> None:
    config = SceneConfig(
        images=images, val=images // 3, test=0, seed=seed,
        min_objects=objects[0], max_objects=objects[1],
    )  # fmt: skip
    drawn = sample_scenes(config)
    assert len(drawn) == images
    for scene in drawn:
        assert objects[0] <= len(scene.objects) <= objects[1]
        assert len(scene.sentences) == 5
        assert all(true_of(sentence.facts, scene.objects) for sentence in scene.sentences)
