"""Plain Python: what the service is about."""
