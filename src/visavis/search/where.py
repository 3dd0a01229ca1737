"""Filters on what is known of a picture: a small part of SQL, parsed, never passed on as text.

    width > 800 AND taken >= '2024-07' AND (path LIKE 'holiday/%' OR tag = 'sea')

Only the columns below can be named. A filter is taken apart here and written anew for the table
that is asked, so nothing that is not understood reaches an engine. Text is compared as text; dates
are text such as 2024-07-31T18:00:00, so 2024-07 stands before all of July. What is not known (a
picture without a date) fulfils no comparison, nor the opposite of one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from visavis.config import nearest
from visavis.errors import DataError
from visavis.search.rows import Record

COLUMNS: dict[str, type] = {
    "id": str, "path": str, "root": str, "name": str, "width": int, "height": int, "bytes": int,
    "taken": str, "modified": str, "tag": str,
}  # fmt: skip
LONGEST, DEEPEST = 4000, 32

Value = str | float
Kind = Literal["=", "!=", "<", "<=", ">", ">=", "IN", "LIKE", "NULL"]

_TOKEN = re.compile(
    r"\s*(?:(?P<text>'(?:[^']|'')*')|(?P<number>-?\d+(?:\.\d+)?)(?![\w.])|(?P<word>[A-Za-z_]+)"
    r"|(?P<sign><=|>=|<>|!=|=|<|>|\(|\)|,))"
)
_COMPARE: dict[str, Callable[[Value, Value], bool]] = {
    "=": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,  # type: ignore[operator]
    "<=": lambda a, b: a <= b,  # type: ignore[operator]
    ">": lambda a, b: a > b,  # type: ignore[operator]
    ">=": lambda a, b: a >= b,  # type: ignore[operator]
}


@dataclass(frozen=True, slots=True)
class Comparison:
    """A column and what it is compared with."""

    column: str
    kind: Kind
    values: tuple[Value, ...] = ()

    def holds(self, record: Record) -> bool | None:
        """Whether it is so for a picture; None: not known."""
        if self.column == "tag":
            return bool({*record.tags} & {*self.values}) == (self.kind != "!=")
        value: Value | None = getattr(record, self.column)
        if self.kind == "NULL":
            return value is None
        if value is None:
            return None
        if self.kind == "IN":
            return value in self.values
        if self.kind == "LIKE":
            return re.fullmatch(_pattern(str(self.values[0])), str(value), re.DOTALL) is not None
        return _COMPARE[self.kind](value, self.values[0])

    def sql(self) -> str:
        """The same for an engine."""
        if self.column == "tag":
            tests = [f"array_has(tags, {_literal(value)})" for value in self.values]
            return f"{'NOT ' if self.kind == '!=' else ''}({' OR '.join(tests)})"
        if self.kind == "NULL":
            return f"{self.column} IS NULL"
        if self.kind == "IN":
            return f"{self.column} IN ({', '.join(map(_literal, self.values))})"
        return f"{self.column} {self.kind} {_literal(self.values[0])}"


@dataclass(frozen=True, slots=True)
class Joined:
    """Conditions of which all or any must hold, or the opposite of one."""

    how: Literal["AND", "OR", "NOT"]
    parts: tuple[Condition, ...]

    def holds(self, record: Record) -> bool | None:
        """Whether it is so for a picture, in the three-valued logic of SQL."""
        found = [part.holds(record) for part in self.parts]
        if self.how == "NOT":
            return None if found[0] is None else not found[0]
        deciding = self.how == "OR"
        if deciding in found:
            return deciding
        return None if None in found else not deciding

    def sql(self) -> str:
        """The same for an engine."""
        if self.how == "NOT":
            return f"(NOT {self.parts[0].sql()})"
        return f"({f' {self.how} '.join(part.sql() for part in self.parts)})"


Condition = Comparison | Joined


def parse(text: str) -> Condition:
    """A filter from its text.

    Raises:
        DataError: it is not understood, names another column, or is too long.

    >>> parse("width > 800 AND NOT tag = 'sea'").sql()
    "(width > 800 AND (NOT (array_has(tags, 'sea'))))"
    """
    if len(text) > LONGEST:
        raise DataError(f"filter of {len(text)} characters; at most {LONGEST} are read")
    reader = _Reader(_tokens(text))
    found = reader.either(0)
    reader.end()
    return found


def any_of(column: str, values: Sequence[str]) -> Comparison:
    """The rows whose column is one of some texts."""
    return Comparison(column, "IN", tuple(values))


class _Reader:
    """Takes tokens one by one: (kind, text)."""

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self._tokens = tokens
        self._place = 0

    def either(self, depth: int) -> Condition:
        if depth > DEEPEST:
            raise DataError(f"filter: more than {DEEPEST} levels of parentheses and NOT")
        return self._chain("OR", lambda: self._chain("AND", lambda: self._single(depth)))

    def end(self) -> None:
        if self._place < len(self._tokens):
            raise DataError(f"filter: {self._shown()} is too much; join conditions by AND or OR")

    def _chain(self, how: Literal["AND", "OR"], part: Callable[[], Condition]) -> Condition:
        parts = [part()]
        while self._taken(how):
            parts.append(part())
        return parts[0] if len(parts) == 1 else Joined(how, tuple(parts))

    def _single(self, depth: int) -> Condition:
        if self._taken("NOT"):
            if depth >= DEEPEST:
                raise DataError(f"filter: more than {DEEPEST} levels of parentheses and NOT")
            return Joined("NOT", (self._single(depth + 1),))
        if self._taken("("):
            inside = self.either(depth + 1)
            self._need(")")
            return inside
        return self._test()

    def _test(self) -> Condition:
        kind, word = self._next()
        column = word.lower()
        if kind != "word" or column not in COLUMNS:
            raise DataError(f"filter: {word!r} is no column; {nearest(column, COLUMNS)}")
        if self._taken("IS"):
            opposite = self._taken("NOT")
            self._need("NULL")
            return _turned(Comparison(column, "NULL"), opposite=opposite)
        opposite = self._taken("NOT")
        if self._taken("IN"):
            return _turned(Comparison(column, "IN", self._list(column)), opposite=opposite)
        if self._taken("LIKE"):
            return _turned(self._like(column), opposite=opposite)
        if self._taken("BETWEEN"):
            low = Comparison(column, ">=", (self._value(column),))
            self._need("AND")
            both = Joined("AND", (low, Comparison(column, "<=", (self._value(column),))))
            return _turned(_ordered(both, column), opposite=opposite)
        sign, place = self._next()
        if opposite or sign != "sign" or place in "(),":
            raise DataError(f"filter: {place!r} after {column}; one of = != < <= > >= LIKE IN IS")
        found = Comparison(column, "!=" if place == "<>" else place, (self._value(column),))  # type: ignore[arg-type]
        return found if place in ("=", "!=", "<>") else _ordered(found, column)

    def _like(self, column: str) -> Comparison:
        value = self._value(column)
        if not isinstance(value, str) or column == "tag" or "\\" in value:
            raise DataError(
                f"filter: {column} LIKE {value!r}; LIKE takes a column of text and %, _"
            )
        return Comparison(column, "LIKE", (value,))

    def _list(self, column: str) -> tuple[Value, ...]:
        self._need("(")
        values = [self._value(column)]
        while self._taken(","):
            values.append(self._value(column))
        self._need(")")
        return tuple(values)

    def _value(self, column: str) -> Value:
        kind, word = self._next()
        wanted = COLUMNS[column]
        if kind == "text" and wanted is str:
            return word[1:-1].replace("''", "'")
        if kind == "number" and wanted is int:
            return float(word) if "." in word else int(word)
        form = "a text in single quotes" if wanted is str else "a number"
        raise DataError(f"filter: {column} is compared with {word!r}; expected {form}")

    def _taken(self, word: str) -> bool:
        here = self._tokens[self._place : self._place + 1]
        found = bool(here) and here[0][0] in ("word", "sign") and here[0][1].upper() == word
        self._place += found
        return found

    def _need(self, word: str) -> None:
        if not self._taken(word):
            raise DataError(f"filter: {self._shown()} where {word} is needed")

    def _next(self) -> tuple[str, str]:
        if self._place >= len(self._tokens):
            raise DataError("filter: ends too early; expected COLUMN = VALUE")
        self._place += 1
        return self._tokens[self._place - 1]

    def _shown(self) -> str:
        here = self._tokens[self._place : self._place + 1]
        return repr(here[0][1]) if here else "the end"


def _tokens(text: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    place = 0
    text = text.rstrip()
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None or match.lastgroup is None:
            raise DataError(f"filter: {text[place:].strip()[:20]!r} is not understood")
        found.append((match.lastgroup, match[match.lastgroup]))
        place = match.end()
    return found


def _ordered(test: Condition, column: str) -> Condition:
    if column == "tag":
        raise DataError("filter: tags have no order; use tag = 'NAME', != or IN")
    return test


def _turned(test: Condition, *, opposite: bool) -> Condition:
    return Joined("NOT", (test,)) if opposite else test


def _pattern(like: str) -> str:
    """The expression of a LIKE; what a middle part has found it keeps, so none takes for ever."""
    first, *rest = ("".join("." if sign == "_" else re.escape(sign) for sign in part)
                    for part in like.split("%"))  # fmt: skip
    if not rest:
        return first
    *middle, last = rest
    return first + "".join(f"(?>.*?{part})" for part in middle if part) + f".*{last}"


def _literal(value: Value) -> str:
    return "'{}'".format(value.replace("'", "''")) if isinstance(value, str) else repr(value)
