"""Random kills of servers and workers; no acknowledged data is lost and results are identical."""
