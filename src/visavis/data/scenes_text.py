"""Sentences about scenes that tell the twins of a family apart.

A plan fixes template, slots and word choices once for a whole family. Said of each member it gives
sentences with the same words in another order, each true of its own picture only.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from visavis.data.scenes_words import (
    DETAILS,
    NUMBERS,
    ORDER,
    PLURALS,
    SLOTS,
    VERBS,
    WORDS,
    Template,
    parsed_templates,
)
from visavis.data.scenes_world import Facts, SceneObject, SceneSentence, Thing, holds, related

Objects = tuple[SceneObject, ...]
Units = tuple[tuple[int, ...], ...]  # the objects spoken of together: alike and counted

ROUNDS = 3  # of trying every template, each time with other slots and details


@dataclass(frozen=True, slots=True)
class Plan:
    """How something is said, whatever it is said of."""

    template: Template
    units: tuple[int, ...]  # the unit that fills each slot
    detail: frozenset[str]  # attributes that noun phrases mention
    vocabulary: dict[str, str]  # concept to word
    definite: bool


def describe(
    rng: random.Random,
    members: Sequence[Objects],
    units: Units,
    needed: frozenset[str],
    wanted: int,
) -> list[tuple[SceneSentence, ...]]:
    """Differently worded sentences for the members of a family: each entry has one per member.

    Sentences of an entry use the same words, are clearly true of their member, false of the
    others, and each noun phrase fits nothing but what it stands for. At most one entry per
    template, and fewer than `wanted` when the scenes do not allow more.
    """
    orders = _clear_orders(members, units)
    found: dict[Template, tuple[SceneSentence, ...]] = {}
    for _ in range(ROUNDS):  # another choice of slots and details each time
        for template in rng.sample(list(orders), len(orders)):
            if template in found or len(found) == wanted:
                continue
            plan = _plan(rng, template, rng.choice(orders[template]), needed)
            sentences = tuple(say(plan, objects, units) for objects in members)
            if _tells_apart(sentences, members):
                found[template] = sentences
    return list(found.values())


def _clear_orders(
    members: Sequence[Objects], units: Units
) -> dict[Template, list[tuple[int, ...]]]:
    """The templates that can be said, each with the units that may fill its slots."""
    known: dict[tuple[str, tuple[int, ...]], bool] = {}

    def clear(name: str, chosen: tuple[int, ...]) -> bool:
        key = name, chosen
        if key not in known:
            known[key] = all(
                related(name, [objects[i].box for i in places], clearly=True)
                for objects in members
                for places in itertools.product(*(units[unit] for unit in chosen))
            )
        return known[key]

    moved = _differing_in_place_only(members)
    found: dict[Template, list[tuple[int, ...]]] = {}
    for template in parsed_templates():
        if moved and not template.relations:
            continue
        for order in _orders(members, units, template.slots, alone=template.singular):
            if all(
                clear(relation.name, tuple(order[slot] for slot in relation.things))
                for relation in template.relations
            ):
                found.setdefault(template, []).append(order)
    return found


def _orders(
    members: Sequence[Objects], units: Units, slots: int, *, alone: bool
) -> list[tuple[int, ...]]:
    """Units that may fill so many slots: all that differ between members must be spoken of."""
    contents = [[_content(objects[places[0]]) for places in units] for objects in members]
    differing = {i for i, column in enumerate(zip(*contents, strict=True)) if len(set(column)) > 1}
    return [
        order
        for order in itertools.permutations(range(len(units)), slots)
        if differing <= set(order) and not (alone and any(len(units[i]) > 1 for i in order))
    ]


def _differing_in_place_only(members: Sequence[Objects]) -> bool:
    """Whether two members hold the same things, so that only a relation tells them apart."""
    held = {tuple(sorted(_content(item) for item in objects)) for objects in members}
    return len(held) < len(members)


def _content(item: SceneObject) -> tuple[str, ...]:
    return item.kind, item.colour, item.size, item.pattern


def _plan(
    rng: random.Random, template: Template, order: tuple[int, ...], needed: frozenset[str]
) -> Plan:
    details, weights = zip(*DETAILS, strict=True)
    vocabulary = {
        concept: rng.choice(words) if rng.random() < 0.5 else words[0]
        for concept, words in WORDS.items()
    }
    return Plan(
        template=template,
        units=order,
        detail=rng.choices(details, weights)[0] | needed,
        vocabulary=vocabulary,
        definite=template.words[0] in SLOTS and template.words[1] in VERBS and rng.random() < 0.5,
    )


def _tells_apart(sentences: Sequence[SceneSentence], members: Sequence[Objects]) -> bool:
    bags = [Counter(sentence.words) for sentence in sentences]
    if any(bag != bags[0] for bag in bags):
        return False
    for sentence, objects in zip(sentences, members, strict=True):
        for thing in sentence.facts.things:
            if sum(thing.matches(item) for item in objects) != thing.count:
                return False
        if any(holds(sentence.facts, other) for other in members if other is not objects):
            return False
    return True


def say(plan: Plan, objects: Objects, units: Units) -> SceneSentence:
    """A plan said of one member: its text, what its words stand for, and what it asserts."""
    words: list[str] = []
    alignment: list[tuple[int, tuple[int, ...]]] = []
    things = [Thing()] * plan.template.slots
    pattern = plan.template.words
    for position, word in enumerate(pattern):
        if word in SLOTS:
            places = units[plan.units[SLOTS.index(word)]]
            phrase, things[SLOTS.index(word)] = _phrase(plan, objects[places[0]], len(places))
            for part in phrase:
                if part not in ("a", "the"):
                    alignment.append((len(words), places))
                words.append(part)
        elif word in VERBS:
            # The subject stands before the verb, or after it as in `there is a star`.
            before = pattern[position - 1]
            subject = before if before in SLOTS else pattern[position + 1]
            count = len(units[plan.units[SLOTS.index(subject)]])
            words.append(VERBS[word][count > 1])
        else:
            words.append(word)
    facts = Facts(tuple(things), plan.template.relations)
    return SceneSentence(" ".join(words), tuple(alignment), facts)


def _phrase(plan: Plan, item: SceneObject, count: int) -> tuple[list[str], Thing]:
    """The words of a noun phrase, and the thing that they describe."""
    said = {
        name: getattr(item, name)
        for name in ORDER
        if name in plan.detail and getattr(item, name) != "plain"
    }
    parts = ["the"] if plan.definite else []
    if count > 1:
        parts.append(NUMBERS[count])
    elif not plan.definite:
        parts.append("a")
    parts += [plan.vocabulary.get(said[name], said[name]) for name in ORDER if name in said]
    if "kind" not in said:
        parts.append(plan.vocabulary["thing"])
    if count > 1:
        parts[-1] = PLURALS.get(parts[-1], parts[-1] + "s")
    return parts, Thing(**said, count=count)
