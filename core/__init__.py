"""The neural network engine. It depends only on NumPy and the standard library."""
