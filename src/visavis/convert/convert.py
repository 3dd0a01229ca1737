"""A published checkpoint, with its vocabulary, as a model of this project."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from visavis.config import build, nearest
from visavis.convert.camp import CAMP
from visavis.convert.family import Family, Settings, listed, renamed, settings_of
from visavis.convert.gru_families import BFAN, SCAN, VSRN
from visavis.convert.published import Published, read_published
from visavis.convert.saem import SAEM, check_language_model
from visavis.data.feature_files import open_features
from visavis.data.features import FeatureIdentity
from visavis.data.frozen import model_folder
from visavis.data.tokenizer import Tokenizer, WordTokenizer
from visavis.data.vocabulary import Vocabulary
from visavis.data.wordpiece import WordPieceTokenizer
from visavis.errors import CheckpointError, DataError, RecipeError
from visavis.files import sha256_of
from visavis.models import config_class, model_class
from visavis.models.pretrained import Pretrained

# The first that recognises a checkpoint takes it: BFAN's weights are called as SCAN's.
FAMILIES: Mapping[str, Family] = {
    "camp": CAMP, "vsrn": VSRN, "saem": SAEM, "bfan": BFAN, "scan": SCAN,
}  # fmt: skip
NOT_GIVEN = "not given to visavis convert"  # in the place of a digest of the vectors
_COUNTER = "num_batches_tracked"  # batch normalisation counts since PyTorch 0.4.1


@dataclass(frozen=True, kw_only=True)
class ConvertConfig:
    """What a checkpoint does not say of itself."""

    family: str = ""  # empty: the checkpoint tells
    vocabulary: Path | None = None  # of models that read words
    bert: str = ""  # folder or hub name, of models that read the states of a language model
    features: Path | None = None  # the vectors it was trained on
    settings: Mapping[str, Any] = field(default_factory=dict)  # of our model, before the options


def convert(path: Path, config: ConvertConfig) -> Pretrained:
    """Read a checkpoint; `save_pretrained` of what comes out writes the model folder.

    Raises:
        CheckpointError: not a checkpoint, refused, of no known family, weights that are left over
            or missing, a vocabulary or a language model that is not its own.
        DataError: the vocabulary or the vectors cannot be read, or have another width.
    """
    published = read_published(path)
    family = _family(published, config.family)
    settings = settings_of(family, published, config.settings)
    sizes = family.sizes(published)
    tokenizer, language_model = _tokenizer(family, published, sizes["vocab_size"], config)
    return Pretrained(
        family.model,
        _model(family, published, settings),
        tokenizer,
        _identity(published, sizes["region_dim"], config.features),
        _details(family, published),
        language_model,
    )


def save(pretrained: Pretrained, folder: Path) -> None:
    """Write the model folder; another model folder there is replaced, anything else is kept.

    Raises:
        CheckpointError: something that is no model folder is in the way.
        StorageError: the folder cannot be written.
    """
    taken = folder.exists() and not (folder / "config.json").is_file()
    if taken and not (folder.is_dir() and next(folder.iterdir(), None) is None):
        raise CheckpointError(f"{folder}: is there and is no model folder; give another --output")
    pretrained.save_pretrained(folder)


def _family(published: Published, name: str) -> Family:
    if name:
        if name not in FAMILIES:
            raise CheckpointError(f"--family {name!r}: no such family; {nearest(name, FAMILIES)}")
        return FAMILIES[name]
    for family in FAMILIES.values():
        if family.recognised(published):
            return family
    raise CheckpointError(
        f"{published.path}: neither weights nor options tell what model it is; give "
        f"--family {', '.join(FAMILIES)}"
    )


def _tokenizer(
    family: Family, published: Published, words: int, config: ConvertConfig
) -> tuple[Tokenizer, str]:
    """The tokenizer of so many words, and the language model of models that have one."""
    path = published.path
    if not family.reads_words:
        if not config.bert:
            raise CheckpointError(f"{path}: {family.title} reads states of a BERT; give --bert")
        folder = model_folder(config.bert)
        tokenizer = WordPieceTokenizer.from_folder(folder, max_words=family.max_words or 32)
        _check_words(tokenizer.vocab_size, words, folder)
        check_language_model(published, folder)
        return tokenizer, config.bert
    if config.vocabulary is None:
        raise CheckpointError(
            f"{path}: its vocabulary is a file of its own; give --vocabulary, the .json or .pkl "
            "that was published with it"
        )
    vocabulary = Vocabulary.load(config.vocabulary)
    if vocabulary.kind != "treebank":
        raise DataError(f"{config.vocabulary}: a vocabulary of MTFN; {family.title} has another")
    _check_words(len(vocabulary), words, config.vocabulary)
    # As the authors' pipelines: a caption is cut into sentences first.
    return WordTokenizer(vocabulary, max_words=family.max_words, split_sentences=True), ""


def _check_words(found: int, wanted: int, source: Path) -> None:
    if found != wanted:
        raise CheckpointError(
            f"{source}: {found:,} words, but the checkpoint was trained with {wanted:,}; give the "
            "vocabulary that was published with it"
        )


def _model(family: Family, published: Published, settings: Settings) -> nn.Module:
    """Our model with their weights, each set exactly once."""
    names = renamed(family, published)
    try:
        config = build(config_class(family.model), settings, family.model)
        with torch.device("meta"):  # sizes alone: memory is taken for what the file really holds
            model: nn.Module = model_class(family.model)(config)
    except (RecipeError, RuntimeError, ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{published.path}: {reason}") from error
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    fresh = tuple(family.fresh(settings))
    waiting = [name for name in wanted if name not in names and name.startswith(fresh or ("\0",))]
    counters = [name for name in wanted if name not in names and name.endswith(_COUNTER)]
    _check_names(family, published, names, set(wanted) - set(waiting) - set(counters))
    weights = {
        name: _fitted(family.turned(name, published.load(*names[name])), name, wanted, published)
        for name in wanted
        if name in names
    }
    weights |= {name: torch.zeros((), dtype=torch.int64) for name in counters}
    weights |= _untrained(family.model, config, waiting)
    model.load_state_dict(weights, strict=True, assign=True)
    return model.eval()


def _check_names(
    family: Family, published: Published, found: Mapping[str, object], wanted: set[str]
) -> None:
    for names, what in ((wanted - set(found), "lacks"), (set(found) - wanted, "has too much:")):
        counted = [name for name in names if not name.endswith(_COUNTER)]
        if counted:
            raise CheckpointError(
                f"{published.path}: for {family.title} as its options say it {what} "
                f"{listed(counted)}; it is of another model, or --family is wrong"
            )


def _fitted(
    tensor: Tensor, name: str, wanted: Mapping[str, tuple[int, ...]], published: Published
) -> Tensor:
    """A tensor in the shape that our model has; axes of one place come and go."""
    shape, found = wanted[name], tuple(tensor.shape)
    if [size for size in found if size > 1] != [size for size in shape if size > 1]:
        raise CheckpointError(
            f"{published.path}: {name} would be {list(found)}, expected {list(shape)}; its "
            "weights do not fit each other, or --set is wrong"
        )
    return tensor.reshape(shape).contiguous()


def _untrained(name: str, config: object, waiting: list[str]) -> dict[str, Tensor]:
    """What a first stage has not trained yet, as a model starts, always the same."""
    if not waiting:
        return {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        start = model_class(name)(config).state_dict()
    return {name: start[name] for name in waiting}


def _identity(published: Published, region_dim: int, features: Path | None) -> FeatureIdentity:
    if features is None:
        name = published.text("data_name") or "unknown"
        return FeatureIdentity(extractor="precomputed", options={"name": name}, digest=NOT_GIVEN)
    opened = open_features(features)
    if opened.dim != region_dim:
        raise DataError(
            f"{features}: vectors are {opened.dim} wide, the checkpoint reads {region_dim}; "
            "give those it was trained on"
        )
    return opened.identity


def _details(family: Family, published: Published) -> dict[str, object]:
    """Where the model comes from; `corpus` is the default of `visavis evaluate`."""
    corpus = published.text("data_name")
    origin = {"title": family.title, "file": published.path.name}
    about = {**origin, "sha256": sha256_of(published.path), **published.about()}
    return {**({"corpus": corpus} if corpus else {}), "converted": about}
