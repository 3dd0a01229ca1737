"""Boxes, suppression, pooling and the `onnx` extractor, on tiny models made here."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from visavis.errors import DataError, MissingExtraError, RecipeError
from visavis.extract.boxes import grid_boxes, iou, region_means, suppress
from visavis.extract.onnx import OnnxConfig, decode_yolox
from visavis.extract.pooling import KeepConfig, keep_best
from visavis.extract.table import from_identity, make_extractor
from visavis.extract.weights import VARIABLE

Array = NDArray[np.float32]
SIZE = 64  # of the fake detector's input; strides 8, 16, 32 give 64 + 16 + 4 cells
RED, BLUE = (255, 0, 0), (0, 0, 255)


def random_boxes(seed: int, count: int) -> Array:
    rng = np.random.default_rng(seed)
    low = rng.random((count, 2)) * 0.7
    return np.concatenate([low, low + 0.02 + rng.random((count, 2)) * 0.3], axis=1).astype("f4")


# --- boxes -----------------------------------------------------------------------------------


def slow_iou(a: Array, b: Array) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    both = width * height
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def slow_suppress(boxes: Array, scores: Array, threshold: float, keep: int) -> list[int]:
    left = sorted(range(len(boxes)), key=lambda i: (-scores[i], i))
    kept: list[int] = []
    while left and len(kept) < keep:
        best = left.pop(0)
        kept.append(best)
        left = [i for i in left if slow_iou(boxes[best], boxes[i]) <= threshold]
    return kept


def test_overlap_by_hand() -> None:
    first = np.array([[0, 0, 0.5, 0.5]], dtype=np.float32)
    second = np.array([[0.25, 0, 0.75, 0.5], [0.6, 0.6, 1, 1]], dtype=np.float32)
    np.testing.assert_allclose(iou(first, second), [[1 / 3, 0]], rtol=1e-6)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(0, 120),
    keep=st.integers(1, 12),
    threshold=st.floats(0.05, 0.95),
)
def test_suppression_equals_a_slow_loop(seed: int, count: int, keep: int, threshold: float) -> None:
    boxes = random_boxes(seed, count)
    # Few different scores, so that there are ties.
    scores = np.random.default_rng(seed + 1).integers(0, 9, count).astype(np.float32) / 10
    expected = slow_suppress(boxes, scores, threshold, keep)
    assert suppress(boxes, scores, threshold, keep).tolist() == expected


def test_suppression_looks_past_a_crowd_of_doubles() -> None:
    crowd = np.tile(np.array([[0.1, 0.1, 0.4, 0.4]], dtype=np.float32), (500, 1))
    lone = np.array([[0.6, 0.6, 0.9, 0.9]], dtype=np.float32)
    scores = np.linspace(1, 0.5, 501, dtype=np.float32)
    assert suppress(np.concatenate([crowd, lone]), scores, 0.5, 4).tolist() == [0, 500]


def test_thin_and_weak_boxes_are_dropped_and_others_cut_to_the_picture() -> None:
    boxes = np.array(
        [[-1, -1, 0.5, 0.5], [0.2, 0.2, 0.2, 0.9], [0.6, 0.6, 0.9, 2], [1.5, 0, 3, 1]],
        dtype=np.float32,
    )
    scores = np.array([0.9, 0.8, 0.2, 0.7], dtype=np.float32)
    keep = KeepConfig(score_threshold=0.5)
    assert keep_best(boxes, scores, keep).tolist() == [[0, 0, 0.5, 0.5]]


# --- vectors ---------------------------------------------------------------------------------


def slow_mean(feature_map: Array, box: Array, samples: int) -> Array:
    """Bilinear samples one by one."""
    channels, height, width = feature_map.shape
    total = np.zeros(channels)
    for i in range(samples):
        for j in range(samples):
            y = (box[1] + (box[3] - box[1]) * (i + 0.5) / samples) * height - 0.5
            x = (box[0] + (box[2] - box[0]) * (j + 0.5) / samples) * width - 0.5
            y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
            y0, x0 = math.floor(y), math.floor(x)
            y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
            top = feature_map[:, y0, x0] * (1 - x + x0) + feature_map[:, y0, x1] * (x - x0)
            low = feature_map[:, y1, x0] * (1 - x + x0) + feature_map[:, y1, x1] * (x - x0)
            total += top * (1 - y + y0) + low * (y - y0)
    return (total / samples**2).astype(np.float32)


@pytest.mark.parametrize("shape", [(5, 12, 12), (3, 1, 7), (2, 4, 9)])
@pytest.mark.parametrize("samples", [1, 4])
def test_region_means_equal_a_slow_loop(shape: tuple[int, int, int], samples: int) -> None:
    feature_map = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    boxes = np.concatenate([random_boxes(1, 8), grid_boxes(2, 2)])
    expected = np.stack([slow_mean(feature_map, box, samples) for box in boxes])
    np.testing.assert_allclose(
        region_means(feature_map, boxes, samples), expected, rtol=1e-4, atol=1e-5
    )


def test_a_constant_map_gives_the_constant() -> None:
    feature_map = np.full((3, 6, 5), 0.7, dtype=np.float32)
    np.testing.assert_allclose(region_means(feature_map, random_boxes(0, 9)), 0.7, rtol=1e-6)


def test_a_map_that_rises_evenly_gives_its_value_at_the_middle_of_the_box() -> None:
    # Value = x at the middle of each cell; boxes stay clear of the border, where it is continued.
    feature_map = np.tile((np.arange(10, dtype=np.float32) + 0.5) / 10, (1, 10, 1))
    boxes = np.array([[0.1, 0.2, 0.5, 0.9], [0.3, 0.1, 0.34, 0.8]], dtype=np.float32)
    np.testing.assert_allclose(region_means(feature_map, boxes)[:, 0], [0.3, 0.32], rtol=1e-5)


# --- decoding --------------------------------------------------------------------------------


def slow_yolox(output: Array, size: int, strides: list[int]) -> tuple[Array, Array]:
    boxes, scores, row = [], [], 0
    for stride in strides:
        for y in range(size // stride):
            for x in range(size // stride):
                dx, dy, log_width, log_height, objectness = (float(v) for v in output[0, row, :5])
                middle = ((x + dx) * stride, (y + dy) * stride)
                width, height = math.exp(log_width) * stride, math.exp(log_height) * stride
                boxes.append(
                    [
                        (middle[0] - width / 2) / size,
                        (middle[1] - height / 2) / size,
                        (middle[0] + width / 2) / size,
                        (middle[1] + height / 2) / size,
                    ]
                )
                scores.append(objectness * float(output[0, row, 5:].max()))
                row += 1
    return np.array(boxes, dtype=np.float32), np.array(scores, dtype=np.float32)


def test_yolox_decoding_equals_a_slow_loop() -> None:
    output = np.random.default_rng(0).normal(size=(1, 84, 9)).astype(np.float32)
    boxes, scores = decode_yolox(output, SIZE, (8, 16, 32))
    expected_boxes, expected_scores = slow_yolox(output, SIZE, [8, 16, 32])
    np.testing.assert_allclose(boxes, expected_boxes, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(scores, expected_scores, rtol=1e-5)


def test_a_yolox_cell_by_hand() -> None:
    output = np.zeros((1, 84, 6), dtype=np.float32)
    # Row 10 of the finest level is cell x 2, y 1: its middle at (2.5, 1.5) * 8 pixels.
    output[0, 10] = [0.5, 0.5, math.log(2), math.log(1), 0.5, 0.8]
    boxes, scores = decode_yolox(output, SIZE, (8, 16, 32))
    np.testing.assert_allclose(boxes[10] * SIZE, [12, 8, 28, 16], rtol=1e-5)
    assert scores[10] == pytest.approx(0.4)


def test_another_head_than_yolox_is_told() -> None:
    with pytest.raises(DataError, match=r"\(1, 100, 85\).*gives \(1, 84, 5 \+ classes\)"):
        decode_yolox(np.zeros((1, 100, 85), dtype=np.float32), SIZE, (8, 16, 32))


# --- whole extractor -------------------------------------------------------------------------


def save(path: Path, graph: onnx.GraphProto) -> None:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path))


def value(name: str, shape: list[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def save_backbone(path: Path, *, batch: int | str = "n") -> None:
    """A map of the mean colours of 32 x 32 pixels."""
    pool = helper.make_node(
        "AveragePool", ["image"], ["map"], kernel_shape=[32, 32], strides=[32, 32]
    )
    shapes: list[list[int | str]] = [[batch, 3, "h", "w"], [batch, 3, "fh", "fw"]]
    save(
        path, helper.make_graph([pool], "g", [value("image", shapes[0])], [value("map", shapes[1])])
    )


def save_constant(path: Path, outputs: dict[str, Array]) -> None:
    """A detector that always finds the same."""
    nodes = [
        helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array, name))
        for name, array in outputs.items()
    ]
    found = [value(name, list(array.shape)) for name, array in outputs.items()]
    save(path, helper.make_graph(nodes, "g", [value("images", [1, 3, SIZE, SIZE])], found))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    save_backbone(folder / "colours.onnx")
    save_backbone(folder / "one.onnx", batch=1)
    head = np.zeros((1, 84, 6), dtype=np.float32)
    head[0, :, 4] = 1e-4  # all weak, but for the two below
    head[0, 10] = [0.5, 0.5, math.log(2), math.log(1), 0.5, 0.8]
    head[0, 83] = [0, 0, math.log(1), math.log(1), 0.9, 0.9]
    save_constant(folder / "yolox.onnx", {"output": head})
    boxes = np.array([[[8, 8, 40, 40], [9, 8, 40, 40], [0, 0, 64, 32]]], dtype=np.float32)
    scores = np.array([[0.6, 0.9, 0.7]], dtype=np.float32)
    save_constant(folder / "boxes.onnx", {"boxes": boxes, "scores": scores})
    save_constant(folder / "flat.onnx", {"x": np.zeros((1, 5), dtype=np.float32)})
    (folder / "broken.onnx").write_bytes(b"no model")
    return folder


BACKBONE = {"file": "colours.onnx", "size": SIZE}
PLAIN = {"square_root": False}
YOLOX = {"file": "yolox.onnx", "size": SIZE, "keep": {"count": 2, "score_threshold": 0.01}}


def halves() -> Image.Image:
    picture = Image.new("RGB", (100, 50), BLUE)
    picture.paste(RED, (0, 0, 50, 50))
    return picture


def test_grid_cells_get_the_mean_colour_inside(folder: Path) -> None:
    options = {"detector": None, "backbone": BACKBONE, "pool": {"grid": 2, "samples": 1, **PLAIN}}
    extractor = make_extractor("onnx", options, folder)
    regions = extractor.extract([halves()])[0]
    assert (extractor.dim, extractor.max_regions) == (3, 4)
    red, blue = [1, 0, 0], [0, 0, 1]
    np.testing.assert_allclose(regions.vectors, [red, blue, red, blue], atol=0.02)
    assert regions.size == (100, 50)


def test_detector_boxes_come_first_and_best_first(folder: Path) -> None:
    extractor = make_extractor("onnx", {"detector": YOLOX, "backbone": BACKBONE}, folder)
    regions = extractor.extract([halves()])[0]
    assert extractor.max_regions == len(regions.boxes) == 18
    # The strong one of the coarsest level: cell x 1, y 1, its middle at 32 pixels.
    np.testing.assert_allclose(regions.boxes[0] * SIZE, [16, 16, 48, 48], rtol=1e-5)
    np.testing.assert_allclose(regions.boxes[1] * SIZE, [12, 8, 28, 16], rtol=1e-5)
    np.testing.assert_array_equal(regions.boxes[2:], grid_boxes(4, 4))


def test_a_detector_that_gives_boxes_is_read_by_the_names_of_its_outputs(folder: Path) -> None:
    detector = {"file": "boxes.onnx", "kind": "boxes", "size": SIZE}
    extractor = make_extractor("onnx", {"detector": detector, "backbone": BACKBONE}, folder)
    regions = extractor.extract([halves()])[0]
    # The first box overlaps the second, better one.
    expected = np.array([[9, 8, 40, 40], [0, 0, 64, 32]]) / SIZE
    np.testing.assert_allclose(regions.boxes[:-16], expected, rtol=1e-6)


def test_boxes_by_their_middle_are_understood(folder: Path) -> None:
    detector = {"file": "boxes.onnx", "kind": "boxes", "size": SIZE, "box_format": "centre"}
    extractor = make_extractor("onnx", {"detector": detector, "backbone": BACKBONE}, folder)
    # Middle (9, 8), 40 x 40 pixels, cut to the picture.
    np.testing.assert_allclose(
        extractor.extract([halves()])[0].boxes[0] * SIZE, [0, 0, 29, 28], rtol=1e-6
    )


def test_vectors_are_square_rooted_and_scaled_when_asked(folder: Path) -> None:
    def vectors(pool: dict[str, object]) -> Array:
        options = {"detector": None, "backbone": BACKBONE, "pool": {"grid": 2, **pool}}
        return make_extractor("onnx", options, folder).extract([halves()])[0].vectors

    straight = vectors(PLAIN)
    np.testing.assert_allclose(vectors({}), np.sqrt(straight), rtol=1e-6)
    unit = vectors({**PLAIN, "unit": True})
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(
        unit * np.linalg.norm(straight, axis=1)[:, None], straight, atol=1e-6
    )


@pytest.mark.parametrize("file", ["colours.onnx", "one.onnx"])
def test_pictures_together_give_what_each_gives_alone(folder: Path, file: str) -> None:
    options = {"detector": YOLOX, "backbone": {"file": file, "size": SIZE}}
    extractor = make_extractor("onnx", options, folder)
    rng = np.random.default_rng(0)
    pictures = [
        Image.fromarray(rng.integers(0, 255, (40 + k, 60, 3)).astype(np.uint8)) for k in range(11)
    ]
    together = extractor.extract(pictures)
    assert len(together) == 11
    for picture, regions in zip(pictures, together, strict=True):
        alone = extractor.extract([picture])[0]
        np.testing.assert_array_equal(regions.vectors, alone.vectors)
        np.testing.assert_array_equal(regions.boxes, alone.boxes)


def test_channel_order_and_range_are_those_of_the_options(folder: Path) -> None:
    def first(**backbone: object) -> list[float]:
        options = {
            "detector": None,
            "backbone": {**BACKBONE, **backbone},
            "pool": {"grid": 1, **PLAIN},
        }
        picture = Image.new("RGB", (64, 64), (255, 102, 0))
        return make_extractor("onnx", options, folder).extract([picture])[0].vectors[0].tolist()

    assert first() == pytest.approx([1, 0.4, 0], rel=1e-4)
    assert first(channels="bgr") == pytest.approx([0, 0.4, 1], rel=1e-4)
    assert first(pixels="0-255") == pytest.approx([255, 102, 0], rel=1e-4)
    mean, spread = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    imagenet = [(v - m) / s for v, m, s in zip((1, 0.4, 0), mean, spread, strict=True)]
    assert first(pixels="imagenet") == pytest.approx(imagenet, rel=1e-4)
    assert first(pixels="imagenet", channels="bgr") == pytest.approx(imagenet[::-1], rel=1e-4)


# --- identity and errors ---------------------------------------------------------------------


def test_an_identity_rebuilds_the_extractor(folder: Path) -> None:
    first = make_extractor("onnx", {"detector": YOLOX, "backbone": BACKBONE}, folder)
    assert str(folder) not in repr(first.identity)
    again = from_identity(first.identity, folder)
    assert again.identity == first.identity
    np.testing.assert_array_equal(
        again.extract([halves()])[0].vectors, first.extract([halves()])[0].vectors
    )


def test_other_weights_under_the_same_name_are_refused(folder: Path, tmp_path: Path) -> None:
    options = {"detector": None, "backbone": BACKBONE}
    identity = make_extractor("onnx", options, folder).identity
    (tmp_path / "colours.onnx").write_bytes((folder / "one.onnx").read_bytes())
    with pytest.raises(DataError, match="other weights"):
        from_identity(identity, tmp_path)


def test_the_folder_of_weights_may_come_from_the_environment(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(folder))
    assert make_extractor("onnx", {"detector": None, "backbone": BACKBONE}).dim == 3


def test_missing_weights_are_told_with_the_place_and_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"mobilenetv2_features\.onnx: not in .*--weights DIR"):
        make_extractor("onnx", {"detector": None}, tmp_path)


def test_no_folder_of_weights_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(DataError, match=r"no folder of weights is known.*VISAVIS_WEIGHTS"):
        make_extractor("onnx", {"detector": None})


@pytest.mark.parametrize("file", ["/etc/model.onnx", "../model.onnx", ""])
def test_a_weight_file_is_named_inside_the_folder(file: str) -> None:
    with pytest.raises(RecipeError, match="not a name inside a weights folder"):
        make_extractor("onnx", {"backbone": {"file": file}})


def test_a_file_that_is_no_model_is_told_in_one_line(folder: Path) -> None:
    with pytest.raises(DataError, match=r"broken\.onnx: not a usable ONNX model") as caught:
        make_extractor("onnx", {"detector": None, "backbone": {"file": "broken.onnx"}}, folder)
    assert "\n" not in str(caught.value)


def test_a_model_of_another_input_size_is_told(folder: Path) -> None:
    detector = {**YOLOX, "size": 416}
    with pytest.raises(DataError, match=r"expected float pictures \(n or 1, 3, 416, 416\)"):
        make_extractor("onnx", {"detector": detector, "backbone": BACKBONE}, folder)


def test_a_backbone_without_a_map_is_told(folder: Path) -> None:
    with pytest.raises(DataError, match="expected a feature map"):
        make_extractor(
            "onnx", {"detector": None, "backbone": {"file": "flat.onnx", "size": SIZE}}, folder
        )


def test_a_detector_without_boxes_is_told(folder: Path) -> None:
    detector = {"file": "flat.onnx", "kind": "boxes", "size": SIZE}
    extractor = make_extractor("onnx", {"detector": detector, "backbone": BACKBONE}, folder)
    with pytest.raises(DataError, match=r"no output named like 'box'.*got x \(1, 5\)"):
        extractor.extract([halves()])


def test_nothing_found_and_no_grid_is_told(folder: Path) -> None:
    detector = {**YOLOX, "keep": {"score_threshold": 0.99}}
    options = {"detector": detector, "backbone": BACKBONE, "pool": {"grid": 0}}
    extractor = make_extractor("onnx", options, folder)
    with pytest.raises(DataError, match="lower score_threshold"):
        extractor.extract([halves()])


def test_an_unknown_option_names_the_nearest() -> None:
    with pytest.raises(RecipeError, match=r"backbone\.sise: unknown key; did you mean 'size'"):
        make_extractor("onnx", {"backbone": {"sise": 3}})


def test_an_unknown_extractor_names_the_nearest() -> None:
    with pytest.raises(RecipeError, match="did you mean 'onnx'"):
        make_extractor("onx", {})


def test_a_device_that_onnxruntime_does_not_have_is_told(folder: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime knows a GPU")
    with pytest.raises(RecipeError, match="knows no GPU"):
        make_extractor("onnx", {"detector": None, "backbone": BACKBONE}, folder, device="cuda")


def test_a_missing_onnxruntime_names_the_extra(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"visavis\[onnx\]"):
        make_extractor("onnx", {"detector": None, "backbone": BACKBONE}, folder)


def test_the_default_is_20_boxes_and_16_cells() -> None:
    config = OnnxConfig()
    assert config.detector is not None
    assert config.detector.keep.count + config.pool.grid**2 == 36
