"""Extracting a folder: order, resuming, pictures that fail, and feature files as an extractor."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from visavis.cli.main import app
from visavis.data.features import FeatureIdentity
from visavis.data.store import FeatureStore, StoreWriter
from visavis.errors import DataError, RecipeError
from visavis.extract import run
from visavis.extract.base import Extractor, Regions
from visavis.extract.pictures import list_pictures, load_picture
from visavis.extract.precomputed import PrecomputedExtractor
from visavis.extract.run import ExtractionReport, extract_folder
from visavis.extract.table import EXTRACTORS, from_identity, make_extractor

COUNT = 21  # of pictures: two groups of 8 and one of 5


class MeanColour:
    """One region: the picture's mean colour, and that of all pictures of the same call.

    The second half is what a network does that rounds by the size of its batch.
    """

    dim = 6
    max_regions = 1
    identity = FeatureIdentity(extractor="mean", digest="1")

    def __init__(self, fail_after: int = 10**9) -> None:
        self.seen = 0
        self.fail_after = fail_after

    def extract(self, pictures: Sequence[Image.Image]) -> list[Regions]:
        self.seen += len(pictures)
        if self.seen > self.fail_after:
            raise RuntimeError("the power fails")
        colours = np.stack([np.asarray(p, dtype=np.float32).mean(axis=(0, 1)) for p in pictures])
        both = np.concatenate([colours, np.broadcast_to(colours.mean(axis=0), colours.shape)], 1)
        box = np.array([[0, 0, 1, 1]], dtype=np.float32)
        return [
            Regions(vectors=row[None], boxes=box, size=p.size)
            for p, row in zip(pictures, both, strict=True)
        ]


class Particular(MeanColour):
    """Refuses pictures that are not wide."""

    def extract(self, pictures: Sequence[Image.Image]) -> list[Regions]:
        if any(picture.width <= picture.height for picture in pictures):
            raise DataError("too narrow")
        return super().extract(pictures)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for k in range(COUNT):
        values = rng.integers(0, 255, (12, 16 + k, 3)).astype(np.uint8)
        Image.fromarray(values).save(folder / f"{k:02}.png")
    return list_pictures(folder)


def extract(
    pictures: Sequence[Path], extractor: Extractor, folder: Path, workers: int = 1
) -> ExtractionReport:
    ids = [path.stem for path in pictures]
    return extract_folder(pictures, ids, extractor, folder, workers=workers, progress=False)


def content(folder: Path) -> tuple[list[str], bytes, bytes, bytes]:
    store = FeatureStore(folder)
    images = store.read(np.arange(len(store)))
    assert images.boxes is not None
    return (
        list(store.ids),
        images.regions.numpy().tobytes(),
        images.boxes.numpy().tobytes(),
        store.sizes.tobytes(),
    )


def test_regions_are_stored_in_the_order_of_the_pictures(
    pictures: list[Path], tmp_path: Path
) -> None:
    report = extract(pictures, MeanColour(), tmp_path / "store")
    assert (report.extracted, report.reused, report.skipped) == (COUNT, 0, ())
    assert report.seconds_per_picture == pytest.approx(report.seconds / COUNT)
    store = FeatureStore(tmp_path / "store")
    assert list(store.ids) == [path.stem for path in pictures]
    assert store.identity == MeanColour.identity
    first = np.asarray(load_picture(pictures[3])).mean(axis=(0, 1))
    np.testing.assert_allclose(store.read(np.array([3])).regions[0, 0, :3], first, rtol=1e-3)
    assert store.sizes[3].tolist() == [19, 12]


@pytest.mark.parametrize("workers", [2, 5])
def test_workers_change_no_result(pictures: list[Path], tmp_path: Path, workers: int) -> None:
    extract(pictures, MeanColour(), tmp_path / "one")
    extract(pictures, MeanColour(), tmp_path / "many", workers=workers)
    assert content(tmp_path / "one") == content(tmp_path / "many")


def test_a_second_run_extracts_nothing(pictures: list[Path], tmp_path: Path) -> None:
    extract(pictures, MeanColour(), tmp_path / "store")
    again = MeanColour()
    report = extract(pictures, again, tmp_path / "store")
    assert (report.extracted, report.reused, again.seen) == (0, COUNT, 0)
    assert report.seconds_per_picture == 0


def test_new_pictures_are_added_to_a_store(pictures: list[Path], tmp_path: Path) -> None:
    extract(pictures[:8], MeanColour(), tmp_path / "store")
    report = extract(pictures, MeanColour(), tmp_path / "store")
    assert (report.extracted, report.reused) == (COUNT - 8, 8)
    extract(pictures, MeanColour(), tmp_path / "whole")
    assert content(tmp_path / "store") == content(tmp_path / "whole")


@pytest.mark.parametrize("fail_after", [3, 8, 13])
def test_a_run_that_failed_goes_on_to_the_same_bytes(
    pictures: list[Path], tmp_path: Path, fail_after: int
) -> None:
    extract(pictures, MeanColour(), tmp_path / "whole")
    with pytest.raises(RuntimeError, match="the power fails"):
        extract(pictures, MeanColour(fail_after), tmp_path / "store")
    rest = MeanColour()
    report = extract(pictures, rest, tmp_path / "store")
    assert report.reused == fail_after // 8 * 8
    assert rest.seen == COUNT - report.reused
    assert content(tmp_path / "store") == content(tmp_path / "whole")


def test_a_group_that_was_stored_in_part_is_completed_with_the_same_bytes(
    pictures: list[Path], tmp_path: Path
) -> None:
    extract(pictures, MeanColour(), tmp_path / "whole")
    # What a run leaves that was stopped within the second group.
    rows = FeatureStore(tmp_path / "whole").read(np.arange(11))
    assert rows.boxes is not None
    with StoreWriter(tmp_path / "store", MeanColour.identity, dim=6, max_regions=1) as writer:
        for k, path in enumerate(pictures[:11]):
            writer.add(path.stem, rows.regions[k].numpy(), rows.boxes[k].numpy(), (16 + k, 12))
    report = extract(pictures, MeanColour(), tmp_path / "store")
    assert (report.extracted, report.reused) == (10, 11)
    assert content(tmp_path / "store") == content(tmp_path / "whole")


KILLED = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from tests.unit.test_extract_run import MeanColour, extract
from visavis.extract import run
from visavis.extract.pictures import list_pictures

run._SAFE_EVERY = 0.0

class Stopping(MeanColour):
    calls = 0

    def extract(self, pictures):
        self.calls += 1
        if self.calls == 3:  # by then the first group is safe
            time.sleep(120)
        return super().extract(pictures)

extract(list_pictures(Path(sys.argv[1])), Stopping(), Path(sys.argv[2]))
"""


