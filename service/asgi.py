"""The ASGI factory for external servers: ``uvicorn --factory service.asgi:create_app``."""

from fastapi import FastAPI

from service.bootstrap import build
from service.infrastructure.observability import logging
from service.settings import Settings


def create_app() -> FastAPI:
    """Return the application, configured from the environment."""
    settings = Settings()
    logging.configure(settings.log_level)
    return build(settings)
