"""Features in `.npy` files, and recognising what kind of features a path holds."""

from __future__ import annotations

import pickle
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from visavis.data.feature_files import NpyFeatures, open_features, read_lines
from visavis.data.precomp import PrecompFeatures
from visavis.errors import DataError


def rows(*numbers: int) -> NDArray[np.int64]:
    return np.array(numbers, dtype=np.int64)


def saved(path: Path, array: object) -> Path:
    np.save(path, array)
    return path


def vectors(count: int = 5, regions: int = 3, width: int = 4) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((count, regions, width)).astype(np.float32)


@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_rows_come_as_float32_in_the_order_asked(tmp_path: Path, kind: type) -> None:
    array = vectors().astype(kind)
    features = NpyFeatures(saved(tmp_path / "regions.npy", array))
    batch = features.read(rows(4, 0, 4))
    assert batch.regions.dtype.is_floating_point
    assert batch.regions.numpy().tolist() == array[[4, 0, 4]].astype(np.float32).tolist()
    assert batch.mask.all()
    assert batch.boxes is None
    assert (len(features), features.dim, features.ids) == (5, 4, None)


def test_int8_vectors_are_the_integers_times_the_scale(tmp_path: Path) -> None:
    integers = np.random.default_rng(1).integers(-127, 128, (6, 2, 3)).astype(np.int8)
    scale = np.array([0.5, 2.0, 0.25], dtype=np.float32)
    saved(tmp_path / "regions_scale.npy", scale)
    batch = NpyFeatures(saved(tmp_path / "regions_int8.npy", integers)).read(rows(5, 1))
    for place, row in enumerate((5, 1)):
        for region in range(2):
            for k in range(3):
                wanted = float(integers[row, region, k]) * float(scale[k])
                assert batch.regions[place, region, k].item() == wanted


def test_int8_vectors_without_a_scale_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"regions_scale.npy: no such file; int8 vectors need"):
        NpyFeatures(saved(tmp_path / "regions_int8.npy", np.zeros((2, 2, 2), dtype=np.int8)))


def test_boxes_and_ids_beside_the_vectors_are_picked_up(tmp_path: Path) -> None:
    boxes = np.random.default_rng(2).random((5, 3, 4)).astype(np.float32)
    saved(tmp_path / "boxes.npy", boxes)
    (tmp_path / "ids.txt").write_text("a\nb\nc\nd\ne\n")
    features = NpyFeatures(saved(tmp_path / "regions.npy", vectors()))
    read = features.read(rows(3, 2)).boxes
    assert read is not None
    assert read.numpy().tolist() == boxes[[3, 2]].tolist()
    assert features.ids == ("a", "b", "c", "d", "e")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused_by_file_and_row(tmp_path: Path, value: float) -> None:
    array = vectors()
    array[3, 1, 2] = value
    features = NpyFeatures(saved(tmp_path / "regions.npy", array))
    features.read(rows(0, 4))
    with pytest.raises(DataError, match=r"regions.npy: row 3 holds NaN or infinity"):
        features.read(rows(4, 3))


def test_large_numbers_are_not_taken_for_infinity(tmp_path: Path) -> None:
    array = np.full((2, 2, 2), 3e38, dtype=np.float32)  # their sum is infinite in float32
    features = NpyFeatures(saved(tmp_path / "regions.npy", array))
    assert features.read(rows(0)).regions.numpy().tolist() == array[:1].tolist()


@pytest.mark.parametrize("row", [-1, 5])
def test_a_row_that_is_not_there_is_refused(tmp_path: Path, row: int) -> None:
    features = NpyFeatures(saved(tmp_path / "regions.npy", vectors()))
    with pytest.raises(DataError, match=f"row {row} asked for, but there are 5 rows"):
        features.read(rows(0, row))


