"""Azure ML's inference server."""
