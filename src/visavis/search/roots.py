"""The folders that an index knows, and the pictures in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from visavis.errors import DataError
from visavis.extract.pictures import SUFFIXES, list_pictures
from visavis.search.manifest import CorpusPlace, Manifest, RootPlace
from visavis.search.rows import Record
from visavis.search.source import CorpusSource, Source
from visavis.search.supply import CorpusSupply, Item, place_of


def with_source(manifest: Manifest, source: Source) -> Manifest:
    """The same with a folder or a corpus taken in.

    Raises:
        DataError: there is none.
    """
    if isinstance(source, CorpusSource):
        data = source.data.expanduser().resolve()
        features = source.features or (data / "features" if (data / "features").is_dir() else data)
        corpus = CorpusPlace(
            data=str(data), features=str(features.resolve()), split=source.split, name=source.name
        )
        folder = data if data.is_dir() else data.parent
        return replace(_with_root(manifest, folder, whole=False), corpus=corpus)
    folder = source.folder.expanduser()
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; give a folder with pictures")
    weights = manifest.weights if source.weights is None else str(source.weights.resolve())
    sentences = manifest.sentences if source.sentences is None else str(source.sentences.resolve())
    manifest = replace(manifest, weights=weights, sentences=sentences)
    return _with_root(manifest, folder.resolve(), whole=True)


def with_files(manifest: Manifest, paths: Sequence[Path]) -> tuple[Manifest, list[Path]]:
    """The same with roots for some files, and the files; of a folder all its pictures.

    Raises:
        DataError: a path that is not there, or is no picture's.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            manifest = _with_root(manifest, path.resolve(), whole=True)
            files += list_pictures(path)
            continue
        if not path.is_file():
            raise DataError(f"{path}: no such file or folder")
        if path.suffix.lower() not in SUFFIXES:
            kinds = " ".join(sorted(suffix[1:] for suffix in SUFFIXES))
            raise DataError(f"{path}: not the name of a picture ({kinds})")
        files.append(path)
        folder = path.parent.resolve()
        if not any(folder.is_relative_to(root.path) for root in manifest.roots.values()):
            manifest = _with_root(manifest, folder, whole=False)
    return manifest, files


def _with_root(manifest: Manifest, folder: Path, *, whole: bool) -> Manifest:
    for key, root in manifest.roots.items():
        if str(folder) == root.path:
            place = RootPlace(path=root.path, whole=root.whole or whole)
            return replace(manifest, roots={**manifest.roots, key: place})
        if root.whole and folder.is_relative_to(root.path):
            return manifest  # its pictures belong to the index already
    number = 1 + max((int(key[1:]) for key in manifest.roots), default=0)
    place = RootPlace(path=str(folder), whole=whole)
    return replace(manifest, roots={**manifest.roots, f"r{number}": place})


def key_of(manifest: Manifest) -> dict[str, str]:
    """The key of each root by its folder, the deepest first."""
    pairs = [(root.path, key) for key, root in manifest.roots.items()]
    return dict(sorted(pairs, key=lambda pair: -len(Path(pair[0]).parts)))


def items_of_files(
    manifest: Manifest, files: Sequence[Path], tags: Sequence[str] = ()
) -> tuple[list[Item], list[tuple[str, str]]]:
    """Files as items, each once; and those that are links out of their root, with the reason."""
    keys = key_of(manifest)
    items: dict[tuple[str, str], Item] = {}
    skipped = []
    for file in files:
        root, path = place_of(file, keys)
        if file.is_symlink() and not file.resolve().is_relative_to(manifest.roots[root].path):
            skipped.append((path, f"{file}: a link that leads out of the folder"))
            continue
        items[root, path] = Item(root, path, file, tags=tuple(sorted(set(tags))))
    return list(items.values()), skipped


def all_items(
    manifest: Manifest, records: Sequence[Record], corpus: CorpusSupply | None
) -> tuple[list[Item], list[tuple[str, str]]]:
    """Every picture that belongs to an index now.

    Raises:
        DataError: a folder that is not there, or that is empty while the index has pictures of
            it: a disk that is not mounted must not empty an index.
    """
    if corpus is not None:
        return corpus.items(key_of(manifest)), []
    files: list[Path] = []
    for key, root in manifest.roots.items():
        if root.whole:
            files += _listed(Path(root.path), sum(record.root == key for record in records))
        else:
            paths = (Path(root.path) / record.path for record in records if record.root == key)
            files += [path for path in paths if path.is_file()]
    return items_of_files(manifest, files)


def _listed(folder: Path, known: int) -> list[Path]:
    try:
        return list_pictures(folder)
    except DataError as error:
        if not known:
            raise
        raise DataError(
            f"{error}; the index still has its {known} pictures: mount it again, or take them out "
            "with `visavis index remove`"
        ) from error
