"""Published checkpoints as model folders: every option understood, every weight in its place."""

from __future__ import annotations

import argparse
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.parity.fixtures import DATA
from tests.published import (
    CHECKPOINTS,
    DIM,
    REGION_DIM,
    VOCABULARY,
    WORD_DIM,
    WORDS,
    config,
    gru_parts,
    refusal,
    scan_values,
    vocabulary_of,
    written,
)
from visavis.convert.convert import FAMILIES, NOT_GIVEN, ConvertConfig, convert, save
from visavis.convert.family import listed
from visavis.convert.published import read_published
from visavis.data.vocabulary import Vocabulary
from visavis.errors import DataError
from visavis.models.pretrained import Pretrained, card
from visavis.types import ImageBatch


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    return written(tmp_path / "model_best.pth.tar", scan_values())


def config_of(pretrained: Pretrained) -> Any:
    return pretrained.model.config


def test_options_become_settings(scan: Path) -> None:
    found = config_of(convert(scan, config()))
    assert (found.direction, found.aggregation, found.feature_norm) == ("t2i", "Mean", "softmax")
    assert (found.lambda_softmax, found.lambda_lse) == (9.0, 6.0)
    assert (found.normalise_images, found.normalise_sentences) == (True, False)
    assert (found.region_dim, found.dim, found.vocab_size) == (REGION_DIM, DIM, WORDS)
    assert (found.text.word_dim, found.text.bidirectional) == (WORD_DIM, True)


def test_one_direction_of_the_gru_is_seen(tmp_path: Path) -> None:
    values = scan_values()
    values["model"] = gru_parts(bidirectional=False)
    assert not config_of(convert(written(tmp_path / "x", values), config())).text.bidirectional


def test_every_weight_is_that_of_the_checkpoint(scan: Path) -> None:
    image, text = gru_parts()
    expected = {f"project.linear.{name[3:]}": value for name, value in image.items()}
    expected |= {f"text.encoder.{name}": value for name, value in text.items()}
    found = convert(scan, config()).model.state_dict()
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def test_a_normalised_weight_is_its_norm_times_its_direction(tmp_path: Path) -> None:
    values = scan_values(precomp_enc_type="weight_norm", no_imgnorm=True)
    direction, bias = values["model"][0].pop("fc.weight"), values["model"][0]["fc.bias"]
    values["model"][0] |= {"fc.weight_v": direction, "fc.weight_g": torch.tensor(3.0)}
    model: Any = convert(written(tmp_path / "x", values), config()).model
    regions = torch.randn(2, 3, REGION_DIM)
    found = model.encode_images(ImageBatch(regions, torch.ones(2, 3).bool())).tokens
    expected = regions @ (3 * direction / direction.pow(2).sum().sqrt()).T + bias
    torch.testing.assert_close(found.detach(), expected)


def test_names_of_data_parallel_lose_their_prefix(tmp_path: Path) -> None:
    values = scan_values()
    values["model"] = [
        OrderedDict({f"module.{name}": value for name, value in part.items()})
        for part in values["model"]
    ]
    assert convert(written(tmp_path / "x", values), config()).name == "scan"


def rewritten(name: str, folder: Path, *, leave_out: str, options: dict[str, Any]) -> Path:
    """A checkpoint of the fixtures without the weights whose names match."""
    file = read_published(CHECKPOINTS / f"{name}.pth.tar")
    parts = [
        {key: file.load(number, key) for key in part if not re.search(leave_out, key)}
        for number, part in enumerate(file.parts)
    ]
    return written(folder / "x", {"model": parts, "opt": argparse.Namespace(**options)})


def test_weights_without_counters_of_batches_are_read(tmp_path: Path) -> None:
    path = rewritten("vsrn_f30k", tmp_path, leave_out="num_batches_tracked", options={})
    model = convert(path, config(vocabulary=vocabulary_of(40, tmp_path))).model
    assert model.state_dict()["image_norm.num_batches_tracked"] == 0


def test_the_captions_of_aoq_are_kept(tmp_path: Path) -> None:
    path = CHECKPOINTS / "aoq_vsrn_f30k.pth.tar"
    published = read_published(path)
    made = convert(path, config(vocabulary=vocabulary_of(40, tmp_path)))
    theirs = sorted(float(published.load(2, name).sum()) for name in published.parts[2])
    ours = [v for k, v in made.model.state_dict().items() if k.startswith("captioner.")]
    assert sorted(float(value.sum()) for value in ours) == pytest.approx(theirs)
    assert config_of(made).caption.dropout == 0.2
    assert config_of(made).caption.max_words == 60


