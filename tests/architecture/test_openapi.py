"""Operation ids and schema titles of the OpenAPI document, which client generators use as names."""

import re
from collections import Counter
from collections.abc import Iterable

import pytest
from fastapi import FastAPI

from service.bootstrap import build
from service.settings import Settings

METHODS = {"get", "put", "post", "delete", "patch"}
OPERATION_ID = re.compile(r"^[a-z]+(_[a-z0-9]+)+$")
VERBS = (
    "cancel|check|classify|compare|create|delete|evaluate|explain|fit|get|import|infer|invoke|list|"
    "load|pause|ping|predict|promote|regress|resume|revoke|score|set|stream|unload|update|upload"
)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIP_HEALTH_ROUTE", "/vertex/health")
        patch.setenv("AIP_PREDICT_ROUTE", "/vertex/predict")
        return build(Settings(data_dir=tmp_path_factory.mktemp("data")))


@pytest.fixture(scope="module")
def operation_ids(app: FastAPI) -> dict[str, str]:
    """Return the operation id of each method and path."""
    return {
        f"{method.upper()} {path}": operation["operationId"]
        for path, operations in app.openapi()["paths"].items()
        for method, operation in operations.items()
        if method in METHODS
    }


def duplicates(names: Iterable[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]


def test_every_protocol_is_documented(operation_ids: dict[str, str]) -> None:
    assert len(operation_ids) > 80
    assert {"POST /vertex/predict", "POST /score", "POST /invocations"} <= operation_ids.keys()


def test_operation_ids_are_unique(operation_ids: dict[str, str]) -> None:
    assert duplicates(operation_ids.values()) == []


def test_operation_ids_are_a_verb_and_a_noun(operation_ids: dict[str, str]) -> None:
    for route, operation_id in operation_ids.items():
        assert OPERATION_ID.match(operation_id), f"{route}: {operation_id}"
        assert re.match(f"({VERBS})_", operation_id), f"{route}: {operation_id}"


def test_schema_titles_are_unique(app: FastAPI) -> None:
    schemas = app.openapi()["components"]["schemas"]

    assert duplicates(schema["title"] for schema in schemas.values()) == []


def test_summaries_do_not_end_with_punctuation(app: FastAPI) -> None:
    for operations in app.openapi()["paths"].values():
        for operation in operations.values():
            assert re.fullmatch(r"[A-Z].*[a-z0-9]", operation["summary"]), operation["summary"]
