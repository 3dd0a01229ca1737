"""The sentences that an index can answer with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from visavis.data.corpus import Corpus
from visavis.data.feature_files import read_lines
from visavis.errors import DataError
from visavis.search.engine import Engine
from visavis.search.place import Sentences
from visavis.search.rows import Record


def corpus_bank(engine: Engine, corpus: Corpus, records: Sequence[Record]) -> Sentences:
    """The sentences of a corpus, each once, with the pictures that they belong to."""
    id_of = {record.name: record.id for record in records}
    pictures: dict[str, list[str]] = {text: [] for text in corpus.sentence_texts}
    for image, sentence in corpus.pairs.tolist():
        found = id_of.get(corpus.image_ids[image])
        if found is not None:
            pictures[corpus.sentence_texts[sentence]].append(found)
    return _bank(engine, {text: ids for text, ids in pictures.items() if ids})


def file_bank(engine: Engine, file: Path) -> Sentences:
    """The lines of a file.

    Raises:
        DataError: it holds none.
    """
    texts = dict.fromkeys(line for line in read_lines(file) if line)
    if not texts:
        raise DataError(f"{file}: holds no sentence; write one a line")
    return _bank(engine, {text: [] for text in texts})


def _bank(engine: Engine, pictures: Mapping[str, Sequence[str]]) -> Sentences:
    texts = tuple(pictures)
    vectors = None
    if texts and engine.space("i2t") is not None:
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        found = engine.sentence_vectors([texts[place] for place in order], "i2t").numpy()
        vectors = found.copy()
        vectors[order] = found  # sorted by length there is hardly any padding
    return Sentences(texts, tuple(tuple(dict.fromkeys(ids)) for ids in pictures.values()), vectors)
