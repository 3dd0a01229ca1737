"""Everything that one search needs, belonging together: models, rows, sentence bank, settings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from visavis.errors import IndexError_
from visavis.search.answers import Info
from visavis.search.arena import Arena
from visavis.search.engine import OWN, Engine
from visavis.search.manifest import Generation, Manifest
from visavis.search.pictures import inside
from visavis.search.place import Sentences
from visavis.search.rows import VECTOR, encoded_names, encoded_of
from visavis.search.snapshot import Snapshot
from visavis.search.store import TOGETHER, VectorStore
from visavis.types import Encoded

CANDIDATES = 200  # until `verify` has measured how many are needed
PROBE = 64  # sentences that a query is ranked among when it is re-ranked


@dataclass(frozen=True, eq=False)
class View:
    """One state of an index. Searches that began with it end with it."""

    stamp: str  # of the manifest
    manifest: Manifest
    engine: Engine
    store: VectorStore
    snapshot: Snapshot
    arena: Arena
    bank: Sentences | None

    @property
    def generation(self) -> Generation:
        """What the rows were made with."""
        return self.manifest.generation

    @property
    def candidates(self) -> int:
        """How many pictures the model scores when nothing else is asked for."""
        measured = self.generation.measured
        if measured is None or measured.recommended is None:
            return CANDIDATES
        grown = len(self.snapshot) / max(1, measured.gallery)
        return math.ceil(measured.recommended * max(1.0, grown))  # a share of the pictures

    @cached_property
    def probe(self) -> Encoded | None:
        """A few sentences of the bank, encoded: what a query is ranked among."""
        if self.bank is None or not len(self.bank):
            return None
        count = min(PROBE, len(self.bank))
        chosen = np.random.default_rng(0).permutation(len(self.bank))[:count]
        return self.engine.main.sentences([self.bank.texts[place] for place in chosen.tolist()])

    def place(self, image_id: str) -> int:
        """Where a picture stands in the snapshot.

        Raises:
            IndexError_: it is not there.
        """
        found = self.snapshot.place_of.get(image_id)
        if found is None:
            raise IndexError_(f"{image_id!r} is not in the index")
        return found

    def file(self, image_id: str) -> Path:
        """The file of a picture.

        Raises:
            IndexError_: an id that is not there, a file that is gone or outside of its root.
        """
        record = self.snapshot.records[self.place(image_id)]
        root = self.manifest.roots.get(record.root)
        if root is None:
            raise IndexError_(f"{image_id}: lies in a folder that the index does not know")
        return inside(Path(root.path), record.path)

    def info(self, uri: str) -> Info:
        """What the index holds."""
        stats, generation = self.store.stats(), self.generation
        measured = generation.measured
        return Info(
            images=len(self.snapshot),
            sentences=0 if self.bank is None else len(self.bank),
            model=f"{generation.model.name} {generation.model.digest[:12]}",
            extractor=f"{generation.features.extractor} {generation.features.digest[:12]}",
            roots=tuple(root.path for root in self.manifest.roots.values()),
            uri=uri,
            versions=stats.versions,
            bytes=stats.bytes,
            first_stage=self.engine.first_stage,
            recommended_candidates=None if measured is None else measured.recommended,
            finished=generation.finished,
        )

    def encoded(self, places: Sequence[int] | NDArray[np.int64]) -> Encoded:
        """Encoded pictures, on the model's device."""
        ids = self.snapshot.ids(places)
        missing = self.arena.missing(ids)
        if len(missing) > 2 * TOGETHER:  # one look at the table is faster than many
            self.warm()
            missing = self.arena.missing(ids)
        names = encoded_names(self.generation.arrays)
        for start in range(0, len(missing), TOGETHER):
            part = missing[start : start + TOGETHER]
            self.arena.add(part, self.store.read(part, names))
        own = self.snapshot.vectors.get(f"{VECTOR}{OWN}")
        pooled = None if own is None else own[torch.as_tensor(np.asarray(places))].float()
        return encoded_of(self.arena.fetch(ids), pooled).to(self.engine.device)

    def vectors(self, name: str, places: Sequence[int] | Tensor) -> Tensor:
        """First-stage vectors of some pictures: (K, P)."""
        wanted = torch.as_tensor(places)
        if name in self.snapshot.vectors:
            return self.snapshot.vectors[name][wanted].float()
        ids = self.snapshot.ids(wanted.tolist())
        return torch.from_numpy(self.store.read(ids, [name])[name]).float()

    def warm(self) -> None:
        """Read every row that is not in the arena."""
        known = set(self.snapshot.place_of)
        if not self.arena.missing(list(known)):
            return
        for ids, arrays in self.store.scan(encoded_names(self.generation.arrays)):
            kept = [row for row, name in enumerate(ids) if name in known]
            self.arena.add([ids[row] for row in kept], {n: a[kept] for n, a in arrays.items()})
