"""Worker processes that train."""
