"""The clock of leases and retention periods."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import DateTime, func
from sqlalchemy.ext.asyncio import AsyncConnection

from service.infrastructure.database import postgres

_STARTED: Final = datetime.now(UTC), time.monotonic()


def now(connection: AsyncConnection) -> Any:
    """Return the time for a statement: an expression on PostgreSQL, whose clock servers share.

    With SQLite it is the time at which this process started plus the time that has passed since, so
    that a jump of the system's clock neither expires nor revives anything.
    """
    if connection.dialect.name == postgres.DIALECT:
        return func.clock_timestamp(type_=DateTime(timezone=True))
    started_at, started = _STARTED
    return started_at + timedelta(seconds=time.monotonic() - started)
