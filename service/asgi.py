"""The application for servers that import it: ``uvicorn --factory service.asgi:create_app``."""

from fastapi import FastAPI

from service.bootstrap import build
from service.infrastructure.observability import logging
from service.settings import Settings


def create_app() -> FastAPI:
    """Return the application with the settings of the environment."""
    settings = Settings()
    logging.configure(settings.log_level)
    return build(settings)
