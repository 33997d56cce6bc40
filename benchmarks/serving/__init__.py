"""Serving, compared with other model servers."""
