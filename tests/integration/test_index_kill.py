"""An index whose writer was killed: nothing acknowledged is lost, and the same call goes on."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.search_tools import draw, model_folder
from visavis.search.index import FolderSource, Index
from visavis.search.measure import damage

NAMES = [f"{number:02}.png" for number in range(24)]
WRITER = """
import sys
from pathlib import Path
import visavis.search.sync as sync
from visavis.search.index import FolderSource, Index
what, uri, photos, model = sys.argv[1:]
sync.BATCH = 2
say = lambda done, total: print(done, flush=True)
if what == "build":
    Index.build(uri, model=model, source=FolderSource(Path(photos)), progress=say)
    sys.exit()
index = Index.open(uri)
print("open", flush=True)
if what == "sync":
    index.sync(progress=say)
elif what == "remove":
    for name in [record.id for record in index._reader.view.snapshot.records]:
        index.remove([name])
        print(name, flush=True)
elif what == "compact":
    for number in range(1000):
        index.add([Path(photos) / "00.png"], tags=[str(number)])
        index.compact()
        print(number, flush=True)
print("end", flush=True)
"""


@dataclass(frozen=True)
class Ground:
    """A model, pictures, and an index of them."""

    model: Path
    photos: Path
    index: Path


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    folder = tmp_path_factory.mktemp("ground")
    made = Ground(model_folder(folder / "model", "vse"), folder / "photos", folder / "index")
    draw(made.photos, NAMES)
    source = FolderSource(made.photos)
    Index.build(made.index, model=made.model, source=source).close()
    return made


def killed_after(acknowledged: int, delay: float, *words: object) -> list[str]:
    """Run the writer, wait for so many lines and a moment, kill it: the lines it had said."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, *map(str, words)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    said = [process.stdout.readline().strip() for _ in range(acknowledged)]
    time.sleep(delay)
    os.kill(process.pid, signal.SIGKILL)
    said += process.stdout.read().split()
    process.wait()
    process.stdout.close()
    assert all(said), "the writer ended before it was killed"
    return said


def paths(index: Index) -> set[str]:
    return {record.path for record in index._reader.view.snapshot.records}


def check_build(ground: Ground, tmp_path: Path, acknowledged: int, delay: float) -> None:
    uri = tmp_path / "index"
    said = killed_after(acknowledged, delay, "build", uri, ground.photos, ground.model)
    index = Index.open(uri)
    assert damage(index._reader.view) == []
    assert len(paths(index)) >= int([line for line in said if line != "end"][-1])
    source = FolderSource(ground.photos)
    again = Index.build(uri, model=ground.model, source=source)
    assert paths(again) == {*NAMES}
    assert again.info().finished


def check_sync(ground: Ground, tmp_path: Path, acknowledged: int, delay: float) -> None:
    photos, uri = tmp_path / "photos", tmp_path / "index"
    shutil.copytree(ground.photos, photos)
    Index.build(uri, model=ground.model, source=FolderSource(photos)).close()
    draw(photos, [f"new{number}.png" for number in range(8)], seed=5)
    draw(photos, NAMES[:4], seed=6)
    for name in NAMES[20:]:
        (photos / name).unlink()
    kept = {*NAMES[4:20]}
    killed_after(1 + acknowledged, delay, "sync", uri, photos, ground.model)
    index = Index.open(uri)
    assert damage(index._reader.view) == []
    assert kept <= paths(index)
    index.sync()
    assert paths(index) == {path.name for path in photos.iterdir()}
    assert len(index._reader.view.snapshot) == len(paths(index))


def check_remove(ground: Ground, tmp_path: Path, acknowledged: int, delay: float) -> None:
    uri = tmp_path / "index"
    shutil.copytree(ground.index, uri)
    before = {record.id for record in Index.open(uri)._reader.view.snapshot.records}
    said = killed_after(1 + acknowledged, delay, "remove", uri, ground.photos, ground.model)
    index = Index.open(uri)
    after = {record.id for record in index._reader.view.snapshot.records}
    assert damage(index._reader.view) == []
    assert not after & {*said}
    assert len(before - {*said} - after) <= 1  # the one that was being taken out
    index.sync()
    assert paths(index) == {*NAMES}


def check_compact(ground: Ground, tmp_path: Path, acknowledged: int, delay: float) -> None:
    uri = tmp_path / "index"
    shutil.copytree(ground.index, uri)
    said = killed_after(1 + acknowledged, delay, "compact", uri, ground.photos, ground.model)
    index = Index.open(uri)
    assert damage(index._reader.view) == []
    assert paths(index) == {*NAMES}
    (tagged,) = (
        record for record in index._reader.view.snapshot.records if record.path == "00.png"
    )
    assert {*said} - {"open"} <= {*tagged.tags}
    index.compact()


CHECKS = (check_build, check_sync, check_remove, check_compact)


@pytest.mark.parametrize("check", CHECKS)
def test_nothing_acknowledged_is_lost_by_a_kill(
    check: type[object], ground: Ground, tmp_path: Path
) -> None:
    check(ground, tmp_path, 2, 0.02)  # type: ignore[call-arg]


@pytest.mark.slow
@pytest.mark.parametrize("number", range(20))
def test_nothing_acknowledged_is_lost_by_twenty_kills(
    number: int, ground: Ground, tmp_path: Path
) -> None:
    chance = random.Random(number)
    CHECKS[number % 4](ground, tmp_path, chance.randint(1, 5), chance.uniform(0, 0.2))


def test_two_writers_and_four_readers_at_once(ground: Ground, tmp_path: Path) -> None:
    uri = tmp_path / "index"
    shutil.copytree(ground.index, uri)
    known = {*NAMES}
    writers = []
    for number in range(2):
        folder = tmp_path / f"more{number}"
        names = [f"w{number}-{place}.png" for place in range(10)]
        draw(folder, names, seed=20 + number)
        known |= {*names}
        script = (
            "import sys; from pathlib import Path; from visavis.search.index import Index\n"
            "import visavis.search.sync as sync; sync.BATCH = 3\n"
            "index = Index.open(sys.argv[1])\n"
            "report = index.add([Path(sys.argv[2])], tags=['more'])\n"
            "assert report.added == 10, report\n"
            "index.remove(report.ids[:4]); index.compact(); index.sync()\n"
        )
        command = [sys.executable, "-c", script, str(uri), str(folder)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        writers.append(subprocess.Popen(command, stderr=subprocess.PIPE, env=environment))
    wrong: list[str] = []
    done = threading.Event()

    def read(index: Index) -> None:
        while not done.is_set():
            try:
                index._reader.look_at = 0.0
                hits = index.search("a red dog", k=99, exact=True).hits
                found = [hit.path for hit in hits]
                if len({*found}) != len(found) or not {*NAMES} <= {*found} <= known:
                    wrong.append(str(sorted(found)))
            except Exception as error:  # noqa: BLE001  (whatever it is, it is reported)
                wrong.append(repr(error))

    readers = [threading.Thread(target=read, args=(Index.open(uri),)) for _ in range(4)]
    for reader in readers:
        reader.start()
    for writer in writers:
        _, errors = writer.communicate(timeout=200)
        assert writer.returncode == 0, errors.decode()
    done.set()
    for reader in readers:
        reader.join()
    assert not wrong, wrong[:3]
    index = Index.open(uri)
    assert paths(index) == known  # the last sync of each brought its folder back
    assert damage(index._reader.view) == []
