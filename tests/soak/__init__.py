"""Many requests of every kind, and a look at what the server holds on to."""
