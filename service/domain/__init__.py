"""Domain model of the service, in plain Python."""
