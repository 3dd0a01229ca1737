"""A corpus that trains in a blink: images whose regions show what their sentences say."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from visavis.data.batching import PairSource
from visavis.data.corpus import Corpus
from visavis.data.features import FeatureIdentity, MemoryFeatures
from visavis.data.texts import TokenTexts
from visavis.data.tokenizer import WordTokenizer
from visavis.data.vocabulary import Vocabulary
from visavis.recipes.assemble import Material
from visavis.recipes.recipe import Recipe, parse_recipe
from visavis.types import ImageBatch

COLOURS = ("red", "green", "blue", "white")
THINGS = ("dog", "cat", "bird", "horse", "car")
PLACES = ("grass", "sand", "snow")
WORDS = (*COLOURS, *THINGS, *PLACES)
REGIONS, DIM = 3, len(WORDS)


def tiny_material(images: int = 24, each: int = 2, held_out: int = 6) -> Material:
    """A linked corpus: `images` in train, `held_out` in each of val and test.

    Image i shows a colour, a thing and a place, one region for each with a little noise; its
    sentences name the three in different words.
    """
    generator = np.random.default_rng(0)
    total = images + 2 * held_out
    splits = ("train",) * images + ("val",) * held_out + ("test",) * held_out
    regions = np.zeros((total, REGIONS, DIM), dtype=np.float32)
    sentences: list[str] = []
    for image in range(total):
        shown = [COLOURS[image % 4], THINGS[image % 5], PLACES[image // 5 % 3]]
        for region, word in enumerate(shown):
            regions[image, region, WORDS.index(word)] = 1.0
        for number in range(each):
            order = "a {0} {1} on {2}" if number % 2 == 0 else "on the {2} there is a {0} {1}"
            sentences.append(order.format(*shown))
    regions += 0.05 * generator.standard_normal(regions.shape, dtype=np.float32)
    names = tuple(f"picture-{image}" for image in range(total))
    index = np.arange(total * each)
    corpus = Corpus(
        name="tiny",
        image_ids=names,
        image_splits=splits,
        sentence_ids=tuple(f"sentence-{number}" for number in index),
        sentence_texts=tuple(sentences),
        pairs=np.stack([index // each, index], axis=1),
        rows=np.arange(total),
    )
    batch = ImageBatch(torch.from_numpy(regions), torch.ones(total, REGIONS, dtype=torch.bool))
    identity = FeatureIdentity(extractor="precomputed", digest="tiny")
    return Material(corpus, MemoryFeatures(batch, identity, names))


def tiny_tokenizer(corpus: Corpus) -> WordTokenizer:
    """Every word of a corpus."""
    return WordTokenizer(Vocabulary.build(corpus.sentence_texts, threshold=1))


def tiny_source(material: Material) -> PairSource:
    """The training pairs."""
    corpus = material.corpus.split("train")
    return PairSource(
        corpus, material.features, TokenTexts(corpus.sentence_texts, tiny_tokenizer(corpus))
    )


def tiny_recipe(**train: Any) -> Recipe:
    """A small SCAN with dropout; settings of training are given by name."""
    return parse_recipe(
        {
            "source": "a test",
            "model": {
                "name": "scan",
                "dim": 8,
                "region_dropout": 0.1,
                "text": {"word_dim": 6, "dropout": 0.2},
            },
            "data": {"corpus": "tiny"},
            "objective": {"warmup_epochs": 1},
            "tokenizer": {"threshold": 1},
            "train": {"epochs": 3, "batch_size": 7, "lr": 0.01, "log_steps": 1, **train},
        }
    )