def test_a_killed_run_goes_on_to_the_same_bytes(pictures: list[Path], tmp_path: Path) -> None:
    store = tmp_path / "store"
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", KILLED, str(pictures[0].parent), str(store), str(root)]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 120
    while not list(store.glob("shard-*")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    report = extract(pictures, MeanColour(), store)
    assert 0 < report.reused < COUNT
    extract(pictures, MeanColour(), tmp_path / "whole")
    assert content(store) == content(tmp_path / "whole")


def test_undecodable_pictures_are_skipped_and_named(pictures: list[Path], tmp_path: Path) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(pictures[0].read_bytes()[:200])
    report = extract([pictures[0], bad, pictures[1]], MeanColour(), tmp_path / "store")
    assert report.extracted == 2
    [(name, reason)] = report.skipped
    assert name == "bad"
    assert "bad.jpg: cannot be decoded" in reason
    store = FeatureStore(tmp_path / "store")
    assert list(store.ids) == ["00", "01"]
    assert dict(store.skipped) == {"bad": reason}


def test_a_skipped_picture_is_tried_again(pictures: list[Path], tmp_path: Path) -> None:
    several = [tmp_path / f"{k}.png" for k in range(3)]
    for path, source in zip(several, pictures, strict=False):
        path.write_bytes(source.read_bytes())
    several[1].write_bytes(b"")
    extract(several, MeanColour(), tmp_path / "store")
    several[1].write_bytes(pictures[1].read_bytes())
    report = extract(several, MeanColour(), tmp_path / "store")
    assert (report.extracted, report.reused, report.skipped) == (1, 2, ())
    assert not FeatureStore(tmp_path / "store").skipped


def test_a_picture_that_the_extractor_refuses_takes_no_other_with_it(
    pictures: list[Path], tmp_path: Path
) -> None:
    narrow = tmp_path / "narrow.png"
    Image.new("RGB", (5, 9)).save(narrow)
    report = extract([*pictures[:4], narrow], Particular(), tmp_path / "store")
    assert report.extracted == 4
    assert report.skipped == (("narrow", "too narrow"),)


def test_when_no_picture_can_be_used_the_reason_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"no picture of 1 could.*a\.png: cannot be decoded"):
        extract([tmp_path / "a.png"], MeanColour(), tmp_path / "store")


def test_a_store_of_another_extractor_is_refused(pictures: list[Path], tmp_path: Path) -> None:
    extract(pictures, MeanColour(), tmp_path / "store")
    with pytest.raises(DataError, match="holds vectors of mean"):
        extract(pictures, make_extractor("classic", {}), tmp_path / "store")


