"""Templates, synonyms and noun phrases for sentences about scenes."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from visavis.data.scenes_world import Relation

# Capitals are slots, `be` and its like agree with the noun phrase beside them. Facts follow the
# bar; a relation is a name and its slots. No first word of a noun phrase begins with a vowel, so
# that `a` and `an` never tell twins apart.
TEMPLATES = """
    A to the left of B | left of AB
    A be to the left of B | left of AB
    A be left of B | left of AB
    there be A on the left of B | left of AB
    to the left of B there be A | left of AB
    A to the right of B | right of AB
    A be right of B | right of AB
    A be to the right of B | right of AB
    there be A on the right of B | right of AB
    A on the left and B on the right | at left A, at right B
    on the right be A and on the left be B | at right A, at left B
    the picture has A on its left side and B on its right side | at left A, at right B
    A above B | above AB
    A be above B | above AB
    A over B | above AB
    there be A above B | above AB
    A be higher than B | above AB
    A below B | below AB
    A be below B | below AB
    A be lower than B | below AB
    below B there be A | below AB
    A beneath B | below AB
    A at the top and B at the bottom | at top A, at bottom B
    at the bottom be A and at the top be B | at bottom A, at top B
    A on B | on AB
    A on top of B | on AB
    A sit on B | on AB
    A stand on top of B | on AB
    there be A on top of B | on AB
    B with A on top | on AB
    B carry A | on AB
    A next to B | next to AB
    A be next to B | next to AB
    A beside B | next to AB
    A be close to B | next to AB
    A between B and C | between ABC
    A be between B and C | between ABC
    B and C with A between them | between ABC
    between B and C there be A | between ABC
    there be A between B and C | between ABC
    A and B |
    A with B |
    there be A and B |
    a picture of A and B |
    the picture shows A and B |
    one can see A and B |
    A together with B |
    A and B and C |
    A with B and C |
    there be A with B and C |
    a picture of A with B and C |
    the picture shows A and B and C |
    one can see A with B and C |
    A together with B and C |
    A to the left of B and C | left of AB, left of AC
    A to the right of B and C | right of AB, right of AC
    A and B to the left of C | left of AC, left of BC
    A and B to the right of C | right of AC, right of BC
    A be to the left of B and above C | left of AB, above AC
    A be to the right of B and above C | right of AB, above AC
    A be to the left of B and below C | left of AB, below AC
    A be to the right of B and below C | right of AB, below AC
    A above B and C | above AB, above AC
    A below B and C | below AB, below AC
    A and B above C | above AC, above BC
    A and B below C | below AC, below BC
    the picture has A on the left with B and C on the right | at left A, at right B, at right C
    the picture has A at the top with B and C at the bottom | at top A, at bottom B, at bottom C
    A with B on its left and C on its right | left of BA, right of CA
    A with B above it and C below it | above BA, below CA
    A and B with C and D |
    there be A and B and C and D |
    the picture shows A with B and C and D |
"""
SLOTS = ("A", "B", "C", "D")
VERBS = {
    "be": ("is", "are"),
    "sit": ("sits", "sit"),
    "stand": ("stands", "stand"),
    "carry": ("carries", "carry"),
}
# The first word is the usual one.
WORDS: dict[str, tuple[str, ...]] = {
    "circle": ("circle", "ball", "disc"), "square": ("square", "box", "block"),
    "ring": ("ring", "hoop"), "house": ("house", "cottage"), "tree": ("tree", "fir"),
    "car": ("car", "vehicle"), "table": ("table", "desk"), "red": ("red", "crimson", "scarlet"),
    "yellow": ("yellow", "golden"), "purple": ("purple", "violet"),
    "small": ("small", "little", "tiny"), "large": ("large", "big", "huge"),
    "spotted": ("spotted", "dotted"), "thing": ("thing", "shape"),
}  # fmt: skip
PLURALS = {"cross": "crosses", "box": "boxes", "fish": "fish"}
NUMBERS = {2: "two", 3: "three"}
# What noun phrases mention, and how often; `pattern` is said only where there is one.
DETAILS: tuple[tuple[frozenset[str], int], ...] = (
    (frozenset({"colour", "kind"}), 8),
    (frozenset({"colour", "kind", "pattern"}), 6),
    (frozenset({"size", "colour", "kind"}), 4),
    (frozenset({"size", "colour", "kind", "pattern"}), 2),
    (frozenset({"kind"}), 2),
    (frozenset({"colour"}), 1),
    (frozenset({"size", "kind"}), 1),
)
ORDER = ("size", "pattern", "colour", "kind")


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed line of `TEMPLATES`."""

    words: tuple[str, ...]
    slots: int
    relations: tuple[Relation, ...]
    singular: bool  # no slot can hold a counted group


@functools.cache
def parsed_templates() -> tuple[Template, ...]:
    """The lines of `TEMPLATES`: words, number of slots and relations between slots."""
    return tuple(_parsed(line) for line in TEMPLATES.strip().splitlines())


def _parsed(line: str) -> Template:
    text, _, facts = line.partition("|")
    words = tuple(text.split())
    relations = []
    for fact in filter(None, (part.strip() for part in facts.split(","))):
        name, _, slots = fact.rpartition(" ")
        relations.append(Relation(name, tuple(SLOTS.index(slot) for slot in slots)))
    # `it`, `its` and `between` speak of one thing.
    singular = not {"it", "its", "between"}.isdisjoint(words)
    return Template(words, sum(word in SLOTS for word in words), tuple(relations), singular)
