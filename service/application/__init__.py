"""Use cases, one package for each feature."""
