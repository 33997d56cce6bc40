"""Fuzzing of every operation of the OpenAPI document."""
