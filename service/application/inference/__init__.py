"""Predictions, evaluations and explanations of loaded models."""
