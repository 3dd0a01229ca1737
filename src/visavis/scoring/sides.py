"""One side of a score matrix: items held in memory, or encoded when they are needed.

Items have an order in which neighbours are of like length, so that a tile has hardly any padding.
A *place* counts in that order, an *item* as the caller numbers them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from visavis.scoring.budget import used_lengths
from visavis.scoring.encode import Readable, encode_groups, encode_images, encode_sentences
from visavis.types import Encoded, ImageBatch, Matcher, SentenceBatch

Numbers = NDArray[np.int64]
LENGTHS_AT_ONCE = 2**16


class Side(Protocol):
    """All images, or all sentences."""

    @property
    def order(self) -> Numbers:
        """Which item stands at each place: (N,)."""
        ...

    @property
    def item_bytes(self) -> int:
        """Memory that reading one item adds; 0 where items are held and only looked at."""
        ...

    @property
    def encodes(self) -> bool:
        """Whether reading costs time, so that it should not happen more often than needed."""
        ...

    def at(self, places: slice) -> Encoded:
        """The items at some places."""
        ...

    def pick(self, items: Numbers) -> Encoded:
        """Some items, in the order given."""
        ...


class Held:
    """Encoded items in memory."""

    encodes = False

    def __init__(self, items: Encoded) -> None:
        self.items = items
        lengths = _lengths(items)
        self.order: Numbers = np.argsort(lengths, kind="stable")
        self._sorted = bool((np.diff(lengths) >= 0).all())
        self.item_bytes = 0 if self._sorted else bytes_of(items) // max(1, len(items))

    def at(self, places: slice) -> Encoded:
        """A view where the items lie in order already, else a copy."""
        return (
            self.items.select(places).trimmed() if self._sorted else self.pick(self.order[places])
        )

    def pick(self, items: Numbers) -> Encoded:
        """A copy."""
        return self.items.select(_on(self.items, items)).trimmed()


class Groups:
    """Items that were encoded in groups of like length, and are held so, without padding.

    Args:
        groups: one after the other they are the items in the order of `order`.
        order: which item stands at each place.
    """

    encodes = False

    def __init__(self, groups: Sequence[Encoded], order: Numbers) -> None:
        self.groups, self.order = groups, order
        self.starts = np.cumsum([0, *(len(group) for group in groups)])
        self._place = np.empty_like(order)
        self._place[order] = np.arange(len(order))
        # Tiles across the border of two groups are joined from both.
        self.item_bytes = max((bytes_of(g) // max(1, len(g)) for g in groups), default=0)

    def at(self, places: slice) -> Encoded:
        """A view within one group, else a copy."""
        numbers = range(len(self.order))[places]
        parts = []
        for group, start in zip(self.groups, self.starts, strict=False):
            low, high = max(numbers.start, start), min(numbers.stop, start + len(group))
            if low < high:
                parts.append(group.select(slice(low - start, high - start)))
        return (parts[0] if len(parts) == 1 else Encoded.join(parts)).trimmed()

    def pick(self, items: Numbers) -> Encoded:
        """A copy."""
        places = self._place[items]
        rising = np.argsort(places, kind="stable")
        cuts = np.searchsorted(places[rising], self.starts)
        parts = [
            group.select(_on(group, places[rising[low:high]] - start))
            for group, start, low, high in zip(
                self.groups, self.starts, cuts, cuts[1:], strict=False
            )
            if high > low
        ]
        joined = Encoded.join(parts)
        return joined.select(_on(joined, np.argsort(rising, kind="stable"))).trimmed()


class Read:
    """Items that are encoded whenever they are needed: for more of them than memory holds.

    Args:
        encode: some items, by number.
        order: which item stands at each place, like lengths together, the longest last.
    """

    encodes = True

    def __init__(self, encode: Callable[[Numbers], Encoded], order: Numbers) -> None:
        self.encode, self.order = encode, order

    @cached_property
    def item_bytes(self) -> int:
        """As much as the longest item takes."""
        return bytes_of(self.encode(self.order[-1:])) if len(self.order) else 0

    def at(self, places: slice) -> Encoded:
        """Encoded now."""
        return self.encode(self.order[places])

    def pick(self, items: Numbers) -> Encoded:
        """Encoded now, each item once."""
        known, again = np.unique(items, return_inverse=True)
        found = self.encode(known)
        return found if np.array_equal(known, items) else found.select(_on(found, again))


def as_side(items: Encoded | Side) -> Side:
    """A side, whatever is given."""
    return Held(items) if isinstance(items, Encoded) else items


def read_images(
    model: Matcher,
    read: Callable[[Numbers], ImageBatch],
    count: int,
    *,
    device: torch.device | str = "cpu",
) -> Read:
    """Images that are encoded when they are needed.

    Args:
        model: in evaluation mode.
        read: region vectors of some images, by number.
        count: of the images.
        device: of the model.
    """

    def encode(items: Numbers) -> Encoded:
        return encode_images(model, lambda part: read(items[part]), len(items), device=device)

    return Read(encode, np.arange(count))


def read_sentences(model: Matcher, texts: Readable, *, device: torch.device | str = "cpu") -> Read:
    """Sentences that are encoded when they are needed."""

    def encode(items: Numbers) -> Encoded:
        return encode_sentences(model, _Some(texts, items), device=device).trimmed()

    return Read(encode, np.argsort(texts.lengths, kind="stable"))


def held_sentences(
    model: Matcher, texts: Readable, *, device: torch.device | str = "cpu"
) -> Groups:
    """Sentences that are encoded now and kept, in groups that hardly have padding."""
    order = np.argsort(texts.lengths, kind="stable")
    return Groups(list(encode_groups(model, texts, order, device=device)), order)


class _Some:
    """Some of the sentences that can be read."""

    def __init__(self, texts: Readable, items: Numbers) -> None:
        self.texts, self.items = texts, items
        self.lengths = texts.lengths[items]

    def __len__(self) -> int:
        return len(self.items)

    def read(self, rows: Numbers) -> SentenceBatch:
        return self.texts.read(self.items[rows])


def bytes_of(items: Encoded) -> int:
    """Memory of encoded items; a tensor that stands in two fields counts once."""
    tensors = [items.tokens, items.mask, *items.extra.values()]
    if items.pooled is not None and items.pooled.data_ptr() != items.tokens.data_ptr():
        tensors.append(items.pooled)
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _on(items: Encoded, numbers: Numbers) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(numbers)).to(items.mask.device)


def _lengths(items: Encoded) -> Numbers:
    parts = [
        used_lengths(items.select(slice(start, start + LENGTHS_AT_ONCE)))
        for start in range(0, len(items), LENGTHS_AT_ONCE)
    ]
    if not parts:
        return np.zeros(0, dtype=np.int64)
    found: Numbers = torch.cat(parts).cpu().numpy()
    return found
