"""The `hf` extractor on tiny models with random weights, saved here."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from visavis.errors import DataError, MissingExtraError, RecipeError
from visavis.extract.boxes import grid_boxes, region_means
from visavis.extract.hf import as_map
from visavis.extract.table import from_identity, make_extractor

transformers = pytest.importorskip("transformers")

SIDE = 96


def tiny_resnet() -> object:
    return transformers.ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 8, 12, 16],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage4"],
    )


def tiny_detr() -> torch.nn.Module:
    return transformers.DetrForObjectDetection(
        transformers.DetrConfig(
            use_timm_backbone=False,
            backbone_config=tiny_resnet(),
            d_model=16,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=16,
            decoder_ffn_dim=16,
            num_queries=30,
            num_labels=5,
        )
    )


def tiny_rt_detr() -> torch.nn.Module:
    backbone = transformers.RTDetrResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 16, 16, 16],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )
    return transformers.RTDetrForObjectDetection(
        transformers.RTDetrConfig(
            backbone_config=backbone,
            encoder_hidden_dim=16,
            encoder_in_channels=[16, 16, 16],
            encoder_ffn_dim=16,
            encoder_attention_heads=2,
            d_model=16,
            num_queries=30,
            decoder_in_channels=[16, 16, 16],
            decoder_ffn_dim=16,
            decoder_layers=1,
            decoder_attention_heads=2,
            num_labels=5,
        )
    )


def tiny_transformer(kind: str) -> torch.nn.Module:
    sizes = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "image_size": 64,
        "patch_size": 16,
    }
    if kind == "vit":
        return transformers.ViTModel(transformers.ViTConfig(**sizes))
    text = {key: size for key, size in sizes.items() if key not in ("image_size", "patch_size")}
    return transformers.CLIPModel(
        transformers.CLIPConfig(text_config={**text, "vocab_size": 20}, vision_config=sizes)
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    models = {
        "resnet": transformers.ResNetModel(tiny_resnet()),
        "detr": tiny_detr(),
        "rt_detr": tiny_rt_detr(),
        "vit": tiny_transformer("vit"),
        "clip": tiny_transformer("clip"),
    }
    for name, model in models.items():
        model.save_pretrained(folder / name)
    (folder / "vit" / "preprocessor_config.json").write_text(
        '{"do_normalize": true, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25]}'
    )
    return folder


def pictures(count: int) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    sizes = [(40 + 3 * k, 50, 3) for k in range(count)]
    return [Image.fromarray(rng.integers(0, 255, size).astype(np.uint8)) for size in sizes]


def backbone(model: str, size: int = SIDE) -> dict[str, object]:
    return {"backbone": {"model": model, "size": size}}


def test_grid_vectors_are_means_of_the_backbone_s_map(folder: Path) -> None:
    extractor = make_extractor("hf", {**backbone("resnet"), "pool": {"square_root": False}}, folder)
    picture = pictures(1)[0]
    regions = extractor.extract([picture])[0]
    # The same by the library's own means.
    square = np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR)) / 255
    pixels = (square - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    batch = torch.tensor(pixels, dtype=torch.float32).permute(2, 0, 1)[None]
    model = transformers.ResNetModel.from_pretrained(folder / "resnet").eval()
    with torch.inference_mode():
        feature_map = model(batch).last_hidden_state[0].numpy()
    assert feature_map.shape == (16, 3, 3)
    np.testing.assert_allclose(
        regions.vectors, region_means(feature_map, grid_boxes(4, 4)), rtol=1e-3, atol=1e-4
    )
    assert (extractor.dim, extractor.max_regions) == (16, 16)
    assert regions.size == picture.size


@pytest.mark.parametrize("name", ["detr", "rt_detr"])
def test_a_detector_alone_gives_boxes_and_vectors(folder: Path, name: str) -> None:
    options = {"detector": {"model": name, "size": SIDE, "keep": {"count": 5}}, "backbone": None}
    extractor = make_extractor("hf", options, folder)
    assert (extractor.dim, extractor.max_regions) == (16, 21)
    for regions in extractor.extract(pictures(3)):
        assert regions.vectors.shape[1] == 16
        assert 17 <= len(regions.boxes) <= 21
        assert ((regions.boxes >= 0) & (regions.boxes <= 1)).all()
        np.testing.assert_array_equal(regions.boxes[-16:], grid_boxes(4, 4))


def test_boxes_equal_those_of_the_library(folder: Path) -> None:
    keep = {"count": 30, "nms_iou": 1.0}
    options = {"detector": {"model": "detr", "size": SIDE, "keep": keep}, **backbone("resnet")}
    picture = pictures(1)[0].resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    found = make_extractor("hf", options, folder).extract([picture])[0].boxes[:-16]
    processor = transformers.DetrImageProcessorPil(do_resize=False, do_pad=False)
    model = transformers.DetrForObjectDetection.from_pretrained(folder / "detr").eval()
    with torch.inference_mode():
        output = model(**processor(picture, return_tensors="pt"))
    expected = processor.post_process_object_detection(output, threshold=0.0)[0]
    order = expected["scores"].argsort(descending=True)
    boxes = expected["boxes"][order].clamp(0, 1).numpy()
    np.testing.assert_allclose(found, boxes[: len(found)], atol=1e-3)
    assert len(found) == 30


@pytest.mark.parametrize(("name", "size"), [("vit", 64), ("vit", SIDE), ("clip", 64)])
def test_patches_of_a_transformer_are_a_map(folder: Path, name: str, size: int) -> None:
    extractor = make_extractor("hf", backbone(name, size), folder)
    regions = extractor.extract(pictures(2))
    assert [r.vectors.shape for r in regions] == [(16, 16), (16, 16)]
    assert not np.allclose(regions[0].vectors, regions[1].vectors)


def test_class_token_and_registers_are_left_out() -> None:
    patches = torch.arange(9.0).reshape(1, 9, 1)
    extra = torch.full((1, 5, 1), -1.0)
    expected = torch.arange(9.0).reshape(1, 1, 3, 3)
    for count in (0, 1, 5):
        tokens = torch.cat([extra[:, :count], patches], dim=1)
        assert torch.equal(as_map(tokens), expected)


def test_of_several_scales_the_coarsest_is_taken() -> None:
    maps = [torch.zeros(1, 4, side, side) for side in (8, 4, 2)]
    assert as_map(maps).shape == (1, 4, 2, 2)


def test_tokens_of_several_scales_in_one_row_are_refused() -> None:
    tokens = torch.zeros(1, sum(side**2 for side in (80, 40, 20)), 4)
    assert math.isqrt(tokens.shape[1]) ** 2 != tokens.shape[1]
    with pytest.raises(DataError, match="not one square map"):
        as_map(tokens)


def test_the_normalisation_of_the_model_folder_is_used(folder: Path, tmp_path: Path) -> None:
    picture = pictures(1)
    told = make_extractor("hf", backbone("vit", 64), folder)
    (tmp_path / "vit").mkdir()
    for file in (folder / "vit").iterdir():
        if file.name != "preprocessor_config.json":
            (tmp_path / "vit" / file.name).write_bytes(file.read_bytes())
    untold = make_extractor("hf", backbone("vit", 64), tmp_path)
    assert told.identity.digest != untold.identity.digest
    assert not np.allclose(
        told.extract(picture)[0].vectors, untold.extract(picture)[0].vectors, atol=1e-3
    )


def test_pictures_together_give_what_each_gives_alone(folder: Path) -> None:
    extractor = make_extractor("hf", backbone("resnet"), folder)
    several = pictures(10)
    for picture, regions in zip(several, extractor.extract(several), strict=True):
        alone = extractor.extract([picture])[0].vectors
        np.testing.assert_allclose(regions.vectors, alone, rtol=1e-4, atol=1e-5)


def test_an_identity_rebuilds_the_extractor_and_tells_other_weights(
    folder: Path, tmp_path: Path
) -> None:
    first = make_extractor("hf", backbone("resnet"), folder)
    assert from_identity(first.identity, folder).identity == first.identity
    torch.manual_seed(1)
    transformers.ResNetModel(tiny_resnet()).save_pretrained(tmp_path / "resnet")
    with pytest.raises(DataError, match="other weights"):
        from_identity(first.identity, tmp_path)


def test_a_missing_model_is_told_in_one_line(folder: Path) -> None:
    with pytest.raises(DataError, match=r"nobody/nothing: no such model.*--weights DIR") as caught:
        make_extractor("hf", backbone("nobody/nothing"), folder)
    assert "\n" not in str(caught.value)


def test_weights_that_would_be_random_are_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "resnet").mkdir()
    for file in (folder / "resnet").iterdir():
        (tmp_path / "resnet" / file.name).write_bytes(file.read_bytes())
    from safetensors.torch import load_file, save_file

    path = tmp_path / "resnet" / "model.safetensors"
    weights = load_file(path)
    dropped = sorted(weights)[0]
    save_file({k: v for k, v in weights.items() if k != dropped}, path, metadata={"format": "pt"})
    with pytest.raises(DataError, match="1 weights are missing"):
        make_extractor("hf", backbone("resnet"), tmp_path)


def test_a_pickled_checkpoint_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "resnet").mkdir()
    config = (folder / "resnet" / "config.json").read_bytes()
    (tmp_path / "resnet" / "config.json").write_bytes(config)
    torch.save({}, tmp_path / "resnet" / "pytorch_model.bin")
    with pytest.raises(DataError, match="resnet: no such model"):
        make_extractor("hf", backbone("resnet"), tmp_path)


def test_neither_detector_nor_backbone_is_refused() -> None:
    with pytest.raises(RecipeError, match="neither a detector nor a backbone"):
        make_extractor("hf", {"detector": None, "backbone": None})


def test_a_missing_transformers_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"visavis\[hf\]"):
        make_extractor("hf", backbone("resnet"))
