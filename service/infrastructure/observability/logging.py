"""Logging: one JSON object per line, with the id of the request that it belongs to."""

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Final, final

from service.application.request_id import request_id

KEY: Final = re.compile(r"nrd_[0-9a-f]{12}_[\w-]+", re.ASCII)
"""An API key anywhere in a line, for example in a query string."""


_encode: Final = json.JSONEncoder(ensure_ascii=False).encode
"""`json.dumps` would create an encoder for each line."""


@final
class JsonLines(logging.Formatter):
    """Formats a log record as one line of JSON, with API keys redacted."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without a line break."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request_id.get():
            line["request_id"] = request_id.get()
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        text = _encode(line)
        return KEY.sub("nrd_...", text) if "nrd_" in text else text


def configure(level: str) -> None:
    """Send all logs of at least ``level`` to standard error.

    No line contains the thread or process of a record, so logging need not look for them
    ("Optimization" in Python's logging how-to).
    """
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("alembic").setLevel(logging.WARNING)
