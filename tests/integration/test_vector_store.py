"""The contract of tables: memory, a folder, an object store."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.search_tools import draw, model_folder, some_rows
from visavis.data.features import FeatureIdentity
from visavis.errors import IndexError_
from visavis.search.index import FolderSource, Index
from visavis.search.lance_place import LancePlace
from visavis.search.manifest import Generation, Manifest, ModelPlace
from visavis.search.memory import MemoryStore
from visavis.search.opening import read_manifest, update
from visavis.search.place import MemoryPlace, Place, Sentences
from visavis.search.rows import Rows, specs_of
from visavis.search.store import VectorStore
from visavis.search.where import parse

SPECS = specs_of(some_rows(1).arrays)
GENERATION = Generation(
    model=ModelPlace(source="here", name="scan", digest="0"),
    companions={},
    spaces={},
    features=FeatureIdentity(extractor="precomputed", digest="0"),
    arrays=SPECS,
)


@pytest.fixture(scope="session")
def object_store() -> Iterator[str]:
    """An object store in this process, on this machine."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(object_store: str, monkeypatch: pytest.MonkeyPatch, request: Any) -> str:
    import boto3

    name = f"bucket-{abs(hash(request.node.name)) % 10**9}"
    values = {
        "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT": object_store,
        "AWS_ENDPOINT_URL": object_store, "AWS_ALLOW_HTTP": "true",
    }  # fmt: skip
    for key, value in values.items():
        monkeypatch.setenv(key, value)
    boto3.client("s3", endpoint_url=object_store).create_bucket(Bucket=name)
    return f"s3://{name}/index"


@pytest.fixture(params=["memory", "folder", pytest.param("s3", marks=pytest.mark.slow)])
def place(request: Any, tmp_path: Path) -> Place:
    if request.param == "memory":
        return MemoryPlace()
    if request.param == "folder":
        return LancePlace(str(tmp_path / "index"))
    return LancePlace(request.getfixturevalue("bucket"))


@pytest.fixture
def store(place: Place) -> VectorStore:
    return place.images(1, SPECS)


def test_rows_come_out_as_they_went_in(store: VectorStore) -> None:
    rows = some_rows(7)
    store.put(rows)
    assert store.records() == list(rows.records)
    order = [5, 0, 3]
    found = store.read([rows.records[place].id for place in order], list(SPECS))
    for name, array in rows.select(order).arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_an_empty_table_can_be_asked(store: VectorStore) -> None:
    assert store.records() == []
    assert store.select(parse("width > 0")) == set()
    assert store.nearest("vector_own", np.ones(5, np.float32), 3) == []
    assert store.remove(["x"]) == 0
    assert store.remove([]) == 0
    assert [ids for ids, _ in store.scan(["tokens"]) if ids] == []
    assert store.stats().rows == 0


def test_a_row_of_the_same_id_takes_the_place_of_the_old_one(store: VectorStore) -> None:
    store.put(some_rows(4))
    other = some_rows(2, seed=9)
    changed = tuple(replace(record, tags=("new",)) for record in other.records)
    store.put(Rows(changed, other.arrays))
    assert len(store.records()) == 4
    assert store.records()[1].tags == ("new",)
    found = store.read([changed[1].id], ["tokens"])["tokens"]
    np.testing.assert_array_equal(found[0], other.arrays["tokens"][1])


def test_new_and_known_rows_can_be_put_together(store: VectorStore) -> None:
    store.put(some_rows(3))
    store.put(some_rows(5, seed=4))
    assert [record.id for record in store.records()] == [f"{n:016x}" for n in range(5)]


def test_removed_rows_are_gone(store: VectorStore) -> None:
    rows = some_rows(5)
    store.put(rows)
    ids = [record.id for record in rows.records]
    assert store.remove([ids[1], ids[4], "unknown"]) == 2
    assert [record.id for record in store.records()] == [ids[0], ids[2], ids[3]]
    with pytest.raises(IndexError_, match=ids[1]):
        store.read([ids[0], ids[1]], ["tokens"])


def test_a_removed_row_can_come_back(store: VectorStore) -> None:
    rows = some_rows(3)
    store.put(rows)
    store.remove([rows.records[2].id])
    store.put(rows.select([2]))
    found = store.read([rows.records[2].id], ["mask"])["mask"]
    np.testing.assert_array_equal(found[0], rows.arrays["mask"][2])


