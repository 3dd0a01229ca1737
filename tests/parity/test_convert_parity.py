"""Converted checkpoints give the encodings and scores that the original implementations gave."""

from __future__ import annotations

import argparse
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.parity.fixtures import Case, load_case, word_mask
from tests.parity.test_camp_parity import STAGES, sides
from tests.published import CHECKPOINTS, vocabulary_of
from tests.unit.test_states import make_bert
from visavis.convert.convert import ConvertConfig, convert, save
from visavis.errors import CheckpointError
from visavis.models.pretrained import Pretrained
from visavis.types import Encoded, ImageBatch, SentenceBatch

pytestmark = pytest.mark.parity

NAMES = sorted(path.name.removesuffix(".pth.tar") for path in CHECKPOINTS.glob("*.pth.tar"))
MODELS = {
    "aoq_bfan_prob": "bfan", "aoq_vsrn_f30k": "vsrn", "bfan_equal": "bfan", "bfan_prob": "bfan",
    "camp_gate_fusion_new": "camp", "scan_i2t_avg": "scan", "scan_t2i_lse": "scan",
    "vsrn_coco": "vsrn", "vsrn_f30k": "vsrn",
}  # fmt: skip


@pytest.fixture
def vocabulary(tmp_path: Path) -> Path:
    """The size that the checkpoints were made with; their own words are not told."""
    return vocabulary_of(40, tmp_path)


def converted(name: str, vocabulary: Path, folder: Path) -> Pretrained:
    """Through the model folder, as a user has it."""
    path = CHECKPOINTS / f"{name}.pth.tar"
    save(convert(path, ConvertConfig(vocabulary=vocabulary)), folder / "model")
    return Pretrained.from_pretrained(folder / "model", device="cpu")


def close(found: Tensor, expected: Tensor, atol: float) -> None:
    torch.testing.assert_close(found, expected, atol=atol, rtol=0)


@torch.inference_mode()
@pytest.mark.parametrize("name", NAMES)
def test_encodings_and_scores_equal_the_original(
    name: str, vocabulary: Path, tmp_path: Path
) -> None:
    pretrained = converted(name, vocabulary, tmp_path)
    assert pretrained.name == MODELS[name]
    expected = load_file(CHECKPOINTS / f"{name}.expected.safetensors")
    regions, ids = expected["input.images"], expected["input.tokens"]
    mask = word_mask(expected["input.lengths"], ids.shape[1])
    model: Any = pretrained.model
    images = model.encode_images(ImageBatch(regions, torch.ones(regions.shape[:2]).bool()))
    sentences = model.encode_sentences(SentenceBatch(ids, mask))
    scores = model.score(images, sentences).i2t
    if pretrained.name == "camp":
        scores = scores.sigmoid()
    close(scores, expected["output.scores"], 1e-5)
    compare_encodings(images, sentences, expected, mask)


def compare_encodings(
    images: Encoded, sentences: Encoded, expected: dict[str, Tensor], mask: Tensor
) -> None:
    if "output.image" in expected:  # VSRN: one vector for each item
        close(images.tokens[:, 0], expected["output.image"], 1e-4)
        close(sentences.tokens[:, 0], expected["output.text"], 1e-4)
        return
    close(images.tokens, expected["output.regions"], 1e-5)
    words = expected["output.words"][:, : mask.shape[1]]
    close(sentences.tokens[mask], words[mask], 1e-5)


def test_every_family_but_saem_has_a_checkpoint() -> None:
    assert set(NAMES) == set(MODELS)


@pytest.mark.parametrize("name", STAGES)
def test_every_stage_of_camp_is_converted(name: str, vocabulary: Path, tmp_path: Path) -> None:
    case, encoders = load_case(name), load_case("camp_encoders")
    parts = [encoders.under("weight.img."), encoders.under("weight.txt."), case.under("weight.")]
    options = argparse.Namespace(no_imgnorm=True, no_txtnorm=True, bi_gru=True)
    torch.save({"model": parts, "opt": options}, tmp_path / "x.pth.tar")
    # What is 50 words in the original is the width of the case here.
    mean = case.options.get("reduce_func") == "mean"
    padded_to = case["input.words"].shape[1] if mean else 0
    config = ConvertConfig(vocabulary=vocabulary, settings={"padded_to": padded_to})
    model: Any = convert(tmp_path / "x.pth.tar", config).model
    scores = model.score(*sides(model, case)).i2t.detach()
    found = scores.sigmoid() if "fusion_func" in case.options else scores
    close(found, case["output.scores"], 1e-5)


