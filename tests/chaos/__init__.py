"""Everything is killed at random instants; nothing may be lost, no bit may differ."""
