"""The append-only store in PostgreSQL: its migrations, the worker that fills it, and the reader for applications."""
