"""The feature store: what goes in comes out, and nothing that was safe is lost."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from visavis import files
from visavis.data.feature_files import open_features
from visavis.data.features import FeatureIdentity
from visavis.data.store import FeatureStore, StoreWriter
from visavis.errors import DataError, StorageError

IDENTITY = FeatureIdentity(extractor="toy", options={"sizes": (1, 2)}, digest="abc")
DIM = 4
MOST = 3


def writer(folder: Path, identity: FeatureIdentity = IDENTITY, shard_size: int = 2) -> StoreWriter:
    return StoreWriter(folder, identity, dim=DIM, max_regions=MOST, shard_size=shard_size)


def regions(seed: int, count: int = MOST) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    generator = np.random.default_rng(seed)
    vectors = generator.standard_normal((count, DIM)).astype(np.float16).astype(np.float32)
    return vectors, generator.random((count, 4)).astype(np.float32)


def fill(folder: Path, names: str, *, shard_size: int = 2) -> None:
    with writer(folder, shard_size=shard_size) as store:
        for name in names:
            store.add(name, *regions(ord(name)), (ord(name), 7))


@settings(max_examples=15, deadline=None)
@given(
    counts=st.lists(st.integers(1, MOST), min_size=1, max_size=7),
    shard_size=st.integers(1, 4),
    data=st.data(),
)
def test_what_goes_in_comes_out(
    tmp_path_factory: pytest.TempPathFactory,
    counts: list[int],
    shard_size: int,
    data: st.DataObject,
) -> None:
    folder = tmp_path_factory.mktemp("store") / "store"
    with writer(folder, shard_size=shard_size) as store:
        for number, count in enumerate(counts):
            store.add(f"image {number}", *regions(number, count), (number + 1, 9))
    features = FeatureStore(folder)
    asked = data.draw(st.lists(st.integers(0, len(counts) - 1), max_size=9))
    batch = features.read(np.array(asked, dtype=np.int64))
    assert batch.boxes is not None
    for place, row in enumerate(asked):
        vectors, boxes = regions(row, counts[row])
        mask = batch.mask[place]
        assert mask.tolist() == [region < counts[row] for region in range(MOST)]
        assert batch.regions[place][mask].numpy().tolist() == vectors.tolist()
        assert batch.boxes[place][mask].numpy().tolist() == boxes.tolist()
        assert not batch.regions[place][~mask].any()
        assert features.sizes[row].tolist() == [row + 1, 9]
        assert features.row_of[f"image {row}"] == row


def test_a_store_tells_who_made_it(tmp_path: Path) -> None:
    fill(tmp_path, "abc")
    features = open_features(tmp_path)
    assert features.identity.extractor == "toy"
    assert features.identity.digest == "abc"
    assert (len(features), features.dim, features.ids) == (3, DIM, ("a", "b", "c"))


def test_only_what_is_in_a_shard_is_done(tmp_path: Path) -> None:
    store = writer(tmp_path)
    done = []
    for name in "abc":
        store.add(name, *regions(0), (1, 1))
        done.append(set(store.done))
    assert done == [set(), {"a", "b"}, {"a", "b"}]
    store.flush()
    assert set(store.done) == {"a", "b", "c"}


def test_an_unfinished_store_is_not_read(tmp_path: Path) -> None:
    store = writer(tmp_path)
    store.add("a", *regions(0), (1, 1))
    store.flush()
    with pytest.raises(DataError, match="unfinished; run `visavis extract` again"):
        FeatureStore(tmp_path)


def test_a_writer_goes_on_where_another_stopped(tmp_path: Path) -> None:
    fill(tmp_path / "whole", "abcde")
    store = writer(tmp_path / "parts")
    for name in "abc":
        store.add(name, *regions(ord(name)), (ord(name), 7))
    del store  # without flush: `c` was not safe yet
    again = writer(tmp_path / "parts")
    assert set(again.done) == {"a", "b"}
    with again:
        for name in "cde":
            again.add(name, *regions(ord(name)), (ord(name), 7))
    one, two = FeatureStore(tmp_path / "whole"), FeatureStore(tmp_path / "parts")
    assert one.ids == two.ids
    everything = np.arange(5)
    assert one.read(everything).regions.equal(two.read(everything).regions)


def test_an_error_in_the_block_keeps_what_was_added(tmp_path: Path) -> None:
    def interrupted() -> None:
        with writer(tmp_path) as store:
            store.add("a", *regions(0), (1, 1))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert set(writer(tmp_path).done) == {"a"}


def test_a_full_disk_leaves_the_safe_images_safe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = writer(tmp_path)
    store.add("a", *regions(0), (1, 1))
    store.add("b", *regions(1), (1, 1))

    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "_sync", full)
    store.add("c", *regions(2), (1, 1))
    with pytest.raises(StorageError, match="the disk is full"):
        store.add("d", *regions(3), (1, 1))
    monkeypatch.undo()
    assert set(writer(tmp_path).done) == {"a", "b"}


def test_skipped_images_are_recorded_until_they_are_added(tmp_path: Path) -> None:
    with writer(tmp_path) as store:
        store.add("a", *regions(0), (1, 1))
        store.skip("b", "not a picture")
        store.skip("c", "too small")
    assert FeatureStore(tmp_path).skipped == {"b": "not a picture", "c": "too small"}
    with writer(tmp_path) as store:
        store.add("b", *regions(1), (1, 1))
    assert FeatureStore(tmp_path).skipped == {"c": "too small"}


def test_vectors_of_another_extractor_are_refused(tmp_path: Path) -> None:
    fill(tmp_path, "ab")
    other = FeatureIdentity(extractor="other", digest="xyz")
    with pytest.raises(DataError, match=r"holds vectors of toy .*, not of other .* another folder"):
        writer(tmp_path, other)


def test_another_width_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, "ab")
    with pytest.raises(DataError, match="vectors of width 4 an image, not 3 of 5"):
        StoreWriter(tmp_path, IDENTITY, dim=5, max_regions=MOST)


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, "ab")
    content = json.loads((tmp_path / "store.json").read_text())
    (tmp_path / "store.json").write_text(json.dumps(content | {"format": 99}))
    for open_store in (FeatureStore, writer):
        with pytest.raises(DataError, match=r"format 99 by a newer visavis; .* update it"):
            open_store(tmp_path)


@pytest.mark.parametrize("key", ["dim", "shards", "extractor", "options", "format"])
def test_a_damaged_manifest_is_refused(tmp_path: Path, key: str) -> None:
    fill(tmp_path, "ab")
    content = json.loads((tmp_path / "store.json").read_text())
    del content[key]
    (tmp_path / "store.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"store.json"):
        FeatureStore(tmp_path)


def test_a_manifest_cannot_point_out_of_its_folder(tmp_path: Path) -> None:
    fill(tmp_path / "store", "ab")
    file = tmp_path / "store" / "store.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {"shards": {"../store/shard-00000": "x"}}))
    with pytest.raises(DataError, match="damaged"):
        FeatureStore(tmp_path / "store")


def test_a_folder_with_other_files_is_not_written_into(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(DataError, match="holds other files"):
        writer(tmp_path)


def test_two_writers_at_once_do_not_overwrite_each_other(tmp_path: Path) -> None:
    one, two = writer(tmp_path, shard_size=1), writer(tmp_path, shard_size=1)
    one.add("a", *regions(0), (1, 1))
    with pytest.raises(StorageError, match="written by another process"):
        two.add("b", *regions(1), (1, 1))
    assert set(writer(tmp_path).done) == {"a"}


def test_checksums_find_a_flipped_byte(tmp_path: Path) -> None:
    fill(tmp_path, "abc")
    store = FeatureStore(tmp_path)
    store.verify()
    file = tmp_path / "shard-00001" / "vectors.npy"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"damaged \(shard-00001/vectors.npy\)"):
        FeatureStore(tmp_path).verify()


def test_a_missing_shard_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, "abc")
    (tmp_path / "shard-00001" / "counts.npy").unlink()
    with pytest.raises(DataError, match=r"counts.npy: no such file"):
        FeatureStore(tmp_path)


@pytest.mark.parametrize(
    ("vectors", "boxes", "message"),
    [
        (np.zeros((4, DIM)), np.zeros((4, 4)), "expected 1 to 3 of width 4"),
        (np.zeros((0, DIM)), np.zeros((0, 4)), "expected 1 to 3 of width 4"),
        (np.zeros((2, 5)), np.zeros((2, 4)), "expected 1 to 3 of width 4"),
        (np.zeros((2, DIM)), np.zeros((3, 4)), r"expected \(2, 4\)"),
        (np.full((2, DIM), np.nan), np.zeros((2, 4)), "NaN, infinity"),
        (np.full((2, DIM), 1e5), np.zeros((2, 4)), "beyond 65504"),
        (np.zeros((2, DIM)), np.full((2, 4), np.nan), "NaN, infinity"),
    ],
)
def test_regions_that_cannot_be_stored_are_refused(
    tmp_path: Path, vectors: NDArray[np.float32], boxes: NDArray[np.float32], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        writer(tmp_path).add("a", vectors, boxes, (1, 1))


def test_an_image_is_stored_once(tmp_path: Path) -> None:
    store = writer(tmp_path, shard_size=2)
    for name in "ab":
        store.add(name, *regions(0), (1, 1))
        with pytest.raises(DataError, match=f"image '{name}' is in the store already"):
            store.add(name, *regions(0), (1, 1))


def test_an_empty_store_can_be_read(tmp_path: Path) -> None:
    fill(tmp_path, "")
    features = FeatureStore(tmp_path)
    assert (len(features), features.sizes.shape) == (0, (0, 2))


def test_a_worker_process_opens_the_store_again(tmp_path: Path) -> None:
    fill(tmp_path, "abc")
    again = pickle.loads(pickle.dumps(FeatureStore(tmp_path)))  # our own bytes
    assert again.ids == ("a", "b", "c")
