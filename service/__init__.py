"""The server around the engine, in rings: see docs/explanation/architecture.md."""
