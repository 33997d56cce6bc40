"""Many requests of every kind, to detect memory, descriptor and thread leaks."""
