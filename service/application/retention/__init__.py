"""Retention periods of stored data, and quotas of tenants."""
