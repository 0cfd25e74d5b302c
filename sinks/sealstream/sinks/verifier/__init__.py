"""Independent verification: recomputes every entry from the source and from the store, with rules of its own."""
