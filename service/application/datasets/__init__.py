"""Datasets: reading, storing, finding."""