@pytest.mark.parametrize(
    "text",
    [
        "width > 300",
        "tag = 'sea'",
        "tag = 'it''s' AND width > 0",
        "tag != 'sea'",
        "NOT tag IN ('sea', 'lake')",
        "taken >= '2024'",
        "NOT taken >= '2024'",
        "taken IS NULL OR path LIKE 'odd/%'",
        "path NOT LIKE '%/4.jpg' AND width BETWEEN 200 AND 700",
        "id IN ('0000000000000002', 'x')",
        "root = 'r1' AND height <> 10",
    ],
)
def test_a_table_filters_as_python_does(store: VectorStore, text: str) -> None:
    rows = some_rows(12)
    store.put(rows)
    condition = parse(text)
    assert store.select(condition) == {r.id for r in rows.records if condition.holds(r)}


def test_the_nearest_have_the_largest_inner_products(store: VectorStore) -> None:
    rows = some_rows(20)
    store.put(rows)
    vector = np.array([1, -2, 0.5, 0, 3], np.float32)
    products = rows.arrays["vector_own"] @ vector
    order = np.argsort(-products)
    found = store.nearest("vector_own", vector, 6)
    assert [name for name, _ in found] == [rows.records[place].id for place in order[:6]]
    np.testing.assert_allclose([score for _, score in found], products[order[:6]], rtol=1e-4)
    odd = store.nearest("vector_own", vector, 3, parse("path LIKE 'odd/%'"))
    assert [name for name, _ in odd] == [
        rows.records[place].id for place in order if place % 2 == 1
    ][:3]


def test_a_scan_gives_every_row_once(store: VectorStore) -> None:
    rows = some_rows(9)
    store.put(rows.select(range(4)))
    store.put(rows.select(range(4, 9)))
    found = {}
    for ids, arrays in store.scan(["extra_places"]):
        found.update(zip(ids, arrays["extra_places"].tolist(), strict=True))
    wanted = [record.id for record in rows.records]
    assert found == dict(zip(wanted, rows.arrays["extra_places"].tolist(), strict=True))


def test_every_write_changes_the_version(store: VectorStore) -> None:
    seen = [store.version()]
    store.put(some_rows(2))
    seen.append(store.version())
    store.put(some_rows(2, seed=1))
    seen.append(store.version())
    store.remove(["0000000000000000"])
    seen.append(store.version())
    assert len(set(seen)) == 4
    assert store.version() == seen[-1]


def test_compacting_changes_no_row(store: VectorStore) -> None:
    rows = some_rows(8)
    for place in range(8):
        store.put(rows.select([place]))
    store.remove([rows.records[3].id])
    before = store.records()
    store.compact()
    assert store.records() == before
    assert store.stats().rows == 7
    found = store.read([rows.records[7].id], ["tokens"])["tokens"]
    np.testing.assert_array_equal(found[0], rows.arrays["tokens"][7])


def test_rows_of_another_shape_are_refused(store: VectorStore) -> None:
    rows = some_rows(2)
    wider = {**rows.arrays, "tokens": np.zeros((2, 3, 5), np.float16)}
    with pytest.raises(IndexError_, match=r"tokens: rows of float16 \[3, 5\]"):
        store.put(Rows(rows.records, wider))
    less = {name: array for name, array in rows.arrays.items() if name != "mask"}
    with pytest.raises(IndexError_, match="mask: rows of nothing"):
        store.put(Rows(rows.records, less))
    assert store.records() == []


def test_another_reader_sees_what_was_written(place: Place, store: VectorStore) -> None:
    reader = place.images(1, SPECS)
    store.put(some_rows(3))
    assert len(reader.records()) == 3 if isinstance(reader, MemoryStore) else reader.version() > 1
    assert len(reader.records()) == 3


def test_generations_are_apart(place: Place) -> None:
    place.images(1, SPECS).put(some_rows(2))
    place.images(2, SPECS).put(some_rows(3))
    place.drop({2})
    assert len(place.images(2, SPECS).records()) == 3
    assert place.images(1, SPECS).records() == []


