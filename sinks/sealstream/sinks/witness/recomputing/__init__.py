"""The verifier's witness: it computes each round of the root log by itself, from Kafka, before it cosigns."""
