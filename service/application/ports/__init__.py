"""Interfaces that the use cases require from the infrastructure."""
