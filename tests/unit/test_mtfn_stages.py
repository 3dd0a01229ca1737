"""The text-text branch as a second stage: what it changes, and that re-ranking finds it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.tiny_corpus import tiny_material
from visavis.evaluation.variants import RerankConfig
from visavis.losses.same_side import same_side_hinge
from visavis.models.mtfn import Mtfn
from visavis.models.pretrained import Pretrained
from visavis.recipes.assemble import assemble
from visavis.recipes.recipe import Recipe, parse_recipe
from visavis.recipes.run import train
from visavis.recipes.variants import Variants, Work, measure_variants, text_vectors

MATERIAL = tiny_material(images=12, each=3, held_out=3)


def recipe(**second: object) -> Recipe:
    """Both branches, one after the other, as the published recipes have them."""
    settings = {"epochs": 6, "batch_size": 12, "lr": 0.05, "clip_norm": 0}
    return parse_recipe(
        {
            "source": "a test",
            "model": {
                "name": "mtfn",
                "dim": 12,
                "rank": 2,
                "text": {"word_dim": 6, "bidirectional": False},
            },
            "data": {"corpus": "tiny"},
            "objective": {"loss": "sum_hinge_probability", "positives": "diagonal"},
            "tokenizer": {"threshold": 1},
            "train": settings,
            "stages": [
                {"name": "image_text", "freeze": ["text_fusion"]},
                {
                    "name": "text_text",
                    "only": ["text_fusion"],
                    "objective": {"positives": "ground_truth"},
                    "model": {"text_negatives": "all"},
                    "train": {"sentences_per_image": 3, "keep": "last", "lr": 0.01, **second},
                },
            ],
        }
    )


def weights(folder: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = Pretrained.from_pretrained(folder, device="cpu").model.state_dict()
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("run")
    train(recipe(epochs=15), MATERIAL, found, show_progress=False)
    return found


def test_each_stage_trains_its_own_branch(folder: Path) -> None:
    start = assemble(recipe(), MATERIAL).pretrained.model.state_dict()
    first, last = weights(folder / "stages" / "1-image_text"), weights(folder)
    for name, value in start.items():
        if name.startswith("text_fusion."):
            assert not first[name].any(), name
            assert last[name].any(), name
        elif not name.startswith("longest_"):
            assert not torch.equal(first[name], value), name
            assert torch.equal(last[name], first[name]), name


def text_loss(folder: Path) -> float:
    """Eq. 7 with every rival, over all training sentences."""
    pretrained = Pretrained.from_pretrained(folder, device="cpu")
    corpus = MATERIAL.corpus.split("train")
    left, right = text_vectors(pretrained, corpus)
    owner = torch.from_numpy(corpus.pairs[:, 0])
    together = owner[:, None] == owner[None]
    return same_side_hinge((left @ right.T).sigmoid(), together, hardest=False).item()


def test_the_second_stage_brings_sentences_of_an_image_together(folder: Path) -> None:
    assert text_loss(folder) < 0.9 * text_loss(folder / "stages" / "1-image_text")


def test_re_ranking_finds_the_learned_similarity(folder: Path, tmp_path: Path) -> None:
    pretrained = Pretrained.from_pretrained(folder, device="cpu")
    assert isinstance(pretrained.model, Mtfn)
    variants = Variants(rerank=RerankConfig(k=(3,), neighbours="learned", group=2))
    rows = measure_variants(
        [("mtfn", pretrained)], MATERIAL, "full", variants, Work(scratch=tmp_path)
    )
    assert [row.name for row in rows] == ["mtfn", "mtfn RR k=3, learned"]
