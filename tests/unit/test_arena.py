"""Rows of bytes in memory and in a file."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import torch

from tests.search_tools import some_rows
from visavis.search.arena import CHUNK, Arena
from visavis.search.rows import specs_of

SPECS = specs_of(some_rows(1).arrays)


@pytest.mark.parametrize("budget", [2**30, 0])
def test_rows_come_back_in_the_order_asked_for(budget: int) -> None:
    rows = some_rows(40)
    ids = [record.id for record in rows.records]
    arena = Arena(SPECS, budget=budget)
    arena.add(ids[:25], {name: array[:25] for name, array in rows.arrays.items()})
    arena.add(ids[20:], {name: array[20:] for name, array in rows.arrays.items()})
    order = [39, 0, 24, 24, 25]
    found = arena.fetch([ids[place] for place in order])
    for name, array in rows.arrays.items():
        np.testing.assert_array_equal(found[name].numpy(), array[order])
    assert found["tokens"].dtype == torch.float16
    assert (arena.in_memory == 0) == (budget == 0)


def test_the_budget_is_kept_and_the_rest_lies_in_a_file() -> None:
    rows = some_rows(CHUNK + 200)
    ids = [record.id for record in rows.records]
    arena = Arena(SPECS)
    arena = Arena(SPECS, budget=arena.row_bytes * CHUNK)
    arena.add(ids, rows.arrays)
    assert arena.in_memory == arena.row_bytes * CHUNK
    order = [0, CHUNK - 1, CHUNK, CHUNK + 199]
    found = arena.fetch([ids[place] for place in order])
    np.testing.assert_array_equal(found["vector_own"].numpy(), rows.arrays["vector_own"][order])
    arena.close()


def test_what_is_not_there_is_named() -> None:
    rows = some_rows(2)
    arena = Arena(SPECS)
    arena.add([rows.records[0].id], {name: array[:1] for name, array in rows.arrays.items()})
    assert arena.missing([record.id for record in rows.records]) == [rows.records[1].id]
    with pytest.raises(KeyError):
        arena.fetch([rows.records[1].id])


def test_readers_beside_a_writer_see_whole_rows() -> None:
    rows = some_rows(600)
    ids = [record.id for record in rows.records]
    arena = Arena(SPECS, budget=0)
    wrong: list[Any] = []

    def read() -> None:
        for _ in range(60):
            places = [place for place, name in enumerate(ids) if not arena.missing([name])]
            if places:
                found = arena.fetch([ids[place] for place in places])["tokens"].numpy()
                if not np.array_equal(found, rows.arrays["tokens"][places]):
                    wrong.append(len(places))

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for start in range(0, 600, 20):
        part = slice(start, start + 20)
        arena.add(ids[part], {name: array[part] for name, array in rows.arrays.items()})
    for reader in readers:
        reader.join()
    assert not wrong
