"""Explanations of a picture with a sentence, and of scenes whose truth is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from visavis.config import plain
from visavis.data.corpus import Corpus
from visavis.data.scenes import SentenceAlignment, read_alignment
from visavis.errors import DataError, RecipeError
from visavis.explain.attention import word_kind
from visavis.explain.explanation import Array, Explanation, Kind
from visavis.explain.figure import SHOWN, What, draw_figure
from visavis.explain.pair import Pair, write_pair
from visavis.explain.pair_page import write_page
from visavis.explain.parts import TOGETHER, is_relational, relations, selected
from visavis.explain.pointing import Localisation, Rule, localisation, localisation_by
from visavis.explain.rows import SheetHit, SheetRow
from visavis.explain.saved import save_png
from visavis.explain.scene_words import scene_group
from visavis.explain.sheet import Sheet
from visavis.models.pretrained import Pretrained
from visavis.recipes.assemble import Material
from visavis.recipes.gallery import Gallery, corpus_gallery, sentence_batch
from visavis.recipes.sheets import reasons_of
from visavis.types import SentenceBatch

ENDINGS = (".png", ".json", ".html")
AT_ONCE = 50  # sentences that are explained between two reports of progress


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be explained, and how."""

    sentence: str
    what: What = "words"
    kind: Kind | None = None  # None: the one that suits what is asked and the model


def explain_picture(gallery: Gallery, picture: int, asked: Asked, name: str) -> Pair:
    """Explain a picture of a gallery with a sentence.

    Args:
        gallery: encoded pictures.
        picture: row in the gallery.
        asked: the sentence, and what is asked.
        name: of the model, as it stands in what is written.

    Raises:
        DataError: vectors without boxes, or something that the model cannot tell.
    """
    pretrained = gallery.pretrained
    image = gallery.features.read(gallery.rows[[picture]])
    kind = asked.kind
    if kind is None and asked.what in ("words", "relations"):
        kind = word_kind(pretrained)
    (found,) = reasons_of(gallery, image, [asked.sentence], kind)

    def encode(texts: Sequence[str]) -> SentenceBatch:
        return sentence_batch(pretrained, texts)

    related: dict[str, Array] = {}
    if asked.what == "relations":
        if is_relational(pretrained.model):
            related = relations(pretrained, image, asked.sentence, encode=encode)
        else:  # what any model can tell
            related = _of_words(found)
    chosen = {}
    if asked.what == "selected":
        chosen = selected(pretrained, image, asked.sentence, encode=encode)
    return Pair(
        model=name,
        image=gallery.ids[picture],
        picture=gallery.pictures[picture],
        sentence=asked.sentence,
        explanation=found,
        relations=related,
        selected=chosen,
    )


def _of_words(found: Explanation) -> dict[str, Array]:
    if found.kind == "ablation":
        raise DataError("leaving out regions alone relates no words; ask for interaction")
    return {"words_regions" if found.kind == "attention" else TOGETHER: found.weights}


def check_output(path: Path) -> None:
    """Refuse a file that cannot be written: a mistake is said before the work.

    Raises:
        RecipeError: another ending than .png, .json or .html.
    """
    if path.suffix.lower() not in ENDINGS:
        raise RecipeError(f"{path}: an explanation is written as .png, .json or .html; name it so")


def write_explained(pair: Pair, what: What, path: Path, top: int = SHOWN) -> None:
    """Write a pair as PNG, JSON or HTML, as the ending says.

    The page of words has words that light their regions; the other pages hold the figure.

    Raises:
        RecipeError: another ending.
        DataError: no picture file, or one that cannot be decoded; JSON needs none.
        StorageError: the file cannot be written; what stood there is untouched.
    """
    check_output(path)
    ending = path.suffix.lower()
    if ending == ".json":
        write_pair(pair, path)
        return
    if pair.picture is None:
        raise DataError(f"{pair.image}: has no picture file, so nothing can be drawn; write .json")
    if ending == ".html" and what == "words":
        hit = SheetHit(pair.picture, pair.explanation.score, explanation=pair.explanation)
        title = f"{pair.model}: why this pair"
        Sheet(title, (SheetRow(pair.sentence, (hit,)),)).write_html(path)
        return
    figure = draw_figure(pair, what, top)
    if ending == ".html":
        write_page(path, f"{pair.model}: {what}", pair.sentence, figure)
        return
    save_png(figure, path)


