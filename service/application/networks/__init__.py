"""Networks, versions and weights."""