def saem_parts(bert: dict[str, Tensor]) -> tuple[dict[str, Any], Case, Case]:
    """A checkpoint as SAEM's code saves it, from its tensors for both branches."""
    image, text = load_case("saem_image"), load_case("saem_text_cnn")
    words = {}
    for name, tensor in bert.items():
        if "pooler" not in name:
            old = name.replace("LayerNorm.weight", "LayerNorm.gamma")
            words[f"bert.{old.replace('LayerNorm.bias', 'LayerNorm.beta')}"] = tensor
    sentence = OrderedDict(words | text.under("weight."))
    options = argparse.Namespace(txt_stru="cnn", max_words=32, data_name="f30k_precomp")
    model = [OrderedDict(image.under("weight.")), sentence]
    return {"epoch": 3, "model": model, "best_rsum": 1.0, "opt": options, "Eiters": 1}, image, text


@pytest.mark.parametrize("branch", ["image", "sentence"])
def test_branches_of_saem_equal_the_original(tmp_path: Path, branch: str) -> None:
    bert = make_bert(tmp_path / "bert")
    path, case = saem_file(tmp_path, load_file(bert / "model.safetensors"), branch)
    heads = case.options.get("heads", 2)
    save(convert(path, ConvertConfig(bert=str(bert), settings={"heads": heads})), tmp_path / "m")
    pretrained = Pretrained.from_pretrained(tmp_path / "m", device="cpu")
    assert pretrained.language_model == str(bert)
    assert pretrained.tokenizer.encode(["a dog " * 40]).ids.shape == (1, 32)
    model: Any = pretrained.model
    if branch == "image":
        regions = case["input.images"]
        mask = torch.ones(regions.shape[:2], dtype=torch.bool)
        found = model.encode_images(ImageBatch(regions, mask)).tokens[:, 0]
    else:
        states = case["input.states"]
        found = model.phrases(states, torch.ones(states.shape[:2], dtype=torch.bool))
    close(found.detach(), case["output.features"], 1e-5)


def saem_file(folder: Path, bert: dict[str, Tensor], branch: str = "image") -> tuple[Path, Case]:
    """The two cases have joint spaces of their own: the file has that of one branch."""
    values, image, text = saem_parts(bert)
    case, other = (image, 1) if branch == "image" else (text, 0)
    resize_joint_space(values["model"][other], branch, case.options["final_dims"])
    torch.save(values, folder / "x.pth.tar")
    return folder / "x.pth.tar", case


def test_another_bert_is_refused(tmp_path: Path) -> None:
    bert = make_bert(tmp_path / "bert")
    path, _ = saem_file(tmp_path, load_file(bert / "model.safetensors"))
    other = make_bert(tmp_path / "other", seed=1)
    config = ConvertConfig(bert=str(other), settings={"heads": 4})
    with pytest.raises(CheckpointError, match=r"other: its embeddings\S* is not that of .*x.pth"):
        convert(path, config)
    with pytest.raises(CheckpointError, match="give --bert"):
        convert(path, ConvertConfig())


def test_a_bert_of_before_safetensors_is_compared_too(tmp_path: Path) -> None:
    bert = make_bert(tmp_path / "bert")
    weights = load_file(bert / "model.safetensors")
    (bert / "model.safetensors").unlink()
    torch.save(
        {f"bert.{name}": value for name, value in weights.items()}, bert / "pytorch_model.bin"
    )
    path, _ = saem_file(tmp_path, weights)
    config = ConvertConfig(bert=str(bert), settings={"heads": 4})
    assert convert(path, config).name == "saem"
    weights["encoder.layer.1.output.dense.bias"] += 0.1
    torch.save(weights, bert / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"its encoder.layer.1.output.dense.bias is not"):
        convert(path, config)


def resize_joint_space(part: dict[str, Tensor], kept: str, dim: int) -> None:
    """Another width for the branch that is not compared."""
    for name, tensor in part.items():
        if kept == "image" and name.startswith("mapping."):
            part[name] = torch.zeros(dim, *tensor.shape[1:])
        elif kept == "sentence":
            part[name] = torch.zeros([dim if size == 16 else size for size in tensor.shape])
