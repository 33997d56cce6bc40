"""Fixtures that several test directories share."""

from collections.abc import Iterator

import pytest

from tests import postgres


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[postgres.Postgres]:
    """Yield a PostgreSQL server that the tests of one module may stop."""
    with postgres.run_postgres() as server:
        yield server