@dataclass(frozen=True, slots=True)
class Pointing:
    """How often words point at what they stand for."""

    kind: Kind
    rule: Rule
    sentences: int
    all: Localisation
    groups: Mapping[str, Localisation]  # colour, object and so on


@dataclass(frozen=True, kw_only=True)
class PointingConfig:
    """How pointing is measured."""

    sentences: int = 300  # true pairs at even distances
    kind: Kind | None = None  # None: attention where the model has it, else interaction
    rule: Rule = "centre"


def measure_pointing(
    pretrained: Pretrained,
    material: Material,
    scenes: Path,
    config: PointingConfig,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Pointing:
    """Compare what words look at with the objects that they stand for in drawn scenes.

    Args:
        pretrained: any model.
        material: scenes, linked to their features: the part that is measured.
        scenes: the folder of the scenes, which knows the truth.
        config: how many sentences, and what counts.
        progress: told sentences done and sentences in all.

    Raises:
        DataError: a corpus without the truth, features of another kind, or no aligned word.
    """
    truth = _truth(scenes)
    corpus = material.corpus
    chosen = _even(corpus, config.sentences)
    gallery = corpus_gallery(pretrained, corpus, material.features)
    kind = config.kind or word_kind(pretrained)
    found: list[Explanation] = []
    for start in range(0, len(chosen), AT_ONCE):
        pairs = corpus.pairs[chosen[start : start + AT_ONCE]]
        images = gallery.features.read(gallery.rows[pairs[:, 0]])
        found += reasons_of(gallery, images, [corpus.sentence_texts[j] for j in pairs[:, 1]], kind)
        if progress is not None:
            progress(len(found), len(chosen))
    sentences = corpus.pairs[chosen, 1]
    alignments = [truth[corpus.sentence_ids[j]] for j in sentences]
    return Pointing(
        kind=kind,
        rule=config.rule,
        sentences=len(found),
        all=localisation(found, alignments, config.rule),
        groups=localisation_by(found, alignments, scene_group, config.rule),
    )


def _truth(scenes: Path) -> dict[str, SentenceAlignment]:
    if not (scenes / "scenes.json").is_file():
        raise DataError(
            f"{scenes}: only drawn scenes tell what each word stands for, and here is no "
            "scenes.json; `visavis demo` draws some"
        )
    return read_alignment(scenes)


def _even(corpus: Corpus, count: int) -> list[int]:
    """Places of so many true pairs, at even distances."""
    total = len(corpus.pairs)
    wanted = min(count, total)
    return [place * total // wanted for place in range(wanted)]


def find_image(corpus: Corpus, name: str) -> int:
    """The row of an image: by its id, the name of its picture, or its row.

    Raises:
        DataError: no such image.
    """
    if name in corpus.image_ids:
        return corpus.image_ids.index(name)
    for row, path in enumerate(corpus.pictures or ()):
        if path is not None and path.name == name:
            return row
    if name.isdecimal() and int(name) < len(corpus.image_ids):
        return int(name)
    raise DataError(
        f"{name}: neither a picture's file nor an image of {corpus.name} "
        f"({len(corpus.image_ids)} images, such as {corpus.image_ids[0]!r} or row 0)"
    )


def sentences_of(corpus: Corpus, image: int) -> list[str]:
    """The sentences that belong to an image."""
    return [corpus.sentence_texts[j] for i, j in corpus.pairs if i == image]


def pointing_values(found: Pointing, name: str, corpus: Corpus) -> dict[str, object]:
    """A figure of pointing as JSON values."""
    return {
        "format": "visavis-pointing",
        "version": 1,
        "model": name,
        "corpus": corpus.name,
        "splits": list(corpus.splits),
        "fingerprint": corpus.fingerprint(),
        **plain(found),
    }