def test_sentences_come_out_as_they_went_in(place: Place) -> None:
    assert place.sentences(1) is None
    vectors = np.random.default_rng(0).standard_normal((2, 4)).astype(np.float32)
    place.put_sentences(1, Sentences(("a dog", "été"), ((), ("x", "y")), vectors))
    place.put_sentences(1, Sentences(("a dog", "été"), ((), ("x", "z")), vectors))
    found = place.sentences(1)
    assert found is not None
    assert (found.texts, found.pictures) == (("a dog", "été"), ((), ("x", "z")))
    np.testing.assert_array_equal(found.vectors, vectors)
    place.put_sentences(1, Sentences(("a",), ((),), None))
    again = place.sentences(1)
    assert again is not None
    assert again.vectors is None


def test_the_manifest_is_replaced_and_its_stamp_changes(place: Place) -> None:
    assert place.read() is None
    place.write({"format": 1})
    stamp = place.stamp()
    assert place.read() == {"format": 1}
    place.write({"format": 1, "more": "été"})
    assert place.read() == {"format": 1, "more": "été"}
    assert place.stamp() != stamp


def test_a_manifest_that_another_writer_has_replaced_is_not_overwritten(place: Place) -> None:
    assert place.write({"format": 1}, place.stamp())
    stamp = place.stamp()
    assert place.write({"format": 1, "by": "another"}, stamp)
    assert not place.write({"format": 1, "by": "me"}, stamp)
    assert place.read() == {"format": 1, "by": "another"}
    assert not place.write({"format": 1, "by": "me"}, "")  # both found none when they looked


WRITER = """
import sys
from visavis.search.lance_place import LancePlace
from visavis.search.manifest import Generation, Manifest, ModelPlace
from visavis.search.manifest import Manifest, RootPlace
from visavis.search.opening import update
from dataclasses import replace

place, name = LancePlace(sys.argv[1]), sys.argv[2]
for number in range(6):
    root = RootPlace(path=f"/{name}/{number}")
    update(place, lambda now: replace(now, roots={**now.roots, f"{name}{number}": root}))
"""


@pytest.mark.slow
def test_two_processes_that_change_a_manifest_at_once_both_have_their_way(bucket: str) -> None:
    place = LancePlace(bucket)
    update(place, lambda now: now or Manifest(generations={"1": GENERATION}))
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, bucket, name], env=os.environ)
        for name in ("left", "right")
    ]
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0]
    manifest = read_manifest(place)
    assert manifest is not None
    assert set(manifest.roots) == {f"{n}{i}" for n in ("left", "right") for i in range(6)}


def test_many_small_writes_are_few_fragments_after_compacting(tmp_path: Path) -> None:
    store = LancePlace(str(tmp_path)).images(1, SPECS)
    rows = some_rows(10)
    for place in range(10):
        store.put(rows.select([place]))
    assert store.stats().fragments == 10
    store.compact()
    assert store.stats().fragments == 1


def test_a_damaged_manifest_is_said(tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text("{", encoding="utf-8")
    with pytest.raises(IndexError_, match="not a JSON file"):
        LancePlace(str(tmp_path)).read()


def test_what_a_killed_process_left_of_a_table_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "images-1.lance" / "data").mkdir(parents=True)
    store = LancePlace(str(tmp_path)).images(1, SPECS)
    store.put(some_rows(1))
    assert len(store.records()) == 1
    assert any((tmp_path / "images-1.lance" / "data").iterdir())


@pytest.mark.slow
def test_an_index_lives_in_an_object_store(bucket: str, tmp_path: Path) -> None:
    model = model_folder(tmp_path / "model", "vse")
    photos = tmp_path / "photos"
    draw(photos, [f"{number}.png" for number in range(6)])
    Index.build(bucket, model=model, source=FolderSource(photos)).close()
    index, other = Index.open(bucket), Index.open(bucket)
    draw(photos, ["new.png"], seed=4)
    (photos / "0.png").unlink()
    report = index.sync()
    assert (report.added, report.removed) == (1, 1)
    other._reader.look_at = 0.0
    wanted = {path.name for path in photos.iterdir()}
    assert {hit.path for hit in other.search("a red dog", k=9).hits} == wanted
    newer = model_folder(tmp_path / "newer", "dcpa")
    assert Index.build(bucket, model=newer, source=FolderSource(photos)).info().images == 6
    index.compact()
    assert Index.open(bucket).info().model.startswith("dcpa")
