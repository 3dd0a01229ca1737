"""Frozen dataclasses from plain mappings, strictly: nothing is ignored, nothing is executed."""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from visavis.errors import RecipeError

T = TypeVar("T")


def build(cls: type[T], values: object, path: str = "") -> T:
    """Make a configuration dataclass from a mapping.

    Nested dataclasses, tuples, optional and literal types are followed; `path` names the place in
    error messages.

    Raises:
        RecipeError: an unknown key (the nearest known one is named), a missing key, a wrong type.
    """
    where = path or cls.__name__
    if not isinstance(values, Mapping):
        raise RecipeError(f"{where}: expected keys and values, got {_shown(values)}")
    known = {entry.name: entry for entry in dataclasses.fields(cls) if entry.init}  # type: ignore[arg-type]
    hints = typing.get_type_hints(cls)
    for key in values:
        if key not in known:
            raise RecipeError(f"{_join(path, str(key))}: unknown key; {nearest(str(key), known)}")
    for key, entry in known.items():
        required = (
            entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING
        )
        if required and key not in values:
            raise RecipeError(f"{_join(path, key)}: missing; {where} needs it")
    converted = {
        key: _convert(hints[key], value, _join(path, key)) for key, value in values.items()
    }
    try:
        return cls(**converted)
    except ValueError as error:
        raise RecipeError(f"{where}: {error}") from error


def plain(value: object) -> Any:  # noqa: ANN401  (the inverse of `build`: JSON and YAML values)
    """A configuration as mappings, lists and scalars."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            entry.name: plain(getattr(value, entry.name)) for entry in dataclasses.fields(value)
        }
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def nearest(key: str, known: typing.Iterable[str]) -> str:
    """A hint for a misspelt name: the nearest known one, or all of them."""
    names = sorted(known)
    close = difflib.get_close_matches(key, names, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names)}"


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _shown(value: object) -> str:
    return f"{type(value).__name__} {value!r}"


def _convert(hint: Any, value: object, path: str) -> Any:  # noqa: ANN401
    origin = typing.get_origin(hint)
    if hint is Any:
        return value
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return build(hint, value, path)
    if origin in (typing.Union, types.UnionType):
        return _convert_union(hint, value, path)
    if origin is typing.Literal:
        choices = typing.get_args(hint)
        if value not in choices:
            hint_text = nearest(str(value), [str(choice) for choice in choices])
            raise RecipeError(f"{path}: {value!r} is not a choice; {hint_text}")
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise RecipeError(f"{path}: expected a list, got {_shown(value)}")
        return _convert_tuple(typing.get_args(hint), value, path)
    if origin in (dict, Mapping) or (isinstance(origin, type) and issubclass(origin, Mapping)):
        if not isinstance(value, Mapping):
            raise RecipeError(f"{path}: expected keys and values, got {_shown(value)}")
        inner = typing.get_args(hint)[1]
        return {str(key): _convert(inner, item, f"{path}.{key}") for key, item in value.items()}
    return _convert_scalar(hint, value, path)


def _convert_tuple(inner: tuple[Any, ...], values: Sequence[object], path: str) -> Any:  # noqa: ANN401
    if inner[-1] is Ellipsis:
        inner = (inner[0],) * len(values)
    if len(values) != len(inner):
        raise RecipeError(f"{path}: expected {len(inner)} values, got {len(values)}")
    return tuple(
        _convert(hint, value, f"{path}[{i}]")
        for i, (hint, value) in enumerate(zip(inner, values, strict=True))
    )


def _convert_union(hint: Any, value: object, path: str) -> Any:  # noqa: ANN401
    options = typing.get_args(hint)
    if value is None and type(None) in options:
        return None
    error: RecipeError | None = None
    for option in options:
        if option is not type(None):
            try:
                return _convert(option, value, path)
            except RecipeError as failed:
                error = failed
    raise error or RecipeError(f"{path}: cannot use {_shown(value)}")


def _convert_scalar(hint: Any, value: object, path: str) -> Any:  # noqa: ANN401
    if hint is float and isinstance(value, int | float | str) and not isinstance(value, bool):
        # YAML 1.1 reads `2e-4` as text: a number written so is a number here.
        try:
            number = float(value)
        except (ValueError, OverflowError) as error:
            raise RecipeError(f"{path}: expected float, got {_shown(value)}") from error
        if not math.isfinite(number):
            raise RecipeError(f"{path}: expected a finite number, got {_shown(value)}")
        return number
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise RecipeError(f"{path}: expected {hint.__name__}, got {_shown(value)}")
    return value
