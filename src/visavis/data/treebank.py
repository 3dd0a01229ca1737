"""Sentences to words by the conventions of the Penn Treebank, as the published vocabularies use.

The vocabularies of VSE++, SCAN, BFAN, VSRN, AOQ, CAMP and MTFN hold words cut by the tokenizer of
NLTK on lower-cased captions. The rules here give the same words (checked token by token) without
that dependency and without its download: every mark of punctuation is a word, a full stop only at
the end of the text, straight double quotes become `` and '' by their side, clitics and a few
contractions are cut ("isn't" is "is n't", "cannot" is "can not"), and hyphens stay.
"""

from __future__ import annotations

import re

from visavis.errors import DataError

_OPENING = re.compile(r"``|[`«“‘„]")
# A straight quote opens after a space or a bracket; anywhere else it closes.
_OPENING_AFTER = re.compile(r"""(?<=[ (\[{<])(?:"|'')""")
# An apostrophe before a word stands alone ('90s), unless a clitic follows ('s, 'll).
_APOSTROPHE_BEFORE = re.compile(r"(?<!\w)'(?=\w)(?!(?:re|ve|ll|[mtsdn])\b)")
_CLOSERS = "])}>\"'»”’ "
# The mark takes the next character along, so that ",,a" is cut once, as in the original.
_SEPARATOR = re.compile(r"([:,])(\D|$)")
_SYMBOL = re.compile(r"\.\.+|[;@#$%&?!\u2012-\u2015]")
_APOSTROPHE_AFTER = re.compile(r"(?<=[^'])'(?= )")
_BRACKET = re.compile(r"--|[][(){}<>*]")
_CLOSING = re.compile(r"""''|"|[»”’]""")
_SHORT_CLITIC = re.compile(r"(?<=[^' ])'[smd]?(?= )")
_LONG_CLITIC = re.compile(r"(?<=[^' ])(?:'ll|'re|'ve|n't)(?= )")
_CONTRACTIONS = {
    "cannot": " can not ", "d'ye": " d 'ye ", "gimme": " gim me ", "gonna": " gon na ",
    "gotta": " got ta ", "lemme": " lem me ", "more'n": " more 'n ", "wanna": " wan na ",
}  # fmt: skip
_CONTRACTION = re.compile(r"\b(?:cannot|d'ye|gimme|gonna|gotta|lemme|more'n|wanna(?=\s))\b")
_TIS = re.compile(r"(?<= )'t(is|was)\b")

_SENTENCE_END = re.compile(r"[.?!][])}>\"'»”’]*$")
_ABBREVIATIONS = frozenset({
    "mr", "mrs", "ms", "dr", "prof", "jr", "sr", "st", "ave", "blvd", "rd", "mt", "ft", "vs", "etc",
    "inc", "co", "corp", "ltd", "gen", "col", "lt", "sgt", "capt", "rev", "gov", "sen",
})  # fmt: skip


def treebank_tokenize(text: str, *, split_sentences: bool = False) -> list[str]:
    """The words of a text, lower-cased.

    By default the text is one sentence, so that a full stop inside it stays attached to its word.
    The original pipelines first cut a caption into sentences; `split_sentences` does that by
    punctuation and a list of abbreviations (the originals used a trained splitter).

    >>> treebank_tokenize("The girl's ball isn't red.")
    ['the', 'girl', "'s", 'ball', 'is', "n't", 'red', '.']
    >>> treebank_tokenize("Mr. Smith runs. A dog sits.", split_sentences=True)
    ['mr.', 'smith', 'runs', '.', 'a', 'dog', 'sits', '.']

    Raises:
        DataError: the text is not a `str`, most often bytes read from a file.
    """
    if not isinstance(text, str):
        raise DataError(
            f"a sentence is {type(text).__name__}, expected text; decode the file as UTF-8"
        )
    text = text.lower()
    if not split_sentences:
        return _words(text)
    return [word for sentence in _sentences(text) for word in _words(sentence)]


def _words(text: str) -> list[str]:
    """Words of one lower-cased sentence. The order of the steps matters."""
    text = _opening_quotes(text)
    text = _final_full_stop(text)
    text = _SEPARATOR.sub(r" \1 \2", text)
    text = _SYMBOL.sub(r" \g<0> ", text)
    if "'" in text:
        text = _APOSTROPHE_AFTER.sub(" ' ", text)
    text = _BRACKET.sub(r" \g<0> ", text)
    text = _CLOSING.sub(_spaced_closing, text)
    if "'" in text:
        text = f" {' '.join(text.split())} "
        text = _SHORT_CLITIC.sub(r" \g<0>", text)
        text = _LONG_CLITIC.sub(r" \g<0>", text)
    text = _CONTRACTION.sub(_spaced_contraction, text + " ")
    return _TIS.sub(r"'t \1 ", text).split()


def _opening_quotes(text: str) -> str:
    text = _OPENING.sub(r" \g<0> ", text)
    if text.startswith('"'):
        text = f" `` {text[1:]}"
    text = _OPENING_AFTER.sub(" `` ", text)
    return _APOSTROPHE_BEFORE.sub("' ", text)


def _final_full_stop(text: str) -> str:
    """Detach the full stop that ends the text, before brackets and quotes that close after it."""
    body = text.rstrip().rstrip(_CLOSERS)
    if len(body) < 2 or body[-1] != "." or body[-2] == ".":
        return text
    return f"{body[:-1]} . {text[len(body) :]}"


def _spaced_closing(match: re.Match[str]) -> str:
    mark = match.group()
    return " '' " if mark == '"' else f" {mark} "


def _spaced_contraction(match: re.Match[str]) -> str:
    return _CONTRACTIONS[match.group()]


def _sentences(text: str) -> list[str]:
    """Cut after a chunk that ends a sentence; closing quotes and brackets stay with it."""
    sentences: list[list[str]] = [[]]
    ended = False
    for chunk in text.split():
        if ended and chunk.strip(_CLOSERS):
            sentences.append([])
            ended = False
        sentences[-1].append(chunk)
        ended = ended or _ends_sentence(chunk)
    return [" ".join(chunks) for chunks in sentences]


def _ends_sentence(chunk: str) -> bool:
    if not _SENTENCE_END.search(chunk):
        return False
    stem = chunk.rstrip(_CLOSERS)
    if not stem.endswith("."):
        return True
    stem = stem[:-1].lstrip("(\"'`[{<«“‘„")
    # An ellipsis, an initial (p.), letters with stops (u.s.) and titles do not end a sentence.
    letters = all(len(part) == 1 and part.isalpha() for part in stem.split("."))
    return not (letters or stem.endswith(".") or stem in _ABBREVIATIONS)