def test_what_a_first_stage_of_camp_lacks_waits_as_a_model_starts(tmp_path: Path) -> None:
    options = {"no_imgnorm": True, "no_txtnorm": True}
    path = rewritten(
        "camp_gate_fusion_new", tmp_path, leave_out="^(fc_|final_reduce)", options=options
    )
    made = [convert(path, config(vocabulary=vocabulary_of(40, tmp_path))) for _ in range(2)]
    found = config_of(made[0])
    assert (found.fuse, found.match, found.pooling, found.padded_to) == (
        False,
        "cosine",
        "mean",
        50,
    )
    states: list[dict[str, Tensor]] = [each.model.state_dict() for each in made]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert bool(states[0]["mlp.0.weight"].any())


def test_lengths_of_one_side_alone_are_refused_for_camp(tmp_path: Path) -> None:
    options = {"no_imgnorm": True, "no_txtnorm": False}
    path = rewritten("camp_gate_fusion_new", tmp_path, leave_out="^$", options=options)
    assert "one side alone" in refusal(lambda: convert(path, config()))


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("sim.weight", torch.zeros(3), "no place for image.sim.weight;"),
        ("fc.bias", None, "lacks project.linear.bias;"),
        ("fc.bias", torch.zeros(DIM + 1), r"project.linear.bias would be [7], expected [6]"),
        ("fc.bias", torch.full((DIM,), torch.nan), "fc.bias holds NaN"),
        ("fc.weight", torch.zeros(DIM), "holds no fc.weight of 2 axes in part 1;"),
    ],
)
def test_weights_that_do_not_fit_are_named(
    tmp_path: Path, name: str, change: Tensor | None, said: str
) -> None:
    values = scan_values()
    if change is None:
        del values["model"][0][name]
    else:
        values["model"][0][name] = change
    path = written(tmp_path / "x", values)
    message = refusal(lambda: convert(path, config()))
    assert said in message


def test_a_part_too_many_is_named(tmp_path: Path) -> None:
    values = scan_values()
    values["model"].append({"a": torch.zeros(1), "b": torch.zeros(1)})
    path = written(tmp_path / "x", values)
    assert "no place for part 3.a, part 3.b;" in refusal(lambda: convert(path, config()))


def test_long_lists_of_names_are_counted() -> None:
    assert listed([f"n{number}" for number in range(9)]) == "n0, n1, n2 and 6 more"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"cross_attn": "both"}, "'both' is not a choice"),
        ({"lambda_softmax": "nine"}, "expected float"),
        ({"agg_func": ["Mean"]}, "is not a choice"),
    ],
)
def test_options_that_cannot_be_are_refused(
    tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    path = written(tmp_path / "x", scan_values(**options))
    assert said in refusal(lambda: convert(path, config()))


def test_options_of_what_is_not_here_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "x", scan_values(focal_type="prob", no_imgnorm=True))
    message = refusal(lambda: convert(path, config()))
    assert "trained with no_imgnorm True; BFAN is read with False alone" in message


def test_a_file_that_tells_no_family_asks_for_it(tmp_path: Path) -> None:
    values = {**scan_values(), "opt": argparse.Namespace()}
    path = written(tmp_path / "x", values)
    assert "--family camp, vsrn, saem, bfan, scan" in refusal(lambda: convert(path, config()))
    message = refusal(lambda: convert(path, config(family="bfan")))
    assert "lack focal_type; add --set focal=VALUE" in message
    found = convert(path, config(family="bfan", settings={"focal": "prob", "lambda_softmax": 20}))
    assert (found.name, config_of(found).focal) == ("bfan", "prob")


def test_an_unknown_family_is_refused(scan: Path) -> None:
    message = refusal(lambda: convert(scan, config(family="scam")))
    assert "no such family; did you mean 'scan'?" in message


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - {"scan"}))
def test_another_family_is_refused(scan: Path, family: str) -> None:
    assert str(scan) in refusal(lambda: convert(scan, config(family=family)))


