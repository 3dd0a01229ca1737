"""Tokens as words that can be read: pieces joined, end marks known, and words found in the text."""

from __future__ import annotations

import re
from collections.abc import Sequence

_SPECIAL = re.compile(r"<[a-z]+>|\[[A-Z]+\]")  # <start>, <unk>, [CLS], [SEP]
_PIECE = "##"  # a WordPiece that continues a word

# English words that stand for nothing in a picture. Words for places (left, above, next) stay.
STOP_WORDS = frozenset({
    "a", "an", "the", "this", "that", "these", "those", "some", "any", "each", "every", "other",
    "another", "such", "i", "you", "he", "she", "it", "we", "they", "me", "him", "her", "us",
    "them", "my", "your", "his", "its", "our", "their", "who", "whom", "whose", "which", "what",
    "am", "is", "are", "was", "were", "be", "been", "being", "has", "have", "had", "having", "do",
    "does", "did", "doing", "can", "could", "will", "would", "may", "might", "must", "shall",
    "should", "'s", "'m", "'re", "'ve", "'ll", "'d", "n't", "s", "t", "d", "ll", "re", "ve", "m",
    "and", "or", "but", "nor", "so", "if", "as", "than", "then", "while", "when", "where",
    "because", "though", "also", "too", "very", "just", "not", "no", "of", "to", "in", "on", "at",
    "by", "for", "from", "with", "into", "onto", "upon", "out", "up", "off", "about", "there",
    "here", "see", "sees", "seen", "show", "shows", "shown", "picture", "photo", "image",
    "through", "along", "across", "around", "during", "after", "before", "until", "together",
})  # fmt: skip


def is_special(word: str) -> bool:
    """Whether a token is an end mark, padding or the mark of an unknown word.

    >>> [is_special(word) for word in ("<start>", "[SEP]", "dog")]
    [True, True, False]
    """
    return _SPECIAL.fullmatch(word) is not None


def is_content(word: str) -> bool:
    """Whether a word can stand for something in a picture.

    >>> [is_content(word) for word in ("Dog", "the", ",", "[CLS]")]
    [True, False, False, False]
    """
    if is_special(word) or word.lower() in STOP_WORDS:
        return False
    return any(character.isalnum() for character in word)


def whole_words(tokens: Sequence[str]) -> tuple[list[str], list[list[int]]]:
    """Words, and for each the positions of the tokens that it was cut into.

    >>> whole_words(["[CLS]", "surf", "##ing", "[SEP]"])
    (['[CLS]', 'surfing', '[SEP]'], [[0], [1, 2], [3]])
    """
    words: list[str] = []
    places: list[list[int]] = []
    for position, token in enumerate(tokens):
        if words and token.startswith(_PIECE) and len(token) > len(_PIECE):
            words[-1] += token.removeprefix(_PIECE)
            places[-1].append(position)
        else:
            words.append(token)
            places.append([position])
    return words, places


def find_words(text: str, words: Sequence[str]) -> list[tuple[int, int] | None]:
    """Where each word stands in the text, in order; None for one that is not in it as it is.

    >>> find_words("A man's hat.", ["<start>", "a", "man", "'s", "hat", "."])
    [None, (0, 1), (2, 5), (5, 7), (8, 11), (11, 12)]
    """
    lowered = text.lower()
    if len(lowered) != len(text):  # a few capitals have two characters in lower case
        lowered = text
    places: list[tuple[int, int] | None] = []
    position = 0
    for word in words:
        start = -1 if is_special(word) else lowered.find(word.lower(), position)
        if start < 0:
            places.append(None)
        else:
            position = start + len(word)
            places.append((start, position))
    return places
