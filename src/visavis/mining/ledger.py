"""What is mined so far, on disk: a killed run goes on after its last whole entry."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from visavis.errors import DataError
from visavis.files import atomic_path, read_json, write_json

Arrays = dict[str, NDArray[Any]]


class Ledger:
    """A folder with the lists of finished images, and the state of those that are not final yet.

    `ledger.json` is written last and names the files that count: whatever else lies there is of a
    run that was killed while it wrote.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        self.folder, self.identity = folder, dict(identity)
        self.done = 0  # images
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
                self.files, self.done = list(values["files"]), int(values["done"])
        except (DataError, SafetensorError, OSError, KeyError, TypeError):
            self.done = 0
        if not self.done:  # of something else, or damaged: nothing to go on with
            self.discard()

    def keep(self, done: int, rows: Arrays, running: Arrays) -> None:
        """Note that images up to `done` are finished.

        Args:
            done: images from the start on.
            rows: final lists of those since the last entry.
            running: everything that later images may still change.
        """
        name, state = f"rows-{done:08d}.safetensors", f"running-{done:08d}.safetensors"
        for target, arrays in ((name, rows), (state, running)):
            with atomic_path(self.folder / target) as temporary:
                save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, temporary)
        files = [*self.files, name]
        values = {"identity": self.identity, "done": done, "files": files, "running": state}
        write_json(self.folder / "ledger.json", values)
        for old in self.folder.glob("running-*.safetensors"):
            if old.name != state:
                old.unlink()
        self.done, self.files, self.running = done, files, running

    def rows(self) -> Arrays:
        """The lists of all finished images, one after the other."""
        parts = [load_file(self.folder / name) for name in self.files]
        return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}

    def discard(self) -> None:
        """Remove the folder and begin anew."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.done, self.files, self.running = 0, [], {}
