"""Requests made from the interface's own description: no 5xx, no answer that it does not name.

Slow connections and bytes that are no HTTP are in `test_server_process.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.integration.serving import fake, listening

CHECKS = (
    not_a_server_error,
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)


@pytest.fixture(scope="module")
def operations(data: Path) -> Iterator[dict[str, Any]]:
    with listening(fake(data), json_kilobytes=64, upload_megabytes=1) as address:
        schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
        found = [operation.ok() for operation in schema.get_all_operations()]
        yield {one.label: one for one in found}


@pytest.mark.slow
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_every_route_keeps_to_its_description(
    operations: dict[str, Any], mode: GenerationMode
) -> None:
    assert len(operations) == 17
    asked = 0
    for operation in operations.values():
        given_body = operation.body or operation.path_parameters or operation.query
        if mode is GenerationMode.NEGATIVE and not given_body:
            continue  # nothing in it can be wrong

        @settings(
            max_examples=12,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: Any) -> None:
            nonlocal asked
            asked += 1
            case.call_and_validate(checks=CHECKS)

        ask()
    assert asked > 100