@pytest.mark.parametrize(
    ("count", "ids", "message"),
    [(0, [], "no pictures"), (2, ["a"], "2 pictures but 1 ids"), (2, ["a", "a"], "the id 'a'")],
)
def test_pictures_and_ids_must_fit(
    pictures: list[Path], tmp_path: Path, count: int, ids: list[str], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        extract_folder(pictures[:count], ids, MeanColour(), tmp_path / "store")


def test_only_a_few_groups_are_in_memory_at_a_time(
    pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored: list[str] = []
    ahead: list[int] = []
    real = StoreWriter.add

    def add(self: StoreWriter, image_id: str, *rest: object) -> None:
        stored.append(image_id)
        real(self, image_id, *rest)  # type: ignore[arg-type]

    class Watched(MeanColour):
        def extract(self, pictures: Sequence[Image.Image]) -> list[Regions]:
            ahead.append(self.seen + len(pictures) - len(stored))
            return super().extract(pictures)

    monkeypatch.setattr(StoreWriter, "add", add)
    many = [path for path in pictures for _ in range(8)]
    ids = [str(k) for k in range(len(many))]
    extract_folder(many, ids, Watched(), tmp_path / "store", progress=False)
    assert len(stored) == len(many) == 168
    assert max(ahead) <= 4 * run._TOGETHER


def test_a_small_picture_keeps_its_size_and_a_large_one_that_of_the_file(tmp_path: Path) -> None:
    Image.new("RGB", (3000, 20)).save(tmp_path / "wide.png")
    extract([tmp_path / "wide.png"], MeanColour(), tmp_path / "store")
    assert FeatureStore(tmp_path / "store").sizes.tolist() == [[3000, 20]]


# --- feature files as an extractor -----------------------------------------------------------


def test_pictures_are_looked_up_in_feature_files_by_name(
    pictures: list[Path], tmp_path: Path
) -> None:
    extract(pictures, MeanColour(), tmp_path / "files")
    extractor = make_extractor("precomputed", {"features": str(tmp_path / "files")})
    assert (extractor.dim, extractor.max_regions) == (6, 1)
    assert extractor.identity == MeanColour.identity
    wanted = [pictures[5], pictures[2]]
    found = extractor.extract([load_picture(path) for path in wanted])
    stored = FeatureStore(tmp_path / "files").read(np.array([5, 2]))
    for k in range(2):
        np.testing.assert_array_equal(found[k].vectors, stored.regions[k].numpy())
        assert found[k].size == (16 + (5, 2)[k], 12)


def test_a_picture_that_is_not_in_the_files_is_refused(
    pictures: list[Path], tmp_path: Path
) -> None:
    extract(pictures[:4], MeanColour(), tmp_path / "files")
    extractor = PrecomputedExtractor.over(FeatureStore(tmp_path / "files"))
    with pytest.raises(DataError, match=r"07\.png: not in the feature files"):
        extractor.extract([load_picture(pictures[7])])
    with pytest.raises(DataError, match="without a file name"):
        extractor.extract([Image.new("RGB", (4, 4))])


def test_a_folder_with_some_pictures_outside_the_files_is_copied_as_far_as_it_goes(
    pictures: list[Path], tmp_path: Path
) -> None:
    extract(pictures[:4], MeanColour(), tmp_path / "files")
    extractor = PrecomputedExtractor.over(FeatureStore(tmp_path / "files"))
    report = extract(pictures[:6], extractor, tmp_path / "copy")
    assert report.extracted == 4
    assert [name for name, _ in report.skipped] == ["04", "05"]
    assert content(tmp_path / "copy") == content(tmp_path / "files")


def test_features_that_name_no_images_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "regions.npy", np.ones((3, 2, 4), dtype=np.float32))
    with pytest.raises(DataError, match=r"write an ids\.txt"):
        make_extractor("precomputed", {"features": str(tmp_path)})


def test_nothing_is_rebuilt_from_the_identity_of_feature_files() -> None:
    with pytest.raises(DataError, match="extract the pictures anew with one of: classic, hf, onnx"):
        from_identity(FeatureIdentity(extractor="precomputed", digest="x"))


# --- the table -------------------------------------------------------------------------------


def test_the_table_is_sorted_and_every_line_resolves() -> None:
    assert list(EXTRACTORS) == sorted(EXTRACTORS)
    for name in EXTRACTORS:
        with pytest.raises(RecipeError, match="no_such_option: unknown key"):
            make_extractor(name, {"no_such_option": 1})


def test_a_classic_identity_rebuilds_the_extractor() -> None:
    identity = make_extractor("classic", {"regions": 24}).identity
    assert from_identity(identity).max_regions == 24


def test_a_classic_identity_of_another_version_is_refused() -> None:
    identity = FeatureIdentity(extractor="classic", options={"regions": 24}, digest="older")
    with pytest.raises(DataError, match="another version"):
        from_identity(identity)


def test_the_command_hands_on_the_device(
    pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def make(*_: object, device: str) -> MeanColour:
        asked.append(device)
        return MeanColour()

    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("visavis.extract.table.make_extractor", make)
    words = ["extract", str(pictures[0].parent), "-o", str(tmp_path / "store")]
    for device in ("cuda:1", "cuda", "cpu"):
        assert CliRunner().invoke(app, [*words, "--device", device]).exit_code == 0
    assert asked == ["cuda:1", "cuda", "cpu"]
    assert CliRunner().invoke(app, [*words, "--device", "cuda:2"]).exit_code == 1
