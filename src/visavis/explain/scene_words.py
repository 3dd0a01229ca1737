"""What kind of word a word of the drawn scenes is."""

from __future__ import annotations

import functools

from visavis.data.scenes_words import NUMBERS, PLURALS, WORDS
from visavis.data.scenes_world import COLOURS, KINDS, PATTERNS, SIZES

_CONCEPTS = {
    "colour": COLOURS,
    "object": (*KINDS, "thing"),
    "pattern": PATTERNS,
    "size": SIZES,
}


def scene_group(word: str) -> str:
    """colour, number, object, pattern or size; `other` for a word that is none.

    >>> [scene_group(word) for word in ("crimson", "boxes", "two", "huge", "dotted", "between")]
    ['colour', 'object', 'number', 'size', 'pattern', 'other']
    """
    return _groups().get(word, "other")


@functools.cache
def _groups() -> dict[str, str]:
    groups = dict.fromkeys(NUMBERS.values(), "number")
    for group, concepts in _CONCEPTS.items():
        for concept in concepts:
            for word in WORDS.get(concept, (concept,)):
                groups[word] = group
                if group == "object":
                    groups[PLURALS.get(word, word + "s")] = group
    return groups
