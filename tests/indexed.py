"""A real index of the drawn pictures, in memory: a matcher with a companion for the first stage."""

from __future__ import annotations

from pathlib import Path

from visavis.recipes.assemble import open_material
from visavis.recipes.recipe import parse_recipe
from visavis.recipes.run import train
from visavis.search.index import CorpusSource, Index
from visavis.search.place import MemoryPlace


def drawn_index(data: Path, model: Path, folder: Path) -> Index:
    """Build one.

    Args:
        data: a folder of corpora with `scenes` in it.
        model: the run whose model scores.
        folder: where the companion's run may lie.
    """
    recipe = parse_recipe(
        {
            "source": "a test",
            "model": {"name": "vse", "dim": 16, "text": {"word_dim": 8}},
            "data": {"corpus": "scenes"},
            "tokenizer": {"threshold": 1},
            "train": {"epochs": 1, "batch_size": 16},
        }
    )
    train(recipe, open_material("scenes", data), folder)
    source = CorpusSource(data / "scenes")
    return Index.build(MemoryPlace(), model=model, source=source, companion=folder)
