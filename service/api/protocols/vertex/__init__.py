"""Vertex AI's custom containers."""