def test_boxes_in_pixels_are_refused(tmp_path: Path) -> None:
    saved(tmp_path / "boxes.npy", np.full((5, 3, 4), 200, dtype=np.float32))
    features = NpyFeatures(saved(tmp_path / "regions.npy", vectors()))
    with pytest.raises(DataError, match=r"boxes.npy: boxes of row 2 are not between 0 and 1"):
        features.read(rows(2))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 8), dtype=np.float32), r"shape \(4, 8\), expected \(rows, regions, width\)"),
        (np.zeros((4, 2, 8), dtype=np.int32), "int32 vectors, expected float16"),
        (np.array([{"a": 1}], dtype=object), "not a readable .npy array"),
    ],
)
def test_other_arrays_are_refused(tmp_path: Path, array: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        NpyFeatures(saved(tmp_path / "regions.npy", array))


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    file = saved(tmp_path / "regions.npy", vectors())
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(DataError, match=r"regions.npy: not a readable .npy array"):
        NpyFeatures(file)


def test_a_text_file_is_no_array(tmp_path: Path) -> None:
    (tmp_path / "regions.npy").write_text("hello")
    with pytest.raises(DataError, match=r"not a readable .npy array"):
        NpyFeatures(tmp_path / "regions.npy")


def test_companions_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    file = saved(tmp_path / "regions.npy", vectors())
    (tmp_path / "ids.txt").write_text("a\nb\n")
    with pytest.raises(DataError, match=r"ids.txt: 2 ids, but regions.npy has 5 rows"):
        NpyFeatures(file)
    saved(tmp_path / "boxes.npy", np.zeros((5, 2, 4)))
    with pytest.raises(DataError, match=r"boxes.npy: .* expected floats of shape \(5, 3, 4\)"):
        NpyFeatures(file)


def test_identity_follows_the_content_and_not_the_folder(tmp_path: Path) -> None:
    for folder in ("one", "two", "three"):
        (tmp_path / folder).mkdir()
    one = NpyFeatures(saved(tmp_path / "one" / "regions.npy", vectors()))
    two = NpyFeatures(saved(tmp_path / "two" / "regions.npy", vectors()))
    three = NpyFeatures(saved(tmp_path / "three" / "regions.npy", vectors() + 1))
    assert one.identity == two.identity
    assert one.identity != three.identity
    assert one.identity.extractor == "precomputed"


def test_a_worker_process_opens_the_file_again(tmp_path: Path) -> None:
    features = NpyFeatures(saved(tmp_path / "regions.npy", vectors(2000)))
    carried = pickle.dumps(features)
    assert len(carried) < 1000
    again = pickle.loads(carried)  # our own bytes
    assert again.read(rows(7)).regions.equal(features.read(rows(7)).regions)


def test_the_kind_of_features_is_recognised(tmp_path: Path) -> None:
    (tmp_path / "npy").mkdir()
    (tmp_path / "precomp").mkdir()
    saved(tmp_path / "npy" / "regions.npy", vectors())
    saved(tmp_path / "precomp" / "test_ims.npy", vectors())
    (tmp_path / "precomp" / "test_caps.txt").write_text("a\nb\nc\nd\ne\n")
    assert isinstance(open_features(tmp_path / "npy"), NpyFeatures)
    assert isinstance(open_features(tmp_path / "npy" / "regions.npy"), NpyFeatures)
    assert isinstance(open_features(tmp_path / "precomp"), PrecompFeatures)


def test_a_folder_without_features_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"store.json .*, regions.npy, .* \*_ims.npy"):
        open_features(tmp_path)
    with pytest.raises(DataError, match="no such file or folder"):
        open_features(tmp_path / "nowhere")


def test_only_a_line_feed_ends_a_line(tmp_path: Path) -> None:
    file = tmp_path / "lines.txt"
    file.write_bytes("\ufeffa\u2028b\r\n\n c\x0bd \n".encode())
    assert read_lines(file) == ["a\u2028b", "", "c\x0bd"]


def test_a_line_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(DataError, match=r"byte 3 is not UTF-8"):
        read_lines(tmp_path / "lines.txt")


@pytest.mark.photographs
def test_128_real_rows_are_read_in_milliseconds(photographs: Path) -> None:
    features = open_features(photographs)
    generator = np.random.default_rng(0)
    seconds = []
    for _ in range(20):
        asked = generator.integers(0, len(features), 128)
        start = time.perf_counter()
        features.read(asked)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.005  # 1 ms on a quiet machine


@pytest.mark.photographs
def test_real_regions_have_boxes_within_their_picture(photographs: Path) -> None:
    features = open_features(photographs)
    batch = features.read(np.arange(0, len(features), 50))
    assert batch.regions.shape == (140, 36, 256)
    assert batch.boxes is not None
    assert bool((batch.boxes[..., 2:] >= batch.boxes[..., :2]).all())
