"""Inference protocols that others made, each by itself."""
