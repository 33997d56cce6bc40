"""Migrations, applied at start."""
