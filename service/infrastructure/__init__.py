"""Implementations of the application's ports: SQL, files, worker processes, metrics."""
