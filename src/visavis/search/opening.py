"""Opening an index for reading, and looking again whether others wrote."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from visavis.errors import IndexError_, StorageError, VisavisError
from visavis.search.arena import Arena
from visavis.search.engine import Engine, open_engine
from visavis.search.manifest import Generation, Manifest, parse
from visavis.search.place import Place
from visavis.search.rows import encoded_names
from visavis.search.snapshot import take
from visavis.search.view import View

logger = logging.getLogger("visavis.search")

FRESH = 1.0  # seconds for which a reader does not look whether others wrote
TRIES, PAUSE = 10, 0.2  # of changes that met another writer's
LATER = 30.0  # seconds until it looks again when that failed


def read_manifest(place: Place) -> Manifest | None:
    """The manifest of a place; None when there is none."""
    values = place.read()
    return None if values is None else parse(values, place.uri)


def update(place: Place, change: Callable[[Manifest | None], Manifest]) -> Manifest:
    """Read, change and write the manifest; again when another writer wrote meanwhile.

    Raises:
        StorageError: others were faster each time.
    """
    with place.lock():
        for number in range(TRIES):
            stamp = place.stamp()  # before reading: what is written in between is never lost
            manifest = change(read_manifest(place))
            if place.write(manifest.plain(), stamp):
                return manifest
            time.sleep(PAUSE * number)
    raise StorageError(f"{place.uri}: other writers were faster {TRIES} times; try again")


def engine_of(place: Place, manifest: Manifest, model: str | None, device: str) -> Engine:
    """The models of the generation in use.

    Args:
        place: where the index lies.
        manifest: what it says.
        model: where the model lies now; None is where it lay when the index was built.
        device: where models are put.

    Raises:
        CheckpointError: a model is gone.
        IndexError_: a model that lies there is another one.
    """
    return open_engine(place.uri, manifest.generation, model=model, device=device)


def open_view(place: Place, manifest: Manifest, engine: Engine, before: View | None = None) -> View:
    """What readers see now.

    Args:
        place: where the index lies.
        manifest: what it says.
        engine: models of the generation in use.
        before: a view of the same generation: what it has read is not read again.
    """
    stamp = place.stamp()
    specs = manifest.generation.arrays
    spaces = [name for name in (engine.space("t2i"), engine.space("i2t")) if name is not None]
    if before is None:
        store = place.images(manifest.current, specs)
        arena = Arena({name: specs[name] for name in encoded_names(specs)})
        snapshot = take(store, specs, spaces)
    else:
        store, arena = before.store, before.arena
        snapshot = take(store, specs, spaces, before.snapshot)
    bank = place.sentences(manifest.current)
    return View(stamp, manifest, engine, store, snapshot, arena, bank)


def refreshed(place: Place, view: View) -> View:
    """The same view when nothing was written since, or what there is to see now.

    Raises:
        IndexError_: the index is gone, or its new model is not there.
    """
    if place.stamp() == view.stamp:
        if view.store.version() == view.snapshot.version:
            return view
        return open_view(place, view.manifest, view.engine, view)
    manifest = read_manifest(place)
    if manifest is None:
        raise IndexError_(f"{place.uri}: the index is gone")
    if manifest.current == view.manifest.current:
        engine = view.engine.with_weights(manifest.generation.weights)
        return open_view(place, manifest, engine, view)
    return open_view(place, manifest, engine_of(place, manifest, None, str(view.engine.device)))


def made_by(generation: Generation, engine: Engine) -> bool:
    """Whether rows are of these very models."""
    companions = {name: place.digest for name, place in generation.companions.items()}
    there = {name: place.digest for name, place in engine.places().items()}
    same_main = generation.model.digest == engine.main.place.digest
    return same_main and companions == there and generation.spaces == engine.spaces


class Reader:
    """What there is to see, looked at anew now and then."""

    def __init__(self, place: Place, view: View) -> None:
        self.view = view
        self.look_at = time.monotonic() + FRESH  # when to look whether others wrote
        self._place = place
        self._lock = threading.Lock()

    def fresh(self, *, now: bool = False) -> View:
        """The view, not older than a second; `now` looks in any case.

        When looking fails, as on a network, readers go on with what they have.

        Raises:
            VisavisError: it fails where `now` is wanted.
        """
        if not now and time.monotonic() < self.look_at:
            return self.view
        if not self._lock.acquire(blocking=now):
            return self.view  # another thread is looking
        try:
            self.view = refreshed(self._place, self.view)
            self.look_at = time.monotonic() + FRESH
        except VisavisError as error:
            if now:
                raise
            self.look_at = time.monotonic() + LATER
            logger.warning("an older state of the index is searched: %s", error)
        finally:
            self._lock.release()
        return self.view
