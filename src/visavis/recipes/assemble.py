"""Corpus, features, tokenizer and model from a recipe."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from visavis.data.batching import PairSource
from visavis.data.corpus import Corpus
from visavis.data.feature_files import open_features
from visavis.data.features import Features
from visavis.data.frozen import model_folder
from visavis.data.open import find_corpus, link, open_corpus
from visavis.data.texts import Texts, read_texts
from visavis.data.tokenizer import Tokenizer, WordTokenizer
from visavis.data.vocabulary import Vocabulary
from visavis.data.wordpiece import WordPieceTokenizer
from visavis.errors import RecipeError
from visavis.files import cache_root as cache_root  # taken from here by others, too
from visavis.layers.regions import RegionProjection
from visavis.layers.skip_thought import SkipThought
from visavis.layers.skip_thought_files import load_skip_thoughts
from visavis.layers.text import TextEncoder
from visavis.models import model_class
from visavis.models.pretrained import Pretrained
from visavis.recipes.recipe import Recipe, TokenizerConfig

logger = logging.getLogger("visavis.recipes")

ALL = "all"  # stands for every split
FITTED = 500  # images that centre and scale of region vectors are fitted on
PIECES = 32  # longest sentence of a language model, its end marks included


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """A corpus linked to its features: `corpus.rows` are rows of `features`."""

    corpus: Corpus
    features: Features


@dataclass(frozen=True, slots=True, eq=False)
class Assembly:
    """Everything a training run starts from."""

    pretrained: Pretrained  # untrained yet
    material: Material
    source: PairSource
    selection: Corpus  # the best epoch is chosen on it
    report: Corpus  # figures are made on it


def open_material(name: str, root: Path, features: Path | None = None) -> Material:
    """A corpus by name below `root`, with the features beside it or those given.

    Raises:
        DataError: no such corpus, no features, images without features.
    """
    return open_folder(find_corpus(name, root), name, features)


def open_folder(folder: Path, name: str | None = None, features: Path | None = None) -> Material:
    """The corpus that lies in a folder, under its own name or the one given.

    Raises:
        DataError: no corpus, no features, images without features.
    """
    corpus = open_corpus(folder, name)
    opened = open_features(features or _features_beside(folder))
    return Material(replace(corpus, rows=link(corpus, opened)), opened)


def part_of(corpus: Corpus, split: str) -> Corpus:
    """A split of a corpus, or all of it for `all`.

    Raises:
        DataError: no such split.
    """
    return corpus if split == ALL else corpus.split(split)


def _features_beside(folder: Path) -> Path:
    store = folder / "features"
    return store if store.is_dir() else folder


def assemble(recipe: Recipe, material: Material) -> Assembly:
    """Split the corpus, build tokenizer and model, all from the recipe's seed."""
    data = recipe.data
    training = material.corpus.split(*data.train)
    if data.hold_out:
        training, selection = hold_out(training, data.hold_out)
    else:
        selection = material.corpus.split(data.select)
    report = material.corpus.split(data.report)
    tokenizer = make_tokenizer(recipe.tokenizer, training)
    pretrained = Pretrained(
        recipe.model_name,
        _model(recipe, tokenizer, training, material.features),
        tokenizer,
        material.features.identity,
        language_model=recipe.tokenizer.bert,
    )
    texts = pretrained_texts(pretrained, training.sentence_texts)
    source = PairSource(training, material.features, texts)
    return Assembly(pretrained, material, source, selection, report)


def restarted(assembly: Assembly, recipe: Recipe) -> Assembly:
    """The same data and tokenizer with a fresh model of a recipe, in batches as it wants them."""
    known = assembly.pretrained
    training, features = assembly.source.corpus, assembly.material.features
    model = _model(recipe, known.tokenizer, training, features)
    source = assembly.source.grouped(recipe.train.sentences_per_image)
    return replace(assembly, pretrained=replace(known, model=model), source=source)


def _model(recipe: Recipe, tokenizer: Tokenizer, training: Corpus, features: Features) -> nn.Module:
    """An untrained model; the generators stand as the seed and its making left them."""
    random.seed(recipe.train.seed)
    torch.manual_seed(recipe.train.seed)
    config = recipe.model_config(region_dim=features.dim, vocab_size=tokenizer.vocab_size)
    model: nn.Module = model_class(recipe.model_name)(config)
    _standardise(model, training, features)
    _load_words(model, tokenizer)
    return model


def _load_words(model: nn.Module, tokenizer: Tokenizer) -> None:
    """Published weights of a sentence encoder, where the model asks for them.

    Raises:
        RecipeError: sentences are not cut into words.
        CheckpointError: the files cannot be used.
    """
    for module in model.modules():
        if not isinstance(module, TextEncoder) or not module.config.weights:
            continue
        if not isinstance(tokenizer, WordTokenizer) or not isinstance(module.encoder, SkipThought):
            raise RecipeError("model.text.weights: they are of words; set tokenizer.kind to word")
        folder, words = Path(module.config.weights), tokenizer.vocabulary.words
        known = load_skip_thoughts(module.encoder, folder, words)
        logger.info("%s: vectors of %d of %d words", folder, known, len(words) - 1)


def _standardise(model: nn.Module, training: Corpus, features: Features) -> None:
    """Fit centre and scale of region vectors, for models that ask for it, on training images."""
    projections = [m for m in model.modules() if isinstance(m, RegionProjection) and m.standardised]
    if not projections or training.rows is None:
        return
    spread = np.linspace(0, len(training.rows) - 1, min(FITTED, len(training.rows))).astype(int)
    batch = features.read(training.rows[spread])
    real = batch.regions[batch.mask]  # (regions, D)
    for projection in projections:
        projection.standardise(real.mean(dim=0), real.std(dim=0))


def hold_out(training: Corpus, count: int) -> tuple[Corpus, Corpus]:
    """Training images without some, and those: the same ones in every run, whatever its seed."""
    total = len(training.image_ids)
    if count >= total:
        raise RecipeError(f"data.hold_out: {count} of {total} training images leaves none")
    order = np.random.default_rng(0).permutation(total)
    return training.select(np.sort(order[count:])), training.select(np.sort(order[:count]))


def make_tokenizer(config: TokenizerConfig, training: Corpus) -> Tokenizer:
    """A tokenizer: words of the training sentences alone, or pieces of a language model.

    Raises:
        RecipeError: pieces without a language model.
    """
    if config.kind == "word":
        texts, kind = training.sentence_texts, config.vocabulary
        vocabulary = Vocabulary.build(texts, threshold=config.threshold, kind=kind)
        return WordTokenizer(vocabulary, max_words=config.max_words or None)
    if not config.bert:
        raise RecipeError("tokenizer.bert: missing; `wordpiece` needs a language model's folder")
    folder = model_folder(config.bert)
    return WordPieceTokenizer.from_folder(folder, max_words=config.max_words or PIECES)


def pretrained_texts(pretrained: Pretrained, texts: Sequence[str]) -> Texts:
    """Sentences as a model reads them; hidden states are kept in the cache."""
    # Loading a language model may draw random numbers: training must not depend on the cache.
    with torch.random.fork_rng(devices=[]):
        return read_texts(
            texts,
            pretrained.tokenizer,
            language_model=pretrained.language_model,
            cache=cache_root() / "states",
        )
