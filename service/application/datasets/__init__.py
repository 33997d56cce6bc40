"""Datasets: readers for file formats, storage and look-up."""
