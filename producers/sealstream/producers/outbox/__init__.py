"""Events in the application's own transaction: the outbox table and what inserts into it."""
