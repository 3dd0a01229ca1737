"""A reader of pickles that cannot call anything.

A checkpoint of PyTorch is a pickle, and unpickling can run any command. This reader takes the
instructions one by one and follows those that build dictionaries, lists, tuples, texts and numbers.
A name (of a class, of a function) is never looked up: it is one of `visavis.convert.stored`, each
with a plain thing in its place, or the file is refused. Python's own unpickler is not used at all.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from typing import IO, Any

from visavis.convert.stored import (
    CALLS,
    EMPTY,
    STORAGES,
    Fields,
    Name,
    NumberKind,
    Refused,
    Storage,
    size_of,
)

MOST_INSTRUCTIONS = 1_000_000  # a published checkpoint has some thousands


def read_pickle(stream: IO[bytes]) -> object:
    """The value of one pickle; the stream is left behind its end.

    Dictionaries, lists, tuples, texts, bytes, numbers, `Fields` and `StoredTensor` come out.

    Raises:
        Refused: another class or function, another instruction, too many of them, or damage.
    """
    machine = _Machine()
    try:
        for count, (instruction, argument, _) in enumerate(pickletools.genops(stream)):
            if count >= MOST_INSTRUCTIONS:
                raise Refused(f"more than {MOST_INSTRUCTIONS:,} instructions; it is no checkpoint")
            step = _STEPS.get(instruction.name)
            if step is None:
                raise Refused(f"uses {instruction.name}, which is refused")
            step(machine, argument)
        return machine.pop()
    except (IndexError, KeyError, AttributeError, TypeError, ArithmeticError, MemoryError) as error:
        raise Refused(f"damaged ({type(error).__name__})") from error


class _Machine:
    """The stack of a pickle, its marks, and what was put aside for later."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.kept: dict[int, Any] = {}

    def push(self, value: object) -> None:
        self.stack.append(value)

    def pop(self) -> Any:  # noqa: ANN401
        if self.marks and len(self.stack) <= self.marks[-1]:
            raise Refused("damaged (takes what is behind a mark)")
        return self.stack.pop()

    def pop_marked(self) -> list[Any]:
        start = self.marks.pop()
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def name(self, module: str, name: str) -> None:
        found = Name(module, name)
        if not found.known:
            raise Refused(f"asks for {found}, which is refused")
        self.push(found)

    def append(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, list):
            raise Refused("appends to what is no list")
        target.extend(values)

    def set_items(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict) or len(values) % 2:
            raise Refused("sets entries of what is no dictionary")
        for key, value in zip(values[::2], values[1::2], strict=True):
            if not isinstance(key, str | int):  # nested tuples can exhaust the stack of `hash`
                raise Refused("has an entry that is named by neither text nor number")
            target[key] = value

    def reduce(self) -> None:
        arguments, callee = self.pop(), self.pop()
        key = (callee.module, callee.name) if isinstance(callee, Name) else None
        if key not in CALLS or not isinstance(arguments, tuple):
            raise Refused(f"calls {callee if key else 'what is no name'}, which is refused")
        self.push(CALLS[key](arguments))

    def new_object(self) -> None:
        arguments, callee = self.pop(), self.pop()
        key = (callee.module, callee.name) if isinstance(callee, Name) else None
        if key not in EMPTY or arguments != ():
            raise Refused(f"makes {callee if key else 'what is no name'}, which is refused")
        self.push(EMPTY[key]())

    def build(self) -> None:
        state, target = self.pop(), self.stack[-1]
        if isinstance(target, Fields) and isinstance(state, dict):
            target.update(state)
        elif isinstance(target, NumberKind) and isinstance(state, tuple):
            target.order = ">" if state[1] == ">" else "<"
        elif type(target) is not dict:  # of an OrderedDict: its notes on versions, not needed
            raise Refused("sets attributes of what has none")

    def stored(self) -> None:
        """What stands in for a reference to numbers elsewhere in the file."""
        reference = self.pop()
        if not isinstance(reference, tuple) or len(reference) < 5 or reference[0] != "storage":
            raise Refused("refers to something that is no tensor's numbers")
        _, kind, key, _, count = reference[:5]
        view = reference[5] if len(reference) > 5 else None
        start = 0 if view is None else size_of(view[1])
        if not isinstance(kind, Name) or kind.name not in STORAGES or not isinstance(key, str):
            raise Refused("refers to something that is no tensor's numbers")
        self.push(Storage(key, STORAGES[kind.name], size_of(count), start))


def _global(machine: _Machine, argument: str) -> None:
    module, _, name = argument.partition(" ")
    machine.name(module, name)


def _stack_global(machine: _Machine, _: object) -> None:
    name, module = machine.pop(), machine.pop()
    if not isinstance(name, str) or not isinstance(module, str):
        raise Refused("damaged (a name is no text)")
    machine.name(module, name)


def _tuple_of(count: int) -> Callable[[_Machine, object], None]:
    def step(machine: _Machine, _: object) -> None:
        values = [machine.pop() for _ in range(count)]
        machine.push(tuple(reversed(values)))

    return step


def _keep(machine: _Machine, argument: int) -> None:
    machine.kept[argument] = machine.stack[-1]


_VALUES = (
    "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE",
    "BINUNICODE8", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
)  # fmt: skip
_STEPS: Mapping[str, Callable[[_Machine, Any], None]] = {
    **dict.fromkeys(_VALUES, _Machine.push),
    **{name: lambda machine, _: None for name in ("PROTO", "FRAME", "STOP")},
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),  # noqa: FBT003
    "NEWFALSE": lambda machine, _: machine.push(False),  # noqa: FBT003
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_TUPLE": _tuple_of(0),
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    "MARK": lambda machine, _: machine.marks.append(len(machine.stack)),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.pop_marked())),
    "LIST": lambda machine, _: machine.push(machine.pop_marked()),
    "APPEND": lambda machine, _: machine.append([machine.pop()]),
    "APPENDS": lambda machine, _: machine.append(machine.pop_marked()),
    "SETITEM": lambda machine, _: machine.set_items([machine.pop(), machine.pop()][::-1]),
    "SETITEMS": lambda machine, _: machine.set_items(machine.pop_marked()),
    "BINPUT": _keep,
    "LONG_BINPUT": _keep,
    "MEMOIZE": lambda machine, _: _keep(machine, len(machine.kept)),
    "BINGET": lambda machine, argument: machine.push(machine.kept[argument]),
    "LONG_BINGET": lambda machine, argument: machine.push(machine.kept[argument]),
    "GLOBAL": _global,
    "STACK_GLOBAL": _stack_global,
    "REDUCE": lambda machine, _: machine.reduce(),
    "NEWOBJ": lambda machine, _: machine.new_object(),
    "BUILD": lambda machine, _: machine.build(),
    "BINPERSID": lambda machine, _: machine.stored(),
}
