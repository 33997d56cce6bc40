"""The HTTP server: protocol, sockets, shutdown, periodic tasks."""
