"""Files that `torch.save` wrote, both layouts, read without PyTorch's unpickler.

Before PyTorch 1.6 a file was five pickles (a mark, a version, the machine's sizes, the value, the
names of the storages) and then the numbers of each storage. Since then it is a zip archive,
uncompressed, with `data.pkl` and a file for each storage.
"""

from __future__ import annotations

import io
import mmap
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from visavis.convert.pickled import read_pickle
from visavis.convert.stored import Refused, StoredTensor
from visavis.errors import CheckpointError

MAGIC = 0x1950A86A20F9469CFC6C  # PyTorch's mark
VERSION = 1001
_ZIP = b"PK\x03\x04"
_LONGEST_HEADER = 30  # bytes of a zip entry's header before its name
_DAMAGE = (ValueError, KeyError, EOFError, struct.error, zipfile.BadZipFile, NotImplementedError)


@dataclass(frozen=True, slots=True, eq=False)
class TorchFile:
    """The value of a file, and the numbers of the `StoredTensor`s in it."""

    path: Path
    value: object
    buffer: mmap.mmap
    places: Mapping[str, tuple[int, int]]  # of each storage: its first byte, its bytes

    def tensor(self, stored: StoredTensor) -> Tensor:
        """A tensor of its own; floating-point ones become float32.

        Raises:
            CheckpointError: its storage is missing or shorter than it says.
        """
        storage = stored.storage
        kind = np.dtype(storage.kind)
        first, size = self.places.get(storage.key, (0, -1))
        if size != storage.count * kind.itemsize:
            raise CheckpointError(f"{self.path}: cut short or damaged; download it again")
        start = first + (storage.start + stored.offset) * kind.itemsize
        numbers = np.frombuffer(self.buffer, kind, count=stored.count, offset=start)
        wanted = np.float32 if kind.kind == "f" else kind
        flat = torch.from_numpy(numbers.astype(wanted))  # a copy
        return flat.as_strided(stored.shape, stored.stride).contiguous()


def read_torch_file(path: Path) -> TorchFile:
    """Open a file of either layout; tensors are read when they are asked for.

    Raises:
        CheckpointError: no such file, not one of `torch.save`, cut short, or refused because it
            asks for anything but plain values and tensors.
    """
    try:
        with path.open("rb") as stream:
            buffer = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file") from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from error
    except ValueError as error:
        raise CheckpointError(f"{path}: empty; download it again") from error
    try:
        zipped = buffer[:4] == _ZIP
        value, places = _zipped(path, buffer) if zipped else _streamed(buffer)
    except Refused as error:
        raise CheckpointError(f"{path}: {error}") from error
    except _DAMAGE as error:
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise CheckpointError(
            f"{path}: not a file of torch.save, or cut short ({reason})"
        ) from error
    return TorchFile(path, value, buffer, places)


def _streamed(buffer: mmap.mmap) -> tuple[object, dict[str, tuple[int, int]]]:
    """The layout before PyTorch 1.6."""
    if buffer[:1] != b"\x80" or read_pickle(buffer) != MAGIC:  # type: ignore[arg-type]
        raise ValueError("its first bytes are others")
    version, machine, value, keys = (read_pickle(buffer) for _ in range(4))  # type: ignore[arg-type]
    if version != VERSION or not isinstance(machine, dict) or not machine.get("little_endian"):
        raise ValueError("another version, or of a big-endian machine")
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise ValueError("its list of storages is damaged")
    return value, _streamed_places(buffer, keys, _item_sizes(value))


def _streamed_places(
    buffer: mmap.mmap, keys: list[str], item_sizes: Mapping[str, int]
) -> dict[str, tuple[int, int]]:
    places = {}
    position = buffer.tell()
    for key in keys:
        (count,) = struct.unpack_from("<q", buffer, position)
        size = count * item_sizes[key]
        position += 8
        if not 0 <= size <= len(buffer) - position:
            raise ValueError("its numbers end too early")
        places[key] = (position, size)
        position += size
    return places


def _item_sizes(value: object) -> dict[str, int]:
    """Bytes of a number in each storage that the value refers to."""
    sizes: dict[str, int] = {}
    seen: set[int] = set()
    waiting = [value]
    while waiting:  # each part once: parts may stand in several places, and in themselves
        part = waiting.pop()
        if isinstance(part, StoredTensor):
            sizes[part.storage.key] = np.dtype(part.storage.kind).itemsize
        elif isinstance(part, dict | list | tuple) and id(part) not in seen:
            seen.add(id(part))
            waiting.extend(part.values() if isinstance(part, dict) else part)
    return sizes


def _zipped(path: Path, buffer: mmap.mmap) -> tuple[object, dict[str, tuple[int, int]]]:
    """The layout since PyTorch 1.6."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise ValueError("a compressed archive")
        if sum(entry.file_size for entry in entries) > len(buffer):
            raise ValueError("its parts overlap")
        if archive.testzip() is not None:
            raise ValueError("a checksum is wrong")
        values = [entry for entry in entries if entry.filename.endswith("/data.pkl")]
        if len(values) != 1:
            raise ValueError("an archive without data.pkl")
        folder = values[0].filename.removesuffix("data.pkl")
        order = [entry for entry in entries if entry.filename == f"{folder}byteorder"]
        if order and archive.read(order[0]) != b"little":
            raise ValueError("of a big-endian machine")
        value = read_pickle(io.BytesIO(archive.read(values[0])))
    prefix = f"{folder}data/"
    return value, {
        entry.filename.removeprefix(prefix): (_first_byte(buffer, entry), entry.file_size)
        for entry in entries
        if entry.filename.startswith(prefix)
    }


def _first_byte(buffer: mmap.mmap, entry: zipfile.ZipInfo) -> int:
    """Where an entry's content begins: its own header may be longer than the directory says."""
    name, extra = struct.unpack_from("<HH", buffer, entry.header_offset + 26)
    return int(entry.header_offset + _LONGEST_HEADER + name + extra)
