"""Older audit trails brought in, completely and provably."""
