"""What tests of several folders share."""

from collections.abc import Iterator

import pytest

from tests import postgres


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[postgres.Postgres]:
    """Return a server that a module may stop."""
    with postgres.running() as server:
        yield server
