"""Networks, their versions and weights."""
