"""What was measured of negatives, as a table, as JSON and as a sheet with examples."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from visavis.config import plain
from visavis.data.corpus import Corpus
from visavis.data.negatives import NONE
from visavis.errors import DataError
from visavis.evaluation.report import Grid
from visavis.explain.hardness import Hardness, Level, Ranked
from visavis.explain.hardness_sheet import Anchor, Negative, SheetNotes, draw_hardness
from visavis.explain.saved import save_figure
from visavis.recipes.hardness import Measured

ANCHORS = 2  # pairs that are shown, as image and as sentence
EACH = 4  # negatives of each kind


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the mined lists come from."""

    file: str
    miner: str = ""  # its name, where the file says it


def _title(found: Measured) -> str:
    subject = f"{found.corpus.name} {'+'.join(found.corpus.splits)}"
    return f"{found.config.name}: how hard negatives are in {subject}"


def _note(found: Measured, origin: Origin) -> str:
    by = f", by {origin.miner}" if origin.miner else ""
    config = found.config
    return (
        f"Ranks by {config.name} among all wrong answers of the training set, of "
        f"{len(found.anchors):,} anchors, {config.draws} random batches each. Mined: "
        f"{Path(origin.file).name}{by}. Bars are 95 % intervals, bootstrap over anchors."
    )


def _sides(found: Measured) -> tuple[tuple[str, Hardness], tuple[str, Hardness]]:
    return (
        ("Sentences as negatives of images", found.sentence_hardness),
        ("Images as negatives of sentences", found.image_hardness),
    )


def hardness_grid(found: Measured, origin: Origin) -> Grid:
    """Rows for each batch size and for the mined lists, of both sides."""
    rows = []
    for what, one in _sides(found):
        kind = what.split()[0].lower()
        rows += [
            (f"{kind}, hardest of {size} pairs", *_cells(level))
            for size, level in one.online.items()
        ]
        rows.append((f"{kind}, drawn from the {one.listed:,} mined", *_cells(one.mined)))
    wrong = " and ".join(
        f"{one.wrong:,.0f} {what.split()[0].lower()}" for what, one in _sides(found)
    )
    notes = (_note(found, origin), f"an anchor has {wrong} that are wrong")
    header = ("negatives", "mean rank", "95 %", "(n + 1) / B", "in the first 100, %")
    return Grid(_title(found), header, tuple(rows), notes)


def _cells(level: Level) -> tuple[str, ...]:
    rank = level.rank
    return (
        f"{rank.mean:,.1f}",
        f"[{rank.low:,.1f}, {rank.high:,.1f}]",
        "" if level.expected is None else f"{level.expected:,.1f}",
        f"{100 * level.first:.1f}",
    )


def hardness_values(found: Measured, origin: Origin) -> dict[str, object]:
    """What was measured as JSON values."""
    corpus, config = found.corpus, found.config
    return {
        "format": "visavis-hardness",
        "version": 1,
        "model": config.name,
        "corpus": corpus.name,
        "splits": list(corpus.splits),
        "fingerprint": corpus.fingerprint(),
        "negatives": plain(origin),
        "settings": plain(config),
        "sentences": _side_values(found.sentence_hardness),
        "images": _side_values(found.image_hardness),
        "shown": [_anchor_values(anchor) for anchor in _examples(found, pictures=False)],
    }


def _side_values(found: Hardness) -> dict[str, object]:
    return {
        "wrong": found.wrong,
        "online": {str(size): plain(level) for size, level in found.online.items()},
        "mined": {**plain(found.mined), "listed": found.listed},
    }


def _anchor_values(anchor: Anchor) -> dict[str, object]:
    def values(negatives: tuple[Negative, ...]) -> list[dict[str, object]]:
        return [
            {"item": str(n.item), "rank": n.rank, "score": round(n.score, 6)} for n in negatives
        ]

    return {
        "anchor": str(anchor.query),
        "right": [str(item) for item in anchor.right],
        "online": values(anchor.online),
        "mined": values(anchor.mined),
    }


def _examples(found: Measured, *, pictures: bool) -> list[Anchor]:
    """The first anchors, as images and as sentences; images as files, or else by their ids."""
    shown = []
    corpus = found.corpus
    for row in range(min(ANCHORS, len(found.anchors))):
        image, sentence = map(int, found.anchors[row])
        of_image = corpus.pairs[corpus.pairs[:, 0] == image, 1]
        of_sentence = corpus.pairs[corpus.pairs[:, 1] == sentence, 0]
        texts: dict[int, Path | str] = dict(enumerate(corpus.sentence_texts))
        files: dict[int, Path | str] = {
            i: _picture(corpus, i) if pictures else corpus.image_ids[i]
            for i in (image, *of_sentence, *_seen(found, found.images, row))
        }
        shown += [
            Anchor(
                files[image],
                tuple(texts[int(j)] for j in of_image),
                *_both(found, found.sentences, row, texts),
            ),
            Anchor(
                texts[sentence],
                tuple(files[int(i)] for i in of_sentence),
                *_both(found, found.images, row, files),
            ),
        ]
    return shown


def _seen(found: Measured, ranked: Ranked, row: int) -> list[int]:
    online, mined = _chosen(found, ranked, row)
    return [*online, *mined]


def _chosen(found: Measured, ranked: Ranked, row: int) -> tuple[list[int], list[int]]:
    """Answers that are shown: of the first random batches, and drawn from the mined list."""
    hardest = ranked.online(found.config.training_size)[row]
    online = [int(item) for item in dict.fromkeys(hardest.tolist()) if item >= 0][:EACH]
    listed = ranked.mined[row][ranked.mined[row] != NONE]
    generator = np.random.default_rng([found.config.seed, row])
    drawn = generator.choice(listed, min(EACH, len(listed)), replace=False)
    return online, sorted(
        (int(item) for item in drawn), key=lambda item: int(ranked.ranks[row, item])
    )


def _both(
    found: Measured, ranked: Ranked, row: int, items: dict[int, Path | str]
) -> tuple[tuple[Negative, ...], tuple[Negative, ...]]:
    online, mined = (
        tuple(
            Negative(items[item], int(ranked.ranks[row, item]), float(ranked.scores[row, item]))
            for item in chosen
        )
        for chosen in _chosen(found, ranked, row)
    )
    return online, mined


def _picture(corpus: Corpus, image: int) -> Path:
    path = None if corpus.pictures is None else corpus.pictures[image]
    if path is None:
        raise DataError(
            f"{corpus.image_ids[image]}: has no picture file, so no sheet can be drawn; write .json"
        )
    return path


def write_hardness(found: Measured, origin: Origin, path: Path) -> None:
    """Write as PNG or JSON, as the ending says.

    Raises:
        DataError: a PNG of images without picture files.
        StorageError: the file cannot be written.
    """
    listed = found.sentence_hardness.listed, found.image_hardness.listed
    notes = SheetNotes(_title(found), _note(found, origin), found.config.training_size, listed)
    save_figure(
        path,
        lambda: hardness_values(found, origin),
        lambda: draw_hardness(_sides(found), _examples(found, pictures=True), notes),
    )
