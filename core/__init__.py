"""The neural network engine: NumPy and the standard library, nothing else."""
