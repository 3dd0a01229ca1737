"""Writing files so that a reader never sees half of one."""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visavis.errors import DataError, StorageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@contextlib.contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """A temporary path beside `target` that takes its place when the block ends well.

    The temporary may be made a file or a folder by the block. When the block fails it is removed
    and what stood at `target` is untouched. What a killed writer of `target` left is removed too.

    Raises:
        StorageError: the disk is full or the folder cannot be written.
    """
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(target, "tmp")
        yield temporary
        _sync(temporary)
        _replace(temporary, target)
    except OSError as error:
        _remove(temporary)
        raise storage_error(target, error) from error
    except BaseException:
        _remove(temporary)
        raise


def storage_error(target: Path, error: OSError) -> StorageError:
    """An operating-system error while writing, said so that a user knows what to do."""
    # numpy tells neither number nor reason when a file could not take all of an array.
    cut_off = error.errno is None and "requested and" in str(error)
    if cut_off or error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(
            f"{target}: the disk is full; free some space and run the command again"
        )
    return StorageError(f"{target}: cannot be written ({error.strerror or error})")


def write_text(target: Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(target: Path, value: object) -> None:
    """Write a JSON file atomically: indented, keys in the order given."""
    write_text(target, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:  # noqa: ANN401  (JSON is what it is; callers validate)
    """Read a JSON file.

    Raises:
        DataError: the file is missing, cannot be read, is not UTF-8 or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, numbers or nests too long
        raise DataError(f"{path}: not a JSON file ({error})") from error


def cache_root() -> Path:
    """VISAVIS_CACHE, or visavis's folder in the user's cache."""
    given = os.environ.get("VISAVIS_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "visavis"


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextlib.contextmanager
def owned(folder: Path, what: str) -> Iterator[None]:
    """A folder that no other process writes to while the block lasts.

    A killed owner owns nothing: the system gives its lock back.

    Args:
        folder: made when it is not there.
        what: is done in it, for the message.

    Raises:
        StorageError: another process owns it, or the folder cannot be written.
    """
    from filelock import FileLock, Timeout

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock", blocking=False)
        lock.acquire()
    except Timeout as error:
        raise StorageError(
            f"{folder}: another process {what} here; wait until it is done, or give another folder"
        ) from error
    except OSError as error:
        raise storage_error(folder, error) from error
    try:
        yield
    finally:
        _remove(Path(lock.lock_file))  # nobody waits for it: others were refused
        lock.release()


def mapped_matrix(path: Path, shape: tuple[int, int]) -> NDArray[np.float32]:
    """An unfilled float32 matrix that lies in a file: the system keeps in memory what is in use.

    One of before under the same path that is still in use keeps its own file.

    Raises:
        StorageError: the disk is full or the folder cannot be written.
    """
    from numpy.lib.format import open_memmap

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        mapped: NDArray[np.float32] = open_memmap(path, mode="w+", dtype="float32", shape=shape)
        # Disk space is taken now: a full disk would kill the process at a later write.
        if hasattr(os, "posix_fallocate"):
            with path.open("r+b") as stream:
                os.posix_fallocate(stream.fileno(), 0, path.stat().st_size)
    except OSError as error:
        _remove(path)
        raise storage_error(path, error) from error
    return mapped


def _sync(path: Path) -> None:
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    for file in files:
        with file.open("rb") as stream:
            os.fsync(stream.fileno())


def _replace(temporary: Path, target: Path) -> None:
    if temporary.is_dir() and target.is_dir():
        # A folder cannot replace a folder in one step: the old one stands aside, hidden.
        old = target.with_name(f".{target.name}.{os.getpid()}.old")
        _remove(old)
        target.rename(old)
        try:
            temporary.rename(target)
        except OSError:
            old.rename(target)
            raise
    else:
        temporary.replace(target)
    _remove_leftovers(target, "old")


def _remove_leftovers(target: Path, kind: str) -> None:
    """Remove what writers of a target left that were killed, or that this one is done with."""
    for path in target.parent.glob(f".{glob.escape(target.name)}.*.{kind}"):
        owner = path.name.removeprefix(f".{target.name}.").removesuffix(f".{kind}")
        # In a container the next process often has the number of the one that was killed.
        if owner.isdecimal() and (int(owner) == os.getpid() or not _runs(int(owner))):
            _remove(path)


def _runs(process: int) -> bool:
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        # What cannot be removed must not hide the error that brought us here.
        with contextlib.suppress(OSError):
            path.unlink()
