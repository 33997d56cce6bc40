"""What is deleted after a time, and what a tenant may store."""
