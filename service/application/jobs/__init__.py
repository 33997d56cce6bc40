"""Training jobs: queue, dispatcher, events, checkpoints."""
