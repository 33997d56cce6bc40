"""Worker processes that train networks."""
