"""Pure ASGI."""
