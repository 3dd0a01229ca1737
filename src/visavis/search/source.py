"""Where the pictures of an index come from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class FolderSource:
    """The pictures of a folder, their regions found by the extractor that the model names."""

    folder: Path
    weights: Path | None = None  # folder of the extractor's weights
    workers: int = 1  # pictures that are looked at side by side
    sentences: Path | None = None  # a file with sentences to choose from, one a line


@dataclass(frozen=True, slots=True)
class CorpusSource:
    """The images of a corpus with region vectors that are stored already."""

    data: Path  # a corpus
    features: Path | None = None  # its region vectors; None: those that lie with it
    split: str = "all"
    name: str | None = None


Source = FolderSource | CorpusSource
