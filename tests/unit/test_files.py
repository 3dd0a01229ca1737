"""Atomic writing: a reader sees the old or the new, whole, whatever happens between."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from visavis.errors import DataError, StorageError
from visavis.files import (
    atomic_path,
    owned,
    read_json,
    sha256_of,
    storage_error,
    write_json,
    write_text,
)


@contextlib.contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """No file of this process can grow beyond so many bytes, as if the disk ended there."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def ended_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_text_and_json_come_back(tmp_path: Path) -> None:
    write_text(tmp_path / "deep" / "a.txt", "Überraschung\n")
    assert (tmp_path / "deep" / "a.txt").read_bytes() == "Überraschung\n".encode()
    write_json(tmp_path / "b.json", {"b": [1, 2.5, None], "a": "ß"})
    assert read_json(tmp_path / "b.json") == {"b": [1, 2.5, None], "a": "ß"}
    assert "ß" in (tmp_path / "b.json").read_text(encoding="utf-8")


def test_nothing_is_seen_before_the_end(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with atomic_path(target) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert names(tmp_path) == {"a.txt"}


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_and_no_temporary(
    tmp_path: Path, kind: type[BaseException]
) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")

    def write() -> None:
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise kind

    with pytest.raises(kind):
        write()
    assert target.read_text() == "old"
    assert names(tmp_path) == {"a.txt"}


def test_a_folder_takes_the_place_of_a_folder(tmp_path: Path) -> None:
    target = tmp_path / "model"
    for number in (1, 2):
        with atomic_path(target) as temporary:
            temporary.mkdir()
            (temporary / f"{number}.txt").write_text("x")
    assert names(target) == {"2.txt"}
    assert names(tmp_path) == {"model"}


def test_a_folder_whose_exchange_fails_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "model"
    target.mkdir()
    (target / "old.txt").write_text("x")
    real = Path.rename

    def rename(self: Path, other: Path) -> Path:
        if self.name.endswith(".tmp"):
            raise OSError(errno.EIO, "Input/output error")
        return real(self, other)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(StorageError, match="Input/output"), atomic_path(target) as temporary:
        temporary.mkdir()
    assert names(target) == {"old.txt"}
    assert names(tmp_path) == {"model"}


def test_a_full_disk_is_one_line_that_says_what_to_do() -> None:
    for number in (errno.ENOSPC, errno.EDQUOT):
        message = str(storage_error(Path("out/a"), OSError(number, os.strerror(number))))
        assert message == "out/a: the disk is full; free some space and run the command again"
    message = str(storage_error(Path("out/a"), PermissionError(errno.EACCES, "Permission denied")))
    assert message == "out/a: cannot be written (Permission denied)"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_leaves_the_old_and_no_temporary(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")

    def write() -> None:
        with atomic_path(target) as temporary:
            temporary.symlink_to("/dev/full")
            temporary.write_text("new")

    with pytest.raises(StorageError, match="the disk is full"):
        write()
    assert target.read_text() == "old"
    assert names(tmp_path) == {"a.txt"}


def test_a_file_that_may_not_grow_leaves_the_old_and_no_temporary(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with files_up_to(1000), pytest.raises(StorageError, match="File too large"):
        write_text(target, "x" * 2000)
    assert target.read_text() == "old"
    assert names(tmp_path) == {"a.txt"}


def test_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="cannot be written"):
        write_text(tmp_path / "file" / "a.txt", "x")


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path: Path) -> None:
    dead = ended_process()
    (tmp_path / f".a.txt.{dead}.tmp").write_text("half")
    (tmp_path / f".model.{dead}.tmp").mkdir()
    (tmp_path / f".model.{dead}.old").mkdir()
    (tmp_path / "model").mkdir()
    write_text(tmp_path / "a.txt", "x")
    with atomic_path(tmp_path / "model") as temporary:
        temporary.mkdir()
    assert names(tmp_path) == {"a.txt", "model"}


def test_a_killed_writer_of_the_same_process_number_is_no_obstacle(tmp_path: Path) -> None:
    for kind in ("tmp", "old"):
        left = tmp_path / f".model.{os.getpid()}.{kind}"
        left.mkdir()
        (left / "half.bin").write_text("x")
    (tmp_path / "model").mkdir()
    with atomic_path(tmp_path / "model") as temporary:
        temporary.mkdir()
        (temporary / "new.bin").write_text("x")
    assert names(tmp_path) == {"model"}
    assert names(tmp_path / "model") == {"new.bin"}


def test_the_temporaries_of_others_are_left_alone(tmp_path: Path) -> None:
    running = tmp_path / f".a.txt.{os.getppid()}.tmp"
    other_target = tmp_path / f".a.txt.bak.{ended_process()}.tmp"
    no_number = tmp_path / ".a.txt.x.tmp"
    for path in (running, other_target, no_number):
        path.write_text("x")
    write_text(tmp_path / "a.txt", "x")
    assert names(tmp_path) == {"a.txt", running.name, other_target.name, no_number.name}


@pytest.mark.parametrize(
    "content",
    [b"{", b"\xff\xfe", b'{"a": 1} x', b"", b"1" * 5000, b"[" * 100_000],
    ids=["cut", "not UTF-8", "more behind", "empty", "endless number", "deep nests"],
)
def test_what_is_not_json_is_a_data_error_of_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match="not a JSON file") as caught:
        read_json(path)
    assert "\n" not in str(caught.value)


def test_json_that_cannot_be_read_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_json(tmp_path / "a.json")
    with pytest.raises(DataError, match="cannot be read"):
        read_json(tmp_path)


def test_the_hash_is_that_of_the_bytes(tmp_path: Path) -> None:
    content = os.urandom(100_000)
    (tmp_path / "a").write_bytes(content)
    assert sha256_of(tmp_path / "a") == hashlib.sha256(content).hexdigest()


def test_a_folder_has_one_owner_and_a_killed_one_gives_it_back(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from visavis.files import owned\n"
        "with owned(Path(sys.argv[1]), 'trains'):\n"
        "    print('mine', flush=True); time.sleep(60)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "mine\n"
        with (
            pytest.raises(StorageError, match="another process trains here"),
            owned(tmp_path, "trains"),
        ):
            pass
        other.kill()
        other.wait()
    with owned(tmp_path, "trains"):
        pass
