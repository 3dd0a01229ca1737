"""What a family of published checkpoints needs: its names and ours, its options and ours.

A family is a table that can be read from top to bottom. `image.`, `sentence.` and so on stand
before the names of each part of a checkpoint; a row that ends in `.` is for all names below it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor

from visavis.convert.published import Published
from visavis.errors import CheckpointError

Settings = dict[str, Any]
_SHOWN = 3  # names in a message


@dataclass(frozen=True, kw_only=True)
class Family:
    """How the checkpoints of one published code are read."""

    model: str  # in the table of models
    title: str
    parts: tuple[str, ...]  # what its list of weights holds, in order; the last may be missing
    names: Mapping[str, str]  # of theirs to ours
    recognised: Callable[[Published], bool]
    sizes: Callable[[Published], Settings]  # settings that the shapes tell
    options: Mapping[str, str] = field(default_factory=dict)  # our setting: their option
    negated: Mapping[str, str] = field(default_factory=dict)  # the same, true for false
    needed: Mapping[str, tuple[object, ...]] = field(default_factory=dict)  # option: what it may be
    dropped: tuple[str, ...] = ()  # patterns of theirs that have no place here, and need none
    fresh: Callable[[Settings], Sequence[str]] = lambda settings: ()  # ours that they lack
    turned: Callable[[str, Tensor], Tensor] = lambda name, tensor: tensor  # into our layout
    max_words: int | None = None  # longest sentence with its end marks; None: none is cut
    reads_words: bool = True  # else the states of a language model


def settings_of(family: Family, published: Published, given: Mapping[str, Any]) -> Settings:
    """The settings of our model: from shapes and options, and those that were given.

    Raises:
        CheckpointError: an option is missing, or is one that the model here does not have.
    """
    options, path = published.options, published.path
    for option, allowed in family.needed.items():
        if option in options and options[option] not in allowed:
            raise CheckpointError(
                f"{path}: trained with {option} {_shown(options[option])}; {family.title} is read "
                f"with {' or '.join(map(repr, allowed))} alone"
            )
    found = family.sizes(published)
    for setting, option in {**family.options, **family.negated}.items():
        if setting in given:
            continue
        if option not in options:
            raise CheckpointError(
                f"{path}: its options lack {option}; add --set {setting}=VALUE, or --family"
            )
        value = options[option]
        found[setting] = not value if setting in family.negated else value
    return _merged(found, given)


def _merged(found: Settings, given: Mapping[str, Any]) -> Settings:
    merged = dict(found)
    for key, value in given.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merged(merged[key], value) if both else value
    return merged


def renamed(family: Family, published: Published) -> dict[str, tuple[int, str]]:
    """Our name of every tensor: where it lies in the checkpoint, and its name there.

    Raises:
        CheckpointError: a tensor has no place in our model, or two have the same.
    """
    found: dict[str, tuple[int, str]] = {}
    left = []
    for number, part in enumerate(published.parts):
        for name in part:
            side = family.parts[number] if number < len(family.parts) else f"part {number + 1}"
            full = f"{side}.{name}"
            if any(fnmatchcase(full, pattern) for pattern in family.dropped):
                continue
            ours = _name_of(full, family.names)
            if ours is None:
                left.append(full)
            elif ours in found:
                raise CheckpointError(
                    f"{published.path}: two tensors are {listed([ours])}; it is damaged"
                )
            else:
                found[ours] = (number, name)
    if left:
        raise CheckpointError(
            f"{published.path}: {family.title} has no place for {listed(left)}; "
            "it is of another model, or --family is wrong"
        )
    return found


def _name_of(name: str, table: Mapping[str, str]) -> str | None:
    if name in table:
        return table[name]
    for place, character in reversed(list(enumerate(name))):  # the longest row that fits
        if character == "." and name[: place + 1] in table:
            return table[name[: place + 1]] + name[place + 1 :]
    return None


def listed(names: Sequence[str]) -> str:
    """Some names, and how many there are beyond.

    >>> listed(["b", "a", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    shown = ", ".join(ascii(name)[1:-1][:60] for name in sorted(names)[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown


def _shown(value: object) -> str:
    return ascii(value)[:60] if isinstance(value, str | int | float | None) else "an odd value"
