"""What a contact sheet shows: queries, what was found for each, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from visavis.explain.attention import Explanation


@dataclass(frozen=True, slots=True, eq=False)
class SheetHit:
    """One answer: a picture for a sentence, or a sentence for a picture."""

    item: Path | str  # a picture's file, or a sentence
    score: float
    right: bool | None = None  # None: nobody knows
    explanation: Explanation | None = None

    @property
    def verdict(self) -> str:
        """A word for what the colour says too."""
        return "" if self.right is None else "right" if self.right else "wrong"


@dataclass(frozen=True, slots=True)
class SheetMiss:
    """A right answer that was not found among the first."""

    item: Path | str
    rank: int  # counted from 1

    @property
    def text(self) -> str:
        """Its sentence, or the name of its picture."""
        return self.item.name if isinstance(self.item, Path) else self.item


@dataclass(frozen=True, slots=True, eq=False)
class SheetRow:
    """A query and its answers, best first: a sentence with pictures, or the other way round."""

    query: Path | str
    hits: tuple[SheetHit, ...]
    missed: tuple[SheetMiss, ...] = ()  # right answers further down, best first

    def __post_init__(self) -> None:
        kind = str if isinstance(self.query, Path) else Path
        answers = [hit.item for hit in self.hits] + [miss.item for miss in self.missed]
        if not all(isinstance(answer, kind) for answer in answers):
            raise ValueError("a sentence is answered by pictures, a picture by sentences")
        # The words of a query are shown once and light the regions of all its pictures.
        said = {hit.explanation.words for hit in self.hits if hit.explanation is not None}
        if isinstance(self.query, str) and len(said) > 1:
            raise ValueError("the explanations of one sentence have different words")

    @property
    def explained(self) -> Explanation | None:
        """The explanation of the best hit that has one."""
        return next((hit.explanation for hit in self.hits if hit.explanation is not None), None)


NOTES = {
    "attention": (
        "Boxes show the regions that the words of the sentence look at most, "
        "named after these words; a fainter outline is a weaker look."
    ),
    "interaction": (
        "Boxes show the regions that bring most to the score together with the words of the "
        "sentence, named after these words: what both bring beyond each without the other."
    ),
    "ablation": (
        "Boxes show the regions that the score rests on: "
        "how much it falls when the region is left out."
    ),
}


def note_of(rows: Sequence[SheetRow]) -> str:
    """What the boxes of these rows mean."""
    kinds = {row.explained.kind for row in rows if row.explained is not None}
    notes = [NOTES[kind] for kind in sorted(kinds)]
    if any(isinstance(row.query, Path) and row.explained is not None for row in rows):
        notes.append("Where sentences stand beside a picture, its boxes are those of the first.")
    if any(row.missed for row in rows):
        notes.append("Golden: right answers that come later, with their ranks.")
    return " ".join(notes)
