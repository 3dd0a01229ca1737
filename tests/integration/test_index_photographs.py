"""An index of real photographs with ready-made vectors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from visavis.config import build
from visavis.data.feature_files import open_features
from visavis.data.open import open_corpus
from visavis.data.tokenizer import WordTokenizer
from visavis.data.vocabulary import Vocabulary
from visavis.errors import DataError
from visavis.models import config_class, model_class
from visavis.models.pretrained import Pretrained
from visavis.recipes.assemble import open_folder
from visavis.recipes.gallery import corpus_gallery
from visavis.search.index import CorpusSource, Index

pytestmark = pytest.mark.photographs


@pytest.fixture
def model(photographs: Path, tmp_path: Path) -> Path:
    """Untrained: what is tested is that nothing is lost or mixed up on the way."""
    torch.manual_seed(0)
    texts = open_corpus(photographs).split("val").sentence_texts
    tokenizer = WordTokenizer(Vocabulary.build(texts, threshold=2))
    features = open_features(photographs)
    values = {"region_dim": features.dim, "vocab_size": tokenizer.vocab_size, "dim": 32}
    values |= {"text": {"word_dim": 16}}
    made = model_class("scan")(build(config_class("scan"), values)).eval()
    Pretrained("scan", made, tokenizer, features.identity).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_an_index_of_photographs_answers_as_their_corpus_does(
    photographs: Path, model: Path, tmp_path: Path
) -> None:
    source = CorpusSource(photographs, photographs, split="val")
    index = Index.build(tmp_path / "index", model=model, source=source)
    assert index.built is not None
    assert (index.built.added, index.built.skipped) == (1000, [])
    assert index.info().sentences > 4500
    pretrained = Pretrained.from_pretrained(model)
    material = open_folder(photographs, features=photographs)
    gallery = corpus_gallery(pretrained, material.corpus.split("val"), material.features)
    query = "a brown dog runs through the grass"
    wanted = {gallery.ids[hit.index]: hit.score for hit in gallery.search(query, 1000)}
    view = index._reader.view
    answer = index.search(query, k=1000, exact=True)
    for hit in answer.hits:
        name = view.snapshot.records[view.place(hit.id)].name
        assert hit.score == pytest.approx(wanted[name], abs=5e-3)
        assert (hit.width, hit.height) == (192, 192)
    best = answer.hits[0]
    file = index.picture(best.id)
    assert file.is_relative_to(photographs.resolve())
    again = index.search_by_image(file.read_bytes(), k=1).hits[0]  # known by its content
    assert (again.id, round(again.score, 3)) == (best.id, 1.0)
    assert len(index.captions(best.id, k=3).hits) == 3
    assert index.explain(best.id, query).boxes.shape == (36, 4)
    with pytest.raises(DataError, match="ready-made vectors"):
        index.search_by_image(file.read_bytes() + b"\0")
