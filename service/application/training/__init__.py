"""Training configuration and the protocol between server and workers."""
