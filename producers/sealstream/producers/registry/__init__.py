"""The schema of events in a registry with Confluent's API, and its text in the chain."""
