"""Rows as Arrow tables and back: arrays of a row are lists of fixed size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from visavis.search.rows import ArraySpec, Rows, Specs

TEXTS = ("id", "root", "path", "name", "sha256", "modified", "taken", "model", "extractor")
NUMBERS = ("bytes", "mtime", "width", "height")


def schema_of(specs: Specs) -> pa.Schema:
    """Columns of a table of rows."""
    fields = [pa.field(name, pa.string()) for name in TEXTS]
    fields += [pa.field(name, pa.int64()) for name in NUMBERS]
    fields.append(pa.field("tags", pa.list_(pa.string())))
    fields += [pa.field(name, _arrow_type(spec)) for name, spec in specs.items()]
    return pa.schema(fields)


def _arrow_type(spec: ArraySpec) -> pa.DataType:
    return pa.list_(pa.from_numpy_dtype(_kept_type(spec)), spec.size)


def _kept_type(spec: ArraySpec) -> np.dtype[Any]:
    return np.dtype("uint8" if spec.type == "bool" else spec.type)


def table_of(rows: Rows, specs: Specs) -> pa.Table:
    """Rows as a table."""
    columns: dict[str, pa.Array] = {}
    for name in (*TEXTS, *NUMBERS):
        kind = pa.string() if name in TEXTS else pa.int64()
        columns[name] = pa.array([getattr(record, name) for record in rows.records], kind)
    tags = [list(record.tags) for record in rows.records]
    columns["tags"] = pa.array(tags, pa.list_(pa.string()))
    for name, spec in specs.items():
        flat = rows.arrays[name].reshape(len(rows), spec.size)
        columns[name] = fixed_lists(flat.view(np.uint8) if spec.type == "bool" else flat)
    return pa.table(columns, schema=schema_of(specs))


def fixed_lists(matrix: NDArray[Any]) -> pa.Array:
    """(N, S) numbers as N lists of S."""
    flat = pa.array(np.ascontiguousarray(matrix).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, matrix.shape[1])


def array_of(column: Any, spec: ArraySpec) -> NDArray[Any]:  # noqa: ANN401
    """A column of a table as an array."""
    joined = column.combine_chunks()
    flat = joined.flatten().to_numpy(zero_copy_only=False)
    found: NDArray[Any] = flat.reshape(len(column), *spec.shape).astype(spec.type, copy=False)
    return found


def empty(count: int, spec: ArraySpec) -> NDArray[Any]:
    """Room for the arrays of some rows."""
    return np.empty((count, *spec.shape), dtype=spec.type)
