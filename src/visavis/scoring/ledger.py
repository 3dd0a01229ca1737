"""What a long job found so far, on disk: a killed one goes on after its last whole entry."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save

from visavis.errors import DataError
from visavis.files import atomic_path, read_json, write_json

Arrays = dict[str, NDArray[Any]]


class Ledger:
    """A folder with what is final of a job's steps, and the state that later steps still change.

    `ledger.json` is written last and names the files that count: whatever else lies there is of a
    run that was killed while it wrote.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        self.folder, self.identity = folder, dict(identity)
        self.done = 0  # steps
        self.files: list[str] = []
        self.running: Arrays = {}
        self._read()

    def _read(self) -> None:
        path = self.folder / "ledger.json"
        if not path.exists():
            self.discard()
            return
        try:
            values = read_json(path)
            if values["identity"] == self.identity:
                self.running = load_file(self.folder / values["running"])
                for name in values["files"]:
                    with safe_open(self.folder / name, framework="np"):
                        pass  # whole, by its header and its length
                self.files, self.done = list(values["files"]), int(values["done"])
        except (DataError, SafetensorError, OSError, KeyError, TypeError):
            self.done = 0
        if not self.done:  # of something else, or damaged: nothing to go on with
            self.discard()

    def keep(self, done: int, final: Arrays, running: Arrays) -> None:
        """Note that steps up to `done` are finished.

        Args:
            done: steps from the start on.
            final: what became final since the last entry; {} where nothing did.
            running: everything that later steps may still change.
        """
        name, state = f"rows-{done:08d}.safetensors", f"running-{done:08d}.safetensors"
        for target, arrays in ((name, final), (state, running)):
            if arrays:
                with atomic_path(self.folder / target) as temporary:
                    # As bytes, so that a full disk is an error of the system's.
                    temporary.write_bytes(save({k: _whole(v) for k, v in arrays.items()}))
        files = [*self.files, *([name] if final else [])]
        values = {"identity": self.identity, "done": done, "files": files, "running": state}
        write_json(self.folder / "ledger.json", values)
        for old in self.folder.glob("running-*.safetensors"):
            if old.name != state:
                old.unlink()
        self.done, self.files, self.running = done, files, running

    def rows(self) -> Arrays:
        """What is final of all steps, one after the other; {} where nothing is."""
        parts = [load_file(self.folder / name) for name in self.files]
        if not parts:
            return {}
        return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}

    def discard(self) -> None:
        """Remove the folder and begin anew."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.done, self.files, self.running = 0, [], {}


def _whole(array: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(array)
