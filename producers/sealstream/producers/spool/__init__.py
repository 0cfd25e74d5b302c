"""Events on disk until Kafka has them."""
