"""Everything that can go wrong, as one tree. Messages say what was got, wanted and what to do.

VisavisError
├── RecipeError       a recipe or an option that cannot be used
├── DataError         a corpus, a caption file, a feature file, a picture
├── CheckpointError   a model folder or a training state
├── StorageError      a disk that is full, a folder that cannot be written
├── TrainingError     a training run that cannot go on
├── IndexError_       an index that cannot be opened, another model's, an id that is not in it
└── MissingExtraError an optional dependency that is not installed
"""

from __future__ import annotations


class VisavisError(Exception):
    """Base of every error that visavis raises for input from outside."""


class RecipeError(VisavisError):
    """A recipe or an option holds something that cannot be used."""


class DataError(VisavisError):
    """A corpus, a caption file, a feature file or a picture is not as it must be."""


class CheckpointError(VisavisError):
    """A model folder or a training state cannot be used."""


class StorageError(VisavisError):
    """Something could not be written; what stood there before is untouched."""


class TrainingError(VisavisError):
    """A training run cannot go on."""


class IndexError_(VisavisError):
    """An index cannot be used: none there, a newer format, another model, an unknown id."""


class MissingExtraError(VisavisError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed; run `pip install 'visavis[{extra}]'`")