def test_settings_that_are_given_stand_before_the_options(scan: Path) -> None:
    found = convert(scan, config(settings={"aggregation": "Max", "text": {"dropout": 0.5}}))
    assert config_of(found).aggregation == "Max"
    assert config_of(found).text.dropout == 0.5
    assert config_of(found).text.word_dim == WORD_DIM
    message = refusal(lambda: convert(scan, config(settings={"agregation": "Max"})))
    assert "did you mean 'aggregation'?" in message


def test_a_vocabulary_is_needed_and_must_have_the_size(scan: Path, tmp_path: Path) -> None:
    assert "give --vocabulary" in refusal(lambda: convert(scan, ConvertConfig()))
    other = vocabulary_of(WORDS + 1, tmp_path)
    message = refusal(lambda: convert(scan, config(vocabulary=other)))
    assert f"{WORDS + 1} words, but the checkpoint was trained with {WORDS}" in message
    mtfn = DATA / "text" / "mtfn_vocab.json"
    message = refusal(lambda: convert(scan, config(vocabulary=mtfn)), DataError)
    assert "a vocabulary of MTFN; SCAN has another" in message


@pytest.mark.parametrize("suffix", ["json", "pkl"])
def test_sentences_are_cut_as_the_authors_did(scan: Path, suffix: str) -> None:
    found = convert(scan, config(vocabulary=VOCABULARY.with_suffix(f".{suffix}")))
    text = "A man. " + 80 * "a dog " + "."
    ids = found.tokenizer.encode([text]).ids[0].tolist()
    word = Vocabulary.load(VOCABULARY).numbers
    assert ids[:4] == [1, *word(["a", "man", "."])]
    assert len(ids) == 2 + 3 + 160 + 1


def test_camp_cuts_after_47_words(tmp_path: Path) -> None:
    path = CHECKPOINTS / "camp_gate_fusion_new.pth.tar"
    found = convert(path, config(vocabulary=vocabulary_of(40, tmp_path)))
    assert found.tokenizer.encode(["w1 " * 60]).ids.shape == (1, 49)


def test_the_folder_is_read_and_says_where_it_comes_from(scan: Path, tmp_path: Path) -> None:
    made = convert(scan, config())
    save(made, tmp_path / "model")
    found = Pretrained.from_pretrained(tmp_path / "model", device="cpu")
    assert found.details["corpus"] == "f30k_precomp"
    origin = found.details["converted"]
    assert (origin["file"], origin["epoch"], origin["best_rsum"]) == (scan.name, 7, 412.5)
    assert len(origin["sha256"]) == 64
    assert (found.features.extractor, found.features.digest) == ("precomputed", NOT_GIVEN)
    assert "published code of SCAN on f30k_precomp. Converted by visavis" in card(found)
    for name, value in made.model.state_dict().items():
        assert torch.equal(found.model.state_dict()[name], value)


def test_odd_texts_and_numbers_are_not_taken_over(tmp_path: Path) -> None:
    values = {**scan_values(data_name="a\nb\x1b"), "epoch": "many", "best_rsum": float("nan")}
    details = convert(written(tmp_path / "x", values), config()).details
    assert "corpus" not in details
    assert set(details["converted"]) == {"title", "file", "sha256"}


def test_the_vectors_are_remembered(scan: Path, tmp_path: Path) -> None:
    from visavis.data.feature_files import open_features

    np.save(tmp_path / "vectors.npy", np.ones((3, 4, REGION_DIM), np.float32))
    found = convert(scan, config(features=tmp_path / "vectors.npy"))
    assert found.features == open_features(tmp_path / "vectors.npy").identity
    np.save(tmp_path / "other.npy", np.ones((3, 4, 9), np.float32))
    wide = config(features=tmp_path / "other.npy")
    message = refusal(lambda: convert(scan, wide), DataError)
    assert "vectors are 9 wide, the checkpoint reads 8" in message


def test_only_a_model_folder_is_replaced(scan: Path, tmp_path: Path) -> None:
    made = convert(scan, config())
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "1.jpg").write_text("x")
    assert "give another --output" in refusal(lambda: save(made, tmp_path / "photos"))
    assert (tmp_path / "photos" / "1.jpg").exists()
    assert "give another --output" in refusal(lambda: save(made, scan))
    (tmp_path / "empty").mkdir()
    for _ in range(2):
        save(made, tmp_path / "empty")
    assert (tmp_path / "empty" / "model.safetensors").exists()
