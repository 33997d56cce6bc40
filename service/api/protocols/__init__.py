"""Third-party inference protocols, each in its own package."""
