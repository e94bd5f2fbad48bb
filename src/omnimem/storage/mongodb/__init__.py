"""MongoDB: the truth, and the outbox beside it."""
