"""API keys, rate limits and idempotent requests."""
